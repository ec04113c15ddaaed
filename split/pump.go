package split

import (
	"errors"
	"math/bits"
	"os"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/closed"
)

// A group is the listeners that share what one match takes.
type group struct {
	name    string
	match   func([]byte) bool // nil takes the rest
	hash    func([]byte) uint64
	members []*Member // nil where one was closed
}

func (g *group) empty() bool {
	for _, m := range g.members {
		if m != nil {
			return false
		}
	}
	return true
}

// A table says who gets a packet. It never changes: another one takes its place.
type table struct {
	taps    []*Tap
	members []*Member
	parts   []part // the one without a match last
}

// A part is a group with its members by their numbers in the table.
type part struct {
	match func([]byte) bool
	hash  func([]byte) uint64
	slots []int // -1 where one was closed
	alive []int
}

func newTable(groups []*group, taps []*Tap) *table {
	t := &table{taps: append([]*Tap(nil), taps...)}
	var rest []part
	for _, g := range groups {
		p := part{match: g.match, hash: g.hash}
		for _, m := range g.members {
			if m == nil {
				p.slots = append(p.slots, -1)
				continue
			}
			p.slots = append(p.slots, len(t.members))
			p.alive = append(p.alive, len(t.members))
			t.members = append(t.members, m)
		}
		if p.match == nil {
			rest = append(rest, p)
		} else {
			t.parts = append(t.parts, p)
		}
	}
	t.parts = append(t.parts, rest...)
	return t
}

// choose is the number of the Member that gets a packet, or -1.
func (t *table) choose(packet []byte) int {
	for i := range t.parts {
		if p := &t.parts[i]; p.match == nil || p.match(packet) {
			return p.choose(packet)
		}
	}
	return -1
}

// choose keeps the flows of the living where they are, and spreads those of a
// closed Member over them.
func (p *part) choose(packet []byte) int {
	if len(p.slots) == 1 {
		return p.slots[0]
	}
	h := p.hash(packet)
	if m := p.slots[place(h, len(p.slots))]; m >= 0 {
		return m
	}
	return p.alive[place(mix(h), len(p.alive))]
}

// place is h brought down to 0 to n-1.
func place(h uint64, n int) int {
	high, _ := bits.Mul64(mix(h), uint64(n))
	return int(high)
}

// A pump receives from one Queue and gives to the listeners.
type pump struct {
	s       *Splitter
	queue   *xsk.Queue
	frames  []xsk.Frame
	table   *table
	batches [][]xsk.Frame // for each Member of the table
}

// burst is the most that one Receive of a Queue brings.
const burst = 256

// starved is how long a pump waits for a frame to come back.
const starved = time.Millisecond

func newPump(s *Splitter, q *xsk.Queue) *pump {
	return &pump{s: s, queue: q, frames: make([]xsk.Frame, burst)}
}

// run returns when the pump is stopped, or its Queue fails.
func (p *pump) run() error {
	defer func() { _, _ = p.queue.TryReceive(nil) }() // ends the last loan
	for {
		n, err := p.queue.Receive(p.frames)
		if n > 0 {
			p.give(p.frames[:n])
		}
		switch {
		case p.s.stopping.Load():
			return closed.Err
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded): // not ours
			_ = p.queue.SetReadDeadline(time.Time{})
			if p.s.stopping.Load() { // it may have been ours after all
				return closed.Err
			}
		case errors.Is(err, syscall.ENOBUFS):
			time.Sleep(starved)
		default:
			return err
		}
	}
}

// give gives each packet of a burst to whom it is for. What nobody takes stays lent,
// and goes back with the next Receive.
func (p *pump) give(frames []xsk.Frame) {
	t := p.s.table.Load()
	if t != p.table {
		p.table, p.batches = t, make([][]xsk.Frame, len(t.members))
		for i := range p.batches {
			p.batches[i] = make([]xsk.Frame, 0, burst)
		}
	}
	for _, tap := range t.taps {
		tap.Copy(frames)
	}
	unclaimed := uint64(0)
	for i := range frames {
		if k := t.choose(frames[i].Data); k >= 0 {
			p.batches[k] = append(p.batches[k], frames[i])
		} else {
			unclaimed++
		}
	}
	if unclaimed > 0 {
		p.s.unclaimed.Add(unclaimed)
	}
	for k, batch := range p.batches {
		if len(batch) > 0 {
			t.members[k].in.put(batch)
			p.batches[k] = batch[:0]
		}
	}
}
