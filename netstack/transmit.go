package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk"
)

// A sender is what one call of WritePackets works with.
type sender struct {
	e      *Endpoint
	port   Port
	need   int         // frames that the packet takes that is being written
	failed error       // of the Port, when it was asked for frames last
	frames []xsk.Frame // empty ones
	ready  []xsk.Frame // packets, to be sent
	frags  []xsk.Frame // of packets in ready
	old    []*stack.PacketBuffer
	source source
	cutter cutter
}

var senders = sync.Pool{New: func() any {
	return &sender{
		frames: make([]xsk.Frame, 0, maxBurst),
		ready:  make([]xsk.Frame, 0, maxBurst),
		frags:  make([]xsk.Frame, 0, maxBurst),
	}
}}

// WritePackets sends packets, each by the Port that its flow hashes to, so that a
// flow keeps its order. It cuts those that are longer than a packet may be. It does
// not wait: what there is no frame or room for is dropped and counted, as a NIC
// does. It needs no queueing discipline above it.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	e.sending.RLock()
	defer e.sending.RUnlock()
	s := e.sender()
	all := pkts.AsSlice()
	for _, pkt := range all {
		var held bool
		held, s.old = e.acks.hold(pkt, s.old[:0], e.expired)
		for _, before := range s.old {
			s.send(before)
			before.DecRef()
		}
		if !held {
			s.send(pkt)
		}
	}
	s.finish()
	e.counts.txTaken.Add(uint64(len(all)))
	return len(all), nil
}

// letGo sends the acknowledgments that were held: those that wait for a receiving
// goroutine, or the late ones.
func (e *Endpoint) letGo(late bool) {
	if !late && e.acks.some.Load() == 0 {
		return
	}
	e.sending.RLock()
	defer e.sending.RUnlock()
	s := e.sender()
	s.old = e.acks.take(s.old[:0], late)
	for _, pkt := range s.old {
		s.send(pkt)
		pkt.DecRef()
	}
	s.finish()
}

func (e *Endpoint) sender() *sender {
	s := senders.Get().(*sender)
	s.e = e
	return s
}

// send sends a packet of the stack by the Port of its flow.
func (s *sender) send(pkt *stack.PacketBuffer) {
	if port := s.e.portOf(pkt); port != s.port {
		s.giveUp()
		s.port = port
	}
	s.write(pkt)
}

// portOf chooses the Port by the flow.
func (e *Endpoint) portOf(pkt *stack.PacketBuffer) Port {
	if len(e.ports) == 1 {
		return e.ports[0]
	}
	h := pkt.Hash // of TCP and connected UDP
	if h == 0 {
		ip, l4 := pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()
		var ports [4]byte
		copy(ports[:], l4)
		switch {
		case pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber && len(ip) >= header.IPv4MinimumSize:
			h = flowHash(ip[12:20], ports[:])
		case pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber && len(ip) >= header.IPv6MinimumSize:
			h = flowHash(ip[8:40], ports[:])
		}
	}
	return e.ports[h%uint32(len(e.ports))]
}

// write makes frames of one packet of the stack.
func (s *sender) write(pkt *stack.PacketBuffer) {
	s.source.init(pkt)
	if mtu := s.e.paths.tooLong(pkt); mtu != 0 {
		s.writeFragments(pkt, mtu)
		return
	}
	c := &s.cutter
	if !c.init(pkt, &s.source) {
		s.need = s.parts(pkt.Size())
		if f := s.take(pkt.Size()); f != nil {
			s.fill(f, 0)
		} else {
			s.lost(1)
		}
		return
	}
	packets := c.packets()
	s.need = packets * s.parts(len(c.head)+min(c.left, c.mss))
	for ; packets > 0; packets-- {
		n := min(c.left, c.mss)
		f := s.take(len(c.head) + n)
		if f == nil {
			s.lost(packets)
			return
		}
		head := f.Data[:copy(f.Data, c.head)]
		if !s.e.options.ChecksumOffload {
			c.next(head, n, s.fillSum(f, len(head)), false)
			continue
		}
		s.fill(f, len(head))
		c.next(head, n, 0, true)
		r := xsk.TxRequest{Checksum: true, ChecksumStart: uint16(c.l4), ChecksumOffset: header.TCPChecksumOffset}
		_ = f.Request(r) // NewEndpoint has tried whether it can be asked
	}
}

// fill copies what comes next into a packet, from at on.
func (s *sender) fill(f *xsk.Frame, at int) {
	s.source.copyTo(f.Data[at:])
	for i := range f.Frags {
		s.source.copyTo(f.Frags[i].Data)
	}
}

