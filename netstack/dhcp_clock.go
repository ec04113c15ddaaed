package netstack

import (
	"context"
	"math/rand/v2"
	"time"
)

// secs is how long the client has been asking, for the message.
func (c *dhcpClient) secs() uint16 {
	return uint16(min(time.Since(c.began)/c.second, 0xffff))
}

// retry is how long to wait for an answer: 1, 2, 4 to 64 seconds, a quarter more or
// less, so that machines that start together do not ask together.
func (c *dhcpClient) retry(try int) time.Duration {
	d := c.second * time.Duration(min(1<<min(try, 10), slowest))
	return d*3/4 + rand.N(d/2)
}

// pause is how long to wait for the answer to a renewal: half of what is left, and at
// least a minute, or a quarter of the whole if that is less.
func (c *dhcpClient) pause(begin, end time.Time) time.Duration {
	least := leastRenew * c.second
	if end.IsZero() {
		return least
	}
	least = min(least, max(c.second/2, end.Sub(begin)/4))
	left := time.Until(end)
	return min(max(left/2, least), max(left, time.Millisecond))
}

// alive is ctx until the Host ends.
func (h *Host) alive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-h.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// sleep waits for d, or until ctx ends, which is an error.
func sleep(ctx context.Context, d time.Duration) error { return sleepUntil(ctx, time.Now().Add(d)) }

// sleepUntil waits until then; the zero Time never comes.
func sleepUntil(ctx context.Context, then time.Time) error {
	var due <-chan time.Time
	if !then.IsZero() {
		timer := time.NewTimer(time.Until(then))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-due:
		return nil
	case <-ctx.Done():
		return timeoutOf(ctx.Err())
	}
}
