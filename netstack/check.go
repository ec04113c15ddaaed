package netstack

import "fmt"

// Check reports whether packets can still reach the Host: nil, or an error that wraps
// what [xsk.Queue.Check] answers for the first queue that has one: ENODEV when the
// interface is gone, xsk.ErrNotServed when its XDP program was taken off or replaced or
// another socket has a queue's entry, and net.ErrClosed after Close. Calls that wait are
// told of a deleted interface by themselves; they are not told of a program, for then
// Err is nil. It asks the kernel, some 30 us a queue, and may be called from any
// goroutine. For a Host that Open did not make it is [Host.Err].
func (h *Host) Check() error {
	if err := h.Err(); err != nil {
		return err
	}
	if h.opened == nil {
		return nil
	}
	for _, q := range h.opened.queues {
		if err := q.Check(); err != nil {
			return fmt.Errorf("netstack: %w", err)
		}
	}
	return nil
}
