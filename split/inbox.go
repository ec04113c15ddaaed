package split

import (
	"os"
	"sync"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/closed"
)

// An inbox is where packets wait for a listener.
type inbox struct {
	depth int
	wake  chan struct{} // somebody has changed something
	timer *time.Timer   // of who waits

	mu       sync.Mutex // guards the rest
	ring     []xsk.Frame
	first, n int
	frames   int         // of these packets
	stock    []xsk.Frame // empty frames for copies; see Tap
	filling  int         // frames that Copy has taken from stock
	err      error
	deadline time.Time

	packets, bytes, dropped uint64
}

func (in *inbox) init(depth int) {
	in.depth = depth
	in.wake = make(chan struct{}, 1)
	in.timer = time.NewTimer(time.Hour)
	in.timer.Stop()
	in.ring = make([]xsk.Frame, depth)
}

// put keeps lent frames for the listener, as many as there is room for, and moves
// these to the front. The others stay lent, and are counted: a packet of more frames
// than there is room for does not stand in the way of those behind it.
func (in *inbox) put(frames []xsk.Frame) {
	in.mu.Lock()
	n := 0
	if in.err == nil {
		room := in.depth - in.frames
		for i := range frames {
			if parts := 1 + len(frames[i].Frags); parts <= room {
				room -= parts
				frames[n], frames[i] = frames[i], frames[n]
				n++
			}
		}
	}
	xsk.Keep(frames[:n])
	in.push(frames[:n])
	in.dropped += uint64(len(frames) - n)
	in.mu.Unlock()
	if n > 0 {
		in.nudge()
	}
}

// push adds packets that there is room for. mu is locked.
func (in *inbox) push(frames []xsk.Frame) {
	for i := range frames {
		at := in.first + in.n
		if at >= len(in.ring) {
			at -= len(in.ring)
		}
		in.ring[at] = frames[i]
		in.n++
		in.frames += 1 + len(frames[i].Frags)
	}
}

// take takes the oldest packets, or says why none will come.
func (in *inbox) take(frames []xsk.Frame) (int, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	n := min(len(frames), in.n)
	for i := range n {
		f := &in.ring[in.first]
		frames[i] = *f
		in.bytes += uint64(f.Len())
		in.frames -= 1 + len(f.Frags)
		if in.first++; in.first == len(in.ring) {
			in.first = 0
		}
	}
	in.n -= n
	in.packets += uint64(n)
	if n == 0 {
		return 0, in.err
	}
	return n, nil
}

// wait returns when there may be something new, or the deadline has passed.
func (in *inbox) wait() error {
	in.mu.Lock()
	deadline := in.deadline
	in.mu.Unlock()
	if deadline.IsZero() {
		<-in.wake
		return nil
	}
	left := time.Until(deadline)
	if left <= 0 {
		return os.ErrDeadlineExceeded
	}
	in.timer.Reset(left)
	defer in.timer.Stop()
	select {
	case <-in.wake:
	case <-in.timer.C:
	}
	return nil
}

// nudge makes who waits look again.
func (in *inbox) nudge() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// end says that no more will come, and why.
func (in *inbox) end(why error) {
	in.mu.Lock()
	if in.err == nil {
		in.err = why
	}
	in.mu.Unlock()
	in.nudge()
}

// close drops what waits, and says that it is closed.
func (in *inbox) close() {
	in.mu.Lock()
	var unread []xsk.Frame
	for range in.n {
		unread = append(unread, in.ring[in.first])
		in.first = (in.first + 1) % len(in.ring)
	}
	in.dropped += uint64(in.n)
	in.n, in.frames, in.err = 0, 0, closed.Err
	unread = append(unread, in.stock...)
	in.stock = nil
	in.mu.Unlock()
	xsk.Free(unread)
	in.nudge()
}

func (in *inbox) setDeadline(t time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err == closed.Err {
		return in.err
	}
	in.deadline = t
	in.nudge()
	return nil
}
