package xsk

import (
	"fmt"
	"math"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/go-xsk/xsk/internal/closed"
)

// A sender is what a sending goroutine works with while it has the turn.
type sender struct {
	mu     sync.Mutex
	descs  []Desc
	done   []Addr
	stamps stamps
	turn   turn
}

// Send queues frames to be sent, waits for room if it must, and returns how many
// it took: frames[:n] are gone, frames[n:] still the caller's. It takes fewer than
// all only with an error: os.ErrDeadlineExceeded, os.ErrClosed, ENODEV when the
// interface is gone, or EINVAL for a frame that cannot be sent, whose address
// and fault it names. It takes lent frames and the program's own, of any Queue
// on the same Umem. While the link is down Send waits.
//
// A packet that the device drops is counted (QueueStats.Dropped), not returned: one longer
// than the interface's MTU, for example.
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
	n, err := q.sendNow(frames)
	over, turn := t.turn.over(false), t.turn
	t.mu.Unlock()
	if over {
		turn.pass()
	}
	return n, err
}

// sendNow is trySend with q.tx locked.
func (q *Queue) sendNow(frames []Frame) (int, error) {
	t := &q.tx
	for total := 0; ; {
		if err := q.sendable(); err != nil {
			return total, err
		}
		room, parts := math.MaxInt, 1
		if q.multi {
			room, parts = q.sock.Tx.Free(), mostFrags // so that the ring never cuts a packet in two
		}
		descs, taken, refused := q.pool.take(frames[total:], q.shard, t.descs[:0], room, parts)
		if q.pool.requests != nil {
			descs, taken, refused = q.pool.ask(frames[total:total+taken], descs, refused)
		}
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
		return closed.Err
	case q.rxOnly:
		return invalid("the queue only receives (SocketConfig.RxOnly)")
	}
	return q.sock.latch(false, nil)
}

