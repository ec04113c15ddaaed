package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	gsync "gvisor.dev/gvisor/pkg/sync"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk"
)

// A receiver takes packets from one Port and gives them to the stack.
type receiver struct {
	e       *Endpoint
	port    Port
	frames  []xsk.Frame
	heads   [][]byte // the first part of each good one
	packets []packet // what parse found
	from    []int16  // and which frame it is in
	joiner
}

func newReceiver(e *Endpoint, port Port) *receiver {
	r := &receiver{
		e:       e,
		port:    port,
		frames:  make([]xsk.Frame, maxBurst),
		heads:   make([][]byte, maxBurst),
		packets: make([]packet, maxBurst),
		from:    make([]int16, maxBurst),
	}
	r.joiner.init()
	return r
}

// receive goes on until the Port is closed, or fails for good.
func (r *receiver) receive() {
	for {
		n, err := r.port.Receive(r.frames)
		if err != nil {
			if r.e.receiveFailed(err) {
				return
			}
			continue
		}
		r.e.acks.awake.Add(1)
		if r.burst(r.frames[:n]) > 0 {
			// Those whom this made ready run now, here, where the packets are in the
			// cache: another processor would have to be woken for them, which takes
			// longer than their work. To look for more meanwhile does not pay, either:
			// it takes the processor from who is to send it.
			gsync.Goyield()
		}
		r.e.acks.awake.Add(-1)
		r.e.letGo(false)
	}
}

// burst gives packets to the stack, and returns how many that made.
func (r *receiver) burst(frames []xsk.Frame) int {
	dispatcher := r.e.dispatcher()
	c := &r.e.counts
	c.rxPackets.Add(uint64(len(frames)))
	if dispatcher == nil {
		c.rxUnwanted.Add(uint64(len(frames)))
		return 0
	}
	// A buffer takes what comes as long as it is not full: while memory is short, that
	// must not be 64 KiB for each connection.
	host := r.e.host.Load()
	join := !r.e.options.NoGRO && (host == nil || host.ledger.share.Load() == 0)
	r.joiner.reset()
	n := 0
	for i := range frames {
		f := &frames[i]
		switch r.packets[n].parse(f.Data, f.Len(), &r.e.filter) {
		case bad:
			c.rxBad.Add(1)
			continue
		case unwanted:
			c.rxUnwanted.Add(1)
			continue
		}
		r.heads[n], r.from[n] = f.Data, int16(i)
		if !join {
			r.packets[n].tcp = false
		}
		r.joiner.add(n, r.heads, r.packets)
		n++
	}
	delivered := 0
	for i := range r.joiner.runs {
		delivered += r.deliver(dispatcher, &r.joiner.runs[i], frames)
	}
	c.rxDelivered.Add(uint64(delivered))
	return delivered
}

// deliver copies the packets of a run into one, leaving out those with a wrong
// checksum, and gives it to the stack. What follows a wrong one is one by itself.
//
// The headers go into a buffer of their own, for the stack copies the one that holds
// them again, whole: it looks at them twice at the same time, and each pulls up.
//
// Who reads late holds what the stack gets here, and is charged for the bytes in it:
// a buffer made for a whole run would keep 64 KiB for the one good segment of 1460
// bytes before a bad one. Such a part is copied once more, and the buffer is for the
// rest of the run.
func (r *receiver) deliver(to stack.NetworkDispatcher, run *run, frames []xsk.Frame) int {
	host := r.e.host.Load()
	if host != nil && !host.door.admits(&r.packets[run.first], r.heads[run.first]) {
		return 0
	}
	left, delivered := run.payload, 0
	var room *buffer.View // for what is left
	for at := run.first; at >= 0; {
		first, head, last := &r.packets[at], r.heads[at], at
		if room == nil && left > 0 {
			room = buffer.NewViewSize(left)
		}
		b := room.AsSlice()
		length, count := 0, 0
		for ; at >= 0; at = r.joiner.next[at] {
			p := &r.packets[at]
			n := p.size - p.payload
			left -= n
			if !copyPayload(b[length:length+n], &frames[r.from[at]], p) {
				r.e.counts.rxBad.Add(1)
				at = r.joiner.next[at]
				break
			}
			length, last = length+n, at
			count++
		}
		if count == 0 {
			continue
		}
		headers := buffer.NewViewSize(first.payload)
		h := headers.AsSlice()
		copy(h, head)
		if count > 1 {
			joined(h, length, first, r.heads[last][r.packets[last].l4:])
		}
		whole := buffer.MakeWithView(headers)
		switch {
		case length == 0:
		case 2*length < room.Capacity():
			_ = whole.Append(buffer.NewViewWithData(b[:length]))
		default:
			room.CapLength(length)
			_ = whole.Append(room)
			room = nil
		}
		if first.check && first.l4proto == protoICMPv6 && h[first.l4] == packetTooBig {
			r.e.learn(h, first)
		}
		r.e.give(to, whole, first, count > 1)
		delivered++
		if host != nil && length > 0 && first.l4proto == protoTCP {
			host.ledger.note(length + segmentOverhead)
		}
	}
	if room != nil {
		room.Release()
	}
	return delivered
}

