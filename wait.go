package xsk

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// tick bounds every park. The kernel wakes no poller when the interface is
// removed or moved away, nor a writer whose link went down and up again.
const tick = time.Second

// A waiter waits for one direction of a socket, in one of two ways.
//
// While packets come quickly it waits in poll(2), in the same crossing as the look
// at the ring. That holds a thread, but for quickWait at most, and costs half
// as much as Go's poller: a goroutine that parks leaves a processor idle, which
// sends the runtime's monitor thread to sleep and wakes it again, each time.
//
// After that it parks in Go's poller, so that a waiting goroutine holds no
// thread and Close wakes it. The poller knows an epoll of our own, in which the
// socket is only while somebody is parked: otherwise each packet would wake an
// idle thread that finds nothing to do.
type waiter struct {
	mu       sync.Mutex // one goroutine waits at a time
	look     func() (bool, error)
	wait     func(time.Duration) (bool, error) // look, and poll(2); nil without
	quick    bool                              // the last wait was short
	rounds   int                               // quick waits
	yielded  time.Time
	file     *os.File // the epoll
	park     func(func(uintptr) bool) error
	deadline func(time.Time) error
	lookIn   func(uintptr) bool // made once: a park allocates nothing
	disarm   func(uintptr)
	control  func(func(uintptr)) error
	ready    bool
	err      error
}

// A wait shorter than quickly makes the next one a quick one, which gives its
// thread back after quickWait. A limit below the kernel's tick would cost more
// than it saves: the processor's timer has to be programmed for it, each time.
const (
	quickly   = 2 * time.Millisecond
	quickWait = 20 * time.Millisecond
)

// quickWaiters are the goroutines in poll(2): at most half the processors, for
// the others must run what becomes ready meanwhile.
var quickWaiters atomic.Int32

var mostQuickWaiters = int32(runtime.NumCPU()+1) / 2

func newWaiter(fd int, events uint32, look func() (bool, error), wait func(time.Duration) (bool, error)) (*waiter, error) {
	w := &waiter{look: look, wait: wait}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.SetNonblock(epfd, true), unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{}))
	if err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	w.file = os.NewFile(uintptr(epfd), "AF_XDP epoll")
	conn, err := w.file.SyscallConn()
	if err != nil {
		w.close()
		return nil, err
	}
	w.park, w.deadline, w.control = conn.Read, w.file.SetReadDeadline, conn.Control
	armed, disarmed := unix.EpollEvent{Events: events}, unix.EpollEvent{}
	w.lookIn = func(epfd uintptr) bool {
		if w.err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_MOD, fd, &armed); w.err == nil {
			w.ready, w.err = w.look()
		}
		return w.ready || w.err != nil
	}
	w.disarm = func(epfd uintptr) {
		_ = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_MOD, fd, &disarmed)
	}
	return w, nil
}

// close wakes who is parked and returns when nobody will park again.
func (w *waiter) close() {
	if w != nil {
		_ = w.file.Close()
	}
}

// poll looks, and waits until look says ready, fails, or timeout has passed;
// less than 0 never passes.
func (w *waiter) poll(timeout time.Duration) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.startQuick() {
		limit := quickWait
		if timeout > 0 {
			limit = min(limit, timeout)
		}
		ready, err := w.wait(limit)
		w.endQuick(ready)
		if ready || err != nil {
			return ready, err
		}
	}
	for start := time.Now(); ; {
		next := tick
		if timeout > 0 {
			next = min(tick, timeout-time.Since(start))
		}
		if next <= 0 {
			return w.look()
		}
		if ready, err := w.parkFor(next); ready || err != nil {
			w.quick = w.wait != nil && time.Since(start) < quickly
			return ready, err
		}
	}
}

// yield lets the scheduler in now and then. A goroutine that it has not seen for
// 10 ms counts as stuck, and one that is in C by then loses its processor every
// 20 us: that cost a third of a receiver's time.
func (w *waiter) yield() {
	if w.rounds++; w.rounds%8 != 0 {
		return
	}
	if now := time.Now(); now.Sub(w.yielded) > 8*time.Millisecond {
		runtime.Gosched()
		w.yielded = now
	}
}

// startQuick reports whether the goroutine may wait in poll(2); endQuick must
// follow.
func (w *waiter) startQuick() bool {
	if !w.quick {
		return false
	}
	w.yield()
	if quickWaiters.Add(1) > mostQuickWaiters {
		quickWaiters.Add(-1)
		return false
	}
	return true
}

func (w *waiter) endQuick(ready bool) {
	quickWaiters.Add(-1)
	w.quick = ready
}

// parkFor parks in Go's poller for at most d.
//
// The ring is looked at inside the callback, which runs after the poller has
// reset its readiness: a packet that comes between a look outside and the park
// would wake nobody.
func (w *waiter) parkFor(d time.Duration) (bool, error) {
	if w.deadline(time.Now().Add(d)) != nil {
		return false, os.ErrClosed
	}
	w.ready, w.err = false, nil
	err := w.park(w.lookIn)
	_ = w.control(w.disarm)
	switch {
	case w.ready || w.err != nil:
		return w.ready, w.err
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return false, os.ErrClosed // RawConn's own error is not ErrClosed
	}
	return false, nil
}
