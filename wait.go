package xsk

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
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
// idle thread that finds nothing to do, or at least ask the epoll, at the
// sender's expense.
type waiter struct {
	busy    sync.Mutex // one goroutine waits at a time
	look    func() (bool, error)
	wait    func(time.Duration) (bool, error) // look, and poll(2); nil without
	quick   bool                              // the last wait was short
	gather  bool                              // and brought more than one packet
	turn    turn
	file    *os.File // the epoll
	park    func(func(uintptr) bool) error
	lookIn  func(uintptr) bool // made once: a park allocates nothing
	disarm  func(uintptr)
	control func(func(uintptr)) error
	ready   bool
	err     error

	mu       sync.Mutex            // guards the rest
	nudged   bool                  // not noticed yet
	set      func(time.Time) error // the file's deadline
	deadline time.Time             // the user's; zero for none
}

// A wait shorter than quickly makes the next one a quick one, which gives its
// thread back after quickWait. A limit below the kernel's tick would cost more
// than it saves: the processor's timer has to be programmed for it, each time.
const (
	quickly   = 2 * time.Millisecond
	quickWait = 20 * time.Millisecond
)

// maxLinger is the longest linger.
const maxLinger = time.Millisecond

// quickWaiters are the goroutines in poll(2): at most half the processors, for
// the others must run what becomes ready meanwhile.
var quickWaiters atomic.Int32

var mostQuickWaiters = int32(runtime.GOMAXPROCS(0)+1) / 2

// A turn ends now and then, to let the scheduler in. A goroutine that it has not
// seen for 10 ms counts as stuck, and one that is in C by then loses its processor
// every 20 us: that cost a third of a receiver's time, and of a sender's.
type turn struct {
	rounds int
	last   time.Time
	passed int
}

// over reports, once a round, whether it is time to pass; long rounds always ask
// the clock.
func (t *turn) over(long bool) bool {
	if t.rounds++; t.rounds%8 != 0 && !long {
		return false
	}
	now := time.Now()
	if now.Sub(t.last) < 8*time.Millisecond {
		return false
	}
	t.last = now
	t.passed++
	return true
}

// pass lets others run.
func (t turn) pass() {
	// What yield leaves alone is the queue that all processors share.
	if t.passed%4 == 0 || runtime.GOMAXPROCS(0) == 1 {
		runtime.Gosched()
	} else {
		yield()
	}
}

func newWaiter(fd int, events uint32, look func() (bool, error), wait func(time.Duration) (bool, error)) (*waiter, error) {
	w := &waiter{look: look, wait: wait}
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(epfd, true); err != nil {
		_ = unix.Close(epfd)
		return nil, err
	}
	w.file = os.NewFile(uintptr(epfd), "AF_XDP epoll")
	conn, err := w.file.SyscallConn()
	if err != nil {
		w.close()
		return nil, err
	}
	w.park, w.set, w.control = conn.Read, w.file.SetReadDeadline, conn.Control
	armed := unix.EpollEvent{Events: events}
	w.lookIn = func(epfd uintptr) bool {
		w.err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_ADD, fd, &armed)
		if w.err == unix.EEXIST { // woken, and not by what it waits for
			w.err = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_MOD, fd, &armed)
		}
		if w.err == nil {
			w.ready, w.err = w.look()
		}
		return w.ready || w.err != nil
	}
	w.disarm = func(epfd uintptr) {
		_ = unix.EpollCtl(int(epfd), unix.EPOLL_CTL_DEL, fd, nil)
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
	w.busy.Lock()
	defer w.busy.Unlock()
	for start := time.Now(); ; {
		next := tick
		if timeout > 0 {
			next = min(tick, timeout-time.Since(start))
		}
		if next <= 0 {
			return w.look()
		}
		if ready, err := w.waitFor(next); ready || err != nil {
			return ready, err
		}
	}
}

// await waits for a tick at most. It answers os.ErrDeadlineExceeded once the
// user's deadline has passed.
func (w *waiter) await() (bool, error) {
	w.busy.Lock()
	defer w.busy.Unlock()
	return w.waitFor(tick)
}

// waitFor waits for at most d, quickly first if the last wait was a short one.
func (w *waiter) waitFor(d time.Duration) (bool, error) {
	if w.startQuick(0) {
		ready, err := w.wait(w.beforeDeadline(min(d, quickWait)))
		w.endQuick(ready, false)
		if ready || err != nil {
			return ready, err
		}
	}
	start := time.Now()
	ready, err := w.parkFor(d)
	w.quick = ready && w.wait != nil && time.Since(start) < quickly
	return ready, err
}

// startQuick reports whether the goroutine may wait in poll(2), and linger;
// endQuick must follow.
func (w *waiter) startQuick(linger time.Duration) bool {
	if !w.quick {
		return false
	}
	if w.turn.over(linger >= 500*time.Microsecond) {
		w.turn.pass()
	}
	if quickWaiters.Add(1) > mostQuickWaiters {
		quickWaiters.Add(-1)
		return false
	}
	return true
}

func (w *waiter) endQuick(quick, gather bool) {
	quickWaiters.Add(-1)
	w.quick, w.gather = quick, gather
}

// parkFor parks in Go's poller for at most d.
//
// The ring is looked at inside the callback, which runs after the poller has
// reset its readiness: a packet that comes between a look outside and the park
// would wake nobody.
func (w *waiter) parkFor(d time.Duration) (bool, error) {
	if awake, err := w.arm(time.Now().Add(d)); awake || err != nil {
		return false, err
	}
	w.ready, w.err = false, nil
	err := w.park(w.lookIn)
	_ = w.control(w.disarm)
	switch {
	case w.ready || w.err != nil:
		return w.ready, w.err
	case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
		return false, closed.Err // RawConn's own error is not ErrClosed
	}
	return false, nil
}

// arm sets the file's deadline to until, or to the user's if that is sooner. It
// reports whether somebody has nudged.
func (w *waiter) arm(until time.Time) (nudged bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if nudged = w.nudged; nudged {
		w.nudged = false
		return true, nil
	}
	if !w.deadline.IsZero() {
		if !time.Now().Before(w.deadline) {
			return false, os.ErrDeadlineExceeded
		}
		if w.deadline.Before(until) {
			until = w.deadline
		}
	}
	if w.set(until) != nil {
		return false, closed.Err
	}
	return false, nil
}

// beforeDeadline is d, or what is left before the user's deadline.
func (w *waiter) beforeDeadline(d time.Duration) time.Duration {
	if until := w.userDeadline(); !until.IsZero() {
		return max(min(d, time.Until(until)), 0)
	}
	return d
}

// userDeadline is the user's deadline; zero for none.
func (w *waiter) userDeadline() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deadline
}

// setDeadline sets the user's deadline, also for a wait that is under way: a
// parked goroutine wakes, and arms itself with the new one.
func (w *waiter) setDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	if w.set(time.Now()) != nil {
		return closed.Err
	}
	return nil
}

// nudge wakes a parked goroutine, which looks at everything again, or keeps one
// that is about to park from it.
func (w *waiter) nudge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nudged = true
	_ = w.set(time.Now())
}
