package xsk

import (
	"fmt"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// An owner is who may touch a frame. Every frame has one, and only the
// transitions of the diagram in the package comment exist.
type owner uint8

const (
	ownerFree    owner = iota // nobody: in the pool
	ownerRx                   // the kernel: fill ring, NIC, RX ring
	ownerLoan                 // the goroutine that received it, until its next Receive
	ownerUser                 // the program
	ownerTx                   // the kernel: TX ring, NIC, completion ring
	ownerRetired              // maybe the kernel: its Queue was closed
	owners
)

var ownerNames = [owners]string{
	"free", "with the kernel to receive into", "lent by Receive", "the program's",
	"with the kernel to be sent", "retired with its queue",
}

// An entry is what the pool knows of a frame.
type entry struct {
	gen   uint32 // changes when the frame leaves the program's hands
	owner owner
	was   owner  // before it went to ownerTx: loan or user
	queue uint16 // the Queue that has it in ownerRx, ownerLoan and ownerTx
	from  uint16 // the Queue before it went to ownerTx
	_     [6]byte
}

// A pool knows the owner of every frame of a Umem and hands the free ones out,
// last in, first out, so that a few hot ones stay in the cache. All Queues on a
// Umem share one. Its lock is taken once or twice per burst.
type pool struct {
	umem      *Umem
	area      []byte
	base      uintptr
	frameSize uint64
	shift     int // frameSize is 1<<shift; -1 in unaligned mode
	headroom  int // where Data begins in a new frame
	mapping   []byte

	hungry atomic.Bool // a Queue lacks frames to receive into: wake it

	mu      sync.Mutex
	table   []entry
	free    []uint32
	count   [owners]int
	queues  []*Queue // by number; nil after Close
	names   []queueName
	orphans *uint16 // the Queue whose frames are in the fill ring of a Umem that it could not bind
	strange uint64  // completions of frames that were not out
	closed  bool    // the Umem was the Queue's own and is closed
}

// A queueName tells queues of one Umem apart.
type queueName struct {
	ifname string
	queue  int
}

func newPool(u *Umem, mapping []byte) *pool {
	p := &pool{
		umem:      u,
		area:      u.area,
		base:      uintptr(unsafe.Pointer(unsafe.SliceData(u.area))),
		frameSize: u.frameSize,
		shift:     -1,
		headroom:  xdpHeadroom + u.headroom,
		mapping:   mapping,
		table:     make([]entry, u.frames),
		free:      make([]uint32, u.frames),
	}
	if u.mask != 0 {
		p.shift = bits.TrailingZeros64(u.frameSize)
	}
	// The first frames come out first.
	for i := range p.free {
		p.free[i] = uint32(u.frames - 1 - i)
	}
	p.count[ownerFree] = u.frames
	return p
}

// pools are those of Umems that Queues share.
var pools = struct {
	sync.Mutex
	of map[*Umem]*pool
}{of: map[*Umem]*pool{}}

// poolOf returns the pool of a caller's Umem. It lasts as long as the Umem is
// open, for frames of closed Queues stay out of use until then.
func poolOf(u *Umem) *pool {
	pools.Lock()
	defer pools.Unlock()
	for each := range pools.of {
		if each.FD() < 0 {
			delete(pools.of, each)
		}
	}
	p := pools.of[u]
	if p == nil {
		p = newPool(u, nil)
		pools.of[u] = p
	}
	return p
}

// frameOf is the number of the frame that a falls in.
func (p *pool) frameOf(a Addr) uint32 {
	var index uint64
	if p.shift >= 0 {
		index = uint64(a) >> p.shift
	} else {
		index = uint64(a.Base()) / p.frameSize
	}
	return uint32(min(index, math.MaxUint32))
}

// addr is where frame index begins.
func (p *pool) addr(index uint32) Addr { return Addr(uint64(index) * p.frameSize) }

// move gives a frame to another owner. The lock is held.
func (p *pool) move(e *entry, to owner) {
	p.count[e.owner]--
	p.count[to]++
	e.owner = to
}

// put makes a frame free. The lock is held.
func (p *pool) put(index uint32) {
	p.move(&p.table[index], ownerFree)
	p.free = append(p.free, index)
}

// stock appends up to n free frames to addrs, which go to queue number q to
// receive into. The lock is held.
func (p *pool) stock(addrs []Addr, q uint16, n int) []Addr {
	n = min(n, len(p.free))
	for range n {
		index := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		e := &p.table[index]
		e.queue = q
		p.move(e, ownerRx)
		addrs = append(addrs, p.addr(index))
	}
	return addrs
}

// alloc gives empty frames to the program. The lock is held.
func (p *pool) alloc(frames []Frame) int {
	if p.closed {
		return 0
	}
	n := min(len(frames), len(p.free))
	for i := range frames[:n] {
		index := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		e := &p.table[index]
		p.move(e, ownerUser)
		start := uint64(index) * p.frameSize
		from := start + uint64(p.headroom)
		frames[i] = Frame{Data: p.area[from : from : start+p.frameSize], pool: p, index: index, gen: e.gen}
	}
	return n
}

// held is the entry of a frame that the program has: lent or its own. The lock
// is held.
func (p *pool) held(f *Frame) (*entry, error) {
	e := &p.table[f.index]
	switch {
	case e.gen == f.gen && (e.owner == ownerLoan || e.owner == ownerUser):
		return e, nil
	case e.gen == f.gen:
		return nil, invalid("frame %#x is %s", uint64(p.addr(f.index)), ownerNames[e.owner])
	}
	return nil, invalid("frame %#x is stale: it was sent, freed or given back, and is %s now",
		uint64(p.addr(f.index)), ownerNames[e.owner])
}

// keep is Frame.Keep. The lock is held.
func (p *pool) keep(f *Frame) {
	e, err := p.held(f)
	if err != nil {
		panic("xsk: keep: " + err.Error())
	}
	if e.owner == ownerLoan {
		p.move(e, ownerUser)
	}
}

// loanOver ends the loan of a frame by queue number q, and reports whether it
// was on. A frame that a sender is about to queue stays the sender's: the TX
// ring may yet refuse it. The lock is held.
func (p *pool) loanOver(e *entry, q uint16) bool {
	if e.owner == ownerLoan && e.queue == q {
		e.gen++
		return true
	}
	if e.owner == ownerTx && e.was == ownerLoan && e.from == q {
		e.was = ownerUser
	}
	return false
}

// giveBack is Free, for frames of one pool.
func (p *pool) giveBack(frames []Frame) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range frames {
		p.giveBackOne(&frames[i])
		for j := range frames[i].Frags {
			p.giveBackOne(&frames[i].Frags[j])
		}
	}
	p.releaseMapping()
	if p.hungry.Load() && p.hungry.Swap(false) {
		for _, q := range p.queues {
			if q != nil {
				q.feed()
			}
		}
	}
}

