package xsk

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A pool knows the owner of every frame of a Umem and hands the free ones out.
// All Queues on a Umem share one, and each has a shard of it, so that they need
// not wait for each other.
//
// A frame is at home in one shard. A Queue receives only into frames of its own
// shard, and a frame that comes back is free there, whoever frees or has sent
// it. Home changes while a frame is free, when a shard without free frames takes
// some of another, with both locked; so it stays for as long as somebody has
// the frame. (adopt, with all shards locked, is the exception.)
//
// Locks are taken in this order: mu, then shards by number. Who holds all of
// them (lockAll) sees every frame at once.
type pool struct {
	layout
	umem     *Umem
	area     []byte
	base     uintptr
	headroom int // where Data begins in a new frame
	mapping  []byte
	table    []entry
	txMeta   uint64    // UmemConfig.TxMetadataLen
	requests []request // of the frames; nil without TX metadata
	closed   bool      // the Umem is closed; written with all locked, read with any

	hungry  atomic.Bool              // a Queue lacks frames to receive into: wake it
	strange atomic.Uint64            // frames the kernel returned that were not out
	shards  atomic.Pointer[[]*shard] // by number; mu guards changes, and the lock of a shard that goes

	queues     atomic.Int32 // open ones
	lookedGone atomic.Int64 // when reclaimGone did, in Unix nanoseconds

	opening sync.Mutex // held while a Queue is bound; taken before the others

	mu      sync.Mutex
	orphans *shard // whose frames are in the fill ring of a Umem that its Queue could not bind
}

func newPool(u *Umem) *pool {
	p := &pool{
		layout:   u.layout,
		umem:     u,
		area:     u.area,
		base:     uintptr(unsafe.Pointer(unsafe.SliceData(u.area))),
		headroom: xdpHeadroom + u.headroom,
		table:    make([]entry, u.frames),
	}
	if u.txMeta > 0 {
		p.txMeta, p.requests = u.txMeta, make([]request, u.frames)
	}
	common := &shard{table: p.table, free: noFrame}
	common.count[ownerFree] = u.frames
	for i := range p.table { // the first frames come out first
		common.push(uint32(u.frames - 1 - i))
	}
	p.shards.Store(&[]*shard{common})
	return p
}

// all are the shards by number.
func (p *pool) all() []*shard { return *p.shards.Load() }

func (p *pool) lockAll() {
	p.mu.Lock()
	for _, s := range p.all() {
		s.mu.Lock()
	}
}

func (p *pool) unlockAll() {
	for _, s := range p.all() {
		s.mu.Unlock()
	}
	p.mu.Unlock()
}

// The methods of a shard need its lock.

// spare is how many frames more than it needs a shard takes of the common one:
// two bursts.
const spare = 128

// refill takes free frames of other shards, n if they have as many, for s,
// which has none. It reports whether s has any now. s is locked, but not
// throughout.
func (p *pool) refill(s *shard, n int) bool {
	for _, other := range p.all() {
		if other == s || !other.some.Load() {
			continue
		}
		want := n
		if other.number == 0 {
			want += spare
		}
		s.mu.Unlock()
		if other.number < s.number {
			other.mu.Lock()
			s.mu.Lock()
		} else {
			s.mu.Lock()
			other.mu.Lock()
		}
		n -= s.claim(other, want)
		other.mu.Unlock()
		if n <= 0 {
			break
		}
	}
	return s.free != noFrame
}

// stock appends up to n free frames to addrs, for the Queue of s to receive
// into. s is locked, but not throughout.
func (p *pool) stock(s *shard, addrs []Addr, n int) []Addr {
	for ; n > 0; n-- {
		if s.free == noFrame && !p.refill(s, n) {
			break
		}
		index, e := s.pop()
		s.move(e, ownerRx)
		addrs = append(addrs, p.addr(index))
	}
	return addrs
}

// lockHome locks the shard that a frame is at home in.
func (p *pool) lockHome(e *entry) *shard {
	for {
		home := e.home.Load() // first: a shard that it names is there by now
		s := p.all()[home]
		s.mu.Lock()
		if e.home.Load() == s.number && p.all()[home] == s {
			return s
		}
		s.mu.Unlock() // it was free, and moved; or another shard has the number now
	}
}

// A cursor goes from frame to frame and holds the lock of the shard that the
// last one is at home in: a burst nearly always has one home.
type cursor struct {
	pool   *pool
	table  []entry // the pool's
	at     *shard  // locked; nil before the first frame
	number uint32  // of at
}

// noShard is where a cursor begins.
const noShard = math.MaxUint32

func (p *pool) cursor() cursor { return cursor{pool: p, table: p.table, number: noShard} }

// lock locks the shard of e, until the next frame.
func (c *cursor) lock(e *entry) {
	if e.home.Load() != c.number {
		c.enter(e)
	}
}

func (c *cursor) enter(e *entry) {
	c.unlock()
	c.at = c.pool.lockHome(e)
	c.number = c.at.number
}

// unlock ends it.
func (c *cursor) unlock() {
	if c.at != nil {
		c.at.mu.Unlock()
		c.at = nil
	}
}

// close says that the Umem is closed.
func (p *pool) close(mapping []byte) {
	p.lockAll()
	defer p.unlockAll()
	p.closed, p.mapping = true, mapping
	p.unmap()
}

// releaseMapping is unmap for those who have no lock.
func (p *pool) releaseMapping() {
	p.lockAll()
	defer p.unlockAll()
	p.unmap()
}

