package xsk

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/go-xsk/xsk/internal/closed"
)

// shortOfFrames is how long Receive waits when all its frames are being sent:
// nothing tells that one was.
const shortOfFrames = time.Millisecond

// maxBurst is the most descriptors that one crossing moves for a Queue.
const maxBurst = 256

// A receiver is what the receiving goroutine works with.
type receiver struct {
	mu      sync.Mutex
	held    int      // frames in ownerRx: with the kernel, or in post
	post    []Addr   // to be posted with the next burst
	descs   []Desc   // the burst; before it the beginning of an unfinished packet
	partial int      // descriptors of that packet, whose frames are in held
	skip    bool     // the next packet is the rest of one that was dropped
	loan    []uint32 // frames of the last burst
	frags   []Frame
	recent  int // 8 times the average burst of late
	idle    int // TryReceives that got nothing
	turn    turn
}

// Receive takes packets into frames and returns how many: at least one, for it
// waits until there is one, or the read deadline passes
// (os.ErrDeadlineExceeded), or the Queue is closed (os.ErrClosed). The frames
// are lent until the next Receive; see Frame.Keep. The slice is the caller's:
// answers := frames[:0], and appending to it those to be sent, is fine.
//
// When the kernel has no frame left to receive into, because the program keeps
// them all, it answers ENOBUFS and says how many are kept, instead of waiting for
// ever. It answers ENODEV when the interface is gone, at once and from then on.
// A read deadline counts only when there is nothing to receive.
//
// With BindMultiBuffer a packet may have any number of fragments; see Frame.Frags.
// It is received whole, or it is dropped and counted (QueueStats.RxIncomplete, or by
// the kernel in QueueStats.Kernel).
func (q *Queue) Receive(frames []Frame) (int, error) {
	q.rx.mu.Lock()
	defer q.rx.mu.Unlock()
	for quick := true; ; quick = false {
		n, err := q.receive(frames, quick)
		if n > 0 || err != nil || len(frames) == 0 {
			return n, q.fail("receive", err)
		}
		patience := tick
		if q.rx.starved() {
			patience = shortOfFrames
		}
		ready, err := q.rxWait.waitFor(patience)
		if err != nil {
			return 0, q.fail("receive", err)
		}
		if ready {
			q.stats.rxWakeups.Add(1)
			if !q.rxWait.quick {
				q.rx.recent = 0
			}
			q.lingerOn()
		}
	}
}

// TryReceive is Receive without waiting: no packet is no error.
func (q *Queue) TryReceive(frames []Frame) (int, error) {
	r := &q.rx
	r.mu.Lock()
	n, err := q.receive(frames, false)
	if n == 0 && err == nil {
		if r.idle++; r.idle%1024 == 0 {
			err = q.sock.gone()
		}
	}
	over, turn := r.turn.over(false), r.turn
	r.mu.Unlock()
	if over {
		turn.pass()
	}
	return n, q.fail("receive", err)
}

// receive ends the last loan, posts its frames again, and lends what came. It
// waits for that if quick is set and the last packets came quickly.
func (q *Queue) receive(frames []Frame, quick bool) (int, error) {
	r := &q.rx
	if q.closed.Load() {
		q.endLoan()
		return 0, closed.Err
	}
	if q.txOnly {
		return 0, invalid("the queue only sends (SocketConfig.TxOnly)")
	}
	if q.recycle(); r.starved() {
		if !q.pool.reap() && !q.pool.reclaimGone() {
			if err := q.sock.gone(); err != nil {
				return 0, err
			}
			if r.partial == 0 {
				return 0, q.noBuffers()
			}
			q.dropPartial()
		}
		q.recycle()
	}
	for {
		n, more, err := q.receiveBurst(frames, quick)
		if n > 0 || err != nil || !more {
			return n, err
		}
		quick = false // the burst ended inside a packet, and its rest is in the ring as a rule
	}
}

// receiveBurst posts frames and lends what came. It reports whether more may be there
// for certain: the burst ended inside a packet.
func (q *Queue) receiveBurst(frames []Frame, quick bool) (n int, more bool, err error) {
	r := &q.rx
	want := min(len(frames), maxBurst)
	if q.linger > 0 && !q.multi && r.held > 0 {
		want = min(want, r.held) // no more can come, so none is worth waiting for
	}
	if end := r.partial + want; end > len(r.descs) { // a packet of more frames than is usual
		r.descs = slices.Grow(r.descs, end-len(r.descs))
		r.descs = r.descs[:cap(r.descs)]
	}
	b := q.take(r.post, r.descs[r.partial:r.partial+want], quick)
	r.post = r.post[:copy(r.post, r.post[b.in:])]
	if b.out == 0 {
		if b.err == nil || b.err == syscall.ENETDOWN {
			b.err = q.sock.latch(false, nil) // a link that is down may come up again; Receive waits for it
		}
		return 0, false, kickError(b.err)
	}
	q.stats.rxBursts.Add(1)
	if !q.multi && q.pool.shift >= 0 {
		n = q.lendWhole(r.descs[:b.out], frames)
	} else {
		n = q.lend(r.descs[:r.partial+b.out], frames)
	}
	r.recent += n - r.recent/8
	return n, r.partial > 0, nil
}

