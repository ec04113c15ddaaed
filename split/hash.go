package split

import (
	"encoding/binary"
	"math/bits"
	"math/rand/v2"
)

// Flow is a number that packets of one flow have in common, in both directions: those
// between the same addresses, with the same IP protocol, and the same ports if that
// is TCP, UDP or SCTP. Fragments have no ports but in the first, so all of a
// datagram count as without, and stay together; a flow of which only some datagrams are
// fragmented does not: Addresses is for such. An ICMP error belongs to the flow of
// the packet that it is about. What is not IP goes by its MAC addresses and type.
//
// It looks behind two VLAN tags and, in IPv6, four extension headers, not into
// tunnels. The numbers are others in each process, so that nobody can aim at one
// listener. It may be called from any goroutine, and takes some tens of nanoseconds.
func Flow(packet []byte) uint64 { return hash(packet, true) }

// Addresses is Flow without ports and protocol: what two stations say to each other stays
// together, fragmented or not.
func Addresses(packet []byte) uint64 { return hash(packet, false) }

// The EtherTypes and protocols that a flow is told by.
const (
	typeIPv4 = 0x0800
	typeIPv6 = 0x86dd
	typeVLAN = 0x8100
	typeQinQ = 0x88a8

	icmp   = 1
	tcp    = 6
	udp    = 17
	icmpv6 = 58
	sctp   = 132
)

func hash(packet []byte, ports bool) uint64 {
	if len(packet) < 14 {
		return 0
	}
	kind, network := binary.BigEndian.Uint16(packet[12:]), packet[14:]
	for tags := 0; tags < 2 && (kind == typeVLAN || kind == typeQinQ) && len(network) >= 4; tags++ {
		kind, network = binary.BigEndian.Uint16(network[2:]), network[4:]
	}
	var h uint64
	ok := false
	switch kind {
	case typeIPv4:
		h, ok = hash4(network, ports, false)
	case typeIPv6:
		h, ok = hash6(network, ports, false)
	}
	if !ok {
		return both(mac(packet), mac(packet[6:]), uint64(kind)|1<<32)
	}
	return h
}

// hash4 is the hash of an IPv4 packet, perhaps one that an ICMP error is about.
func hash4(b []byte, ports, inner bool) (h uint64, ok bool) {
	if len(b) < 20 {
		return 0, false
	}
	source, destination, protocol := uint64(binary.BigEndian.Uint32(b[12:])), uint64(binary.BigEndian.Uint32(b[16:])), b[9]
	if header := int(b[0]&15) * 4; header >= 20 && header <= len(b) && binary.BigEndian.Uint16(b[6:])&0x3fff == 0 {
		t := b[header:]
		if protocol == icmp && !inner && len(t) > 8 {
			switch t[0] {
			case 3, 4, 5, 11, 12: // unreachable, quench, redirect, time exceeded, parameter problem
				if h, ok = hash4(t[8:], ports, true); ok {
					return h, true
				}
			}
		}
		if ports && ported(protocol, t) {
			source |= uint64(binary.BigEndian.Uint16(t)) << 32
			destination |= uint64(binary.BigEndian.Uint16(t[2:])) << 32
		}
	}
	return ends(source, destination, protocol, ports), true
}

// hash6 is hash4 for IPv6.
func hash6(b []byte, ports, inner bool) (h uint64, ok bool) {
	if len(b) < 40 {
		return 0, false
	}
	source := mix(binary.BigEndian.Uint64(b[8:])) + binary.BigEndian.Uint64(b[16:])
	destination := mix(binary.BigEndian.Uint64(b[24:])) + binary.BigEndian.Uint64(b[32:])
	protocol, t, whole := b[6], b[40:], true
	for range 4 {
		if protocol != 0 && protocol != 43 && protocol != 44 && protocol != 60 || len(t) < 8 {
			break
		}
		length := 8
		if protocol == 44 {
			whole = whole && binary.BigEndian.Uint16(t[2:])&0xfff9 == 0
		} else {
			length += int(t[1]) * 8
		}
		protocol, t = t[0], t[min(length, len(t)):]
		if !whole { // only the first fragment has the headers behind this one
			return ends(source, destination, 44, ports), true
		}
	}
	if protocol == icmpv6 && !inner && len(t) > 8 && t[0] >= 1 && t[0] <= 4 {
		if h, ok = hash6(t[8:], ports, true); ok {
			return h, true
		}
	}
	if ports && ported(protocol, t) {
		source += mix(uint64(binary.BigEndian.Uint16(t)) + 1)
		destination += mix(uint64(binary.BigEndian.Uint16(t[2:])) + 1)
	}
	return ends(source, destination, protocol, ports), true
}

// ends is the hash of two ends, and of the protocol if ports count.
func ends(a, b uint64, protocol byte, ports bool) uint64 {
	if !ports {
		protocol = 0
	}
	return both(a, b, uint64(protocol))
}

func ported(protocol byte, transport []byte) bool {
	return (protocol == tcp || protocol == udp || protocol == sctp) && len(transport) >= 4
}

func mac(b []byte) uint64 {
	return uint64(binary.BigEndian.Uint32(b))<<16 | uint64(binary.BigEndian.Uint16(b[4:]))
}

// both is the same for two ends in either order.
func both(a, b, more uint64) uint64 {
	return mix(mix(a) + mix(b) + more)
}

// seed is what makes the numbers those of this process.
var seed = rand.Uint64()

// mix spreads every bit of v over all of the result.
func mix(v uint64) uint64 {
	high, low := bits.Mul64(v^seed, 0x9e3779b97f4a7c15)
	v = high ^ low
	high, low = bits.Mul64(v^seed, 0xd1342543de82ef95)
	return high ^ low
}
