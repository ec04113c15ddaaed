package xsk

import (
	"errors"
	"math"
	"math/bits"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shortOfFrames is how long Receive waits when all its frames are being sent:
// nothing tells that one was.
const shortOfFrames = time.Millisecond

// maxBurst is the most descriptors that one crossing moves for a Queue.
const maxBurst = 256

// A Queue receives and sends packets on one queue of one interface. It owns the
// steps between (fill, poll, receive, recycle, send, kick, complete), and knows
// the owner of every frame, so that a frame can be neither lost nor used by two.
//
// Receive belongs to one goroutine at a time. Send, Alloc, Free and everything
// else may be called from any; they take turns per burst. Waiting holds no
// thread.
type Queue struct {
	name     string // "eth0 queue 3", for errors
	ifname   string
	queue    int
	sock     *Socket
	umem     *Umem
	pool     *pool
	rxWait   *waiter
	txWait   *waiter
	number   uint16
	rxFrames int
	linger   time.Duration
	ownUmem  bool
	multi    bool
	rxOnly   bool
	txOnly   bool

	ready   atomic.Bool // open is through
	closing sync.Mutex
	closed  atomic.Bool

	rx receiver
	tx sender

	stats queueCounters
	last  QueueStats // the counts at Close
}

// A receiver is what the receiving goroutine works with.
type receiver struct {
	mu      sync.Mutex
	held    int      // frames in ownerRx: with the kernel, or in post
	post    []Addr   // to be posted with the next burst
	descs   []Desc   // the burst; before it the beginning of an unfinished packet
	partial int      // descriptors of that packet
	loan    []uint32 // frames of the last burst
	frags   []Frame
	idle    int // TryReceives that got nothing
}

// A sender is what a sending goroutine works with while it has the turn.
type sender struct {
	mu    sync.Mutex
	descs []Desc
	done  []Addr
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
func (q *Queue) Receive(frames []Frame) (int, error) {
	q.rx.mu.Lock()
	defer q.rx.mu.Unlock()
	for quick := true; ; quick = false {
		n, err := q.receive(frames, quick)
		if n > 0 || err != nil || len(frames) == 0 {
			return n, q.fail("receive", err)
		}
		patience := tick
		if q.rx.held == 0 {
			patience = shortOfFrames
		}
		ready, err := q.rxWait.waitFor(patience)
		if err != nil {
			return 0, q.fail("receive", err)
		}
		if ready {
			q.stats.rxWakeups.Add(1)
			q.lingerOn()
		}
	}
}

// TryReceive is Receive without waiting: no packet is no error.
func (q *Queue) TryReceive(frames []Frame) (int, error) {
	q.rx.mu.Lock()
	defer q.rx.mu.Unlock()
	n, err := q.receive(frames, false)
	if n == 0 && err == nil {
		if q.rx.idle++; q.rx.idle%1024 == 0 {
			err = q.sock.gone()
		}
	}
	return n, q.fail("receive", err)
}

// receive ends the last loan, posts its frames again, and lends what came. It
// waits for that if quick is set and the last packets came quickly.
func (q *Queue) receive(frames []Frame, quick bool) (int, error) {
	r := &q.rx
	if q.closed.Load() {
		q.endLoan()
		return 0, os.ErrClosed
	}
	if q.txOnly {
		return 0, invalid("the queue only sends (SocketConfig.TxOnly)")
	}
	if q.recycle(); r.held == 0 && r.partial == 0 && !q.reapAll() {
		return 0, q.noBuffers()
	}
	want := min(len(frames), maxBurst)
	b := q.take(r.post, r.descs[r.partial:r.partial+want], quick)
	r.post = r.post[:copy(r.post, r.post[b.in:])]
	if b.out == 0 {
		if b.err == nil || b.err == syscall.ENETDOWN {
			b.err = q.sock.latch(false, nil) // a link that is down may come up again; Receive waits for it
		}
		return 0, kickError(b.err)
	}
	q.stats.rxBursts.Add(1)
	if !q.multi && q.pool.shift >= 0 {
		return q.lendWhole(r.descs[:b.out], frames), nil
	}
	return q.lend(r.descs[:r.partial+b.out], frames), nil
}

// take is one crossing to the rings.
func (q *Queue) take(post []Addr, descs []Desc, quick bool) burst {
	if !quick || !q.rxWait.startQuick(q.linger) {
		return q.sock.receive(post, descs)
	}
	limit, linger := quickWait, q.linger
	if q.rx.held == 0 {
		limit = shortOfFrames
	}
	if until := q.rxWait.userDeadline(); !until.IsZero() {
		left := max(time.Until(until), 0)
		limit, linger = min(limit, left), min(linger, left)
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
	r, p := &q.rx, q.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	table, size, post, number := p.table, p.frameSize, r.post, q.number
	for _, index := range r.loan {
		e := &table[index]
		if e.owner == ownerLoan && e.queue == number { // nearly always; see loanOver
			e.gen++
			e.owner = ownerRx
			post = append(post, Addr(uint64(index)*size))
		} else {
			p.loanOver(e, number)
		}
	}
	back := len(post) - len(r.post)
	r.post = post
	p.count[ownerLoan] -= back
	p.count[ownerRx] += back
	r.held += back
	r.loan, r.frags = r.loan[:0], r.frags[:0]
	if lack := q.rxFrames - r.held; lack > 0 {
		before := len(r.post)
		r.post = p.stock(r.post, q.number, lack)
		r.held += len(r.post) - before
		if r.held < q.rxFrames/2 {
			p.hungry.Store(true)
		}
	}
}

// reapAll takes back the frames that any Queue on this memory has sent, for a
// receiver that has none. It reports whether there is hope: one has come, or is
// still being sent.
func (q *Queue) reapAll() bool {
	p := q.pool
	p.mu.Lock()
	sending, queues := p.count[ownerTx] > 0, slices.Clone(p.queues)
	p.mu.Unlock()
	if !sending {
		return false
	}
	for _, other := range queues {
		if other != nil && other.ready.Load() && other.tx.mu.TryLock() {
			_, _ = other.burst(nil)
			other.tx.mu.Unlock()
		}
	}
	q.recycle()
	return true
}

// lendWhole is lend where every packet is one descriptor and a frame's number
// the upper bits of its address: the loop that a packet costs most in.
func (q *Queue) lendWhole(descs []Desc, frames []Frame) int {
	r, p := &q.rx, q.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	table, area, shift, loan := p.table, p.area, p.shift&63, r.loan
	n, bytes := 0, uint64(0)
	frames = frames[:len(descs)]
	for _, d := range descs {
		start := uint64(d.Addr)
		index := start >> shift
		if index >= uint64(len(table)) || table[index].owner != ownerRx || n >= len(frames) {
			p.strange++
			continue
		}
		e := &table[index]
		e.owner = ownerLoan
		f := &frames[n]
		f.Data = area[start : start+uint64(d.Len) : (index+1)<<shift]
		f.index, f.gen = uint32(index), e.gen
		// Pointers that stay are not written: that takes a look at the collector.
		if f.pool != p {
			f.pool = p
		}
		if f.Frags != nil {
			f.Frags = nil
		}
		loan = append(loan, uint32(index))
		bytes += uint64(d.Len)
		n++
	}
	r.loan = loan
	r.held -= n
	p.count[ownerRx] -= n
	p.count[ownerLoan] += n
	q.stats.rxPackets.Add(uint64(n))
	q.stats.rxBytes.Add(bytes)
	return n
}

// lend makes packets of descriptors. An unfinished one at the end waits for
// its rest.
func (q *Queue) lend(descs []Desc, frames []Frame) int {
	r, p := &q.rx, q.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	n, from, bytes, before := 0, 0, uint64(0), len(r.loan)
	for i := range descs {
		if descs[i].Options&PktContd != 0 {
			continue
		}
		f := &frames[n]
		*f = Frame{}
		if q.lendOne(f, descs[from]) {
			n++
		}
		bytes += uint64(descs[from].Len)
		if i > from {
			first := len(r.frags)
			for _, d := range descs[from+1 : i+1] {
				r.frags = append(r.frags, Frame{})
				if !q.lendOne(&r.frags[len(r.frags)-1], d) {
					r.frags = r.frags[:len(r.frags)-1]
				}
				bytes += uint64(d.Len)
			}
			f.Frags = r.frags[first:len(r.frags):len(r.frags)]
		}
		from = i + 1
	}
	lent := len(r.loan) - before
	p.count[ownerRx] -= lent
	p.count[ownerLoan] += lent
	r.held -= lent
	r.partial = copy(r.descs, descs[from:])
	q.stats.rxPackets.Add(uint64(n))
	q.stats.rxBytes.Add(bytes)
	return n
}

// lendOne gives one received frame to the receiving goroutine.
func (q *Queue) lendOne(f *Frame, d Desc) bool {
	p := q.pool
	index := p.frameOf(d.Addr)
	e := &p.table[index]
	if e.owner != ownerRx {
		p.strange++
		return false
	}
	e.owner, e.queue = ownerLoan, q.number
	start := uint64(d.Addr.Data())
	f.Data = p.area[start : start+uint64(d.Len) : (uint64(index)+1)*p.frameSize]
	f.pool, f.index, f.gen = p, index, e.gen
	q.rx.loan = append(q.rx.loan, index)
	return true
}

// endLoan makes the lent frames of a closed Queue free.
func (q *Queue) endLoan() {
	p := q.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, index := range q.rx.loan {
		if p.loanOver(&p.table[index], q.number) {
			p.put(index)
		}
	}
	q.rx.loan = q.rx.loan[:0]
	p.releaseMapping()
}

// noBuffers says where all the frames are.
func (q *Queue) noBuffers() error {
	c := q.pool.counts()
	return explained(syscall.ENOBUFS, "no frame left to receive into: of %d the program keeps %d, and %d are being sent",
		c.Total(), c.User+c.Loan, c.Tx)
}

// lingerOn waits for more packets of the burst that has begun.
func (q *Queue) lingerOn() {
	if q.linger > 0 {
		sleep(q.rxWait.beforeDeadline(min(q.linger, maxLinger)))
	}
}

// Send queues frames to be sent, waits for room if it must, and returns how many it
// took: frames[:n] are gone, frames[n:] still the caller's. It takes fewer than
// all only with an error: os.ErrDeadlineExceeded, os.ErrClosed, ENODEV when the
// interface is gone, or EINVAL for a frame that cannot be sent, whose address
// and fault it names. It takes lent frames and the program's own, of any Queue
// on the same Umem. While the link is down Send waits.
//
// A packet that the device drops is counted (QueueStats.Dropped), not returned.
func (q *Queue) Send(frames []Frame) (int, error) {
	for total := 0; ; {
		n, err := q.trySend(frames[total:])
		total += n
		if total == len(frames) || err != nil {
			return total, q.fail("send", err)
		}
		if _, err := q.txWait.await(); err != nil {
			return total, q.fail("send", err)
		}
	}
}

// TrySend is Send without waiting: a full ring is no error. Like Send it takes
// back what was sent before, also if frames is empty, which is all that a program
// needs to do to get its last frames back.
func (q *Queue) TrySend(frames []Frame) (int, error) {
	n, err := q.trySend(frames)
	return n, q.fail("send", err)
}

// trySend sends as many frames as there is room for now.
func (q *Queue) trySend(frames []Frame) (int, error) {
	t := &q.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	for total := 0; ; {
		if err := q.sendable(); err != nil {
			return total, err
		}
		room, parts := math.MaxInt, 1
		if q.multi {
			room, parts = q.sock.Tx.Free(), mostFrags // so that the ring never cuts a packet in two
		}
		descs, taken, refused := q.pool.take(frames[total:], q.number, t.descs[:0], room, parts)
		queued, err := q.burst(descs)
		if queued == len(descs) {
			total += taken
		} else {
			total += queued // only without fragments: one descriptor a frame
		}
		switch {
		case err != nil:
			return total, err
		case refused != nil && queued == len(descs):
			return total, refused
		case total == len(frames), queued < len(descs), taken == 0:
			return total, nil
		}
	}
}

func (q *Queue) sendable() error {
	switch {
	case q.closed.Load():
		return os.ErrClosed
	case q.rxOnly:
		return invalid("the queue only receives (SocketConfig.RxOnly)")
	}
	return q.sock.latch(false, nil)
}

// burst queues descriptors of frames in ownerTx, kicks, and reaps. Errors that
// pass by themselves are none here: the next burst kicks again.
func (q *Queue) burst(descs []Desc) (int, error) {
	t, p := &q.tx, q.pool
	b := q.sock.transmit(descs, t.done)
	p.mu.Lock()
	p.sent(descs[:b.in])
	p.untake(descs[b.in:])
	p.completed(t.done[:b.out], q.number)
	p.mu.Unlock()
	if b.in > 0 {
		bytes := uint64(0)
		packets := uint64(0)
		for i := range descs[:b.in] {
			bytes += uint64(descs[i].Len)
			packets += uint64(1 - descs[i].Options&PktContd)
		}
		q.stats.txBursts.Add(1)
		q.stats.txPackets.Add(packets)
		q.stats.txBytes.Add(bytes)
	}
	switch b.err {
	case syscall.EBUSY, syscall.ENETDOWN, syscall.ENOBUFS:
		return b.in, nil
	}
	return b.in, kickError(b.err)
}

// Alloc takes empty frames for packets of the program's own and returns how
// many: at least one, for it waits for one until the write deadline. Data is
// empty, begins behind 256 bytes of room and has the capacity of the frame.
// The frames are the program's until it sends or frees them.
func (q *Queue) Alloc(frames []Frame) (int, error) {
	// Completions raise no event in zero copy, so this naps.
	naps := 0
	for nap := 20 * time.Microsecond; ; nap = min(2*nap, time.Millisecond) {
		n, err := q.tryAlloc(frames)
		if naps++; naps%1024 == 0 && n == 0 && err == nil {
			err = q.sock.gone()
		}
		if n > 0 || err != nil || len(frames) == 0 {
			return n, q.fail("alloc", err)
		}
		if until := q.txWait.userDeadline(); !until.IsZero() && !time.Now().Before(until) {
			return 0, q.fail("alloc", os.ErrDeadlineExceeded)
		}
		time.Sleep(nap)
	}
}

// TryAlloc is Alloc without waiting: no frame is no error.
func (q *Queue) TryAlloc(frames []Frame) (int, error) {
	n, err := q.tryAlloc(frames)
	return n, q.fail("alloc", err)
}

func (q *Queue) tryAlloc(frames []Frame) (int, error) {
	if n := q.allocFree(frames); n > 0 {
		return n, nil
	}
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.closed.Load() {
		return 0, os.ErrClosed
	}
	if _, err := q.burst(nil); err != nil {
		return 0, err
	}
	if n := q.allocFree(frames); n > 0 {
		return n, nil
	}
	return 0, q.sock.latch(false, nil)
}

func (q *Queue) allocFree(frames []Frame) int {
	q.pool.mu.Lock()
	defer q.pool.mu.Unlock()
	if q.closed.Load() {
		return 0
	}
	return q.pool.alloc(frames)
}

// SetDeadline sets the read and the write deadline.
func (q *Queue) SetDeadline(t time.Time) error {
	return errors.Join(q.SetReadDeadline(t), q.SetWriteDeadline(t))
}

// SetReadDeadline sets when Receive gives up waiting, also one that waits now;
// the zero Time means never.
func (q *Queue) SetReadDeadline(t time.Time) error {
	return q.fail("set deadline of", q.rxWait.setDeadline(t))
}

// SetWriteDeadline sets when Send and Alloc give up waiting, also those that
// wait now; the zero Time means never.
func (q *Queue) SetWriteDeadline(t time.Time) error {
	return q.fail("set deadline of", q.txWait.setDeadline(t))
}

// Socket is the Queue's socket, to look at; its rings and bursts belong to the
// Queue.
func (q *Queue) Socket() *Socket { return q.sock }

// Umem is the memory that the Queue's frames are in.
func (q *Queue) Umem() *Umem { return q.umem }

// String says what was bound, as in
// "eth0 queue 3: zero copy, rx 2048, tx 2048, 4096 frames of 4096 bytes".
func (q *Queue) String() string { return q.sock.String() }

// feed makes the receiving goroutine look for free frames to post.
func (q *Queue) feed() {
	if q.ready.Load() {
		q.rxWait.nudge()
	}
}

// Close ends the kernel's use of the frames at once, and wakes every goroutine
// that waits in the Queue; they and all later calls get os.ErrClosed. Frames
// that the program has stay readable and writable until it frees them; lent
// ones until the next Receive, which answers os.ErrClosed. The memory goes when
// the last frame has come back. Close may be called again, and then does
// nothing.
func (q *Queue) Close() error {
	q.closing.Lock()
	defer q.closing.Unlock()
	if q.closed.Load() {
		return nil
	}
	q.last = q.Stats()
	q.closed.Store(true)
	err := q.sock.Close() // returns when nobody waits or is in a burst
	q.rx.mu.Lock()
	defer q.rx.mu.Unlock()
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	q.pool.leave(q.number)
	if q.ownUmem {
		err = errors.Join(err, q.umem.Close())
		q.pool.mu.Lock()
		q.pool.closed = true
		q.pool.releaseMapping()
		q.pool.mu.Unlock()
	}
	return err
}

// fail wraps err as "xsk: <verb> eth0 queue 3: <cause>".
func (q *Queue) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	return failed(verb+" "+q.name, err)
}

// ceilPower2 is the smallest power of two that is at least n.
func ceilPower2(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }
