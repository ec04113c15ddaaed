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
// The addresses must be ones that no machine of the network has, this one included.
// Other machines reach them; this one does not, for XDP sees what arrives at an
// interface, and not what its own kernel sends.
//
// The Example listens and dials; examples/tcpecho and examples/https are programs. A
// program that imports this package needs Go 1.26.3, and both modules beside it,
//
//	git clone https://github.com/go-xsk/xsk
//	go mod edit -replace github.com/go-xsk/xsk=./xsk -replace github.com/go-xsk/xsk/netstack=./xsk/netstack
//	go mod tidy
//
// and runs on a veth pair by "xsk/scripts/netns ./program", as 10.77.0.10/24 on veth0:
// "ip netns exec peer curl http://10.77.0.10/" is then another machine.
//
// A program that answers single requests has them sooner with one processor
// (GOMAXPROCS=1): a packet goes from goroutine to goroutine, from the one that
// receives over TCP's to the program's, and with more Go wakes another thread
// meanwhile, which finds nothing to do and is in the way of others on a small machine.
//
// A TCP connection begins carefully, and again where packets are lost one after the
// other: segments of one packet, and RACK. When a mebibyte has gone out without a
// retransmission it sends segments of 64 KB, which are cut below.
//
// gVisor has no stable versions. This package is tested with the one that its go.mod
// names, and its tests tell when a fault that it works around has been mended. One is
// left: a peer that agreed on TCP timestamps and leaves them out of the last packet of
// its handshake is accepted with its first data, and not before.
//
// An [Endpoint] is the part below: gVisor's stack.LinkEndpoint over any number of
// Queues, for programs that have a stack of their own.
package netstack
