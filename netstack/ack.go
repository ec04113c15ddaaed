package netstack

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks hold acknowledgments back for a moment. The stack acknowledges what it has
// taken from a burst at once, and a moment later the program answers, with a packet
// that acknowledges the same: half of all packets of a program that answers
// requests say nothing. So one waits here while a receiving goroutine is awake,
// which lets it go before it looks for packets again, unless a packet of its
// connection has made it needless by then.
//
// One that is for little data, less than a full segment of any connection, may wait
// longer: nobody can have filled his window with that. The receiving goroutine may be
// on another processor by then than the program, and would not wait for it.
type acks struct {
	awake atomic.Int32 // receiving goroutines that will let go
	some  atomic.Int32 // how many wait for them

	mu     sync.Mutex
	flows  [ackSlots]ackFlow // by the connection's hash
	timer  *time.Timer       // lets late ones go; nil until there was one
	armed  bool              // it will
	closed bool
}

// An ackFlow is what a connection has acknowledged.
type ackFlow struct {
	hash  uint32 // of the connection; 0 if none is known
	acked uint32 // the last number that went out
	held  *stack.PacketBuffer
	late  bool // it waits for the timer
}

const (
	ackSlots   = 64
	ackDelay   = 10 * time.Millisecond
	littleData = 536 // RFC 1122's least segment size to send, in bytes
)

// tcpOf is the TCP header of a packet; nil if it has none that is for a cutter.
func tcpOf(pkt *stack.PacketBuffer) header.TCP {
	if pkt.GSOOptions.Type != stack.GSOTCPv4 && pkt.GSOOptions.Type != stack.GSOTCPv6 {
		return nil
	}
	return header.TCP(pkt.TransportHeader().Slice())
}

// plainAck reports whether a packet only acknowledges: without data, and without
// the options that tell of losses.
func plainAck(pkt *stack.PacketBuffer, tcp header.TCP) bool {
	const withTimestamps = header.TCPMinimumSize + 12
	return len(tcp) <= withTimestamps && tcp.Flags() == header.TCPFlagAck && pkt.Data().Size() == 0
}

// hold takes over a packet to be sent later, or reports that it is to be sent now;
// then others may have to be sent before it, which it appends to first. The timer
// calls expired.
func (a *acks) hold(pkt *stack.PacketBuffer, first []*stack.PacketBuffer, expired func()) (bool, []*stack.PacketBuffer) {
	tcp := tcpOf(pkt)
	if tcp == nil || tcp.Flags()&header.TCPFlagAck == 0 {
		return false, first
	}
	plain := plainAck(pkt, tcp)
	a.mu.Lock()
	defer a.mu.Unlock()
	f := &a.flows[pkt.Hash%ackSlots]
	if old := f.held; old != nil {
		if needless(old, pkt, tcp, plain) {
			a.drop(f)
			old.DecRef()
		} else {
			first = append(first, a.release(f))
		}
	}
	data := tcp.AckNumber() - f.acked
	little := f.hash == pkt.Hash && pkt.Hash != 0 && data > 0 && data < littleData && !a.closed
	if plain && (little || a.awake.Load() > 0) {
		f.held, f.late = pkt, little
		if little {
			a.arm(expired)
		} else {
			a.some.Add(1)
		}
		if little || a.awake.Load() > 0 { // after that, as take looks the other way round
			pkt.IncRef()
			return true, first
		}
		a.drop(f)
	}
	f.hash, f.acked = pkt.Hash, tcp.AckNumber()
	return false, first
}

// arm sees to it that late ones are let go.
func (a *acks) arm(expired func()) {
	switch {
	case a.armed:
		return
	case a.timer == nil:
		a.timer = time.AfterFunc(ackDelay, expired)
	default:
		a.timer.Reset(ackDelay)
	}
	a.armed = true
}

// drop forgets what is held.
func (a *acks) drop(f *ackFlow) {
	if !f.late {
		a.some.Add(-1)
	}
	f.held = nil
}

// release hands it over, to be sent.
func (a *acks) release(f *ackFlow) *stack.PacketBuffer {
	pkt := f.held
	f.hash, f.acked = pkt.Hash, header.TCP(pkt.TransportHeader().Slice()).AckNumber()
	a.drop(f)
	return pkt
}

// needless reports whether a held acknowledgment need not be sent, because a packet
// says more: one of the same connection with data, or with a later acknowledgment.
// That of two equal ones tells of a loss, or of room.
func needless(held, pkt *stack.PacketBuffer, tcp header.TCP, plain bool) bool {
	old := header.TCP(held.TransportHeader().Slice())
	if string(old[:4]) != string(tcp[:4]) || string(addressesIn(held)) != string(addressesIn(pkt)) {
		return false
	}
	later := int32(tcp.AckNumber() - old.AckNumber())
	return later > 0 || later == 0 && !plain
}

// addressesIn are the IP addresses of a packet of the stack.
func addressesIn(pkt *stack.PacketBuffer) []byte {
	ip := pkt.NetworkHeader().Slice()
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		return ip[12:20]
	}
	return ip[8:40]
}

// take appends those that are held to all, for who is to send them: the late ones,
// or the others.
func (a *acks) take(all []*stack.PacketBuffer, late bool) []*stack.PacketBuffer {
	if !late && a.some.Load() == 0 {
		return all
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if late {
		a.armed = false
	}
	for i := range a.flows {
		if f := &a.flows[i]; f.held != nil && f.late == late {
			all = append(all, a.release(f))
		}
	}
	return all
}

// close drops all, and holds none any more for long.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	for i := range a.flows {
		if f := &a.flows[i]; f.held != nil {
			a.release(f).DecRef()
		}
	}
}