// burst queues descriptors of frames in ownerTx, kicks, and reaps. Errors that
// pass by themselves are none here: the next burst kicks again.
func (q *Queue) burst(descs []Desc) (int, error) {
	if q.rxOnly { // the completion ring is that of who sends
		return 0, nil
	}
	t := &q.tx
	b := q.sock.transmit(descs, t.done)
	if q.pool.requests != nil {
		q.stampAll(t.done[:b.out])
	}
	c := q.pool.cursor()
	c.untake(descs[b.in:])
	c.completed(t.done[:b.out], q.shard)
	c.unlock()
	if b.in > 0 {
		bytes, packets, longest := uint64(0), uint64(b.in), uint64(0)
		for i := range descs[:b.in] {
			bytes += uint64(descs[i].Len)
			longest = max(longest, uint64(descs[i].Len))
		}
		if q.multi {
			length := uint64(0)
			for i := range descs[:b.in] {
				length += uint64(descs[i].Len)
				if descs[i].Options&PktContd != 0 {
					packets--
					continue
				}
				longest, length = max(longest, length), 0
			}
		}
		if longest > q.stats.txLongest.Load() { // with q.tx locked
			q.stats.txLongest.Store(longest)
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
// empty, begins behind 256 bytes of room and has the capacity of the frame, which
// may hold bytes of an earlier packet. The frames are the program's until it sends
// or frees them.
//
// Errors wrap os.ErrDeadlineExceeded, os.ErrClosed, and ENODEV when the interface
// is gone.
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
		return 0, closed.Err
	}
	if _, err := q.burst(nil); err != nil {
		return 0, err
	}
	if q.pool.queues.Load() > 1 { // frames of this Queue may have gone out of another
		q.pool.reap()
	}
	n := q.allocFree(frames)
	if n == 0 && len(frames) > 0 && q.pool.reclaimGone() {
		n = q.allocFree(frames)
	}
	if n > 0 {
		return n, nil
	}
	return 0, q.sock.latch(false, nil)
}

func (q *Queue) allocFree(frames []Frame) int {
	q.shard.mu.Lock()
	defer q.shard.mu.Unlock()
	if q.closed.Load() {
		return 0
	}
	return q.pool.alloc(q.shard, frames)
}

// alloc gives empty frames to the program. s is locked, but not throughout.
func (p *pool) alloc(s *shard, frames []Frame) int {
	n := 0
	for n < len(frames) {
		if s.free == noFrame && !p.refill(s, len(frames)-n) || p.closed {
			break
		}
		n += s.allocRun(p, frames[n:])
	}
	return n
}

// reap takes back the frames that any Queue on this memory has sent, unless
// somebody else has the turn. It reports whether there is hope: one has come, or
// is still being sent.
func (p *pool) reap() bool {
	queues, hope := p.senders()
	for _, q := range queues {
		if q.ready.Load() && q.tx.mu.TryLock() {
			_, _ = q.burst(nil)
			q.tx.mu.Unlock()
		}
	}
	return hope
}

// senders are the open Queues, unless there is nothing to hope for: no frame is
// being sent, nor has one come back since the caller looked.
func (p *pool) senders() (queues []*Queue, hope bool) {
	p.lockAll()
	defer p.unlockAll()
	if c := p.sum(); c[ownerTx]+c[ownerFree] == 0 {
		return nil, false
	}
	for _, s := range p.all() {
		if s.queue != nil {
			queues = append(queues, s.queue)
		}
	}
	return queues, true
}

// The least and the most that the kernel takes as a packet.
const (
	ethernetHeader = 14
	mostFrags      = 18 // descriptors a packet in copy mode (MAX_SKB_FRAGS + 1)
)

// take moves the frames at the front of frames to ownerTx, for the Queue of s to
// send, which ends the program's hold on them, and appends their descriptors to
// descs, within its capacity and room; a packet is parts of them at most. It stops before the first frame that cannot be sent and returns how
// many it took and why it stopped, if the frame is to blame.
func (p *pool) take(frames []Frame, s *shard, descs []Desc, room, parts int) ([]Desc, int, error) {
	c := p.cursor()
	defer c.unlock()
	room = min(room, cap(descs))
	for i := 0; i < len(frames); i++ {
		if c.at != nil {
			n := c.at.takeRun(p, frames[i:], descs[len(descs):room], uint16(s.number))
			descs = descs[:len(descs)+n]
			if i += n; i == len(frames) {
				break
			}
		}
		f := &frames[i]
		if err := p.checkPacket(f, parts); err != nil {
			return descs, i, err
		}
		if len(descs)+1+len(f.Frags) > room {
			return descs, i, nil
		}
		before := len(descs)
		if err := c.takeOne(f, s, &descs); err != nil {
			return descs, i, err
		}
		for j := range f.Frags {
			if err := c.takeOne(&f.Frags[j], s, &descs); err != nil {
				c.untake(descs[before:])
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

func (c *cursor) takeOne(f *Frame, s *shard, descs *[]Desc) error {
	p := c.pool
	switch f.pool {
	case p:
	case nil:
		return invalid("the Frame is empty: it came from neither Receive nor Alloc")
	default:
		return invalid("frame %#x belongs to another Umem", uint64(f.pool.addr(f.index)))
	}
	e := &c.table[f.index]
	if c.lock(e); !e.held(f) {
		return p.notHeld(f, e)
	}
	first, end := p.span(f.index)
	start := uint64(f.offset())
	if start < first || start > end || uint64(len(f.Data)) > end-start || len(f.Data) == 0 {
		return invalid("Data of frame %#x, %d bytes, lies outside of it", first, len(f.Data))
	}
	e.was, e.queue = e.owner, uint16(s.number)
	e.gen++
	c.at.move(e, ownerTx)
	*descs = append(*descs, Desc{Addr: Addr(start), Len: uint32(len(f.Data))})
	return nil
}

// untake undoes take for descriptors that the TX ring had no room for.
func (c *cursor) untake(descs []Desc) {
	for _, d := range descs {
		e := &c.table[c.pool.frameOf(d.Addr)]
		c.lock(e)
		c.at.move(e, e.was)
		e.gen--
	}
}

// completed makes frames free that the Queue of s has sent. The kernel may
// complete a frame twice, or return one that it refused: only a frame that is
// out on this queue counts.
func (c *cursor) completed(done []Addr, s *shard) {
	for i := 0; i < len(done); {
		index := c.pool.sentFrame(done[i])
		if uint64(index) < uint64(len(c.table)) {
			c.lock(&c.table[index])
			if n := c.at.completedRun(c.pool, done[i:], uint16(s.number)); n > 0 {
				i += n
				continue
			}
		}
		c.pool.strange.Add(1)
		i++
	}
}
