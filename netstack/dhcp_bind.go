package netstack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// How an address is probed before use: so many ARP requests, each with so long for an
// answer, in tenths of a second. RFC 5227 takes up to nine seconds; whoever has the
// address on this link answers in milliseconds.
const (
	probes    = 3
	probeWait = 2
)

// errClash is wrapped by what says who has the address.
var errClash = errors.New("somebody has the address")

// usable says why the Host cannot have what is lent, or nil. An address of the
// machine's kernel is not even asked for: to decline it would take it from the kernel,
// if the server lends both of us by the MAC address.
func (c *dhcpClient) usable(l *dhcpLease) error {
	a := l.prefix.Addr()
	if c.lease == nil || c.lease.prefix.Addr() != a {
		for _, p := range c.h.Addresses() {
			if p.Addr() == a {
				return fmt.Errorf("%w: %v is one of the Host's Addresses", errInUse, a)
			}
		}
	}
	return c.h.opened.kernel.lacks(a)
}

// probe asks whether somebody on the link has the address. It fails with errClash if
// so.
func (c *dhcpClient) probe(ctx context.Context, l *dhcpLease) error {
	a := l.prefix.Addr()
	for len(c.link.conflicts) > 0 {
		<-c.link.conflicts
	}
	c.link.candidate.Store(be32(a))
	defer c.link.candidate.Store(0)
	for range probes {
		_ = c.link.send(c.link.arpRequest(nobody4, a))
		timer := time.NewTimer(probeWait * c.second / 10)
		select {
		case mac := <-c.link.conflicts:
			timer.Stop()
			return fmt.Errorf("%w: %v, lent by server %v, is in use by %v", errClash, a, l.server, mac)
		case <-ctx.Done():
			timer.Stop()
			return timeoutOf(ctx.Err())
		case <-timer.C:
		}
	}
	return nil
}

// decline tells the server that the address is somebody else's.
func (c *dhcpClient) decline(l *dhcpLease, why error) {
	m := c.message(dhcpv4.MessageTypeDecline, rand.Uint32(), 0)
	withAddress(m, dhcpv4.OptionRequestedIPAddress, l.prefix.Addr())
	withAddress(m, dhcpv4.OptionServerIdentifier, l.server)
	m.UpdateOption(dhcpv4.OptMessage(fmt.Sprintf("%.200s", why)))
	if c.suggest == l.prefix.Addr() {
		c.suggest = netip.Addr{}
	}
	_ = c.link.send(c.frame(broadcastMAC, nobody4, broadcast4, m))
}

// apply makes the Host's address, routes and name servers what is lent. On error the
// Host may have a part of it, which drop takes away.
func (c *dhcpClient) apply(l *dhcpLease) error {
	fresh := c.lease == nil || c.lease.prefix != l.prefix
	if fresh {
		c.drop()
		if err := c.h.addAddress(l.prefix); err != nil {
			return fmt.Errorf("add %v: %w", l.prefix, err)
		}
	}
	before := c.lease
	c.lease, c.suggest = l, l.prefix.Addr()
	c.route(before, l)
	c.h.mu.Lock()
	c.h.servers = l.resolvers
	c.h.mu.Unlock()
	if err := c.h.opened.update(c.h); err != nil {
		return err
	}
	if fresh {
		// Who has known another machine by this address learns ours.
		_ = c.link.send(c.link.arpRequest(l.prefix.Addr(), l.prefix.Addr()))
	}
	return nil
}

// drop takes away what the Host has of a lease, if there is one.
func (c *dhcpClient) drop() {
	if c.lease == nil {
		return
	}
	l := c.lease
	c.lease = nil
	c.route(l, nil)
	_ = c.h.removeAddress(l.prefix)
	c.h.mu.Lock()
	c.h.servers = nil
	c.h.mu.Unlock()
	_ = c.h.opened.update(c.h)
}

// route replaces the routes of one lease by those of another; nil has none. Without a
// gateway of a lease the one of Config counts.
func (c *dhcpClient) route(before, l *dhcpLease) {
	var old, now []dhcpRoute
	if before != nil {
		old = before.routes
	}
	gateway := c.configured()
	if l != nil {
		now = l.routes
		if l.gateway.IsValid() {
			gateway = l.gateway
		}
	}
	if !slices.Equal(old, now) {
		for _, r := range old {
			gone := r.stackRoute()
			c.h.Stack.RemoveRoutes(func(other tcpip.Route) bool {
				return other.Destination == gone.Destination && other.Gateway == gone.Gateway
			})
		}
		for _, r := range now {
			c.h.Stack.AddRoute(r.stackRoute())
		}
	}
	if gateway.IsValid() {
		_ = c.h.addGateway(gateway)
	} else {
		c.h.removeGateway4()
	}
}

// configured is the gateway of Config; not valid without.
func (c *dhcpClient) configured() netip.Addr {
	for _, g := range c.h.opened.config.Gateways {
		if g = g.Unmap(); g.Is4() {
			return g
		}
	}
	return netip.Addr{}
}

func (r dhcpRoute) stackRoute() tcpip.Route {
	route := tcpip.Route{
		Destination: tcpip.AddressWithPrefix{Address: addressOf(r.to.Addr()), PrefixLen: r.to.Bits()}.Subnet(),
		NIC:         nic,
	}
	if r.via.IsValid() {
		route.Gateway = addressOf(r.via)
	}
	return route
}

// removeGateway4 takes the default route of IPv4 away.
func (h *Host) removeGateway4() {
	h.Stack.RemoveRoutes(func(r tcpip.Route) bool { return r.Destination == header.IPv4EmptySubnet })
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gateways = slices.DeleteFunc(h.gateways, netip.Addr.Is4)
}

// nextHop is the MAC address of who takes packets for a server. It waits for an answer
// to ARP, for a second at most.
func (c *dhcpClient) nextHop(ctx context.Context, from, to netip.Addr) (net.HardwareAddr, error) {
	r, err := c.h.Stack.FindRoute(nic, addressOf(from), addressOf(to), header.IPv4ProtocolNumber, false)
	if err != nil {
		return nil, errnoOf(err)
	}
	defer r.Release()
	found := make(chan stack.ResolvedFieldsResult, 1)
	_ = r.ResolvedFields(func(result stack.ResolvedFieldsResult) {
		select {
		case found <- result:
		default:
		}
	})
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	select {
	case result := <-found:
		if result.Err != nil {
			return nil, errnoOf(result.Err)
		}
		return net.HardwareAddr(result.RouteInfo.RemoteLinkAddress), nil
	case <-ctx.Done():
		return nil, timeoutOf(ctx.Err())
	}
}

// stop ends the client, and gives the address back.
func (c *dhcpClient) stop() {
	if c == nil {
		return
	}
	if c.cancel != nil {
		c.cancel()
		c.keeper.Wait()
	}
	l := c.lease
	if l == nil || !l.server.IsValid() || c.h.Err() != nil || l.end != forever && !time.Now().Before(l.at(l.end)) {
		return
	}
	m := c.message(dhcpv4.MessageTypeRelease, rand.Uint32(), 0)
	m.ClientIPAddr = l.prefix.Addr().AsSlice()
	withAddress(m, dhcpv4.OptionServerIdentifier, l.server)
	if mac, err := c.nextHop(context.Background(), l.prefix.Addr(), l.server); err == nil {
		_ = c.link.send(c.frame(mac, l.prefix.Addr(), l.server, m))
	}
}
