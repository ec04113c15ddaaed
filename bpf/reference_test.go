package bpf_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/go-xsk/xsk/bpf"
)

// An answer is what a rule says about a packet.
type answer int

const (
	no     answer = iota
	unsure        // the header that it takes is not there
	yes
)

func answerOf(hit bool) answer {
	if hit {
		return yes
	}
	return no
}

// reference is the filter in plain Go, as its documentation reads.
func reference(f *bpf.Filter, packet []byte) bool {
	h := dissect(packet)
	if !f.All && h.any(f) != yes {
		return false
	}
	if f.Except != nil && h.any(f.Except) != no {
		return false
	}
	return !f.KeepManagement || h.management(f.ManagementPorts) == no
}

// Headers are what can be seen of a packet.
type headers struct {
	mac  net.HardwareAddr
	vlan []uint16

	tagged  bool // the last tag is seen
	typ     uint16
	network []byte // what is behind it

	version             int // 4, 6; 0: no IP; -1: a broken header
	source, destination netip.Addr

	protocol  int // -1: not seen
	transport []byte
	fragment  bool
}

const (
	notIP, broken = 0, -1
	unseen        = -1
)

func dissect(b []byte) *headers {
	h := &headers{mac: b[:6], protocol: unseen}
	h.typ, b = binary.BigEndian.Uint16(b[12:]), b[14:]
	for len(h.vlan) < 2 && isTag(h.typ) {
		if len(b) < 4 {
			return h
		}
		h.vlan = append(h.vlan, binary.BigEndian.Uint16(b)&0xfff)
		h.typ, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	if h.tagged = !isTag(h.typ); !h.tagged {
		return h
	}
	h.network = b
	switch h.typ {
	case typeIPv4:
		h.version = broken
		h.ipv4(b)
	case typeIPv6:
		h.version = broken
		h.ipv6(b)
	}
	return h
}

func isTag(t uint16) bool { return t == typeVLAN || t == typeQinQ }

func (h *headers) ipv4(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) || header > total {
		return
	}
	h.version = 4
	h.source, h.destination = netip.AddrFrom4([4]byte(b[12:])), netip.AddrFrom4([4]byte(b[16:]))
	h.protocol = int(b[9])
	h.fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	h.transport = b[header:min(total, len(b))]
}

func (h *headers) ipv6(b []byte) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	h.version = 6
	h.source, h.destination = netip.AddrFrom16([16]byte(b[8:])), netip.AddrFrom16([16]byte(b[24:]))
	left, next := int(binary.BigEndian.Uint16(b[4:])), b[6]
	b = b[40:]
	extensions := []byte{hopByHop, routing, fragments, destination}
	for range 4 {
		if !slices.Contains(extensions, next) || h.fragment {
			break
		}
		if len(b) < 2 || next == fragments && len(b) < 8 {
			return
		}
		length := int(b[1])*8 + 8
		if next == fragments {
			length = 8
			h.fragment = binary.BigEndian.Uint16(b[2:])&0xfff8 != 0
		}
		if length > left {
			return
		}
		next, left, b = b[0], left-length, b[min(length, len(b)):]
	}
	if !slices.Contains(extensions, next) {
		h.protocol = int(next)
		h.transport = b[:min(left, len(b))]
	}
}

// field says whether the transport header of a protocol, of size bytes, has
// something.
func (h *headers) field(version, protocol, size int, has func(header []byte) bool) answer {
	switch {
	case !h.tagged || h.version == broken:
		return unsure
	case h.version == notIP || version != 0 && version != h.version:
		return no
	case h.protocol == unseen:
		return unsure
	case h.protocol != protocol:
		return no
	case h.fragment || len(h.transport) < size:
		return unsure
	}
	return answerOf(has(h.transport))
}

func (h *headers) port(protocol, at int, ports []uint16) answer {
	return h.field(0, protocol, map[int]int{udp: 8, tcp: 20}[protocol], func(header []byte) bool {
		return slices.Contains(ports, binary.BigEndian.Uint16(header[at:]))
	})
}

func (h *headers) icmp(version, protocol int, first, last byte) answer {
	return h.field(version, protocol, 8, func(header []byte) bool { return header[0] >= first && header[0] <= last })
}

func (h *headers) address(a netip.Addr, prefixes []netip.Prefix) answer {
	if len(prefixes) > 0 && (!h.tagged || h.version == broken) {
		return unsure
	}
	return answerOf(slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) }))
}

