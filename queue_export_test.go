package xsk

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"
)

// Balance is an error unless every frame of the Umem has one owner.
func (q *Queue) Balance() error { return q.pool.balance() }

// Strange counts frames that the kernel returned without having them.
func (q *Queue) Strange() uint64 { return q.pool.strange.Load() }

// Lingers is how long the next Receive would let packets gather.
func (q *Queue) Lingers() time.Duration { return q.lingers() }

// InSend keeps the turn to send until leave, as a Send that is at work does.
func (q *Queue) InSend() (leave func()) {
	q.tx.mu.Lock()
	return q.tx.mu.Unlock
}

// Mapped reports whether the frames have memory.
func (q *Queue) Mapped() bool {
	q.pool.lockAll()
	defer q.pool.unlockAll()
	return q.pool.area != nil
}

// LockOthers locks the shards of all Queues but q, and the common one, until
// unlock.
func (q *Queue) LockOthers() (unlock func()) {
	var locked []*shard
	for _, s := range q.pool.all() {
		if s != q.shard {
			s.mu.Lock()
			locked = append(locked, s)
		}
	}
	return func() {
		for _, s := range locked {
			s.mu.Unlock()
		}
	}
}

// balance is an error unless every frame has one owner and the counts agree.
// It holds whenever no call is in flight.
func (p *pool) balance() error {
	p.lockAll()
	defer p.unlockAll()
	all := p.all()
	counts := make([][owners]int, len(all))
	for i := range p.table {
		e := &p.table[i]
		counts[e.home.Load()][e.owner]++
	}
	for i, s := range all {
		n := 0
		for index := s.free; index != noFrame && n <= len(p.table); index = p.table[index].next {
			if e := &p.table[index]; e.owner != ownerFree || e.home.Load() != s.number {
				return fmt.Errorf("xsk: frame %d is %s, at home in shard %d and in the free list of shard %d",
					index, ownerNames[e.owner], e.home.Load(), i)
			}
			n++
		}
		if counts[i] != s.count || n != s.count[ownerFree] || s.some.Load() != (n > 0) {
			return fmt.Errorf("xsk: of shard %d the table has %v, the counts are %v, the free list %d", i, counts[i], s.count, n)
		}
	}
	return nil
}

// LoseEnds makes the packets that wait in the RX ring one without an end, as a faulty
// driver might, and returns of how many descriptors.
func (q *Queue) LoseEnds() int {
	r := *(**struct { // struct xsk_ring_cons
		cachedProd, cachedCons, mask, size uint32
		producer, consumer                 *uint32
		ring                               unsafe.Pointer
	})(unsafe.Pointer(&q.sock.Rx.c))
	descs := unsafe.Slice((*Desc)(r.ring), r.size)
	from, to := atomic.LoadUint32(r.consumer), atomic.LoadUint32(r.producer)
	for at := from; at != to; at++ {
		descs[at&r.mask].Options |= PktContd
	}
	return int(to - from)
}

// Shards is how many shards the pool has.
func (q *Queue) Shards() int { return len(q.pool.all()) }

// Reopen enters and leaves the pool n times, as Queues on another queue do.
func (q *Queue) Reopen(n int) {
	for range n {
		other := &Queue{pool: q.pool}
		key := queueKey{ifindex: -1}
		s, err := q.pool.enter(other, key)
		if err != nil {
			panic(err)
		}
		q.pool.reclaim(key)
		q.pool.leave(s, false)
	}
}
