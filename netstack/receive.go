package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

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

// spinTime is how long a receiver looks for more before it sleeps, while packets come
// one by one: a program's answer brings the next request, and to sleep and be woken
// takes longer than that. It gives up doing so when it was in vain.
const spinTime = 50 * time.Microsecond

// receive goes on until the Port is closed, or fails for good.
func (r *receiver) receive() {
	var luck int
	for {
		n, err := r.port.Receive(r.frames)
		r.e.acks.awake.Add(1)
		for err == nil && n > 0 {
			few := n <= fewPackets
			if r.burst(r.frames[:n]) > 0 {
				// Those whom this made ready run now, here, where the packets are in the
				// cache: waking another processor takes longer than the work.
				gsync.Goyield()
			}
			n = 0
			if !few {
				break
			}
			if luck > -8 {
				n, err = r.spin()
				if n > 0 {
					luck = min(luck+1, 8)
				} else {
					luck--
				}
			} else {
				luck++
			}
			r.e.letGo()
		}
		r.e.acks.awake.Add(-1)
		r.e.letGo()
		if err != nil && r.e.receiveFailed(err) {
			return
		}
	}
}

const fewPackets = 4

func (r *receiver) spin() (n int, err error) {
	for start := time.Now(); n == 0 && err == nil && time.Since(start) < spinTime; {
		gsync.Goyield()
		n, err = r.port.TryReceive(r.frames)
	}
	return n, err
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
		if r.e.options.NoGRO {
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
func (r *receiver) deliver(to stack.NetworkDispatcher, run *run, frames []xsk.Frame) int {
	size, delivered := run.size, 0
	for at := run.first; at >= 0; {
		view := buffer.NewViewSize(size)
		b := view.AsSlice()
		first := &r.packets[at]
		ok := copyWhole(b, &frames[r.from[at]], first)
		length, count, last := first.size, 1, at
		at = r.joiner.next[at]
		if !ok {
			r.e.counts.rxBad.Add(1)
			size -= first.size - first.payload
			view.Release()
			continue
		}
		for at >= 0 {
			p := &r.packets[at]
			n := p.size - p.payload
			if !copyPayload(b[length:length+n], &frames[r.from[at]], p) {
				r.e.counts.rxBad.Add(1)
				at = r.joiner.next[at]
				size -= n
				break
			}
			length, last = length+n, at
			count++
			at = r.joiner.next[at]
		}
		size -= length - first.payload
		if count > 1 {
			joined(b[:length], first, r.heads[last][r.packets[last].l4:])
		}
		view.CapLength(length)
		r.e.give(to, view, first, count > 1)
		delivered++
	}
	return delivered
}

// copyWhole copies a packet, and reports whether its checksum is right.
func copyWhole(dst []byte, f *xsk.Frame, p *packet) bool {
	if len(f.Frags) > 0 {
		f.CopyTo(dst[:p.size])
		return !p.check || sumOf(dst[p.l4:p.end]).plus(p.pseudo(dst)).valid()
	}
	src := f.Data
	if !p.check {
		copy(dst[:p.size], src)
		return true
	}
	copy(dst[:p.l4], src)
	s := copySum(dst[p.l4:], src[p.l4:p.end])
	copy(dst[p.end:p.size], src[p.end:])
	return s.plus(p.pseudo(src)).valid()
}

// copyPayload does it for what follows the headers, of a TCP segment.
func copyPayload(dst []byte, f *xsk.Frame, p *packet) bool {
	s := sumOf(f.Data[p.l4:p.payload]).plus(p.pseudo(f.Data))
	src := f.Data[p.payload:]
	if len(f.Frags) == 0 {
		return s.plus(copySum(dst, src[:len(dst)])).valid()
	}
	n := copy(dst, src)
	for i := range f.Frags {
		n += copy(dst[n:], f.Frags[i].Data)
	}
	return s.plus(sumOf(dst)).valid()
}

// joined makes the first packet's headers those of the whole: its length, and the
// flags of the last one. TCP's checksum is no longer one.
func joined(b []byte, p *packet, last []byte) {
	ip := b[ethernet:]
	if p.proto == header.IPv4ProtocolNumber {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[10], ip[11] = 0, 0
		sumOf(ip[:p.l4-ethernet]).put(ip[10:])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-header.IPv6MinimumSize))
	}
	b[p.l4+header.TCPFlagsOffset] |= last[header.TCPFlagsOffset]
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
func (e *Endpoint) give(to stack.NetworkDispatcher, view *buffer.View, p *packet, joined bool) {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
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
