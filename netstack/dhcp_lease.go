package netstack

import (
	"encoding/binary"
	"math"
	"math/bits"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// A dhcpLease is what a server lends, after it has been looked at.
type dhcpLease struct {
	prefix    netip.Prefix
	server    netip.Addr // its identifier
	gateway   netip.Addr // of everything else; not valid without
	routes    []dhcpRoute
	resolvers []netip.AddrPort
	asked     time.Time // when the lease began: when it was asked for
	dhcpTimes
}

// A dhcpRoute is a destination with a router; without, it is on the link.
type dhcpRoute struct {
	to  netip.Prefix
	via netip.Addr
}

// dhcpTimes are how long after it began a lease is to be renewed, then to be asked for
// at all servers, and then not to be used any more.
type dhcpTimes struct{ renew, rebind, end time.Duration }

const (
	forever = time.Duration(math.MaxInt64)

	infinite     = math.MaxUint32 // as an option
	defaultLease = 3600           // seconds, of a server that does not say
)

// leaseOf reads a lease from an offer or an acknowledgment. before is what is being
// renewed, or nil: what a renewal does not repeat of the network's length stays. Errors
// say what cannot be.
func (c *dhcpClient) leaseOf(m *dhcpv4.DHCPv4, before *dhcpLease) (*dhcpLease, error) {
	a, ok := netip.AddrFromSlice(m.YourIPAddr.To4())
	if !ok || !isHost4(a) {
		return nil, invalid("it lends the address %v", m.YourIPAddr)
	}
	length, err := maskLength(m, a)
	if err != nil {
		return nil, err
	}
	if before != nil && !m.Options.Has(dhcpv4.OptionSubnetMask) && before.prefix.Addr() == a {
		length = before.prefix.Bits()
	}
	l := &dhcpLease{prefix: netip.PrefixFrom(a, length), server: serverOf(m)}
	if err := checkAddress(l.prefix); err != nil {
		return nil, err
	}
	lease, ok := seconds(m, dhcpv4.OptionIPAddressLeaseTime)
	switch {
	case !ok:
		lease = defaultLease
	case lease == 0:
		return nil, invalid("it lends %v for no time", a)
	}
	t1, _ := seconds(m, dhcpv4.OptionRenewTimeValue)
	t2, _ := seconds(m, dhcpv4.OptionRebindingTimeValue)
	l.dhcpTimes = timesOf(lease, t1, t2, c.second)
	l.routes, l.gateway = routesOf(m, a)
	for _, s := range hostsIn(m, dhcpv4.OptionDomainNameServer) {
		l.resolvers = append(l.resolvers, netip.AddrPortFrom(s, 53))
	}
	return l, nil
}

// maskLength is the length of the network's prefix: that of the mask, or without one
// that of the address's class, as for a host that knows no subnets.
func maskLength(m *dhcpv4.DHCPv4, a netip.Addr) (int, error) {
	if !m.Options.Has(dhcpv4.OptionSubnetMask) {
		switch first := a.As4()[0]; {
		case first < 128:
			return 8, nil
		case first < 192:
			return 16, nil
		}
		return 24, nil
	}
	b := m.Options.Get(dhcpv4.OptionSubnetMask)
	if len(b) != 4 {
		return 0, invalid("it lends %v with a mask of %d bytes", a, len(b))
	}
	mask := binary.BigEndian.Uint32(b)
	length := bits.LeadingZeros32(^mask)
	if length == 0 || mask<<length != 0 {
		return 0, invalid("it lends %v with the mask %v", a, netip.AddrFrom4([4]byte(b)))
	}
	return length, nil
}

// seconds is an option that says how long, and whether it is there.
func seconds(m *dhcpv4.DHCPv4, code dhcpv4.OptionCode) (uint32, bool) {
	b := m.Options.Get(code)
	if len(b) != 4 {
		return 0, false
	}
	return binary.BigEndian.Uint32(b), true
}

// timesOf are the times of a lease of so many seconds (T1 and T2 are 0 if the server
// does not say): half and seven eighths of it, unless the server has others in the
// right order. An infinite lease ends never, and is renewed only if the server says
// when.
func timesOf(lease, t1, t2 uint32, second time.Duration) dhcpTimes {
	span := func(n uint32) time.Duration {
		if n == infinite {
			return forever
		}
		return time.Duration(n) * second
	}
	t := dhcpTimes{forever, forever, span(lease)}
	if t.end != forever {
		t.renew, t.rebind = t.end/2, t.end-t.end/8
	}
	first, then := span(t1), span(t2)
	if then > 0 && then < t.end {
		t.rebind = then
	}
	if first > 0 && first < t.end {
		t.renew = first
	}
	if t.renew >= t.rebind && t.rebind != forever {
		t.renew = t.rebind / 2
	}
	return t
}

// at is the point in time so long after the lease began; the zero Time is never.
func (l *dhcpLease) at(d time.Duration) time.Time {
	if d == forever {
		return time.Time{}
	}
	return l.asked.Add(d)
}

// routesOf are the routes of option 121, or if there is none that can be read the
// first router of option 3, which counts for nothing beside it (RFC 3442). A router
// that is the host itself is none.
func routesOf(m *dhcpv4.DHCPv4, self netip.Addr) (routes []dhcpRoute, gateway netip.Addr) {
	if all, ok := classless(m.Options.Get(dhcpv4.OptionClasslessStaticRoute)); ok {
		for _, r := range all {
			switch {
			case r.via == self, r.via.IsValid() && !isHost4(r.via):
			case r.to.Bits() > 0:
				routes = append(routes, r)
			case r.via.IsValid() && !gateway.IsValid():
				gateway = r.via
			}
		}
		return routes, gateway
	}
	for _, router := range hostsIn(m, dhcpv4.OptionRouter) {
		if router != self {
			return nil, router
		}
	}
	return nil, netip.Addr{}
}

// classless decodes option 121: the length of a prefix, as many of its bytes as
// count, and the router, which is 0.0.0.0 for what is on the link.
func classless(b []byte) (routes []dhcpRoute, ok bool) {
	for len(b) > 0 {
		length := int(b[0])
		n := (length + 7) / 8
		if length > 32 || len(b) < 1+n+4 {
			return nil, false
		}
		var to [4]byte
		copy(to[:], b[1:1+n])
		r := dhcpRoute{to: netip.PrefixFrom(netip.AddrFrom4(to), length).Masked()}
		if via := netip.AddrFrom4([4]byte(b[1+n:])); !via.IsUnspecified() {
			r.via = via
		}
		routes = append(routes, r)
		b = b[1+n+4:]
	}
	return routes, len(routes) > 0
}
