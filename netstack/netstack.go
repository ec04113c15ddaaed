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
// Open does everything: it opens the interface's queues, attaches the program that
// gives them the traffic of these addresses and leaves the rest to the kernel, and
// starts the stack. The kernel keeps its own addresses on the same interface.
//
// An [Endpoint] is the part below: gVisor's stack.LinkEndpoint over any number of
// Queues, for programs that have a stack of their own.
package netstack
