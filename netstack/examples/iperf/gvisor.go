package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/qdisc/fifo"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A gvisorNetwork is gVisor's stack on an endpoint of gVisor's, put together as
// gVisor's own programs do. TCP has the buffers and SACK that package netstack has, so that what
// differs is the endpoint.
type gvisorNetwork struct {
	what  string
	stack *stack.Stack
	drops func() (uint64, error) // of the socket
	close func() error
}

func (n *gvisorNetwork) String() string { return n.what }

const nic tcpip.NICID = 1

// onGVisor takes close over, also if it fails.
func onGVisor(what string, link stack.LinkEndpoint, o *options, drops func() (uint64, error), close func() error) (network, error) {
	n := &gvisorNetwork{what: what, drops: drops, close: close, stack: stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
	})}
	if err := n.furnish(link, o.address); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *gvisorNetwork) furnish(link stack.LinkEndpoint, own netip.Prefix) error {
	s := n.stack
	sack, moderate, recovery := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true), tcpip.TCPRecovery(0)
	cubic := tcpip.CongestionControlOption("cubic")
	for _, option := range []tcpip.SettableTransportProtocolOption{
		&sack, &moderate, &recovery, &cubic,
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 16 << 20},
		&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 1 << 20, Max: 16 << 20},
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, option); err != nil {
			return fmt.Errorf("TCP option %T: %v", option, err)
		}
	}
	// The queueing discipline is runsc's, and gVisor's AF_XDP endpoint needs it:
	// it takes 47 packets at a time, and no more.
	discipline := fifo.New(link, runtime.GOMAXPROCS(0), 1000)
	if err := s.CreateNICWithOptions(nic, link, stack.NICOptions{QDisc: discipline}); err != nil {
		return fmt.Errorf("create NIC: %v", err)
	}
	address := tcpip.ProtocolAddress{
		Protocol: protocolOf(own.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(own.Addr().AsSlice()), PrefixLen: own.Bits(),
		},
	}
	if err := s.AddProtocolAddress(nic, address, stack.AddressProperties{}); err != nil {
		return fmt.Errorf("add address %v: %v", own, err)
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}

func addressOf(a netip.AddrPort) (tcpip.FullAddress, tcpip.NetworkProtocolNumber) {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}, protocolOf(a.Addr())
}

func (n *gvisorNetwork) Dial(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	address, protocol := addressOf(server)
	return gonet.DialContextTCP(ctx, n.stack, address, protocol)
}

func (n *gvisorNetwork) Listen(at netip.AddrPort) (net.Listener, error) {
	address, protocol := addressOf(at)
	return gonet.ListenTCP(n.stack, address, protocol)
}

func (n *gvisorNetwork) Losses() (losses, error) {
	drops, err := n.drops()
	l := stackLosses(n.stack)
	l.Drops += drops
	return l, err
}

// stackLosses are what gVisor counts.
func stackLosses(s *stack.Stack) losses {
	all := s.Stats()
	return losses{
		Retransmits: all.TCP.Retransmits.Value(),
		Drops: all.TCP.ChecksumErrors.Value() + all.IP.MalformedPacketsReceived.Value() +
			all.NICs.TxPacketsDroppedNoBufferSpace.Value() + all.DroppedPackets.Value(),
	}
}

// Close ends the connections, and closes what the endpoint stands on. Its
// goroutines end with the process: gVisor's endpoints leave them running, and
// when a stack is taken apart as it should be, link/xdp waits for itself.
func (n *gvisorNetwork) Close() error {
	n.stack.Close()
	return n.close()
}
