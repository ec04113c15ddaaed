package netstack

import (
	"errors"
	"os"
)

// Done returns a channel that is closed when the Host is of no more use: after Close,
// or when its interface is gone. Err then says why.
func (h *Host) Done() <-chan struct{} { return h.over }

// Err is nil as long as the Host works. Afterwards it is why it does not: net.ErrClosed
// after Close, or what ended receiving on a Queue, such as ENODEV when the interface was
// deleted or moved to another network namespace. All calls that wait, and all later
// ones that would, fail with that error, within two seconds; data that had come can
// still be read. The Host is then still to be closed.
func (h *Host) Err() error {
	select {
	case <-h.over:
		return h.cause
	default:
		return nil
	}
}

// end makes everybody's waiting end with err. The first call counts.
func (h *Host) end(err error) {
	h.ending.Do(func() {
		h.cause = err
		close(h.over)
	})
}

// because is err, or if the Host has ended without Close the reason for that, which is
// the reason for err: a stack whose packets go nowhere says "timeout" or "no route".
func (h *Host) because(err error) error {
	if cause := h.Err(); cause != nil && !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return cause
	}
	return err
}