// fillSum does the same and adds it up.
func (s *sender) fillSum(f *xsk.Frame, at int) sum {
	total, odd := s.source.copySumTo(f.Data[at:], 0, false)
	for i := range f.Frags {
		total, odd = s.source.copySumTo(f.Frags[i].Data, total, odd)
	}
	return total
}

// parts is how many frames a packet takes.
func (s *sender) parts(size int) int { return (size + s.e.capacity - 1) / s.e.capacity }

// take gets the frames for the next packet, size bytes in all; nil if there are too
// few.
func (s *sender) take(size int) *xsk.Frame {
	parts := s.parts(size)
	if len(s.ready) == cap(s.ready) || len(s.frags)+parts > cap(s.frags) {
		s.flush()
	}
	if len(s.frames) < parts && !s.alloc(parts) {
		return nil
	}
	last := len(s.frames) - parts
	got := s.frames[last:]
	for i := range got {
		n := min(size, s.e.capacity)
		got[i].Data = got[i].Data[:n]
		size -= n
	}
	s.frames = s.frames[:last]
	s.need -= parts
	f := got[0]
	if parts > 1 {
		first := len(s.frags)
		s.frags = append(s.frags, got[1:]...)
		f.Frags = s.frags[first:]
	}
	s.ready = append(s.ready, f)
	return &s.ready[len(s.ready)-1]
}

// alloc gets as many frames as are needed, n at least. If there are too few it sends
// what is ready: in copy mode the frames of that are free right after.
func (s *sender) alloc(n int) bool {
	if s.tryAlloc(n) || s.failed != nil || len(s.ready) == 0 {
		return len(s.frames) >= n
	}
	s.flush()
	return s.tryAlloc(n)
}

func (s *sender) tryAlloc(n int) bool {
	have := len(s.frames)
	var got int
	got, s.failed = s.port.TryAlloc(s.frames[have:min(max(s.need, n), cap(s.frames))])
	s.frames = s.frames[:have+got]
	return len(s.frames) >= n
}

// lost counts packets that there were no frames for.
func (s *sender) lost(n int) {
	if s.failed != nil {
		s.e.counts.txRefused.Add(uint64(n))
	} else {
		s.e.counts.txNoFrame.Add(uint64(n))
	}
}

// flush sends what is ready.
func (s *sender) flush() {
	n := len(s.ready)
	if n == 0 {
		return
	}
	sent, err := s.port.TrySend(s.ready)
	s.e.counts.txPackets.Add(uint64(sent))
	if sent < n {
		xsk.Free(s.ready[sent:])
		if err != nil {
			s.e.counts.txRefused.Add(uint64(n - sent))
		} else {
			s.e.counts.txNoFrame.Add(uint64(n - sent))
		}
	}
	s.ready, s.frags = s.ready[:0], s.frags[:0]
}

// giveUp is flush, and frees what was not needed.
func (s *sender) giveUp() {
	s.flush()
	xsk.Free(s.frames)
	s.frames = s.frames[:0]
}

// finish ends the work of a sender, which others use then.
func (s *sender) finish() {
	s.giveUp()
	s.e, s.port, s.failed, s.source = nil, nil, nil, source{}
	senders.Put(s)
}

// A source is the bytes of a packet of the stack, in the order in which they go out.
type source struct {
	views buffer.ViewList
	view  *buffer.View
	rest  []byte // of view
}

func (s *source) init(pkt *stack.PacketBuffer) {
	var skip int
	s.views, skip = pkt.AsViewList()
	s.view = s.views.Front()
	for s.view != nil && skip >= s.view.Size() {
		skip -= s.view.Size()
		s.view = s.view.Next()
	}
	s.rest = nil
	if s.view != nil {
		s.rest = s.view.AsSlice()[skip:]
	}
}

// take returns the next bytes that are in one piece, up to n.
func (s *source) take(n int) []byte {
	for len(s.rest) == 0 {
		if s.view == nil {
			return nil
		}
		if s.view = s.view.Next(); s.view == nil {
			return nil
		}
		s.rest = s.view.AsSlice()
	}
	n = min(n, len(s.rest))
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

func (s *source) copyTo(dst []byte) {
	for len(dst) > 0 {
		b := s.take(len(dst))
		if b == nil {
			return
		}
		dst = dst[copy(dst, b):]
	}
}

// copySumTo adds what it copies to total; odd says that an odd number of bytes has
// come before.
func (s *source) copySumTo(dst []byte, total sum, odd bool) (sum, bool) {
	for len(dst) > 0 {
		b := s.take(len(dst))
		if b == nil {
			break
		}
		part := copySum(dst, b)
		if odd {
			part = part.swapped()
		}
		total = total.plus(part)
		odd = odd != (len(b)&1 != 0)
		dst = dst[len(b):]
	}
	return total, odd
}
