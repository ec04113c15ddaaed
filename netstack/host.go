package netstack

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// A Host is a TCP/IP stack with addresses: what a machine is to package net. It
// answers ARP, neighbour discovery and pings by itself. Its methods may be called
// from any goroutine.
//
// Errors are those of package net: *net.OpError, which wraps net.ErrClosed,
// os.ErrDeadlineExceeded or a syscall.Errno such as ECONNREFUSED. When the interface is
// gone, whoever waits gets ENODEV; see Done and Err.
type Host struct {
	Stack *stack.Stack // gVisor's, for what is not here; the Host's to close

	endpoint *Endpoint
	opened   *opened       // what Open made; nil without
	done     chan struct{} // closed by Close
	over     chan struct{} // closed when it is of no more use; see end
	ending   sync.Once
	cause    error // of over
	closing  sync.Once
	closed   chan struct{} // Close is through
	failure  error         // of Close

	door     *door
	ledger   ledger
	limits   limitCounters
	networks atomic.Pointer[[]netip.Prefix] // of addresses

	mu        sync.Mutex
	addresses []netip.Prefix
	gateways  []netip.Addr
	servers   []netip.AddrPort // of DHCP
}

// nic is the number of the Host's only one.
const nic tcpip.NICID = 1

// What a connection's buffers hold, in bytes: they begin at the second, and
// moderation takes the receive buffer up to the third. The stack's own defaults are
// for many small connections.
const (
	leastBuffer   = 4 << 10
	defaultBuffer = 1 << 20
	mostBuffer    = 16 << 20
)

// NewHost makes a stack on e, which it owns from then on, with the addresses and
// the length of their networks' prefixes, and default routes by the gateways: none,
// or one of each family. Addresses can be added later. On error e stays the
// caller's; it wraps EINVAL for what cannot be.
func NewHost(e *Endpoint, addresses []netip.Prefix, gateways ...netip.Addr) (*Host, error) {
	h, err := newHost(e, addresses, gateways)
	if err != nil {
		return nil, fmt.Errorf("netstack: new host: %w", err)
	}
	return h, nil
}

func newHost(e *Endpoint, addresses []netip.Prefix, gateways []netip.Addr) (*Host, error) {
	for i, g := range gateways {
		if !g.IsValid() || g.IsUnspecified() {
			return nil, invalid("gateway %v is no address", g)
		}
		for _, other := range gateways[:i] {
			if other.Unmap().Is4() == g.Unmap().Is4() {
				return nil, invalid("gateways %v and %v are of one family", other, g)
			}
		}
	}
	for _, p := range addresses {
		if err := checkAddress(p); err != nil {
			return nil, err
		}
	}
	h := &Host{endpoint: e, done: make(chan struct{}), over: make(chan struct{}), closed: make(chan struct{})}
	h.door = newDoor(h)
	h.ledger.init(&e.options, &h.limits)
	e.onFailure(h.end)
	h.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6},
		HandleLocal:        true,
		NUDDisp:            neighbours{&h.door.strangers},
	})
	err := h.tune()
	if err == nil {
		err = h.tuneUDP()
	}
	e.host.Store(h)
	if err == nil {
		if terr := h.Stack.CreateNIC(nic, e); terr != nil {
			err = errnoOf(terr)
		}
	}
	for _, p := range addresses {
		if err == nil {
			err = h.addAddress(p)
		}
	}
	for _, g := range gateways {
		if err == nil {
			err = h.addGateway(g)
		}
	}
	if err != nil {
		e.onFailure(nil)
		e.Attach(nil)
		e.host.Store(nil)
		h.Stack.Close()
		return nil, err
	}
	return h, nil
}

// tune sets what the stack would do otherwise.
func (h *Host) tune() error {
	sack, moderate := tcpip.TCPSACKEnabled(true), tcpip.TCPModerateReceiveBufferOption(true)
	// What a connection begins with. The rest is its own matter: see pace.
	recovery, reno := tcpip.TCPRecovery(0), tcpip.CongestionControlOption("reno")
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: leastBuffer, Default: defaultBuffer, Max: mostBuffer}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: leastBuffer, Default: defaultBuffer, Max: mostBuffer}
	for _, o := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &reno, &recovery, &receive, &send} {
		if err := h.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			return fmt.Errorf("set %T: %w", o, errnoOf(err))
		}
	}
	return nil
}

func checkAddress(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case !p.IsValid(), a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.Is4In6(), a.Is4() && !isHost4(a):
		return invalid("%v is not an address with the length of its network's prefix that a host can have", p)
	case a.Is6() || p.Bits() >= 31:
		return nil
	case p.Masked().Addr() == a:
		return invalid("%v is the address of the network itself", p)
	case be32(a)|^uint32(0)>>p.Bits() == be32(a):
		return invalid("%v is the broadcast address of its network", p)
	}
	return nil
}

