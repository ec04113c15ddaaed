package netstack

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// paths are the IPv6 destinations that a link on the way is too narrow for, as routers
// told (RFC 8201). gVisor heeds them for TCP alone: what else is longer than the path's
// MTU is cut here, into fragments. In IPv4 routers cut by themselves.
type paths struct {
	some atomic.Int32 // destinations

	mu  sync.RWMutex
	all map[[16]byte]path
}

type path struct {
	mtu   int // bytes, without the Ethernet header
	until time.Time
}

const (
	mostPaths = 1024             // a further one takes the place of any
	pathLasts = 10 * time.Minute // as in Linux (route/mtu_expires)

	packetTooBig = 2 // ICMPv6 types
	echoRequest  = 128
	echoReply    = 129

	protoFragment  = 44
	fragmentHeader = header.IPv6FragmentHeaderSize
)

// learn takes a "packet too big" for one of our packets that was longer. message is the
// ICMPv6 message, to whom it came. It may be anything: what a forged one can do is that
// packets to one destination are cut to 1280 bytes for ten minutes, and for that it must
// know a port of ours.
func (p *paths) learn(message []byte, to [16]byte, most int, open func(port uint16) bool) bool {
	const quoted = 8
	if len(message) < quoted+header.IPv6MinimumSize || message[0] != packetTooBig {
		return false
	}
	mtu := max(int(min(binary.BigEndian.Uint32(message[4:]), 1<<16)), header.IPv6MinimumMTU)
	ip := message[quoted:]
	if mtu >= most || ip[0]>>4 != 6 || [16]byte(ip[8:24]) != to {
		return false
	}
	next, rest := ip[6], ip[header.IPv6MinimumSize:]
	if next == protoFragment {
		if len(rest) < fragmentHeader || binary.BigEndian.Uint16(rest[2:])&^7 != 0 {
			return false // the first fragment's own message says it
		}
		next, rest = rest[0], rest[fragmentHeader:]
	}
	switch next {
	case protoUDP:
		if len(rest) < 2 || !open(binary.BigEndian.Uint16(rest)) {
			return false
		}
	case protoICMPv6:
		if len(rest) < 1 || rest[0] != echoRequest && rest[0] != echoReply {
			return false
		}
	default:
		return false // TCP is the stack's
	}
	p.set([16]byte(ip[24:40]), mtu)
	return true
}

func (p *paths) set(to [16]byte, mtu int) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[[16]byte]path{}
	}
	if _, known := p.all[to]; !known && len(p.all) >= mostPaths {
		for other := range p.all {
			delete(p.all, other)
			break
		}
	}
	p.all[to] = path{mtu, now.Add(pathLasts)}
	p.some.Store(int32(len(p.all)))
}

// to is the MTU of the path to a destination; 0 if nothing is known of it.
func (p *paths) to(address [16]byte) int {
	p.mu.RLock()
	known, ok := p.all[address]
	p.mu.RUnlock()
	switch {
	case !ok:
		return 0
	case time.Now().After(known.until):
		p.mu.Lock()
		if p.all[address] == known {
			delete(p.all, address)
			p.some.Store(int32(len(p.all)))
		}
		p.mu.Unlock()
		return 0
	}
	return known.mtu
}

// tooLong is the MTU of the path that a packet of the stack is too long for, or 0.
func (p *paths) tooLong(pkt *stack.PacketBuffer) int {
	if p.some.Load() == 0 || pkt.NetworkProtocolNumber != header.IPv6ProtocolNumber || pkt.Size()-ethernet <= header.IPv6MinimumMTU {
		return 0
	}
	ip := pkt.NetworkHeader().Slice()
	if len(ip) < header.IPv6MinimumSize {
		return 0
	}
	switch ip[6] {
	case protoUDP, protoICMPv6, protoFragment:
		if mtu := p.to([16]byte(ip[24:40])); mtu != 0 && mtu < pkt.Size()-ethernet {
			return mtu
		}
	}
	return 0
}

// writeFragments makes frames of a packet that is longer than the path's MTU, whole or a
// fragment already.
func (s *sender) writeFragments(pkt *stack.PacketBuffer, mtu int) {
	const headers = ethernet + header.IPv6MinimumSize
	var b [headers + fragmentHeader]byte
	s.source.copyTo(b[:headers])
	ip, fragment := b[ethernet:headers], b[headers:]
	left, offset, more := pkt.Size()-headers, 0, uint16(0)
	if ip[6] == protoFragment {
		s.source.copyTo(fragment)
		field := binary.BigEndian.Uint16(fragment[2:])
		left, offset, more = left-fragmentHeader, int(field&^7), field&1
	} else {
		fragment[0], ip[6] = ip[6], protoFragment
		binary.BigEndian.PutUint32(fragment[4:], rand.Uint32())
	}
	most := (mtu - header.IPv6MinimumSize - fragmentHeader) &^ 7
	count := (left + most - 1) / most
	s.need = count * s.parts(len(b)+most)
	for ; count > 0; count-- {
		n := min(left, most)
		f := s.take(len(b) + n)
		if f == nil {
			s.lost(count)
			return
		}
		left -= n
		binary.BigEndian.PutUint16(ip[4:], uint16(fragmentHeader+n))
		field := uint16(offset)
		if left > 0 || more != 0 {
			field |= 1
		}
		binary.BigEndian.PutUint16(fragment[2:], field)
		s.fill(f, copy(f.Data, b[:]))
		offset += n
	}
}

// learn is told of a received ICMPv6 message whose checksum is right.
func (e *Endpoint) learn(head []byte, p *packet) {
	host := e.host.Load()
	e.paths.learn(head[p.l4:], [16]byte(head[p.addrs+16:p.addrs+32]), int(e.MTU()), func(port uint16) bool {
		return host == nil || len(host.door.sockets.at(port)) > 0
	})
}