// unmap unmaps the memory of a closed Umem once the program has no frame of it and
// no Queue is left, which may be in the middle of a burst: a store to unmapped memory
// ends a Go program. All shards are locked.
func (p *pool) unmap() {
	if c := p.sum(); !p.closed || p.mapping == nil || c[ownerLoan]+c[ownerUser]+c[ownerLent] > 0 {
		return
	}
	for _, s := range p.all() {
		if s.queue != nil {
			return
		}
	}
	_ = unix.Munmap(p.mapping)
	p.mapping, p.area = nil, nil
}

// enter gives a new Queue its shard. RxFrames of all Queues must fit the Umem.
func (p *pool) enter(q *Queue, key queueKey) (*shard, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all, sum := p.all(), q.rxFrames
	if err := mayShare(all, key, q.ways()); err != nil {
		return nil, err
	}
	for _, s := range all {
		if s.queue != nil {
			sum += s.queue.rxFrames
		}
	}
	if sum > len(p.table) {
		return nil, invalid("RxFrames of all queues on this Umem add up to %d, and it has %d frames", sum, len(p.table))
	}
	s := &shard{number: p.vacant(), table: p.table, key: key, queue: q, free: noFrame}
	if s.number == 1<<16 {
		return nil, invalid("65535 queues of this Umem have frames")
	}
	p.queues.Add(1)
	all = slices.Clone(all)
	if int(s.number) == len(all) {
		all = append(all, s)
		p.shards.Store(&all)
		return s, nil
	}
	// Who looks for the old one's frames looks again once he has its lock.
	old := all[s.number]
	all[s.number] = s
	old.mu.Lock()
	defer old.mu.Unlock()
	p.shards.Store(&all)
	return s, nil
}

// vacant is a number for a new shard: that of one whose Queue is closed and left
// nothing behind, or else the next. mu is locked.
func (p *pool) vacant() uint32 {
	all := p.all()
	for _, s := range all {
		s.mu.Lock()
	}
	defer func() {
		for _, s := range all {
			s.mu.Unlock()
		}
	}()
	taken := make([]bool, len(all))
	for i, s := range all {
		taken[i] = i == 0 || s.queue != nil || s == p.orphans || s.count != [owners]int{}
		for _, other := range all { // see mayShare
			taken[i] = taken[i] || other.queue != nil && other.key == s.key
		}
	}
	for i := range p.table {
		if e := &p.table[i]; e.owner == ownerTx || e.owner == ownerRetired {
			taken[e.queue] = true
		}
	}
	if i := slices.Index(taken, false); i >= 0 {
		return uint32(i)
	}
	return uint32(len(all))
}

// mayShare refuses a Queue for a direction that another on the same queue has, or
// had: the rings of one that is closed stay the kernel's while another is open there.
func mayShare(all []*shard, key queueKey, ways ways) error {
	inUse, before := false, false
	for _, s := range all {
		if s.key != key {
			continue
		}
		inUse = inUse || s.queue != nil
		if s.ways&ways == 0 {
			continue
		}
		if s.queue != nil {
			return explained(syscall.EBUSY, "a Queue of this Umem is open on it")
		}
		before = true
	}
	if inUse && before {
		return explained(syscall.EBUSY, "a Queue of this Umem was open on it, and its frames stay in the rings as long as another is")
	}
	return nil
}

// reclaim frees the frames of closed Queues on key, and returns how many: a new bind
// of the same queue, or the end of its interface, has proved that the kernel let go of
// them.
func (p *pool) reclaim(key queueKey) (freed int) {
	p.lockAll()
	defer p.unlockAll()
	all := p.all()
	for i := range p.table {
		e := &p.table[i]
		if e.owner == ownerRetired && all[e.queue].key == key && all[e.queue].queue == nil {
			all[e.home.Load()].put(uint32(i))
			freed++
		}
	}
	for _, s := range all[1:] {
		if s.queue == nil {
			all[0].claim(s, len(p.table))
		}
	}
	return freed
}

// adopt gives s the frames that an earlier Queue posted to the Umem's own fill
// ring before its bind failed, and returns how many.
func (p *pool) adopt(s *shard) int {
	p.lockAll()
	defer p.unlockAll()
	from := p.orphans
	if from == nil {
		return 0
	}
	for i := range p.table {
		if e := &p.table[i]; e.owner == ownerRx && e.home.Load() == from.number {
			e.home.Store(s.number)
		}
	}
	n := from.count[ownerRx]
	from.count[ownerRx] -= n
	s.count[ownerRx] += n
	p.orphans = nil
	return n
}

// abandon is leave for a Queue that was never bound, and whose posted frames
// the Umem's fill ring still has.
func (p *pool) abandon(s *shard) {
	p.lockAll()
	defer p.unlockAll()
	s.queue = nil
	p.queues.Add(-1)
	p.all()[0].claim(s, len(p.table))
	p.orphans = s
	p.unmap()
}

// leave retires what the kernel may still have of a Queue that is closed, unless it
// has let go of it, and makes its free frames common.
func (p *pool) leave(s *shard, letGo bool) {
	p.lockAll()
	defer p.unlockAll()
	all := p.all()
	s.queue = nil
	p.queues.Add(-1)
	for i := range p.table {
		e := &p.table[i]
		home := all[e.home.Load()]
		if e.owner == ownerRx && home == s || e.owner == ownerTx && uint32(e.queue) == s.number {
			if letGo {
				home.put(uint32(i))
				continue
			}
			e.queue = uint16(s.number)
			home.move(e, ownerRetired)
		}
	}
	all[0].claim(s, len(p.table))
	p.unmap()
}