func (p *pool) giveBackOne(f *Frame) {
	e, err := p.held(f)
	if err != nil {
		panic("xsk: free: " + err.Error())
	}
	e.gen++
	p.put(f.index)
}

// releaseMapping unmaps the memory of a closed Queue once the program has no
// frame of it: a store to unmapped memory ends a Go program. The lock is held.
func (p *pool) releaseMapping() {
	if p.closed && p.mapping != nil && p.count[ownerLoan]+p.count[ownerUser] == 0 {
		_ = unix.Munmap(p.mapping)
		p.mapping, p.area = nil, nil
	}
}

// The least and the most that the kernel takes as a packet.
const (
	ethernetHeader = 14
	mostFrags      = 18 // descriptors a packet in copy mode (MAX_SKB_FRAGS + 1)
)

// take moves the frames at the front of frames to ownerTx and appends their
// descriptors to descs, within its capacity and room; a packet is parts of them
// at most. It stops before the first frame that cannot be sent and returns how
// many it took and why it stopped, if the frame is to blame.
func (p *pool) take(frames []Frame, q uint16, descs []Desc, room, parts int) ([]Desc, int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room = min(room, cap(descs))
	for i := range frames {
		f := &frames[i]
		if err := p.checkPacket(f, parts); err != nil {
			return descs, i, err
		}
		if len(descs)+1+len(f.Frags) > room {
			return descs, i, nil
		}
		before := len(descs)
		if err := p.takeOne(f, q, &descs); err != nil {
			return descs, i, err
		}
		for j := range f.Frags {
			if err := p.takeOne(&f.Frags[j], q, &descs); err != nil {
				p.untake(descs[before:])
				return descs[:before], i, fmt.Errorf("fragment %d of frame %#x: %w", j, uint64(p.addr(f.index)), err)
			}
		}
		for j := before; j < len(descs)-1; j++ {
			descs[j].Options |= PktContd
		}
	}
	return descs, len(frames), nil
}

// checkPacket refuses what no owner could send.
func (p *pool) checkPacket(f *Frame, parts int) error {
	switch n := f.Len(); {
	case f.pool == nil:
		return invalid("the Frame is empty: it came from neither Receive nor Alloc")
	case f.pool != p:
		return invalid("frame %#x belongs to another Umem", uint64(f.pool.addr(f.index)))
	case n == 0:
		return invalid("frame %#x is empty: was Data set on a copy?", uint64(p.addr(f.index)))
	case n < ethernetHeader:
		return invalid("frame %#x holds %d bytes, less than an Ethernet header", uint64(p.addr(f.index)), n)
	case len(f.Frags) > 0 && parts == 1:
		return invalid("frame %#x has fragments, and the queue was opened without BindMultiBuffer", uint64(p.addr(f.index)))
	case len(f.Frags) >= parts:
		return invalid("frame %#x and its fragments are %d, %d make a packet at most", uint64(p.addr(f.index)), 1+len(f.Frags), parts)
	}
	return nil
}

