package xsk

import (
	"errors"
	"fmt"
	"math"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// BusyPoll says how the driver is polled for a Socket from the system calls of
// the program itself, instead of from interrupts. The zero value does not.
//
// It is for a program that spins: one that calls [Socket.RxBurst], or
// [Queue.TryReceive], over and over, and leaves its CPU to nobody. While it is set
// each of them enters the kernel, whether the rings ask for it or not, because
// that call is what receives. To keep interrupts from coming in between set
// Prefer, and [DeferNAPI] on the interface; waiting as in PollRx then lasts
// DeferNAPI's flush time. It works with drivers that have zero copy. Others accept
// it to no effect: in copy mode a Socket has no NAPI to poll.
type BusyPoll struct {
	Prefer bool          // hold the interrupts back while polling goes on (SO_PREFER_BUSY_POLL)
	Time   time.Duration // 0 does not poll; how long to, where a call may wait, in whole microseconds (SO_BUSY_POLL)
	Budget int           // packets a poll handles at most, up to 65535; 0 is the kernel's default, 8 (SO_BUSY_POLL_BUDGET)
}

// SetBusyPoll sets what b says, all of it or nothing. It does not block, and may
// be called from any goroutine. Prefer, unless it is set, and a Budget above the one that
// is set need CAP_NET_ADMIN, as does before Linux 6.5 a longer Time. Errors wrap
// EINVAL for a value that breaks a rule, EPERM with the missing capability, errors.ErrUnsupported on a kernel that is built without
// busy polling, and os.ErrClosed.
func (s *Socket) SetBusyPoll(b BusyPoll) error {
	s.umem.mu.Lock()
	defer s.umem.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail("busy poll", s.setBusyPoll(b))
}

func (s *Socket) setBusyPoll(b BusyPoll) error {
	if s.closed {
		return closed.Err
	}
	if err := b.check(); err != nil {
		return err
	}
	before, after := s.busyPoll.options(), b.options()
	for _, raising := range []bool{true, false} { // only what raises a value may be forbidden
		for i, o := range after {
			same := o.value != 0 && o.value == before[i].value // the kernel may forbid that too
			if same || o.value > before[i].value != raising {
				continue
			}
			if err := o.set(s.fd); err != nil {
				return err
			}
		}
	}
	s.busyPoll = b
	s.spin(b.Time > 0)
	return nil
}

// spin makes the bursts enter the kernel each time, or only when the rings ask
// for it. Called with the locks of the Umem and the Socket held.
func (s *Socket) spin(on bool) {
	if s.spins == on {
		return
	}
	s.spins = on
	rings := []*ring{&s.Tx.ring}
	if s.Rx.c != 0 { // recvfrom answers ENOBUFS to a socket without
		rings = append(rings, &s.Fill.ring)
	}
	for _, r := range rings {
		if on {
			r.spinOn()
		} else {
			r.spinOff()
		}
	}
}

// check holds b against the kernel's rules.
func (b *BusyPoll) check() error {
	switch {
	case b.Time < 0 || b.Time > math.MaxInt32*time.Microsecond:
		return invalid("Time %v is not between 0 and %v", b.Time, math.MaxInt32*time.Microsecond)
	case b.Time%time.Microsecond != 0:
		return invalid("Time %v is not a number of whole microseconds", b.Time)
	case b.Budget < 0 || b.Budget > math.MaxUint16:
		return invalid("Budget %d is not between 0 and %d packets", b.Budget, math.MaxUint16)
	case b.Prefer && b.Time == 0:
		return invalid("Prefer goes with a Time to poll")
	}
	return nil
}

// A busyOption is a field of BusyPoll as the kernel has it.
type busyOption struct {
	field  string
	option int
	value  int
}

func (b *BusyPoll) options() []busyOption {
	prefer := 0
	if b.Prefer {
		prefer = 1
	}
	return []busyOption{
		{"Prefer", unix.SO_PREFER_BUSY_POLL, prefer},
		{"Budget", unix.SO_BUSY_POLL_BUDGET, b.Budget},
		{"Time", unix.SO_BUSY_POLL, int(b.Time / time.Microsecond)},
	}
}

func (o *busyOption) set(fd int) error {
	switch err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.option, o.value); err {
	case nil:
		return nil
	case syscall.EPERM:
		return explained(err, "%s needs CAP_NET_ADMIN", o.field)
	case syscall.ENOPROTOOPT:
		return fmt.Errorf("%s: this kernel is built without busy polling (CONFIG_NET_RX_BUSY_POLL): %w: %w",
			o.field, errors.ErrUnsupported, err)
	default:
		return explained(err, "%s", o.field)
	}
}
