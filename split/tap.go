package split

import (
	"fmt"

	"github.com/go-xsk/xsk"
)

// A Tap is a listener that gets copies. It has as many empty frames as its Depth,
// from the Umem of one Queue, and copies into these; its own goroutine gets new
// ones, in Receive. So whoever has the packets copies bytes and takes a lock, but
// never waits and never looks for a frame; when the Tap is late there is none, the
// packet is missed, and counts as Dropped.
//
// A copy is a frame like any other, with the metadata before it: it may be
// changed, kept, and sent.
type Tap struct {
	Member

	match func([]byte) bool
	more  []xsk.Frame // of who receives
}

// NewTap makes a Tap for a program that receives by itself, and calls Copy for what
// it has received, or sends. The copies are in frames of q's Umem, which the Tap's
// Send sends out of q: a Queue other than the one that is watched makes a mirror.
// Close the Tap before q. Errors wrap EINVAL when twice the Depth is more than the
// frames of q's Umem that are not for receiving.
func NewTap(q *xsk.Queue, o *Options) (*Tap, error) {
	c := complete(o)
	s, err := New(q)
	if err == nil {
		err = s.admit(1, &c)
	}
	if err != nil {
		return nil, fmt.Errorf("split: new tap: %w", err)
	}
	t := newTap(nil, q, &c)
	if c.Name == "" {
		t.name = "tap of " + s.name
	}
	return t, nil
}

func newTap(s *Splitter, q *xsk.Queue, c *Options) *Tap {
	t := &Tap{match: c.Match}
	name := c.Name
	if name == "" {
		name = "tap"
		if s != nil {
			name = fmt.Sprintf("listener %d", s.made)
		}
	}
	t.init(s, name, q, c.Depth)
	t.in.stock = make([]xsk.Frame, 0, c.Depth)
	t.more = make([]xsk.Frame, c.Depth)
	t.refill = t.restock
	t.restock()
	return t
}

// copies is how many packets Copy copies between two locks.
const copies = 32

// Copy offers packets to the Tap, which copies those that its Match takes, as long
// as it has frames. It waits for nobody, allocates nothing but for packets of
// several frames, and may be called from any number of goroutines. The frames stay
// whose they are. A closed Tap copies nothing.
func (t *Tap) Copy(frames []xsk.Frame) {
	var chosen [copies]*xsk.Frame
	for n := 0; len(frames) > 0; n = 0 {
		parts := 0
		for n < copies && len(frames) > 0 {
			f := &frames[0]
			frames = frames[1:]
			if t.match == nil || t.match(f.Data) {
				chosen[n] = f
				parts += 1 + len(f.Frags)
				n++
			}
		}
		if n > 0 {
			t.copy(chosen[:n], parts)
		}
	}
}

// copy copies packets of so many frames.
func (t *Tap) copy(chosen []*xsk.Frame, parts int) {
	var room [copies]xsk.Frame
	empty := room[:]
	if parts > copies {
		empty = make([]xsk.Frame, parts)
	}
	in := &t.in
	in.mu.Lock()
	if in.err != nil {
		in.mu.Unlock()
		return
	}
	left := len(in.stock) - min(parts, len(in.stock))
	empty = empty[:copy(empty, in.stock[left:])]
	in.stock = in.stock[:left]
	in.filling += len(empty)
	in.mu.Unlock()

	done, rest := 0, empty
	for _, f := range chosen {
		if n := len(f.Frags) + 1; n <= len(rest) && duplicate(f, rest[:n]) {
			empty[done] = rest[0]
			done, rest = done+1, rest[n:]
		}
	}

	in.mu.Lock()
	defer in.mu.Unlock()
	in.filling -= len(empty)
	if in.err != nil {
		in.dropped += uint64(len(chosen))
		xsk.Free(empty[:done])
		xsk.Free(rest)
		return
	}
	in.push(empty[:done])
	in.dropped += uint64(len(chosen) - done)
	in.stock = append(in.stock, rest...)
	in.nudge() // also without a copy: the listener gets new frames then
}

// metadata is the most that a driver takes before a packet: 32 bytes for long, 252
// later; the kernel's own is 24.
const metadata = 32

// duplicate copies a packet of as many frames into empty ones. It reports false
// if one is too small.
func duplicate(f *xsk.Frame, empty []xsk.Frame) bool {
	if len(f.Data) > cap(empty[0].Data) {
		return false
	}
	for i := range f.Frags {
		if len(f.Frags[i].Data) > cap(empty[1+i].Data) {
			return false
		}
	}
	first := &empty[0]
	first.Data = append(first.Data[:0], f.Data...)
	if before := f.Metadata(metadata); before != nil {
		copy(first.Metadata(metadata), before)
	}
	if len(f.Frags) == 0 {
		return true
	}
	first.Frags = make([]xsk.Frame, len(f.Frags))
	for i := range f.Frags {
		part := &empty[1+i]
		part.Data = append(part.Data[:0], f.Frags[i].Data...)
		first.Frags[i] = *part
	}
	return true
}

// restock gets empty frames for those that were filled, in the listener's goroutine.
func (t *Tap) restock() {
	in := &t.in
	in.mu.Lock()
	want := in.depth - in.frames - in.filling - len(in.stock)
	if in.err != nil {
		want = 0
	}
	in.mu.Unlock()
	if want <= 0 {
		return
	}
	n, _ := t.queues[0].TryAlloc(t.more[:want]) // an error is for those who send
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.err != nil {
		xsk.Free(t.more[:n])
		return
	}
	in.stock = append(in.stock, t.more[:n]...)
}
