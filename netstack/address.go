package netstack

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// addressOf is an address as the stack has it.
func addressOf(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// addrOf is the other way round; no address is the zero Addr.
func addrOf(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr.Unmap()
}

// isHost4 reports whether a host can have the address, whatever its network.
func isHost4(a netip.Addr) bool {
	b := a.As4()
	return b[0] != 0 && b[0] != 127 && b[0] < 224
}

// be32 is an IPv4 address as a number.
func be32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func addrPort(a tcpip.FullAddress) netip.AddrPort { return netip.AddrPortFrom(addrOf(a.Addr), a.Port) }

func tcpAddr(a tcpip.FullAddress) net.Addr {
	return &net.TCPAddr{IP: ipOf(a), Port: int(a.Port)}
}

func udpAddr(a tcpip.FullAddress) net.Addr {
	return &net.UDPAddr{IP: ipOf(a), Port: int(a.Port)}
}

func ipOf(a tcpip.FullAddress) net.IP { return append(net.IP(nil), a.Addr.AsSlice()...) }

// addressesOf are where an endpoint and its other side are; one that listens at all
// addresses is at the unspecified one of its protocol.
func addressesOf(ep tcpip.Endpoint, proto tcpip.NetworkProtocolNumber, make func(tcpip.FullAddress) net.Addr) (local, remote net.Addr) {
	l, _ := ep.GetLocalAddress()
	r, _ := ep.GetRemoteAddress()
	if l.Addr.Len() == 0 {
		l.Addr = header.IPv4Any
		if proto == header.IPv6ProtocolNumber {
			l.Addr = header.IPv6Any
		}
	}
	return make(l), make(r)
}

// A target is what the network and the address of a call mean.
type target struct {
	transport string // "tcp" or "udp"
	family    string // "4", "6" or ""
	host      string
	port      uint16
}

func parseTarget(ctx context.Context, network, address string) (t target, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		t.transport, t.family = network[:3], network[3:]
	default:
		return t, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return t, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return t, err
	}
	t.host, t.port = host, uint16(n)
	return t, nil
}

// fits reports whether an address is of the family that was asked for.
func (t *target) fits(a netip.Addr) bool {
	return t.family == "" || a.Is4() == (t.family == "4")
}

// listenAt is the address to listen at, and of which protocol the socket is. Without
// a host it is all addresses, of both families if there are both.
func (h *Host) listenAt(t *target) (at tcpip.FullAddress, proto tcpip.NetworkProtocolNumber, v6only bool, err error) {
	at.Port = t.port
	if t.host == "" {
		if t.family == "4" || t.family == "" && !h.has6() {
			return at, header.IPv4ProtocolNumber, false, nil
		}
		return at, header.IPv6ProtocolNumber, t.family == "6", nil
	}
	a, err := netip.ParseAddr(t.host)
	if err != nil {
		return at, 0, false, &net.AddrError{Err: "not an IP address", Addr: t.host}
	}
	a = a.Unmap().WithZone("")
	if !t.fits(a) {
		return at, 0, false, &net.AddrError{Err: "not an address of that family", Addr: t.host}
	}
	proto, v6only = protocolOf(a), a.Is6() && !a.IsUnspecified()
	if !a.IsUnspecified() {
		at.Addr = addressOf(a)
	} else if a.Is6() && t.family == "6" {
		v6only = true
	}
	return at, proto, v6only, nil
}

func protocolOf(a netip.Addr) tcpip.NetworkProtocolNumber {
	if a.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// resolve returns the addresses to try.
func (h *Host) resolve(ctx context.Context, t *target) ([]netip.Addr, error) {
	if t.host == "" {
		t.host = "127.0.0.1" // as package net: the host itself
		if all := h.Addresses(); len(all) > 0 {
			t.host = all[0].Addr().String()
		}
	}
	var all []netip.Addr
	if a, err := netip.ParseAddr(t.host); err == nil {
		all = []netip.Addr{a.Unmap().WithZone("")}
	} else if all, err = h.Resolver().LookupNetIP(ctx, "ip"+t.family, t.host); err != nil {
		return nil, err
	}
	var fit []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); t.fits(a) {
			fit = append(fit, a)
		}
	}
	if len(fit) == 0 {
		return nil, &net.AddrError{Err: syscall.EAFNOSUPPORT.Error(), Addr: t.host}
	}
	return fit, nil
}
