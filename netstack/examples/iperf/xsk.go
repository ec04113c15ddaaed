package main

import (
	"context"
	"net"
	"net/netip"

	"github.com/go-xsk/xsk/netstack"
)

// An xskNetwork is package netstack's.
type xskNetwork struct{ *netstack.Host }

func openXSK(ctx context.Context, o *options) (network, error) {
	host, err := netstack.Open(ctx, o.device, &netstack.Config{Addresses: []netip.Prefix{o.address}, Mode: o.mode})
	if err != nil {
		return nil, err
	}
	return xskNetwork{host}, nil
}

func (n xskNetwork) Dial(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	return n.Host.Dial(ctx, "tcp", server.String())
}

func (n xskNetwork) Listen(at netip.AddrPort) (net.Listener, error) {
	return n.Host.Listen("tcp", at.String())
}

func (n xskNetwork) Losses() (losses, error) {
	l, s := stackLosses(n.Stack), n.Endpoint().Stats()
	l.Drops += s.RxBad + s.RxUnwanted + s.RxLost + s.TxNoFrame + s.TxRefused + s.TxLost
	return l, nil
}
