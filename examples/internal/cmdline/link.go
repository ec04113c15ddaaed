package cmdline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// patience is how long WaitLink waits without a word.
const patience = time.Second

var errWaiting = errors.New("still waiting")

// WaitLink is program.WaitLink, and says on log what it waits for if that takes
// long: the interface may be down, or the cable out.
func WaitLink(ctx context.Context, program interface{ WaitLink(context.Context) error }, log io.Writer) error {
	soon, cancel := context.WithTimeoutCause(ctx, patience, errWaiting)
	defer cancel()
	err := program.WaitLink(soon)
	if !errors.Is(err, errWaiting) {
		return err
	}
	fmt.Fprintln(log, err)
	return program.WaitLink(ctx)
}
