package bpf

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A Filter says which packets go to the sockets. It reads as the sentence that
// String prints: a packet goes to the sockets if any of the rules matches, but
// not if one of the exceptions does. Everything else stays with the kernel. The
// zero Filter is an error, so that no machine is cut off by accident.
//
//	bpf.Filter{
//		UDPPorts: append(bpf.Ports(4000, 4010), 53),
//		Sources:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
//		Except:   &bpf.Filter{Ping: true},
//	}
//
// The rules find their header behind up to two VLAN tags (types 0x8100, 0x88a8 and
// 0x9100, in any order), any IPv4 options, and up to four IPv6 extension headers
// (hop-by-hop, routing, destination options, fragment). What lies behind an
// encryption or authentication header (ESP, AH) or inside a tunnel they do not look
// at; those are protocols of their own.
//
// Of a fragmented datagram only the first fragment has ports, or an ICMP type; it
// is like any packet. Rules that need more than an IP header (ports, Ping, flows
// with ports) match no later fragment: those stay with the kernel, which cannot
// put the datagram together then, nor can the program. The other rules match all
// of its fragments or none, unless IPv6 has an extension header behind the
// fragment header: Protocols see behind that in the first one only.
//
// A rule does not match where the header that it needs is cut short or broken.
// An exception does, if what is there does not rule it out: when in doubt, the
// packet stays with the kernel. So it is for a later fragment, if an exception
// asks for the ports of its protocol, or for the type of its ICMP message. (A
// header is broken if it does not say its version, or says a length that cannot
// be; lengths within UDP and TCP, and checksums, are not looked at.)
//
// Hosts are addresses that the sockets' program answers for, beside those of the
// kernel on the same interface. A host gets what is sent to its address, as with
// Destinations, and besides what a stack needs to be found: the ARP packets whose
// target is the address, requests as well as answers to its own, and the
// neighbour solicitations (ICMPv6 135) that ask for it, whatever group they are
// sent to. What is for all hosts the kernel keeps, as a packet goes only one way:
// other broadcast and multicast, router advertisements, and unasked-for ARP and
// neighbour advertisements. KeepManagement goes before Hosts, and would keep
// their ARP from them.
//
// A VLAN tag that the NIC has taken out of the packet is not seen; see the
// package comment.
type Filter struct {
	All  bool // every packet that the NIC accepts, ARP and remote logins too; the only rule then
	None bool // no packet: for sockets that only send. Nothing else may be set then

	UDPPorts       []uint16       // UDP destination ports, in any order; Ports makes ranges
	TCPPorts       []uint16       // TCP destination ports
	UDPSourcePorts []uint16       // UDP source ports
	TCPSourcePorts []uint16       // TCP source ports
	Ping           bool           // ICMP and ICMPv6 echo, requests and replies
	Protocols      []uint8        // IP protocols, of IPv4 and IPv6: 1 ICMP, 47 GRE, 132 SCTP (IPPROTO_*)
	Sources        []netip.Prefix // IPv4 and IPv6 source addresses
	Destinations   []netip.Prefix // IPv4 and IPv6 destination addresses
	Flows          []Flow         // source and destination together
	Hosts          []netip.Addr   // whole hosts, for a TCP/IP stack in the program; see above

	EtherTypes []uint16           // what comes behind the VLAN tags, from 0x0600 on: 0x88f7 PTP (ETH_P_*)
	MACs       []net.HardwareAddr // destination MAC addresses, of 6 bytes
	VLAN       uint16             // the id, 1 to 4094, of one of the first two VLAN tags; 0: no such rule

	// Except wins over every rule. It has rules only: no All, None, Except,
	// KeepManagement.
	Except *Filter

	// KeepManagement is a ready exception, for a machine that is reached over the
	// interface that it captures: ARP, IPv6 neighbour discovery (ICMPv6 133 to
	// 137) and multicast listener discovery (130 to 132, 143), what tells that a
	// packet was too big for its path (ICMP 3 code 4, ICMPv6 2), TCP to and from
	// port 22 (ssh, whichever end opens it), DNS answers (UDP and TCP from port 53),
	// and DHCP answers (UDP to ports 68 and 546) stay with the kernel. It does not
	// look at addresses: a machine that forwards in user space leaves the ssh of
	// others to its kernel, too.
	KeepManagement bool

	// ManagementPorts are UDP and TCP destination ports that KeepManagement
	// leaves to the kernel besides. For the answers to connections that the machine
	// opens, put the ports into Except.TCPSourcePorts.
	ManagementPorts []uint16
}

// A Flow is the packets from one address to another, in this direction.
type Flow struct {
	Protocol    uint8          // 6 TCP, 17 UDP (IPPROTO_*); 0 is any, and goes without ports
	Source      netip.AddrPort // port 0 is any
	Destination netip.AddrPort // of the same address family
}

// Ports returns the ports from first to last, both included, for the port
// fields of a Filter. It is empty if last is less than first. A filter costs the
// same however many ports it has.
func Ports(first, last uint16) []uint16 {
	var ports []uint16
	for port := int(first); port <= int(last); port++ {
		ports = append(ports, uint16(port))
	}
	return ports
}

// check says which rule f breaks.
func (f *Filter) check() error {
	if err := f.checkShape(); err != nil {
		return fmt.Errorf("%w: %w", unix.EINVAL, err)
	}
	err := f.checkValues()
	if err == nil && f.Except != nil {
		if err = f.Except.checkValues(); err != nil {
			err = fmt.Errorf("in Except: %w", err)
		}
	}
	if err == nil && slices.Contains(f.ManagementPorts, 0) {
		err = fmt.Errorf("Filter.ManagementPorts has port 0, which no packet is sent to")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", unix.EINVAL, err)
	}
	return nil
}

