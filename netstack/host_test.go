package netstack_test

import (
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestAddressesAddedAtOnceAllReachTheHost(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	var more []netip.Prefix
	for i := range 6 {
		more = append(more, prefixes(fmt.Sprintf("192.0.2.%d", 100+i))...)
	}
	added := make(chan error)
	for _, a := range more {
		go func() { added <- h.AddAddress(a) }()
	}
	for range more {
		require.NoError(t, <-added)
	}
	for _, a := range more {
		conn, err := fromPeer(p)("tcp", net.JoinHostPort(a.Addr().String(), "80"))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func TestRemoveAddressTakesItsRoute(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	other := netip.MustParsePrefix("198.51.100.7/24")
	require.NoError(t, h.AddAddress(other))
	routes := len(h.Stack.GetRouteTable())
	assert.ErrorIs(t, h.AddAddress(other), syscall.EADDRINUSE)
	require.NoError(t, h.RemoveAddress(netip.PrefixFrom(other.Addr(), 32)))
	assert.Len(t, h.Stack.GetRouteTable(), routes-1)
	assert.Equal(t, prefixes(ours4, ours6), h.Addresses())
	assert.ErrorIs(t, h.RemoveAddress(other), syscall.EADDRNOTAVAIL)
}

// Host.Close finds nothing wrong with that, either.
func TestAClosedEndpointRefusesPackets(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	e := openOurs(t, p.Near, bpf.Native).Endpoint()
	e.Close()
	before := e.Stats()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, 100))})
	defer pkt.DecRef()
	var all stack.PacketBufferList
	all.PushBack(pkt)
	_, err := e.WritePackets(all)
	require.Nil(t, err)
	assert.Equal(t, before.TxRefused+1, e.Stats().TxRefused)
	assert.Equal(t, before.TxNoFrame, e.Stats().TxNoFrame)
}
