package netstack

import (
	"encoding/binary"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A door is where a Host looks at packets before its stack does: what the stack would
// queue without a bound does not get in.
type door struct {
	host      *Host
	listeners table[TCPListener]
	sockets   table[UDPConn]
	strangers strangers
	repeats   repeats // SYNs
	askers    askers
}

func newDoor(h *Host) *door {
	d := &door{host: h}
	d.strangers.init(h.endpoint.options.MaxStrangers)
	return d
}

// The most that the segments in a listener's queue may take: the stack takes all that
// have no data. A segment without data is charged a kilobyte.
const (
	synQueue    = 1 << 20
	headerQueue = 4 * synQueue
)

// admits reports whether a packet may go to the stack; it counts one that may not.
func (d *door) admits(p *packet, head []byte) bool {
	c := &d.host.limits
	if p.l4 == 0 || p.piece {
		if p.proto == header.ARPProtocolNumber && !d.askers.admitARP(head, &d.strangers) {
			c.strangers.Add(1)
			return false
		}
		return true
	}
	switch p.l4proto {
	case protoTCP:
		l4 := head[p.l4:]
		flags := header.TCPFlags(l4[header.TCPFlagsOffset])
		switch syn := flags&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagSyn; {
		case syn && d.host.full():
			c.connections.Add(1)
			return false
		case syn || p.size == p.payload:
			queued := d.queued(binary.BigEndian.Uint16(l4[2:]), head[p.addrs+p.addrLen/2:p.addrs+p.addrLen])
			if syn && queued > synQueue && !d.repeats.seen(head[p.addrs:p.addrs+p.addrLen], l4[:8]) || queued > headerQueue {
				c.flooded.Add(1)
				return false
			}
		}
	case protoUDP:
		if d.socketsFull(p, head) {
			c.datagrams.Add(1)
			return false
		}
		return true // a datagram needs no answer
	case protoICMP: // in IPv6 it is not, and parse has not looked at it
		if !p.check || head[p.l4] != byte(header.ICMPv4Echo) {
			return true
		}
	case protoICMPv6:
		if p.check && head[p.l4] == byte(header.ICMPv6NeighborSolicit) && !d.askers.admitND(head, p, &d.strangers) {
			c.strangers.Add(1)
			return false
		}
		if !p.check || head[p.l4] != byte(header.ICMPv6EchoRequest) {
			return true
		}
	default:
		return true
	}
	if !d.strangers.admit(d.host, head[p.addrs:p.addrs+p.addrLen/2]) {
		c.strangers.Add(1)
		return false
	}
	return true
}

// queued is what waits for the listener of a port, in bytes.
func (d *door) queued(port uint16, address []byte) (n int) {
	for _, l := range d.listeners.at(port) {
		if matches(l.at, address) {
			received, _ := charged(l.ep)
			n = max(n, received)
		}
	}
	return n
}

// socketsFull reports whether all sockets that a datagram is for hold enough.
func (d *door) socketsFull(p *packet, head []byte) bool {
	source, dest := head[p.addrs:p.addrs+p.addrLen/2], head[p.addrs+p.addrLen/2:p.addrs+p.addrLen]
	found := false
	for _, c := range d.sockets.at(binary.BigEndian.Uint16(head[p.l4+2:])) {
		if !c.takes(source, binary.BigEndian.Uint16(head[p.l4:]), dest) {
			continue
		}
		if !c.crowded() {
			return false
		}
		found = true
	}
	return found
}

// A table finds the sockets of a port without a lock.
type table[T any] struct {
	mu    sync.Mutex // for changes
	pages [256]atomic.Pointer[[256]atomic.Pointer[[]*T]]
}

func (t *table[T]) at(port uint16) []*T {
	page := t.pages[port>>8].Load()
	if page == nil {
		return nil
	}
	if all := page[port&255].Load(); all != nil {
		return *all
	}
	return nil
}

// change puts a socket in, or takes it out.
func (t *table[T]) change(port uint16, socket *T, in bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	page := t.pages[port>>8].Load()
	if page == nil {
		page = new([256]atomic.Pointer[[]*T])
		t.pages[port>>8].Store(page)
	}
	var all []*T
	if before := page[port&255].Load(); before != nil {
		for _, other := range *before {
			if other != socket {
				all = append(all, other)
			}
		}
	}
	if in {
		all = append(all, socket)
	}
	page[port&255].Store(&all)
}

// matches reports whether an address of a socket is that of a packet; none is all.
func matches(a tcpip.Address, packet []byte) bool {
	return a.Len() == 0 || string(a.AsSlice()) == string(packet)
}
