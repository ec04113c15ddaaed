package bpf

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// Func returns the filter as a Go function, which says of a packet, an Ethernet
// frame, what the program would say. It is for packets that have been received, to
// tell which part of a program they are for (package split); Match asks the program
// itself. The function takes about a hundred nanoseconds, allocates nothing, and may
// be called from any goroutine; a packet shorter than an Ethernet header matches
// nothing. Errors wrap EINVAL for a Filter that cannot be.
func (f Filter) Func() (func(packet []byte) bool, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("bpf: func of %v: %w", f, err)
	}
	f = f.clone()
	if f.None {
		return func([]byte) bool { return false }, nil
	}
	all, rules := f.All, newRules(&f)
	var except, management *rulesInGo
	if f.Except != nil {
		except = newRules(f.Except)
	}
	if f.KeepManagement {
		management = &rulesInGo{
			Filter:         &Filter{},
			tcpPorts:       newPorts(append([]uint16{22}, f.ManagementPorts...)),
			udpPorts:       newPorts(append([]uint16{68, 546}, f.ManagementPorts...)),
			tcpSourcePorts: newPorts([]uint16{22, 53}),
			udpSourcePorts: newPorts([]uint16{53}),
		}
	}
	return func(packet []byte) bool {
		if len(packet) < 14 {
			return false
		}
		var h seen
		h.look(packet)
		return (all || rules.judge(&h) == yes) &&
			(except == nil || except.judge(&h) == no) &&
			(management == nil || max(management.judge(&h), h.management()) == no)
	}, nil
}

// An answer is what a rule says about a packet.
type answer int

const (
	no     answer = iota
	unsure        // the header that it takes is not there, or broken
	yes
)

func answerOf(hit bool) answer {
	if hit {
		return yes
	}
	return no
}

// A ports has a bit for each port; nil has none.
type ports []uint64

func newPorts(all []uint16) ports {
	if len(all) == 0 {
		return nil
	}
	p := make(ports, 1<<16/64)
	for _, port := range all {
		p[port/64] |= 1 << (port % 64)
	}
	return p
}

func (p ports) has(port uint16) bool { return p[port/64]>>(port%64)&1 == 1 }

// A rulesInGo is the rules of a Filter.
type rulesInGo struct {
	*Filter
	udpPorts, tcpPorts, udpSourcePorts, tcpSourcePorts ports
	hosts4, hosts6                                     bool
}

func newRules(f *Filter) *rulesInGo {
	return &rulesInGo{
		Filter:         f,
		udpPorts:       newPorts(f.UDPPorts),
		tcpPorts:       newPorts(f.TCPPorts),
		udpSourcePorts: newPorts(f.UDPSourcePorts),
		tcpSourcePorts: newPorts(f.TCPSourcePorts),
		hosts4:         slices.ContainsFunc(f.Hosts, netip.Addr.Is4),
		hosts6:         slices.ContainsFunc(f.Hosts, netip.Addr.Is6),
	}
}

// judge is the surest answer of the rules.
func (r *rulesInGo) judge(h *seen) answer {
	result := max(
		h.port(unix.IPPROTO_UDP, 2, r.udpPorts), h.port(unix.IPPROTO_UDP, 0, r.udpSourcePorts),
		h.port(unix.IPPROTO_TCP, 2, r.tcpPorts), h.port(unix.IPPROTO_TCP, 0, r.tcpSourcePorts))
	if result != yes && r.Ping {
		result = max(result, h.icmp(4, unix.IPPROTO_ICMP, 0, 0), h.icmp(4, unix.IPPROTO_ICMP, 8, 8), h.icmp(6, unix.IPPROTO_ICMPV6, 128, 129))
	}
	if result != yes && len(r.Protocols) > 0 {
		result = max(result, h.protocols(r.Protocols))
	}
	if result != yes {
		result = max(result, h.address(h.source, r.Sources), h.address(h.destination, r.Destinations))
	}
	if result != yes && len(r.Hosts) > 0 {
		result = max(result, r.host(h))
	}
	for i := range r.Flows {
		if result == yes {
			return yes
		}
		result = max(result, h.flow(&r.Flows[i]))
	}
	if result != yes {
		result = max(result, r.link(h))
	}
	return result
}

// link are the rules that need no IP.
func (r *rulesInGo) link(h *seen) answer {
	result := no
	if len(r.EtherTypes) > 0 {
		result = unsure
		if h.tagged {
			result = answerOf(slices.Contains(r.EtherTypes, h.typ))
		}
	}
	for _, mac := range r.MACs {
		if bytes.Equal(mac, h.mac) {
			return yes
		}
	}
	if r.VLAN != 0 {
		switch {
		case slices.Contains(h.vlan[:h.tags], r.VLAN):
			return yes
		case !h.tagged && h.tags < 2:
			result = max(result, unsure)
		}
	}
	return result
}

// host is what is sent to the hosts, and what asks for them.
func (r *rulesInGo) host(h *seen) answer {
	switch {
	case !h.tagged || h.version == brokenIP:
		return unsure
	case h.typ == unix.ETH_P_ARP:
		switch {
		case !r.hosts4:
			return no
		case len(h.network) < 28:
			return unsure
		case [4]byte(h.network[2:6]) != [4]byte{8, 0, 6, 4}:
			return no
		}
		return answerOf(slices.Contains(r.Hosts, netip.AddrFrom4([4]byte(h.network[24:28]))))
	case slices.Contains(r.Hosts, h.destination):
		return yes
	case !r.hosts6:
		return no
	}
	if solicits := h.icmp(6, unix.IPPROTO_ICMPV6, 135, 135); solicits != yes {
		return solicits
	}
	if there := h.reaches(6, unix.IPPROTO_ICMPV6, 24); there != yes {
		return there
	}
	return answerOf(slices.Contains(r.Hosts, netip.AddrFrom16([16]byte(h.transport[8:24]))))
}

// management are the exceptions of KeepManagement that are not ports.
func (h *seen) management() answer {
	arp := unsure
	if h.tagged {
		arp = answerOf(h.typ == unix.ETH_P_ARP)
	}
	tooBig := h.reaches(4, unix.IPPROTO_ICMP, 8)
	if tooBig == yes {
		tooBig = answerOf(h.transport[0] == 3 && h.transport[1] == 4)
	}
	return max(arp, tooBig, h.icmp(6, unix.IPPROTO_ICMPV6, 130, 137), h.icmp(6, unix.IPPROTO_ICMPV6, 143, 143), h.icmp(6, unix.IPPROTO_ICMPV6, 2, 2))
}
