package bpf

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A seen is what can be seen of a packet: headers.bpf.h in Go.
type seen struct {
	mac    []byte
	vlan   [2]uint16
	tags   int
	tagged bool // the last tag is seen, so that typ counts
	typ    uint16

	network             []byte // what is behind it
	version             int    // 4, 6, notIP or brokenIP
	source, destination netip.Addr

	protocol  int // or unseen
	transport []byte
	fragment  bool // a later one
}

const (
	notIP    = 0
	brokenIP = -1
	unseen   = -1
)

// look takes a packet of at least an Ethernet header apart.
func (h *seen) look(b []byte) {
	h.mac, h.protocol = b[:6], unseen
	h.typ, b = binary.BigEndian.Uint16(b[12:]), b[14:]
	for h.tags < 2 && isTag(h.typ) {
		if len(b) < 4 {
			return
		}
		h.vlan[h.tags] = binary.BigEndian.Uint16(b) & 0xfff
		h.tags++
		h.typ, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	if h.tagged = !isTag(h.typ); !h.tagged {
		return
	}
	h.network = b
	switch h.typ {
	case unix.ETH_P_IP:
		h.version = brokenIP
		h.ipv4(b)
	case unix.ETH_P_IPV6:
		h.version = brokenIP
		h.ipv6(b)
	}
}

func isTag(t uint16) bool { return t == etherTypeVLAN || t == etherTypeQinQ || t == etherTypeQinQ1 }

func (h *seen) ipv4(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || header > len(b) || header > total {
		return
	}
	h.version, h.protocol = 4, int(b[9])
	h.source, h.destination = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	h.fragment = binary.BigEndian.Uint16(b[6:])&0x1fff != 0
	h.transport = b[header:min(total, len(b))]
}

func (h *seen) ipv6(b []byte) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	h.version = 6
	h.source, h.destination = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	left, next := int(binary.BigEndian.Uint16(b[4:])), b[6]
	b = b[40:]
	for range 4 {
		if !isExtension(next) || h.fragment {
			break
		}
		if len(b) < 2 || next == unix.IPPROTO_FRAGMENT && len(b) < 8 {
			return
		}
		length := int(b[1])*8 + 8
		if next == unix.IPPROTO_FRAGMENT {
			length = 8
			h.fragment = binary.BigEndian.Uint16(b[2:])&0xfff8 != 0
		}
		if length > left {
			return
		}
		next, left, b = b[0], left-length, b[min(length, len(b)):]
	}
	if !isExtension(next) {
		h.protocol = int(next)
		h.transport = b[:min(left, len(b))]
	}
}

func isExtension(protocol byte) bool {
	switch protocol {
	case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS:
		return true
	}
	return false
}

// reaches says whether size bytes of a protocol's header are there, of an IP version,
// or of any if that is 0.
func (h *seen) reaches(version, protocol, size int) answer {
	switch {
	case !h.tagged || h.version == brokenIP:
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
	return yes
}

// port says whether the port at a place of the header of UDP or TCP is in a set.
func (h *seen) port(protocol, at int, set ports) answer {
	if set == nil {
		return no
	}
	size := 8
	if protocol == unix.IPPROTO_TCP {
		size = 20
	}
	there := h.reaches(0, protocol, size)
	if there == yes {
		there = answerOf(set.has(binary.BigEndian.Uint16(h.transport[at:])))
	}
	return there
}

func (h *seen) icmp(version, protocol int, first, last byte) answer {
	there := h.reaches(version, protocol, 8)
	if there == yes {
		there = answerOf(h.transport[0] >= first && h.transport[0] <= last)
	}
	return there
}

func (h *seen) protocols(all []uint8) answer {
	if !h.tagged || h.version == brokenIP || h.version != notIP && h.protocol == unseen {
		return unsure
	}
	return answerOf(h.protocol != unseen && slices.Contains(all, uint8(h.protocol)))
}

func (h *seen) address(a netip.Addr, prefixes []netip.Prefix) answer {
	if len(prefixes) == 0 {
		return no
	}
	if !h.tagged || h.version == brokenIP {
		return unsure
	}
	for _, p := range prefixes {
		if p.Contains(a) {
			return yes
		}
	}
	return no
}

func (h *seen) flow(f *Flow) answer {
	switch {
	case !h.tagged || h.version == brokenIP:
		return unsure
	case h.source != f.Source.Addr() || h.destination != f.Destination.Addr():
		return no
	case f.Protocol == 0:
		return yes
	case h.protocol == unseen:
		return unsure
	case h.protocol != int(f.Protocol):
		return no
	case f.Source.Port() == 0 && f.Destination.Port() == 0:
		return yes
	}
	size := 8
	if h.protocol == unix.IPPROTO_TCP {
		size = 20
	}
	if there := h.reaches(0, h.protocol, size); there != yes {
		return there
	}
	from, to := binary.BigEndian.Uint16(h.transport), binary.BigEndian.Uint16(h.transport[2:])
	return answerOf((f.Source.Port() == 0 || f.Source.Port() == from) && (f.Destination.Port() == 0 || f.Destination.Port() == to))
}