// starved reports whether the kernel has no frame to receive into.
func (r *receiver) starved() bool { return r.held <= r.partial }

// dropPartial gives up the unfinished packet, which has every frame that there is to
// receive into, so that its rest can never come.
func (q *Queue) dropPartial() {
	r, s := &q.rx, q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	q.lendPacket(nil, r.descs[:r.partial])
	r.partial, r.skip = 0, true
}

// take is one crossing to the rings.
func (q *Queue) take(post []Addr, descs []Desc, quick bool) burst {
	linger := q.lingers()
	if !quick || !q.rxWait.startQuick(linger) {
		return q.sock.receive(post, descs)
	}
	limit := quickWait
	if q.rx.starved() {
		limit = shortOfFrames
	}
	if until := q.rxWait.userDeadline(); !until.IsZero() {
		third := max(time.Until(until), 0) / 3 // it may linger, wait, and linger again
		limit, linger = min(limit, third), min(linger, third)
	}
	b, waited := q.sock.receiveWait(q.rxWait, post, descs, limit, linger)
	if waited && b.out > 0 {
		q.stats.rxWakeups.Add(1)
	}
	return b
}

// recycle ends the loan and brings the frames that the kernel has to receive
// into up to rxFrames again.
func (q *Queue) recycle() {
	r, s := &q.rx, q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(r.post)
	r.post = slices.Grow(r.post, len(r.loan))[:n+len(r.loan)]
	back := s.repost(r.loan, r.post[n:], q.pool.frameSize)
	r.post = r.post[:n+back]
	s.count[ownerLoan] -= back
	s.count[ownerRx] += back
	r.held += back
	r.loan, r.frags = r.loan[:0], r.frags[:0]
	if q.stockUp(); r.held < q.rxFrames/2 {
		q.pool.hungry.Store(true)
		q.stockUp() // with what came before anybody could see that; see giveBack
	}
}

// repost gives the frames of a loan that is over to the kernel again, with their
// addresses in post, and returns how many: the program may have kept some.
func (s *shard) repost(loan []uint32, post []Addr, frameSize uint64) int {
	table, number, n := s.table, s.number, 0
	post = post[:len(loan)]
	for i := 0; i < len(loan); i++ {
		e := &table[loan[i]]
		if e.home.Load() != number || e.owner != ownerLoan { // hardly ever
			s.loanOver(e)
			continue
		}
		e.gen++
		e.owner = ownerRx
		post[n] = Addr(uint64(loan[i]) * frameSize)
		n++
	}
	return n
}

// stockUp takes free frames to receive into. The shard is locked.
func (q *Queue) stockUp() {
	r := &q.rx
	before := len(r.post)
	r.post = q.pool.stock(q.shard, r.post, q.rxFrames-r.held)
	r.held += len(r.post) - before
}

// lendWhole is lend where every packet is one descriptor and a frame's number
// the upper bits of its address. A packet costs most here, so there are two loops, each
// with few enough values to keep them in registers.
func (q *Queue) lendWhole(descs []Desc, frames []Frame) int {
	r, p, s := &q.rx, q.pool, q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	r.loan = slices.Grow(r.loan[:0], len(descs))[:len(descs)]
	n := s.lend(descs, r.loan, p.shift)
	for n < len(descs) { // a frame that the kernel does not have
		p.strange.Add(1)
		q.stats.rxIncomplete.Add(1)
		descs = slices.Delete(descs, n, n+1)
		n += s.lend(descs[n:], r.loan[n:], p.shift)
	}
	r.loan = r.loan[:n]
	r.held -= n
	s.count[ownerRx] -= n
	s.count[ownerLoan] += n
	q.stats.rxPackets.Add(uint64(n))
	q.stats.rxBytes.Add(p.show(descs, r.loan, frames))
	return n
}

// lend makes frames of the kernel's lent ones, with their numbers in loan, and
// returns how many; it stops at one that the kernel does not have.
func (s *shard) lend(descs []Desc, loan []uint32, shift int) int {
	table, number := s.table, s.number
	loan = loan[:len(descs)]
	for i := range descs {
		index := uint64(descs[i].Addr) >> (shift & 63)
		if index >= uint64(len(table)) {
			return i
		}
		e := &table[index]
		if e.home.Load() != number || e.owner != ownerRx {
			return i
		}
		e.owner = ownerLoan
		loan[i] = uint32(index)
	}
	return len(descs)
}

