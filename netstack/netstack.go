// Package netstack runs gVisor's TCP/IP stack on AF_XDP: net.Conn, net.Listener and
// net.PacketConn straight from the NIC's queues, past the kernel's own stack.
//
//	host, err := netstack.Open(ctx, "eth0", &netstack.Config{
//		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/24")},
//		Gateways:  []netip.Addr{netip.MustParseAddr("192.0.2.1")},
//	})
//	if err != nil {
//		return err
//	}
//	defer host.Close()
//	listener, err := host.Listen("tcp", ":443")
//
// Open does everything: it opens the interface's queues, attaches the program
// that gives them the traffic of these addresses and leaves the rest to the kernel,
// and starts the stack. The kernel keeps its own addresses on the same interface.
//
// An [Endpoint] is the part below: gVisor's stack.LinkEndpoint over any number of
// Queues, for programs that have a stack of their own.
package netstack

import (
	"context"
	"net/netip"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// Config says what Open opens.
type Config struct {
	// Addresses are the host's own, with the length of their network's prefix, IPv4
	// and IPv6. The kernel must not have the same ones.
	Addresses []netip.Prefix
	// Gateways are where everything else goes: at most one of each family.
	Gateways []netip.Addr
	// DHCP asks for an IPv4 address and gateway, and keeps the lease, beside
	// Addresses.
	DHCP bool

	Mode   bpf.Mode    // of the program; default Auto
	Filter *bpf.Filter // what the program takes; nil: the traffic of the addresses, with their ARP and ND
	Queue  xsk.Config  // of the queues; XSKMap is set by Open. Default all queues
	Options
}

// Open opens the queues of an interface, gives them the traffic of the addresses,
// and starts a Host on them, which owns it all: Host.Close undoes everything.
// ctx bounds the opening only: waiting for the link, and DHCP.
//
// It needs CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Errors are those of
// bpf.Attach, xsk.OpenAll, NewEndpoint and NewHost.
func Open(ctx context.Context, ifname string, cfg *Config) (*Host, error) {
	panic("not yet")
}
