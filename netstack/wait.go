package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/waiter"
)

// A socket is what waits for an endpoint of the stack: it hears of it when there is
// something to read or room to write, for as long as it is open. Waiting allocates
// nothing.
type socket struct {
	host  *Host
	queue *waiter.Queue
	entry waiter.Entry
	read  side
	write side
	done  chan struct{} // closed by close
	once  sync.Once
}

// A side is one direction of a socket.
type side struct {
	mu    sync.Mutex // one goroutine at a time
	ready chan struct{}
	deadline
}

func (s *socket) init(h *Host, queue *waiter.Queue) {
	s.host, s.queue = h, queue
	s.read.ready, s.write.ready = make(chan struct{}, 1), make(chan struct{}, 1)
	s.done = make(chan struct{})
	s.entry.Init(s, waiter.ReadableEvents|waiter.WritableEvents|waiter.EventErr|waiter.EventHUp|waiter.EventRdHUp)
	queue.EventRegister(&s.entry)
}

// NotifyEvent is for the stack to call.
func (s *socket) NotifyEvent(mask waiter.EventMask) {
	if mask&^waiter.WritableEvents != 0 {
		s.read.wake()
	}
	if mask&^waiter.ReadableEvents != 0 {
		s.write.wake()
	}
}

func (d *side) wake() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

// open says why the socket is of no use now; nil if it is.
func (s *socket) open(d *side) error {
	select {
	case <-s.done:
		return errClosed
	case <-s.host.done:
		return errClosed
	default:
	}
	if d == &s.write { // what has come can still be read
		if err := s.host.Err(); err != nil {
			return err
		}
	}
	return d.passed()
}

// wait waits until it is worth trying again.
func (s *socket) wait(d *side) error {
	for {
		expired := d.expired()
		select {
		case <-d.ready:
			return nil
		case <-expired:
			if err := d.passed(); err != nil {
				return err
			}
		case <-s.done:
			return errClosed
		case <-s.host.over:
			return s.host.Err()
		}
	}
}

// close reports whether it was open.
func (s *socket) close() (first bool) {
	s.once.Do(func() {
		first = true
		close(s.done)
		s.queue.EventUnregister(&s.entry)
		s.read.stop()
		s.write.stop()
	})
	return first
}

// SetDeadline sets the read and the write deadline.
func (s *socket) SetDeadline(t time.Time) error {
	if err := s.SetReadDeadline(t); err != nil {
		return err
	}
	return s.SetWriteDeadline(t)
}

// SetReadDeadline sets when reading, or accepting, gives up, also one that waits
// now; the zero Time means never.
func (s *socket) SetReadDeadline(t time.Time) error { return s.setDeadline(&s.read, t) }

// SetWriteDeadline does so for writing.
func (s *socket) SetWriteDeadline(t time.Time) error { return s.setDeadline(&s.write, t) }

func (s *socket) setDeadline(d *side, t time.Time) error {
	select {
	case <-s.done:
		return opError("set", "tcp/ip", nil, nil, errClosed)
	case <-s.host.done:
		return opError("set", "tcp/ip", nil, nil, errClosed)
	default:
	}
	d.set(t)
	return nil
}

// A deadline is a point in time, which can be moved while somebody waits for it.
type deadline struct {
	lock  sync.Mutex
	at    time.Time // zero for never
	timer *time.Timer
	over  chan struct{} // closed when at has passed or was changed; nil until somebody waits
}

func (d *deadline) set(t time.Time) {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.at = t
	d.tell()
}

// tell wakes those who wait. d is locked.
func (d *deadline) tell() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	if d.over != nil {
		close(d.over)
		d.over = nil
	}
}

// passed is an error once it is too late.
func (d *deadline) passed() error {
	d.lock.Lock()
	defer d.lock.Unlock()
	if !d.at.IsZero() && !time.Now().Before(d.at) {
		return errTimeout
	}
	return nil
}

// expired is closed when it is time to look again.
func (d *deadline) expired() <-chan struct{} {
	d.lock.Lock()
	defer d.lock.Unlock()
	if d.over == nil {
		over := make(chan struct{})
		d.over = over
		if !d.at.IsZero() {
			d.timer = time.AfterFunc(time.Until(d.at), func() {
				d.lock.Lock()
				defer d.lock.Unlock()
				if d.over == over {
					d.tell()
				}
			})
		}
	}
	return d.over
}

func (d *deadline) stop() {
	d.lock.Lock()
	defer d.lock.Unlock()
	d.tell()
}