func (p *pool) takeOne(f *Frame, q uint16, descs *[]Desc) error {
	switch f.pool {
	case p:
	case nil:
		return invalid("the Frame is empty: it came from neither Receive nor Alloc")
	default:
		return invalid("frame %#x belongs to another Umem", uint64(f.pool.addr(f.index)))
	}
	e, err := p.held(f)
	if err != nil {
		return err
	}
	first := uint64(f.index) * p.frameSize
	start := uint64(f.offset())
	end := first + p.frameSize
	if start < first || start > end || uint64(len(f.Data)) > end-start || len(f.Data) == 0 {
		return invalid("Data of frame %#x, %d bytes, lies outside of it", first, len(f.Data))
	}
	e.was, e.from, e.queue = e.owner, e.queue, q
	p.move(e, ownerTx)
	*descs = append(*descs, Desc{Addr: Addr(start), Len: uint32(len(f.Data))})
	return nil
}

// untake undoes take for descriptors that the TX ring had no room for.
func (p *pool) untake(descs []Desc) {
	for _, d := range descs {
		e := &p.table[p.frameOf(d.Addr)]
		e.queue = e.from
		p.move(e, e.was)
	}
}

// sent ends the program's hold on frames that are in the TX ring.
func (p *pool) sent(descs []Desc) {
	for _, d := range descs {
		p.table[p.frameOf(d.Addr)].gen++
	}
}

// completed makes frames free that queue number q has sent. The kernel may
// complete a frame twice, or return one that it refused: only a frame that is
// out on this queue counts.
func (p *pool) completed(done []Addr, q uint16) {
	for _, a := range done {
		index := p.frameOf(a)
		if int(index) >= len(p.table) || p.table[index].owner != ownerTx || p.table[index].queue != q {
			p.strange++
			continue
		}
		p.put(index)
	}
}

// enter gives a new Queue its number. RxFrames of all Queues must fit the Umem.
func (p *pool) enter(q *Queue, name queueName) (uint16, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := q.rxFrames
	for i, other := range p.queues {
		if other == nil {
			continue
		}
		if p.names[i] == name {
			return 0, explained(syscall.EBUSY, "a Queue of this Umem is open on it")
		}
		sum += other.rxFrames
	}
	if sum > len(p.table) {
		return 0, invalid("RxFrames of all queues on this Umem add up to %d, and it has %d frames", sum, len(p.table))
	}
	if len(p.queues) == 1<<16 {
		return 0, invalid("65536 queues were opened on this Umem")
	}
	p.queues, p.names = append(p.queues, q), append(p.names, name)
	return uint16(len(p.queues) - 1), nil
}

// reclaim frees the frames of closed Queues of that name: a new bind of the
// same queue has just proved that the kernel let go of them. The lock is held.
func (p *pool) reclaim(name queueName) {
	for i := range p.table {
		if e := &p.table[i]; e.owner == ownerRetired && p.names[e.queue] == name && p.queues[e.queue] == nil {
			p.put(uint32(i))
		}
	}
}

// adopt gives queue number q the frames that an earlier one posted to the
// Umem's own fill ring before its bind failed, and returns how many.
func (p *pool) adopt(q uint16) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.orphans == nil {
		return 0
	}
	n := 0
	for i := range p.table {
		if e := &p.table[i]; e.owner == ownerRx && e.queue == *p.orphans {
			e.queue = q
			n++
		}
	}
	p.orphans = nil
	return n
}

// abandon is leave for a Queue that was never bound, and whose posted frames
// the Umem's fill ring still has.
func (p *pool) abandon(q uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[q] = nil
	p.orphans = &q
}

// leave retires what the kernel may still have of a Queue that is closed.
func (p *pool) leave(number uint16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queues[number] = nil
	for i := range p.table {
		e := &p.table[i]
		if e.queue == number && (e.owner == ownerRx || e.owner == ownerTx) {
			p.move(e, ownerRetired)
		}
	}
}

// balance is an error unless every frame has one owner and the counts agree.
// It holds whenever no call is in flight.
func (p *pool) balance() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var count [owners]int
	for i := range p.table {
		count[p.table[i].owner]++
	}
	if count != p.count || count[ownerFree] != len(p.free) {
		return fmt.Errorf("xsk: the table has %v, the counts are %v, the free list %d", count, p.count, len(p.free))
	}
	return nil
}
