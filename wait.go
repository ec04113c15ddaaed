package xsk

import (
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// tick bounds every park. The kernel wakes no poller when the interface is
// removed or moved away, nor a writer whose link went down and up again.
const tick = time.Second

// A poller waits on a socket in Go's own poller, so that a waiting goroutine
// holds no thread and Close wakes it. It has its own descriptor: os.File closes
// what it is given.
type poller struct {
	file   *os.File
	rx, tx *waiter
}

func newPoller(fd int, lookRx, lookTx func() (bool, error)) (*poller, error) {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(dup, true); err != nil {
		_ = unix.Close(dup)
		return nil, err
	}
	p := &poller{file: os.NewFile(uintptr(dup), "AF_XDP")}
	conn, err := p.file.SyscallConn()
	if err != nil {
		_ = p.file.Close()
		return nil, err
	}
	p.rx = newWaiter(lookRx, conn.Read, p.file.SetReadDeadline)
	p.tx = newWaiter(lookTx, conn.Write, p.file.SetWriteDeadline)
	return p, nil
}

// close wakes both sides and returns when neither will look again.
func (p *poller) close() {
	if p != nil {
		_ = p.file.Close()
	}
}

// A waiter parks the goroutine of one direction until look says ready.
type waiter struct {
	mu          sync.Mutex // one goroutine at a time
	look        func() (bool, error)
	park        func(func(uintptr) bool) error
	setDeadline func(time.Time) error
	callback    func(uintptr) bool // made once: a park allocates nothing
	ready       bool
	err         error
}

func newWaiter(look func() (bool, error), park func(func(uintptr) bool) error, setDeadline func(time.Time) error) *waiter {
	w := &waiter{look: look, park: park, setDeadline: setDeadline}
	w.callback = func(uintptr) bool {
		w.ready, w.err = w.look()
		return w.ready || w.err != nil
	}
	return w
}

// wait looks, and parks until look says ready, fails, or timeout has passed.
//
// The ring is looked at inside the callback, which runs after the poller has
// reset its readiness: a packet that comes between a look outside and the park
// would wake nobody.
func (w *waiter) wait(timeout time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if timeout == 0 {
		return w.look()
	}
	start := time.Now()
	for {
		next := tick
		if timeout > 0 {
			next = min(tick, timeout-time.Since(start))
		}
		if next <= 0 {
			return w.look()
		}
		if err := w.setDeadline(time.Now().Add(next)); err != nil {
			return false, os.ErrClosed
		}
		w.ready, w.err = false, nil
		switch err := w.park(w.callback); {
		case w.ready || w.err != nil:
			return w.ready, w.err
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return false, os.ErrClosed // RawConn's own error is not ErrClosed
		}
	}
}
