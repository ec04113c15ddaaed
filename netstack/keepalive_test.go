package netstack_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// pair is a connection to a Host, from both ends, and one from it.
func pair(t *testing.T, h *netstack.Host, p *testns.Peer) (accepted, dialed *netstack.TCPConn) {
	t.Helper()
	l, err := h.Listen("tcp", ours4+":0")
	require.NoError(t, err)
	defer l.Close()
	far, err := fromPeer(p)("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err := l.Accept()
	require.NoError(t, err)
	other, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	defer other.Close()
	out, err := h.Dial(soon(t), "tcp", other.Addr().String())
	require.NoError(t, err)
	in, err := other.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { closeAll([]net.Conn{far, near, out, in}) })
	return near.(*netstack.TCPConn), out.(*netstack.TCPConn)
}

func TestConnectionsAreKeptAliveAsByPackageNet(t *testing.T) {
	testns.Kernel(t)
	usual := net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	accepted, dialed := pair(t, h, p)
	for _, c := range []*netstack.TCPConn{accepted, dialed} {
		assert.Equal(t, usual, netstack.KeepAlive(c))
		require.NoError(t, c.SetKeepAlivePeriod(time.Minute))
		want := usual
		want.Idle = time.Minute
		assert.Equal(t, want, netstack.KeepAlive(c))
		require.NoError(t, c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 2 * time.Second, Count: 3}))
		want.Interval, want.Count = 2*time.Second, 3
		assert.Equal(t, want, netstack.KeepAlive(c))
		require.NoError(t, c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}))
		assert.Equal(t, usual, netstack.KeepAlive(c))
		require.NoError(t, c.SetKeepAlive(false))
		assert.False(t, netstack.KeepAlive(c).Enable)
		require.NoError(t, c.Close())
		assert.ErrorIs(t, c.SetKeepAlive(true), net.ErrClosed)
		assert.ErrorIs(t, c.SetKeepAlivePeriod(time.Second), net.ErrClosed)
		assert.ErrorIs(t, c.SetKeepAliveConfig(usual), net.ErrClosed)
	}

	for idle, want := range map[time.Duration]net.KeepAliveConfig{
		-1:          {Enable: false, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9},
		time.Minute: {Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 9},
	} {
		p := makePeer(t)
		h := limited(t, p, netstack.Options{KeepAlive: idle})
		accepted, dialed := pair(t, h, p)
		assert.Equal(t, want, netstack.KeepAlive(accepted))
		assert.Equal(t, want, netstack.KeepAlive(dialed))
	}
}

// A connection whose other side has vanished ends.
func TestConnectionsOfAVanishedPeerEnd(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	accepted, _ := pair(t, h, p)
	require.NoError(t, accepted.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: 300 * time.Millisecond, Interval: 100 * time.Millisecond, Count: 3,
	}))
	require.NoError(t, accepted.SetReadDeadline(time.Now().Add(time.Second)))
	_, err := accepted.Read(make([]byte, 1))
	require.ErrorContains(t, err, "timeout", "the peer answers")
	require.NoError(t, p.Do(func() error {
		testns.IP(t, "address", "del", "192.0.2.2/24", "dev", "eth0")
		return nil
	}))
	require.NoError(t, accepted.SetReadDeadline(time.Now().Add(20*time.Second)))
	_, err = accepted.Read(make([]byte, 1))
	assert.ErrorIs(t, err, syscall.ETIMEDOUT)
}
