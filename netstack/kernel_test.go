package netstack_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// An address of the kernel is not taken from it unless that is asked for.
func TestAddressesOfTheKernelAreRefused(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	require.NoError(t, testns.IPv6(p.Near))
	testns.IP(t, "address", "add", "2001:db8::1/64", "dev", p.Near, "nodad")
	testns.IP(t, "address", "add", "192.0.2.81/32", "dev", "lo")
	testns.IP(t, "route", "add", "local", "192.0.2.82/32", "dev", "lo")
	t.Cleanup(func() {
		testns.IP(t, "address", "del", "192.0.2.81/32", "dev", "lo")
		testns.IP(t, "route", "del", "local", "192.0.2.82/32", "dev", "lo")
	})
	h := openOurs(t, p.Near, bpf.Native)
	q := makePeer(t)
	for address, why := range map[string]string{
		"192.0.2.1":   "kernel has 192.0.2.1 on " + p.Near,
		"2001:db8::1": "kernel has 2001:db8::1 on " + p.Near,
		"192.0.2.81":  "kernel has 192.0.2.81 on lo",
		"192.0.2.82":  "kernel has 192.0.2.82 by a local route",
	} {
		if address == "192.0.2.1" {
			why = "kernel has 192.0.2.1 on v" // both interfaces have it
		}
		_, err := netstack.Open(soon(t), q.Near, &netstack.Config{Addresses: prefixes(address)})
		assert.ErrorIs(t, err, syscall.EADDRINUSE, address)
		assert.ErrorContains(t, err, "netstack: open "+q.Near+": ")
		assert.ErrorContains(t, err, why)
		assert.ErrorContains(t, err, "ShareAddresses")

		err = h.AddAddress(prefixes(address)[0])
		assert.ErrorIs(t, err, syscall.EADDRINUSE, address)
		assert.ErrorContains(t, err, why)
	}
	assert.Equal(t, prefixes(ours4, ours6), h.Addresses())

	// What the kernel has still reaches it, and what is asked for is taken.
	l, err := net.Listen("tcp", "192.0.2.1:0")
	require.NoError(t, err)
	defer l.Close()
	transfer(t, func(_, _ string) (net.Listener, error) { return l, nil }, "", fromPeer(p), 1000, false)
	shared := open(t, q.Near, &netstack.Config{Addresses: prefixes("192.0.2.1"), ShareAddresses: true})
	transfer(t, shared.Listen, "192.0.2.1:0", fromPeer(q), 1000, false)
	require.NoError(t, shared.AddAddress(prefixes("192.0.2.81")[0]))
}

func TestAddressesThatNoHostHasAreRefused(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	for _, s := range []string{"192.0.2.255/24", "192.0.2.0/24", "255.255.255.255/32", "240.0.0.1/8", "0.1.2.3/8", "127.0.0.5/8", "224.0.0.1/4"} {
		_, err := netstack.Open(soon(t), p.Near, &netstack.Config{Addresses: []netip.Prefix{netip.MustParsePrefix(s)}})
		assert.ErrorIs(t, err, syscall.EINVAL, s)
	}
}
