package bpf

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Filter says which packets go to the sockets. Everything else stays with the
// kernel. The zero Filter matches nothing and is an error, so that no machine
// is cut off by accident.
//
// A UDP port matches behind up to two VLAN tags, IPv4 options and up to four
// IPv6 extension headers (hop-by-hop, routing, destination), whatever the
// destination address. Fragments never match, the first one included: the
// kernel must have them all to put the datagram together. Nor does a packet
// whose headers are cut short.
type Filter struct {
	All      bool     // every packet that the NIC accepts, ARP and remote logins too
	UDPPorts []uint16 // destination ports, in any order; not together with All
}

func (f Filter) check() error {
	switch {
	case f.All && len(f.UDPPorts) > 0:
		return fmt.Errorf("%w: Filter.All already covers UDPPorts; set one of them", unix.EINVAL)
	case !f.All && len(f.UDPPorts) == 0:
		return fmt.Errorf("%w: the Filter is empty and would match nothing; for every packet say bpf.Filter{All: true}", unix.EINVAL)
	case slices.Contains(f.UDPPorts, 0):
		return fmt.Errorf("%w: Filter.UDPPorts has port 0, which no datagram is sent to", unix.EINVAL)
	}
	return nil
}

// clone keeps the caller's later changes out.
func (f Filter) clone() Filter {
	f.UDPPorts = slices.Clone(f.UDPPorts)
	return f
}

// String describes the filter in a few words, as in "UDP ports 53, 4789".
func (f Filter) String() string {
	switch n := len(f.UDPPorts); {
	case f.All:
		return "all packets"
	case n == 0:
		return "no packets"
	case n > 4:
		return count(n, "UDP port")
	}
	ports := make([]string, len(f.UDPPorts))
	for i, port := range f.UDPPorts {
		ports[i] = strconv.Itoa(int(port))
	}
	noun := "UDP port "
	if len(ports) > 1 {
		noun = "UDP ports "
	}
	return noun + strings.Join(ports, ", ")
}

// A portSet is udp_ports in redirect.bpf.c: one bit per port.
type portSet [65536 / 64]uint64

func newPortSet(ports []uint16) *portSet {
	var s portSet
	for _, port := range ports {
		s[port/64] |= 1 << (port % 64)
	}
	return &s
}