// copyPayload copies what follows the headers of a packet, and reports whether its
// checksum is right.
func copyPayload(dst []byte, f *xsk.Frame, p *packet) bool {
	if !p.check {
		copyFrom(dst, f, p.payload)
		return true
	}
	s := p.pseudo(f.Data).plus(sumOf(f.Data[p.l4:p.payload]))
	covered := dst[:p.end-p.payload]
	if len(f.Frags) > 0 || p.end < p.size {
		copyFrom(dst, f, p.payload)
		rest := sumOf(covered)
		if (p.payload-p.l4)&1 != 0 { // the first part of ICMP has the length of a frame
			rest = rest.swapped()
		}
		return s.plus(rest).valid()
	}
	return s.plus(copySum(covered, f.Data[p.payload:p.end])).valid()
}

// copyFrom copies what begins at a place of a packet's first part.
func copyFrom(dst []byte, f *xsk.Frame, at int) {
	n := copy(dst, f.Data[at:])
	for i := range f.Frags {
		n += copy(dst[n:], f.Frags[i].Data)
	}
}

// joined makes the first packet's headers those of the whole: its length, and the
// flags and the window of the last one, for the stack believes the latest that it
// sees. TCP's checksum is no longer one.
func joined(head []byte, length int, p *packet, last []byte) {
	ip := head[ethernet:]
	if p.proto == header.IPv4ProtocolNumber {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+length))
		ip[10], ip[11] = 0, 0
		sumOf(ip[:p.l4-ethernet]).put(ip[10:])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-header.IPv6MinimumSize+length))
	}
	head[p.l4+header.TCPFlagsOffset] |= last[header.TCPFlagsOffset]
	copy(head[p.l4+header.TCPWinSizeOffset:], last[header.TCPWinSizeOffset:][:2])
}

// verifying is how the stack is told which packets it has to verify by itself: it
// asks for the Endpoint's capabilities with each one. We have verified all but the
// pieces of a datagram, whose checksum is known only to who puts them together.
// While one is given to the stack no joined packet may be: its checksum is that of
// the first packet in it. Others the stack may verify again.
type verifying struct {
	sync.RWMutex
	off atomic.Bool
}

// give gives one packet to the stack.
func (e *Endpoint) give(to stack.NetworkDispatcher, b buffer.Buffer, p *packet, joined bool) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: b})
	eth, _ := pkt.LinkHeader().Consume(ethernet)
	pkt.NetworkProtocolNumber = p.proto
	pkt.RXChecksumValidated = !p.piece
	pkt.PktType = tcpip.PacketHost
	if eth[0]&1 != 0 {
		pkt.PktType = tcpip.PacketMulticast
		if header.Ethernet(eth).DestinationAddress() == header.EthernetBroadcastAddress {
			pkt.PktType = tcpip.PacketBroadcast
		}
	}
	v := &e.verifying
	switch {
	case p.piece:
		v.Lock()
		v.off.Store(true)
		to.DeliverNetworkPacket(p.proto, pkt)
		v.off.Store(false)
		v.Unlock()
	case joined:
		v.RLock()
		to.DeliverNetworkPacket(p.proto, pkt)
		v.RUnlock()
	default:
		to.DeliverNetworkPacket(p.proto, pkt)
	}
	pkt.DecRef()
}