// show makes Frames of lent packets and returns the bytes of all.
func (p *pool) show(descs []Desc, loan []uint32, frames []Frame) (bytes uint64) {
	area, table, last := p.area, p.table, p.frameSize-1
	descs, frames = descs[:len(loan)], frames[:len(loan)]
	for i, index := range loan {
		f := &frames[i]
		f.index, f.gen = index, table[index].gen
		start, length := uint64(descs[i].Addr), uint64(descs[i].Len)
		f.Data = area[start : start+length : start|last+1]
		// Pointers that stay are not written: that takes a look at the collector.
		if f.pool != p {
			f.pool = p
		}
		if f.Frags != nil {
			f.Frags = nil
		}
		bytes += length
	}
	return bytes
}

// lend makes packets of descriptors. An unfinished one at the end waits for
// its rest.
func (q *Queue) lend(descs []Desc, frames []Frame) int {
	r, s := &q.rx, q.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	n, from, bytes := 0, 0, uint64(0)
	for i := range descs {
		if descs[i].Options&PktContd != 0 {
			continue
		}
		if length, whole := q.lendPacket(&frames[n], descs[from:i+1]); whole {
			bytes += length
			n++
		}
		from = i + 1
	}
	r.partial = copy(r.descs, descs[from:])
	q.stats.rxPackets.Add(uint64(n))
	q.stats.rxBytes.Add(bytes)
	return n
}

// lendPacket makes a packet of its descriptors and returns its length. One that is
// not whole is not lent, and counts, and its frames go back with those of the loan:
// without f, after dropPartial, and when the kernel does not have one of its frames.
// The shard is locked.
func (q *Queue) lendPacket(f *Frame, descs []Desc) (length uint64, whole bool) {
	r, s := &q.rx, q.shard
	before, first := len(r.loan), len(r.frags)
	whole = f != nil && !r.skip
	for i, d := range descs {
		part, ok := q.lendOne(d)
		whole = whole && ok
		switch {
		case !whole:
		case i == 0:
			*f = part
		default:
			r.frags = append(r.frags, part)
		}
		length += uint64(d.Len)
	}
	lent := len(r.loan) - before
	s.count[ownerRx] -= lent
	s.count[ownerLoan] += lent
	r.held -= lent
	r.skip = false
	if !whole {
		r.frags = r.frags[:first]
		q.stats.rxIncomplete.Add(1)
		return 0, false
	}
	if len(r.frags) > first {
		f.Frags = r.frags[first:len(r.frags):len(r.frags)]
	}
	return length, true
}

// lendOne gives one received frame to the receiving goroutine.
func (q *Queue) lendOne(d Desc) (f Frame, ok bool) {
	p := q.pool
	index := p.frameOf(d.Addr)
	if uint64(index) >= uint64(len(p.table)) {
		p.strange.Add(1)
		return f, false
	}
	e := &p.table[index]
	if e.home.Load() != q.shard.number || e.owner != ownerRx {
		p.strange.Add(1)
		return f, false
	}
	e.owner = ownerLoan
	q.rx.loan = append(q.rx.loan, index)
	start := uint64(d.Addr.Data())
	_, end := p.span(index)
	return Frame{Data: p.area[start : start+uint64(d.Len) : end], pool: p, index: index, gen: e.gen}, true
}

// endLoan makes the lent frames of a closed Queue free.
func (q *Queue) endLoan() {
	s := q.shard
	s.mu.Lock()
	for _, index := range q.rx.loan {
		// When another shard has the number, none of these frames is lent any more.
		if q.pool.all()[s.number] == s && s.loanOver(&s.table[index]) {
			s.put(index)
		}
	}
	q.rx.loan = q.rx.loan[:0]
	s.mu.Unlock()
	q.pool.releaseMapping()
}

// noBuffers says where all the frames are.
func (q *Queue) noBuffers() error {
	c := q.pool.counts()
	retired := ""
	if c.Retired > 0 {
		retired = fmt.Sprintf(", and %d went out of use with queues that were closed", c.Retired)
	}
	return explained(syscall.ENOBUFS, "no frame left to receive into: of %d the program keeps %d, and %d are being sent%s",
		c.Total(), c.User+c.Loan, c.Tx, retired)
}

// lingers is how long to gather packets now.
func (q *Queue) lingers() time.Duration {
	if q.rx.recent < 8*q.lingerAt {
		return 0
	}
	return q.linger
}

// lingerOn waits for more packets of the burst that has begun; with LingerBurst, which
// many Queues may have by default, only while that leaves processors to the others.
func (q *Queue) lingerOn() {
	linger := q.lingers()
	if linger == 0 {
		return
	}
	if quickWaiters.Add(1) <= mostQuickWaiters || q.lingerAt == 0 {
		sleep(q.rxWait.beforeDeadline(min(linger, maxLinger)))
	}
	quickWaiters.Add(-1)
}