// AddAddress adds an address with the length of its network's prefix. What reaches
// the Endpoint is another matter: after Open it also changes the program's filter. It
// fails with EADDRINUSE if the Host has it, or as in Open the kernel.
func (h *Host) AddAddress(p netip.Prefix) error {
	err := checkAddress(p)
	if err == nil {
		err = h.ended()
	}
	if err == nil && h.opened != nil {
		err = h.opened.mayHave(p.Addr())
	}
	if err == nil {
		err = h.addAddress(p)
	}
	if err == nil && h.opened != nil {
		if err = h.opened.update(h); err != nil {
			err = errors.Join(err, h.removeAddress(p))
		}
	}
	if err != nil {
		return fmt.Errorf("netstack: add %v: %w", p, err)
	}
	return nil
}

func (h *Host) addAddress(p netip.Prefix) error {
	a := tcpip.ProtocolAddress{
		Protocol:          protocolOf(p.Addr()),
		AddressWithPrefix: tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()},
	}
	if err := h.Stack.AddProtocolAddress(nic, a, stack.AddressProperties{}); err != nil {
		return errnoOf(err)
	}
	h.Stack.AddRoute(tcpip.Route{Destination: a.AddressWithPrefix.Subnet(), NIC: nic})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addresses = append(h.addresses, p)
	h.changeNetworks()
	return nil
}

// RemoveAddress takes an address away, whatever the prefix's length. It fails with EADDRNOTAVAIL if the Host does
// not have it.
func (h *Host) RemoveAddress(p netip.Prefix) error {
	err := h.ended()
	if err == nil {
		err = h.removeAddress(p)
	}
	if err == nil && h.opened != nil {
		err = h.opened.update(h)
	}
	if err != nil {
		return fmt.Errorf("netstack: remove %v: %w", p, err)
	}
	return nil
}

func (h *Host) removeAddress(p netip.Prefix) error {
	if err := h.Stack.RemoveAddress(nic, addressOf(p.Addr())); err != nil {
		return errnoOf(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.IndexFunc(h.addresses, func(o netip.Prefix) bool { return o.Addr() == p.Addr() }); i >= 0 {
		p = h.addresses[i] // the caller's prefix may have another length
		h.addresses = slices.Delete(h.addresses, i, i+1)
	}
	h.changeNetworks()
	if !slices.ContainsFunc(h.addresses, func(o netip.Prefix) bool { return o.Masked() == p.Masked() }) {
		subnet := tcpip.AddressWithPrefix{Address: addressOf(p.Addr()), PrefixLen: p.Bits()}.Subnet()
		h.Stack.RemoveRoutes(func(r tcpip.Route) bool { return r.Gateway.Len() == 0 && r.Destination == subnet })
	}
	return nil
}

// addGateway replaces the default route of the gateway's family.
func (h *Host) addGateway(g netip.Addr) error {
	g = g.Unmap().WithZone("")
	all := header.IPv4EmptySubnet
	if g.Is6() {
		all = header.IPv6EmptySubnet
	}
	h.Stack.RemoveRoutes(func(r tcpip.Route) bool { return r.Destination == all })
	h.Stack.AddRoute(tcpip.Route{Destination: all, Gateway: addressOf(g), NIC: nic})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gateways = append(slices.DeleteFunc(h.gateways, func(o netip.Addr) bool { return o.Is4() == g.Is4() }), g)
	return nil
}

// Addresses are the Host's own.
func (h *Host) Addresses() []netip.Prefix {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.addresses)
}

func (h *Host) has6() bool {
	return slices.ContainsFunc(h.Addresses(), func(p netip.Prefix) bool { return p.Addr().Is6() })
}

// Endpoint is what the Host is on.
func (h *Host) Endpoint() *Endpoint { return h.endpoint }

// String says what was opened, a line for each queue, and the addresses.
func (h *Host) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var words []string
	for _, a := range h.addresses {
		words = append(words, a.String())
	}
	for _, g := range h.gateways {
		words = append(words, "via "+g.String())
	}
	s := strings.Join(words, " ")
	if h.opened != nil {
		s = h.opened.String() + "\n" + s
	}
	return s
}

func (h *Host) ended() error {
	select {
	case <-h.done:
		return errClosed
	default:
		return h.Err()
	}
}

// Close resets all connections, and closes the Endpoint and, after Open, the
// program. It returns when no goroutine is left. All later calls get an error that is
// both net.ErrClosed and os.ErrClosed. It may be called again.
func (h *Host) Close() error {
	h.closing.Do(func() {
		defer close(h.closed)
		if h.opened != nil {
			h.opened.stop()
		}
		close(h.done)
		h.ledger.stop()
		h.end(errClosed)
		h.Stack.Close()
		_ = h.Stack.RemoveNIC(nic) // which fails if the Endpoint was closed before
		h.endpoint.Close()
		h.Stack.Wait()
		if h.opened != nil {
			h.failure = h.opened.close()
		}
	})
	<-h.closed
	return h.failure
}