func (h *headers) flow(f bpf.Flow) answer {
	switch {
	case !h.tagged || h.version == broken:
		return unsure
	case h.source != f.Source.Addr() || h.destination != f.Destination.Addr():
		return no
	case f.Protocol == 0:
		return yes
	case h.protocol == unseen:
		return unsure
	case h.protocol != int(f.Protocol):
		return no
	}
	result := yes
	if f.Source.Port() != 0 {
		result = min(result, h.port(h.protocol, 0, []uint16{f.Source.Port()}))
	}
	if f.Destination.Port() != 0 {
		result = min(result, h.port(h.protocol, 2, []uint16{f.Destination.Port()}))
	}
	return result
}

// host is what is sent to the hosts, and what asks for them.
func (h *headers) host(hosts []netip.Addr) answer {
	switch {
	case !h.tagged || h.version == broken:
		return unsure
	case h.typ == 0x0806:
		switch {
		case !slices.ContainsFunc(hosts, netip.Addr.Is4):
			return no
		case len(h.network) < 28:
			return unsure
		case !bytes.Equal(h.network[2:6], []byte{8, 0, 6, 4}):
			return no
		}
		return answerOf(slices.Contains(hosts, netip.AddrFrom4([4]byte(h.network[24:]))))
	case slices.Contains(hosts, h.destination):
		return yes
	case !slices.ContainsFunc(hosts, netip.Addr.Is6):
		return no
	}
	if solicits := h.icmp(6, 58, 135, 135); solicits != yes {
		return solicits
	}
	return h.field(6, 58, 24, func(header []byte) bool { return slices.Contains(hosts, netip.AddrFrom16([16]byte(header[8:]))) })
}

// any is the surest answer of the rules.
func (h *headers) any(f *bpf.Filter) answer {
	result := no
	rule := func(is bool, say func() answer) {
		if is {
			result = max(result, say())
		}
	}
	rule(len(f.UDPPorts) > 0, func() answer { return h.port(udp, 2, f.UDPPorts) })
	rule(len(f.TCPPorts) > 0, func() answer { return h.port(tcp, 2, f.TCPPorts) })
	rule(len(f.UDPSourcePorts) > 0, func() answer { return h.port(udp, 0, f.UDPSourcePorts) })
	rule(len(f.TCPSourcePorts) > 0, func() answer { return h.port(tcp, 0, f.TCPSourcePorts) })
	rule(f.Ping, func() answer {
		return max(h.icmp(4, 1, 0, 0), h.icmp(4, 1, 8, 8), h.icmp(6, 58, 128, 129))
	})
	rule(len(f.Protocols) > 0, func() answer {
		switch {
		case !h.tagged || h.version == broken, h.version != notIP && h.protocol == unseen:
			return unsure
		}
		return answerOf(h.protocol != unseen && slices.Contains(f.Protocols, uint8(h.protocol)))
	})
	rule(true, func() answer { return h.address(h.source, f.Sources) })
	rule(true, func() answer { return h.address(h.destination, f.Destinations) })
	rule(len(f.Hosts) > 0, func() answer { return h.host(f.Hosts) })
	for _, flow := range f.Flows {
		rule(true, func() answer { return h.flow(flow) })
	}
	rule(len(f.EtherTypes) > 0, func() answer {
		if !h.tagged {
			return unsure
		}
		return answerOf(slices.Contains(f.EtherTypes, h.typ))
	})
	rule(true, func() answer {
		return answerOf(slices.ContainsFunc(f.MACs, func(m net.HardwareAddr) bool { return bytes.Equal(m, h.mac) }))
	})
	rule(f.VLAN != 0, func() answer {
		if !h.tagged && len(h.vlan) < 2 && !slices.Contains(h.vlan, f.VLAN) {
			return unsure
		}
		return answerOf(slices.Contains(h.vlan, f.VLAN))
	})
	return result
}

func (h *headers) management(ports []uint16) answer {
	arp := unsure
	if h.tagged {
		arp = answerOf(h.typ == 0x0806)
	}
	return max(arp,
		h.icmp(6, 58, 130, 137), h.icmp(6, 58, 143, 143), h.icmp(6, 58, 2, 2),
		h.field(4, 1, 8, func(header []byte) bool { return header[0] == 3 && header[1] == 4 }),
		h.port(tcp, 2, append([]uint16{22}, ports...)),
		h.port(udp, 2, append([]uint16{68, 546}, ports...)),
		h.port(tcp, 0, []uint16{53}),
		h.port(udp, 0, []uint16{53}))
}
