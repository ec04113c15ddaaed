package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A packet is what parse found out about a received one. Offsets are from its first
// byte, which is the Ethernet header's.
type packet struct {
	proto   tcpip.NetworkProtocolNumber
	size    int  // without padding
	l4      int  // where the transport header begins, if check is set
	end     int  // where what its checksum covers ends
	payload int  // where the headers end; for others than TCP and UDP, the first part
	addrs   int  // where the IP addresses begin
	addrLen int  // of both
	check   bool // there is a checksum over what begins at l4
	l4proto uint8
	field   int  // where that checksum is, from l4; -1 without a pseudo header
	piece   bool // it is a fragment, whose checksum is that of the whole datagram
	tcp     bool
	hash    uint32 // of the flow, if tcp
}

// What parse thinks of a packet.
type verdict uint8

const (
	good     verdict = iota
	bad              // a header that cannot be, or its checksum is wrong
	unwanted         // not for this host
)

const (
	ethernet = header.EthernetMinimumSize

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

// parse looks at the headers of a packet. head is its first part at least, size its
// whole length.
func (p *packet) parse(head []byte, size int, mac *[6]byte) verdict {
	if len(head) < ethernet {
		return bad
	}
	if head[0]&1 == 0 && *(*[6]byte)(head) != *mac {
		return unwanted
	}
	*p = packet{size: size, payload: min(size, len(head)), proto: tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(head[12:]))}
	switch p.proto {
	case header.IPv4ProtocolNumber:
		return p.parseIPv4(head)
	case header.IPv6ProtocolNumber:
		return p.parseIPv6(head)
	case header.ARPProtocolNumber:
		return good
	}
	return unwanted
}

func (p *packet) parseIPv4(head []byte) verdict {
	ip := head[ethernet:]
	if len(ip) < header.IPv4MinimumSize || ip[0]>>4 != 4 {
		return bad
	}
	length, total := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if length < header.IPv4MinimumSize || length > len(ip) || total < length || ethernet+total > p.size {
		return bad
	}
	if !sumOf(ip[:length]).valid() {
		return bad
	}
	p.size, p.payload = ethernet+total, min(ethernet+total, len(head))
	if length > header.IPv4MinimumSize && sourceRouted(ip[header.IPv4MinimumSize:length]) {
		return bad
	}
	p.addrs, p.addrLen = ethernet+12, 8
	if binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
		p.piece = true
		return good
	}
	return p.parseTransport(head, ethernet+length, ip[9], length == header.IPv4MinimumSize)
}

// The options by which a sender chooses the way of a packet, and of its answers. Linux
// drops them too unless it is told otherwise (accept_source_route).
const (
	looseSourceRoute  = 131
	strictSourceRoute = 137
)

// sourceRouted reports whether there is one among IPv4's options.
func sourceRouted(options []byte) bool {
	for len(options) > 0 {
		switch options[0] {
		case uint8(header.IPv4OptionListEndType):
			return false
		case uint8(header.IPv4OptionNOPType):
			options = options[1:]
			continue
		case looseSourceRoute, strictSourceRoute:
			return true
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return false // which the stack refuses
		}
		options = options[options[1]:]
	}
	return false
}

// maxExtensions is how many IPv6 extension headers parse looks behind.
const maxExtensions = 8

func (p *packet) parseIPv6(head []byte) verdict {
	ip := head[ethernet:]
	if len(ip) < header.IPv6MinimumSize || ip[0]>>4 != 6 {
		return bad
	}
	total := header.IPv6MinimumSize + int(binary.BigEndian.Uint16(ip[4:]))
	if ethernet+total > p.size {
		return bad
	}
	p.size, p.payload = ethernet+total, min(ethernet+total, len(head))
	p.addrs, p.addrLen = ethernet+8, 32
	next, at := ip[6], ethernet+header.IPv6MinimumSize
	for range maxExtensions {
		switch next {
		default:
			return p.parseTransport(head, at, next, at == ethernet+header.IPv6MinimumSize)
		case uint8(header.IPv6FragmentExtHdrIdentifier):
			if at+8 > len(head) || at+8 > p.size {
				return bad
			}
			if binary.BigEndian.Uint16(head[at+2:])&0xfff9 != 0 {
				p.piece = true
				return good
			}
			next, at = head[at], at+8
		case uint8(header.IPv6RoutingExtHdrIdentifier):
			if at+8 > len(head) || at+8 > p.size {
				return bad
			}
			if head[at+3] != 0 {
				return good // the stack refuses it: the pseudo header is another host's
			}
			next, at = head[at], at+8+int(head[at+1])*8
		case uint8(header.IPv6ExperimentExtHdrIdentifier): // the stack looks behind it, whatever length it says
			if at+8 > len(head) || at+8 > p.size {
				return bad
			}
			next, at = head[at], at+8
		case uint8(header.IPv6HopByHopOptionsExtHdrIdentifier), uint8(header.IPv6DestinationOptionsExtHdrIdentifier):
			if at+8 > len(head) || at+8 > p.size {
				return bad
			}
			next, at = head[at], at+8+int(head[at+1])*8
		}
	}
	return bad
}

// parseTransport looks at the header that begins at at. A plain one may be joined.
func (p *packet) parseTransport(head []byte, at int, protocol uint8, plain bool) verdict {
	least := 0
	p.l4, p.end, p.l4proto = at, p.size, protocol
	switch protocol {
	case protoTCP:
		least, p.field = header.TCPMinimumSize, header.TCPChecksumOffset
	case protoUDP:
		least, p.field = header.UDPMinimumSize, 6
	case protoICMP:
		if p.proto != header.IPv4ProtocolNumber {
			return good
		}
		least, p.field = header.ICMPv4MinimumSize, -1
	case protoICMPv6:
		if p.proto != header.IPv6ProtocolNumber {
			return good
		}
		least, p.field = header.ICMPv6MinimumSize, 2
	default:
		return good // nothing that the stack would have a use for
	}
	if at+least > p.size || at+least > len(head) {
		return bad
	}
	l4 := head[at:]
	switch {
	case protocol == protoTCP:
		length := int(l4[12]>>4) * 4
		if length < header.TCPMinimumSize || at+length > p.size || at+length > len(head) {
			return bad
		}
		p.payload = at + length
		p.tcp = plain
		p.hash = flowHash(head[p.addrs:p.addrs+p.addrLen], l4)
	case protocol == protoUDP:
		length := int(binary.BigEndian.Uint16(l4[4:]))
		if length < header.UDPMinimumSize || at+length > p.size {
			return bad
		}
		p.payload = at + header.UDPMinimumSize
		if l4[6]|l4[7] == 0 {
			if p.proto == header.IPv6ProtocolNumber {
				return bad
			}
			return good // the sender computed none
		}
		p.end = at + length
	}
	p.check = true
	return good
}

// pseudo is the sum of the pseudo header, or nothing for ICMP, which has none.
func (p *packet) pseudo(head []byte) sum {
	if p.field < 0 {
		return 0
	}
	return pseudo(head[p.addrs:p.addrs+p.addrLen], p.l4proto, p.end-p.l4)
}

// flowHash is of addresses and ports: those of the transport header's first bytes.
func flowHash(addrs, l4 []byte) uint32 {
	h := uint64(binary.NativeEndian.Uint32(l4)) * 0x9e3779b97f4a7c15
	for len(addrs) >= 8 {
		h = (h ^ binary.NativeEndian.Uint64(addrs)) * 0xff51afd7ed558ccd
		h ^= h >> 32
		addrs = addrs[8:]
	}
	return uint32(h >> 32)
}
