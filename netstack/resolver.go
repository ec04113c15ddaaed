package netstack

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
)

// Resolver looks names up over this Host: at the servers, one after the other, or
// without any at those that DHCP named, or else at those of /etc/resolv.conf.
func (h *Host) Resolver(servers ...netip.AddrPort) *net.Resolver {
	if len(servers) == 0 {
		h.mu.Lock()
		servers = h.servers
		h.mu.Unlock()
	}
	servers = slices.Clone(servers)
	var tries atomic.Uint32
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if n := len(servers); n > 0 {
				address = servers[int(tries.Add(1)-1)%n].String()
			}
			return h.Dial(ctx, network, address)
		},
	}
}
