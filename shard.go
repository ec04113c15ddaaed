package xsk

import (
	"sync"
	"sync/atomic"
	"unsafe"
)

// A shard is the part of a pool that is one Queue's. Number 0 is nobody's: the
// frames that no Queue has needed yet.
//
// Its free frames come out last in, first out, so that a few hot ones stay in
// the cache.
type shard struct {
	number uint32
	table  []entry // the pool's
	key    queueKey
	queue  *Queue // nil after Close; pool.mu guards it
	ways   ways   // none before the bind; pool.opening guards it
	copied bool   // in copy mode; pool.mu guards it

	mu    sync.Mutex
	count [owners]int // of the frames at home here
	free  uint32      // the first free frame
	some  atomic.Bool // there is one: a hint for those without the lock

	_ [64]byte // no two shards share a cache line
}

// Ways are the directions of a Queue.
type ways uint8

const (
	receives ways = 1 << iota
	sends
)

func (q *Queue) ways() ways {
	switch {
	case q.rxOnly:
		return receives
	case q.txOnly:
		return sends
	}
	return receives | sends
}

// move gives a frame of s to another owner.
func (s *shard) move(e *entry, to owner) {
	s.count[e.owner]--
	s.count[to]++
	e.owner = to
}

// put makes a frame of s free.
func (s *shard) put(index uint32) {
	s.move(&s.table[index], ownerFree)
	s.push(index)
}

func (s *shard) push(index uint32) {
	if s.free == noFrame {
		s.some.Store(true)
	}
	s.table[index].next = s.free
	s.free = index
}

// pop takes the free frame on top; there must be one.
func (s *shard) pop() (uint32, *entry) {
	index := s.free
	e := &s.table[index]
	if s.free = e.next; e.next == noFrame {
		s.some.Store(false)
	}
	return index, e
}

// claim moves up to n free frames of another shard to s, the first on top, and
// returns how many. Both are locked.
func (s *shard) claim(from *shard, n int) int {
	n = min(n, from.count[ownerFree])
	if n == 0 {
		return 0
	}
	first, last := from.free, &from.table[from.free]
	last.home.Store(s.number)
	for range n - 1 {
		last = &from.table[last.next]
		last.home.Store(s.number)
	}
	from.free, last.next, s.free = last.next, s.free, first
	from.some.Store(from.free != noFrame)
	s.some.Store(true)
	from.count[ownerFree] -= n
	s.count[ownerFree] += n
	return n
}

// The runs below do for many frames at home in s what the pool and its cursor do for
// one, in loops short enough to stay in the registers. Each stops at the first
// frame that is not as usual and returns how many it did.

// allocRun gives free frames to the program.
func (s *shard) allocRun(p *pool, frames []Frame) int {
	area, table, free := p.area, s.table, s.free
	room, size := uint64(p.headroom), p.frameSize
	n := 0
	for ; n < len(frames) && free != noFrame; n++ {
		e, f := &table[free], &frames[n]
		e.owner = ownerUser
		first := uint64(free) * size
		f.Data = area[first+room : first+room : first+size]
		f.index, f.gen = free, e.gen
		if f.pool != p {
			f.pool = p
		}
		if f.Frags != nil {
			f.Frags = nil
		}
		free = e.next
	}
	if s.free = free; free == noFrame {
		s.some.Store(false)
	}
	s.count[ownerFree] -= n
	s.count[ownerUser] += n
	return n
}

// takeRun moves frames without fragments to ownerTx, for the Queue of that number
// to send, and puts their descriptors into descs.
func (s *shard) takeRun(p *pool, frames []Frame, descs []Desc, queue uint16) int {
	table, number, base, size := s.table, s.number, p.base, p.frameSize
	frames = frames[:min(len(frames), len(descs))]
	n, lent := 0, 0
	for i := range frames {
		f := &frames[i]
		if f.pool != p || len(f.Frags) != 0 {
			break
		}
		e := &table[f.index]
		if e.home.Load() != number || !e.held(f) {
			break
		}
		start, length := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(f.Data)))-base), uint64(len(f.Data))
		if before := start - uint64(f.index)*size; before > size || length > size-before || length < ethernetHeader {
			break
		}
		if e.owner != ownerUser {
			s.count[e.owner]--
			lent++
		}
		e.was, e.queue, e.owner = e.owner, queue, ownerTx
		e.gen++
		descs[i] = Desc{Addr: Addr(start), Len: uint32(length)}
		n++
	}
	s.count[ownerUser] -= n - lent
	s.count[ownerTx] += n
	return n
}

// completedRun makes frames free that the Queue of that number has sent.
func (s *shard) completedRun(p *pool, done []Addr, queue uint16) int {
	table, number, free, n := s.table, s.number, s.free, 0
	for _, a := range done {
		index := p.sentFrame(a)
		if uint64(index) >= uint64(len(table)) {
			break
		}
		e := &table[index]
		if e.home.Load() != number || e.owner != ownerTx || e.queue != queue {
			break
		}
		e.owner, e.next = ownerFree, free
		free = index
		n++
	}
	if n > 0 && s.free == noFrame {
		s.some.Store(true)
	}
	s.free = free
	s.count[ownerTx] -= n
	s.count[ownerFree] += n
	return n
}
