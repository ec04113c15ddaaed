package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"time"
)

// takeTurns works between "start" and "stop", which the benchmark writes, and
// says what each turn gave, until in ends or ctx does.
func (c *client) takeTurns(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			lines <- s.Text()
		}
	}()
	fmt.Fprintln(out, "ready")
	for {
		select {
		case <-ctx.Done():
			return nil
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			if line != "start" {
				continue
			}
			turn, stop := context.WithCancel(ctx)
			go func() {
				defer stop()
				<-lines // "stop", or the end
			}()
			r, err := c.work(turn, time.Hour)
			stop()
			if err != nil {
				return err
			}
			fmt.Fprintln(out, r.line())
		}
	}
}