// checkShape looks at what is set, and not to what.
func (f *Filter) checkShape() error {
	rules, exceptions := f.rules(), f.Except != nil || f.KeepManagement || len(f.ManagementPorts) > 0
	switch {
	case f.None && (f.All || rules != 0 || exceptions):
		return fmt.Errorf("Filter.None matches nothing; set nothing beside it")
	case f.None:
		return nil
	case f.All && rules != 0:
		return fmt.Errorf("Filter.All already covers %s; set one of them", rules.first())
	case !f.All && rules == 0:
		return fmt.Errorf("the Filter is empty and would match nothing; for every packet say bpf.Filter{All: true}, for none bpf.Filter{None: true}")
	case len(f.ManagementPorts) > 0 && !f.KeepManagement:
		return fmt.Errorf("Filter.ManagementPorts are for KeepManagement, which is not set")
	case f.Except == nil:
		return nil
	}
	e := f.Except
	switch {
	case e.All || e.None || e.Except != nil || e.KeepManagement || len(e.ManagementPorts) > 0:
		return fmt.Errorf("Filter.Except takes rules, such as ports; not All, None, Except or KeepManagement")
	case e.rules() == 0:
		return fmt.Errorf("Filter.Except is empty; leave it nil")
	}
	return nil
}

// checkValues looks at the values of the rules.
func (f *Filter) checkValues() error {
	for _, set := range []struct {
		name  string
		ports []uint16
	}{{"UDPPorts", f.UDPPorts}, {"TCPPorts", f.TCPPorts}, {"UDPSourcePorts", f.UDPSourcePorts}, {"TCPSourcePorts", f.TCPSourcePorts}} {
		if slices.Contains(set.ports, 0) {
			return fmt.Errorf("port 0 in Filter.%s: no packet has it", set.name)
		}
	}
	for _, prefixes := range [][]netip.Prefix{f.Sources, f.Destinations} {
		for _, p := range prefixes {
			switch {
			case !p.IsValid():
				return fmt.Errorf("Filter has a prefix that is none (%v)", p)
			case p.Masked() != p:
				return fmt.Errorf("the prefix %v has bits beyond its length; say %v", p, p.Masked())
			case p.Addr().Is4In6() || p.Addr().Zone() != "":
				return fmt.Errorf("the prefix %v is in no packet: IPv4 goes without ::ffff:, and IPv6 without zone", p)
			}
		}
	}
	for _, flow := range f.Flows {
		if err := flow.check(); err != nil {
			return err
		}
	}
	for _, host := range f.Hosts {
		switch {
		case !host.IsValid():
			return fmt.Errorf("Filter.Hosts has an address that is none (%v)", host)
		case host.Is4In6() || host.Zone() != "":
			return fmt.Errorf("the host %v is in no packet: IPv4 goes without ::ffff:, and IPv6 without zone", host)
		}
	}
	for _, t := range f.EtherTypes {
		switch {
		case t < 0x600:
			return fmt.Errorf("EtherType %#04x is no type but a length; types begin at 0x0600", t)
		case isTag(t):
			return fmt.Errorf("EtherType %#04x is a VLAN tag's; the rules look behind those, and Filter.VLAN is for the id", t)
		}
	}
	for _, mac := range f.MACs {
		if len(mac) != 6 {
			return fmt.Errorf("Filter.MACs has %q of %d bytes; a MAC address has 6", mac, len(mac))
		}
	}
	if f.VLAN > 4094 {
		return fmt.Errorf("VLAN %d is beyond 4094", f.VLAN)
	}
	return nil
}

func (f Flow) check() error {
	source, destination := f.Source.Addr(), f.Destination.Addr()
	ported := f.Source.Port() != 0 || f.Destination.Port() != 0
	switch {
	case !source.IsValid() || !destination.IsValid():
		return fmt.Errorf("the flow %v needs two addresses", f)
	case source.Is4In6() || destination.Is4In6() || source.Zone() != "" || destination.Zone() != "":
		return fmt.Errorf("the flow %v is in no packet: IPv4 goes without ::ffff:, and IPv6 without zone", f)
	case source.Is4() != destination.Is4():
		return fmt.Errorf("the flow %v has addresses of two families", f)
	case ported && f.Protocol != unix.IPPROTO_UDP && f.Protocol != unix.IPPROTO_TCP:
		return fmt.Errorf("the flow %v has a port, so its protocol must be TCP (6) or UDP (17)", f)
	}
	return nil
}

// clone keeps the caller's later changes out.
func (f Filter) clone() Filter {
	for _, ports := range []*[]uint16{&f.UDPPorts, &f.TCPPorts, &f.UDPSourcePorts, &f.TCPSourcePorts, &f.EtherTypes, &f.ManagementPorts} {
		*ports = slices.Clone(*ports)
	}
	f.Protocols = slices.Clone(f.Protocols)
	f.Sources, f.Destinations = slices.Clone(f.Sources), slices.Clone(f.Destinations)
	f.Flows = slices.Clone(f.Flows)
	f.Hosts = slices.Clone(f.Hosts)
	f.MACs = slices.Clone(f.MACs)
	for i, mac := range f.MACs {
		f.MACs[i] = slices.Clone(mac)
	}
	if f.Except != nil {
		e := f.Except.clone()
		f.Except = &e
	}
	return f
}
