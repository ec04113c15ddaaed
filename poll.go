package xsk

import (
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// PollRx waits until a packet can be received, for timeout at most: 0 only
// looks, less than 0 waits without limit (poll with POLLIN; ocaml-xsk's
// pollin). It reports whether there is one. It holds no thread, but for at most
// 20 ms after packets came quickly, and wakes a kernel that waits for frames.
// Errors wrap ENODEV when the interface was removed, EINVAL on a socket without RX, and os.ErrClosed when the Socket is
// closed, also meanwhile.
func (s *Socket) PollRx(timeout time.Duration) (bool, error) {
	s.Rx.uses++
	if w := s.rxWaiter.Load(); w != nil && timeout != 0 && s.Rx.c != 0 {
		ready, err := w.poll(timeout)
		return ready, s.fail("poll", err)
	}
	return s.firstPoll(timeout, &s.Rx.ring, s.lookRx, s.receiveWaiter)
}

// PollTx waits until at least half of the TX ring is free, for timeout at most
// (poll with POLLOUT; ocaml-xsk's pollout). It kicks the kernel to get there,
// but reaps nothing: with a full completion ring it waits in vain. With room in
// the ring it is content, also when the interface is gone. Otherwise it is as
// PollRx.
func (s *Socket) PollTx(timeout time.Duration) (bool, error) {
	s.Tx.uses++
	if w := s.txWaiter.Load(); w != nil && timeout != 0 && s.Tx.c != 0 {
		ready, err := w.poll(timeout)
		return ready, s.fail("poll", err)
	}
	return s.firstPoll(timeout, &s.Tx.ring, s.lookTx, s.sendWaiter)
}

// firstPoll looks, and makes the waiter if there is need to wait: it costs a
// descriptor.
func (s *Socket) firstPoll(timeout time.Duration, r *ring, look func() (bool, error), make func() (*waiter, error)) (bool, error) {
	if !r.gate.enter() {
		return false, s.fail("poll", closed.Err)
	}
	r.gate.leave()
	if r.c == 0 {
		return false, s.fail("poll", invalid("the socket has no ring for this direction"))
	}
	if timeout == 0 {
		ready, err := look()
		return ready, s.fail("poll", err)
	}
	w, err := make()
	if err != nil {
		return false, s.fail("poll", err)
	}
	ready, err := w.poll(timeout)
	return ready, s.fail("poll", err)
}

func (s *Socket) receiveWaiter() (*waiter, error) {
	return s.waiter(&s.rxWaiter, func() (*waiter, error) {
		return newWaiter(s.fd, unix.EPOLLIN, s.lookRx, s.waitRx)
	})
}

func (s *Socket) sendWaiter() (*waiter, error) {
	return s.waiter(&s.txWaiter, func() (*waiter, error) {
		return newWaiter(s.fd, unix.EPOLLOUT, s.lookTx, nil)
	})
}

// waiter makes a direction's waiter, unless somebody has.
func (s *Socket) waiter(side *atomic.Pointer[waiter], make func() (*waiter, error)) (*waiter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, closed.Err
	}
	if w := side.Load(); w != nil {
		return w, nil
	}
	w, err := make()
	if err == nil {
		side.Store(w)
	}
	return w, err
}

// waitRx looks, and waits in poll if there is nothing.
func (s *Socket) waitRx(limit time.Duration) (bool, error) {
	if !s.Rx.gate.enter() {
		return false, closed.Err
	}
	defer s.Rx.gate.leave()
	return rxWait(s.Fill.c, s.Rx.c, s.fd, limit), nil
}

func (s *Socket) lookRx() (bool, error) {
	if !s.Rx.gate.enter() {
		return false, closed.Err
	}
	defer s.Rx.gate.leave()
	ready, err := rxReady(s.Fill.c, s.Rx.c, s.fd)
	return ready, s.latch(ready, err)
}

func (s *Socket) lookTx() (bool, error) {
	if !s.Tx.gate.enter() {
		return false, closed.Err
	}
	defer s.Tx.gate.leave()
	ready, err := txReady(s.Tx.c, s.fd)
	return ready, s.latch(ready, err)
}

// gone looks for the error of an interface that went away, whatever the rings
// hold.
func (s *Socket) gone() error {
	if !s.Rx.gate.enter() {
		return closed.Err
	}
	defer s.Rx.gate.leave()
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = syscall.Errno(errno)
	}
	return s.latch(false, err)
}

// latch keeps a device error for both directions and all later calls: the
// kernel clears SO_ERROR as it tells it.
func (s *Socket) latch(ready bool, err error) error {
	if err == syscall.ENETDOWN || err == syscall.ENXIO {
		s.deviceError.Store(int32(err.(syscall.Errno)))
	}
	if kept := s.deviceError.Load(); kept != 0 && !ready {
		return goneError()
	}
	return err
}
