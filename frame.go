package xsk

import (
	"math"
	"sync/atomic"
	"unsafe"
)

// A Frame is one whole packet, or one empty frame to write a packet into.
//
// [Queue.Receive] lends frames: they are the program's until the next Receive,
// unless Keep ends the loan in the program's favour. [Queue.Alloc] gives empty
// ones for good. [Queue.Send] takes a frame away, Free gives it back; after
// either, and after the end of a loan, every copy of the Frame is stale, and
// using one is an error that names its address.
//
// Who has a Frame may use it in any goroutine, in one at a time. Change Data to
// change the packet: write into it, reslice it to trim, append
// within its capacity, which ends where the frame ends. A loop over frames by
// value changes copies: write f := &frames[i].
type Frame struct {
	Data []byte // the packet, or its first part
	// Frags are the other parts of a packet that spans frames, with BindMultiBuffer.
	// A received packet has any number of them: 64 KiB are 36 with frames of 2048 bytes.
	// Send takes 17 in copy mode, and refuses more.
	Frags []Frame

	pool  *pool
	index uint32
	gen   uint32
}

// Len is the length of the whole packet in bytes.
func (f *Frame) Len() int {
	n := len(f.Data)
	for i := range f.Frags {
		n += len(f.Frags[i].Data)
	}
	return n
}

// CopyTo copies the whole packet into dst, as much as fits, and returns how
// many bytes it copied.
func (f *Frame) CopyTo(dst []byte) int {
	n := copy(dst, f.Data)
	for i := range f.Frags {
		n += copy(dst[n:], f.Frags[i].Data)
	}
	return n
}

// Prepend grows Data by n bytes at the front, over the room that the frame has
// before the packet: at least 256 bytes in a received or a new frame. The
// bytes hold whatever was there. It reports false, and changes nothing, when
// the frame has no such room, when it is stale, and for the zero Frame. It takes
// no lock.
func (f *Frame) Prepend(n int) bool {
	// Whoever has the frame may read its entry: that changes only when it goes.
	if f.pool == nil || n < 0 || f.pool.table[f.index].gen != f.gen || f.pool.area == nil {
		return false
	}
	start := f.offset()
	first, end := f.pool.span(f.index)
	if start-int64(n) < int64(first) || start > int64(end) {
		return false
	}
	from := start - int64(n)
	f.Data = f.pool.area[from : start+int64(len(f.Data)) : int64(end)]
	return true
}

// offset is where Data begins in the Umem; anything at all if Data is not
// memory of the Umem.
func (f *Frame) offset() int64 {
	return int64(uintptr(unsafe.Pointer(unsafe.SliceData(f.Data))) - f.pool.base)
}

// Keep ends the loan of a received frame in the program's favour: it is the
// program's until it is sent or freed, in any goroutine. Call it in the
// goroutine that received the frame, before its next Receive. Keeping a frame
// that is the program's already does nothing; Keep panics on a stale one.
func (f *Frame) Keep() {
	if f.pool != nil {
		f.pool.keep(unsafe.Slice(f, 1))
	}
}

// Umem is the memory that the frame is in; nil for the zero Frame. Only a Queue on
// that memory sends it.
func (f *Frame) Umem() *Umem {
	if f.pool == nil {
		return nil
	}
	return f.pool.umem
}

// Free gives the frame back; see the function of that name.
func (f *Frame) Free() {
	one := [1]Frame{*f}
	Free(one[:])
}

// Free gives frames back to the memory they came from, with one lock for all
// that one Queue has received or allocated. Lent frames may be freed too. It may be called from any goroutine, also
// after the Queue is closed, and ignores the zero Frame. It panics on a stale
// frame, one that was sent, freed or lent out again: somebody else owns it now.
func Free(frames []Frame) {
	for len(frames) > 0 {
		n := ofOnePool(frames)
		if p := frames[0].pool; p != nil {
			p.cameBack(p.giveAllBack(frames[:n]))
		}
		frames = frames[n:]
	}
}

// cameBack tells who waits for frames that some are free.
func (p *pool) cameBack(closed bool) {
	if closed {
		p.releaseMapping()
	}
	// A Queue that lacks frames says so and then looks once more: it has seen
	// these, or we see that.
	if p.hungry.Load() && p.hungry.Swap(false) {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, s := range p.all() {
			if s.queue != nil {
				s.queue.feed()
			}
		}
	}
}

// giveAllBack is Free, for frames of one pool. It reports whether that is closed.
func (p *pool) giveAllBack(frames []Frame) bool {
	c := p.cursor()
	defer c.unlock()
	for i := range frames {
		c.giveBack(&frames[i])
		for j := range frames[i].Frags {
			c.giveBack(&frames[i].Frags[j])
		}
	}
	return p.closed
}

func (c *cursor) giveBack(f *Frame) {
	e := &c.table[f.index]
	if c.lock(e); !e.held(f) {
		panic("xsk: free: " + c.pool.notHeld(f, e).Error())
	}
	e.gen++
	c.at.put(f.index)
}

// loanOver ends the loan of a frame that the Queue of s has lent, and reports
// whether it was on: the frame may be another's by now, or at home elsewhere. A
// frame that a sender is about to queue stays the sender's: the TX ring may yet
// refuse it.
func (s *shard) loanOver(e *entry) bool {
	switch {
	case e.home.Load() != s.number:
	case e.owner == ownerLoan:
		e.gen++
		return true
	case e.owner == ownerTx && e.was == ownerLoan:
		e.was = ownerUser
	}
	return false
}

// held reports whether the program has f: lent or its own. The frame's shard is
// locked.
func (e *entry) held(f *Frame) bool {
	return e.gen == f.gen && e.owner >= ownerLoan && e.owner <= ownerLent
}

// notHeld is the error that says so.
func (p *pool) notHeld(f *Frame, e *entry) error {
	if e.gen == f.gen {
		return invalid("frame %#x is %s", uint64(p.addr(f.index)), ownerNames[e.owner])
	}
	return invalid("frame %#x is stale: it was sent, freed or given back, and is %s now",
		uint64(p.addr(f.index)), ownerNames[e.owner])
}

// An owner is who may touch a frame. Every frame has one, and only the
// transitions of the diagram in the package comment exist.
type owner uint8

const (
	ownerFree    owner = iota // nobody: in the pool
	ownerRx                   // the kernel: fill ring, NIC, RX ring
	ownerLoan                 // the goroutine that received it, until its next Receive
	ownerUser                 // the program
	ownerLent                 // whom a Loan has lent it to, until its next Lend
	ownerTx                   // the kernel: TX ring, NIC, completion ring
	ownerRetired              // maybe the kernel: its Queue was closed
	owners
)

var ownerNames = [owners]string{
	"free", "with the kernel to receive into", "lent by Receive", "the program's", "lent by a Loan",
	"with the kernel to be sent", "retired with its queue",
}

// An entry is what the pool knows of a frame. The lock of the shard that the
// frame is at home in guards all but home.
type entry struct {
	gen   uint32        // changes when the frame leaves the program's hands
	home  atomic.Uint32 // number of the shard
	next  uint32        // the free frame below this one; noFrame at the end
	queue uint16        // the Queue that sends it (ownerTx) or is closed (ownerRetired)
	owner owner
	was   owner // before it went to ownerTx: loan, user or lent
}

// noFrame ends a list of free frames.
const noFrame = math.MaxUint32
