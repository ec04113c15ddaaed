package netstack

import (
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks hold acknowledgments back for a moment. The stack acknowledges what it has
// taken from a burst at once, and a moment later the program answers, with a packet
// that acknowledges the same: half of all packets of a program that answers
// requests say nothing. So one waits here while a receiving goroutine is awake,
// which lets it go before it looks for packets again, unless a packet of its
// connection has made it needless by then.
type acks struct {
	awake atomic.Int32 // receiving goroutines that will let go
	some  atomic.Int32 // how many are held

	mu   sync.Mutex
	held [ackSlots]*stack.PacketBuffer // by the connection's hash
}

const ackSlots = 64

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
// then others may have to be sent before it, which it appends to first.
func (a *acks) hold(pkt *stack.PacketBuffer, first []*stack.PacketBuffer) (bool, []*stack.PacketBuffer) {
	if a.awake.Load() == 0 && a.some.Load() == 0 {
		return false, first
	}
	tcp := tcpOf(pkt)
	if tcp == nil {
		return false, first
	}
	plain := plainAck(pkt, tcp)
	a.mu.Lock()
	defer a.mu.Unlock()
	slot := &a.held[pkt.Hash%ackSlots]
	if old := *slot; old != nil {
		*slot = nil
		a.some.Add(-1)
		if needless(old, pkt, tcp, plain) {
			old.DecRef()
		} else {
			first = append(first, old)
		}
	}
	if !plain {
		return false, first
	}
	*slot = pkt
	a.some.Add(1)
	if a.awake.Load() == 0 { // after that, as take looks the other way round
		*slot = nil
		a.some.Add(-1)
		return false, first
	}
	pkt.IncRef()
	return true, first
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
	return tcp.Flags()&header.TCPFlagAck != 0 && (later > 0 || later == 0 && !plain)
}

// addressesIn are the IP addresses of a packet of the stack.
func addressesIn(pkt *stack.PacketBuffer) []byte {
	ip := pkt.NetworkHeader().Slice()
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		return ip[12:20]
	}
	return ip[8:40]
}

// take appends the held ones to all, for who is to send them.
func (a *acks) take(all []*stack.PacketBuffer) []*stack.PacketBuffer {
	if a.some.Load() == 0 {
		return all
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, pkt := range a.held {
		if pkt != nil {
			all = append(all, pkt)
			a.held[i] = nil
			a.some.Add(-1)
		}
	}
	return all
}
