package closed_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"

	"github.com/go-xsk/xsk/internal/closed"
)

func TestErrIsBothKindsOfClosed(t *testing.T) {
	err := fmt.Errorf("xsk: receive eth0 queue 0: %w", closed.Err)
	for _, target := range []error{closed.Err, os.ErrClosed, net.ErrClosed} {
		if !errors.Is(err, target) {
			t.Errorf("%q is not %q", err, target)
		}
	}
	for _, target := range []error{io.EOF, os.ErrDeadlineExceeded} {
		if errors.Is(err, target) {
			t.Errorf("%q is %q", err, target)
		}
	}
}
