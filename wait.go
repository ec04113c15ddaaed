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
// While packets come quickly it waits in ppoll, in the same crossing as the look
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
	wait     func(time.Duration) (bool, error) // look, and ppoll in between; nil without
	quick    bool                              // the last wait was short
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

// quickWait is for how long a goroutine may hold a thread. The runtime takes a
// processor away from one that does after 10 ms.
const quickWait = 2 * time.Millisecond

// quickWaiters are the goroutines in ppoll: at most half the processors, for
// the others must run what becomes ready meanwhile.
var quickWaiters atomic.Int32

var mostQuickWaiters = int32(runtime.NumCPU()+1) / 2

func newWaiter(fd int, events uint32, look func() (bool, error), wait func(time.Duration) (bool, error)) (*waiter, error) {
	w := &waiter{look: look, wait: wait}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.SetNonblock(epfd, true), unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{})); err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	w.file = os.NewFile(uintptr(epfd), "AF_XDP epoll")
	conn, err := w.file.SyscallConn()
	if err != nil {
		_ = w.file.Close()
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

// close wakes who waits and returns when nobody will look again.
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
	start := time.Now()
	if w.quick {
		w.yield(start)
		limit := quickWait
		if timeout > 0 {
			limit = min(limit, timeout)
		}
		if ready, err := w.pollQuickly(limit); ready || err != nil {
			return ready, err
		}
	}
	for {
		next := tick
		if timeout > 0 {
			next = min(tick, timeout-time.Since(start))
		}
		if next <= 0 {
			return w.look()
		}
		if ready, err := w.parkFor(next); ready || err != nil {
			w.quick = w.wait != nil && time.Since(start) < quickWait
			return ready, err
		}
	}
}

// yield lets the scheduler in now and then. A goroutine that it has not seen for
// 10 ms counts as stuck, and one that is in C by then loses its processor every
// 20 us: that cost a third of a receiver's time.
func (w *waiter) yield(now time.Time) {
	if now.Sub(w.yielded) > 5*time.Millisecond {
		runtime.Gosched()
		w.yielded = now
	}
}

// pollQuickly waits in ppoll.
func (w *waiter) pollQuickly(limit time.Duration) (ready bool, err error) {
	if quickWaiters.Add(1) <= mostQuickWaiters {
		ready, err = w.wait(limit)
		w.quick = ready
	}
	quickWaiters.Add(-1)
	return ready, err
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
