package netstack

import (
	"context"
	"net"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A Host is a TCP/IP stack with addresses: what a machine is to package net. It
// answers ARP, neighbour discovery and pings by itself. Its methods may be called
// from any goroutine.
//
// Errors are those of package net: *net.OpError, which wraps net.ErrClosed,
// os.ErrDeadlineExceeded or a syscall.Errno such as ECONNREFUSED.
type Host struct {
	Stack *stack.Stack // gVisor's, for what is not here; the Host's to close
}

// NewHost makes a stack on e, which it owns from then on, with the addresses and
// the length of their networks' prefixes, and with default routes by the gateways:
// none, or one of each family. Without addresses it can add them later: see
// AddAddress. On error e stays the caller's.
func NewHost(e *Endpoint, addresses []netip.Prefix, gateways ...netip.Addr) (*Host, error) {
	return nil, errNotYet
}

// Dial connects to an address, "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6", as
// net.Dialer.DialContext does; http.Transport.DialContext takes it as it is. Host
// names go to the Resolver.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return nil, errNotYet
}

// Listen waits for TCP connections ("tcp", "tcp4", "tcp6") to an address, as
// net.Listen does: ":443" is all addresses of the host.
func (h *Host) Listen(network, address string) (net.Listener, error) { return nil, errNotYet }

// ListenPacket opens a UDP socket ("udp", "udp4", "udp6"), as net.ListenPacket does.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) { return nil, errNotYet }

// Resolver looks names up over this Host: at the servers, or without any at those of
// /etc/resolv.conf, or of DHCP.
func (h *Host) Resolver(servers ...netip.AddrPort) *net.Resolver { return nil }

// Addresses are the host's own.
func (h *Host) Addresses() []netip.Prefix { return nil }

// Endpoint is what the Host is on.
func (h *Host) Endpoint() *Endpoint { return nil }

// String says what was opened, a line for each queue and one for the addresses.
func (h *Host) String() string { return "" }

// Close ends all connections at once, and closes the Endpoint and, after Open, the
// program. It returns when no goroutine is left. All later calls get net.ErrClosed.
func (h *Host) Close() error { return nil }
