package xsk

import (
	"fmt"

	"github.com/go-xsk/xsk/internal/closed"
)

// A request is what the program asks for the packet in a frame, until the packet is
// sent, and then whether it waits for the timestamp.
type request struct {
	TxRequest
	gen   uint32 // of the frame when it was asked
	asked bool
	waits bool
	at    Addr // of the packet that waits, as it was sent
}

// Request asks the device for something when the packet is sent: it holds for the
// next Send of the frame, and replaces an earlier Request. It takes a Umem with
// [UmemConfig.TxMetadataLen], in Config.UmemConfig or of the caller's own, and the
// frame must be the program's or lent to it. A packet of several frames has one
// Request, that of its first. The zero TxRequest takes an earlier one back.
//
// Send writes it before Data as that is then, over the TxMetadataLen bytes there.
// It refuses a packet without the bytes for the checksum, one with a Request of a
// fragment, and one without that room before it, whether or not there was a Request:
// the kernel does, too. Errors wrap EINVAL, or errors.ErrUnsupported for a LaunchTime
// before Linux 6.15.
func (f *Frame) Request(r TxRequest) error {
	if f.pool == nil {
		return failed("request", invalid("the Frame is empty: it came from neither Receive nor Alloc"))
	}
	return failed("request", f.pool.request(f, r))
}

func (p *pool) request(f *Frame, r TxRequest) error {
	whole := r
	whole.Checksum = false // Send knows the packet
	if err := whole.check(p.txMeta, 0); err != nil {
		return err
	}
	e := &p.table[f.index]
	s := p.lockHome(e)
	defer s.mu.Unlock()
	if !e.held(f) {
		return p.notHeld(f, e)
	}
	p.requests[f.index] = request{TxRequest: r, gen: f.gen, asked: r != TxRequest{}}
	return nil
}

// ask writes what was asked for before the packets of frames, which take has made
// descs of. It stops before the first that cannot be sent so, whose descriptors it
// gives up with those that follow, and returns how many are left and why; or else
// refused, why take stopped.
func (p *pool) ask(frames []Frame, descs []Desc, refused error) ([]Desc, int, error) {
	from := 0
	for i := range frames {
		f := &frames[i]
		to := from + 1 + len(f.Frags)
		if err := p.askOne(f, descs[from:to]); err != nil {
			c := p.cursor()
			c.untake(descs[from:])
			c.unlock()
			return descs[:from], i, fmt.Errorf("frame %#x: %w", uint64(p.addr(f.index)), err)
		}
		from = to
	}
	return descs, len(frames), refused
}

// askOne does it for one packet.
func (p *pool) askOne(f *Frame, descs []Desc) error {
	for i, d := range descs { // the kernel wants the room also without metadata
		index := p.frameOf(d.Addr)
		if uint64(d.Addr)-uint64(p.addr(index)) < p.txMeta {
			return invalid("Data begins less than the %d bytes of TxMetadataLen into it", p.txMeta)
		}
		r := &p.requests[index]
		r.waits = false // a fragment's too: its last Queue may have been closed
		if i > 0 && r.asked && r.gen == f.Frags[i-1].gen {
			return invalid("its fragment %d, frame %#x, has a Request: the packet's is that of its first frame",
				i-1, uint64(p.addr(index)))
		}
	}
	r := &p.requests[f.index]
	if !r.asked || r.gen != f.gen {
		r.asked = false
		return nil
	}
	d := &descs[0]
	if err := r.check(p.txMeta, d.Len); err != nil {
		return err
	}
	r.put(p.area[uint64(d.Addr)-p.txMeta : d.Addr])
	r.waits, r.at = r.Timestamp, d.Addr
	d.Options |= TxMetadata
	return nil
}

// A TxTimestamp tells when a packet was sent.
type TxTimestamp struct {
	ID   uint64 // TxRequest.ID
	Time uint64 // as of Umem.TxTimestamp; 0 if the device told none
}

// stamps are timestamps that nobody has asked for yet, the oldest first.
type stamps struct {
	ring     []TxTimestamp
	first, n int
}

func (s *stamps) put(t TxTimestamp) {
	if s.n == len(s.ring) { // the oldest goes
		s.first, s.n = (s.first+1)%len(s.ring), s.n-1
	}
	s.ring[(s.first+s.n)%len(s.ring)] = t
	s.n++
}

func (s *stamps) take(to []TxTimestamp) int {
	n := min(len(to), s.n)
	for i := range n {
		to[i] = s.ring[s.first]
		s.first, s.n = (s.first+1)%len(s.ring), s.n-1
	}
	return n
}

// TxTimestamps takes back what was sent, as TrySend does, and then the timestamps
// that have come for requests of this Queue into stamps, in the order in which the
// packets completed. It returns how many, does not wait, and allocates nothing. The
// Queue keeps as many as the Umem has frames, and drops the oldest then.
//
// Errors are those of TrySend, and EINVAL on a Umem without TxMetadataLen.
func (q *Queue) TxTimestamps(stamps []TxTimestamp) (int, error) {
	if q.pool.requests == nil {
		return 0, q.fail("take timestamps", invalid("the Umem was made without UmemConfig.TxMetadataLen"))
	}
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.closed.Load() {
		return 0, q.fail("take timestamps", closed.Err)
	}
	err := q.sendable()
	if err == nil {
		_, err = q.burst(nil)
	}
	if n := q.tx.stamps.take(stamps); n > 0 {
		return n, nil
	}
	return 0, q.fail("take timestamps", err)
}

// stampAll reads the timestamps of completed frames, which must still be in
// ownerTx: then nobody else writes there. It looks where the packet was sent from,
// because the completion may have lost the address's lowest bit; see sentFrame.
func (q *Queue) stampAll(done []Addr) {
	p := q.pool
	c := p.cursor()
	defer c.unlock()
	for _, a := range done {
		index := p.frameOf(a)
		if uint64(index) >= uint64(len(c.table)) {
			continue
		}
		e, r := &c.table[index], &p.requests[index]
		if c.lock(e); e.owner != ownerTx || uint32(e.queue) != q.shard.number || !r.waits {
			continue
		}
		r.waits = false
		q.tx.stamps.put(TxTimestamp{r.ID, txTimestamp(p.area[uint64(r.at)-p.txMeta : r.at])})
	}
}
