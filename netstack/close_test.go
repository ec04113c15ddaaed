package netstack_test

import (
	"bytes"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// live waits until a Host has no more connections than n.
func live(h *netstack.Host, n uint64, within time.Duration) bool {
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if h.Stack.Stats().TCP.CurrentConnected.Value() <= n {
			return true
		}
	}
	return false
}

// quiet makes a connection whose other side, a kernel, neither reads nor closes.
func quiet(t *testing.T) (*netstack.Host, *netstack.TCPConn, net.Conn) {
	t.Helper()
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4)})
	l, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	conn, err := h.Dial(soon(t), "tcp", l.Addr().String())
	require.NoError(t, err)
	other, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { other.Close() })
	return h, conn.(*netstack.TCPConn), other
}

func TestLingerGivesUp(t *testing.T) {
	h, conn, other := quiet(t)
	require.NoError(t, other.(*net.TCPConn).SetReadBuffer(4096))
	require.NoError(t, conn.SetLinger(1))
	require.NoError(t, conn.SetWriteDeadline(time.Now().Add(300*time.Millisecond)))
	for err := error(nil); err == nil; { // until no more goes into the buffers
		_, err = conn.Write(make([]byte, 64<<10))
	}
	begin := time.Now()
	require.NoError(t, conn.Close())
	assert.Less(t, time.Since(begin), 500*time.Millisecond, "Close does not wait")
	require.True(t, live(h, 0, testns.Patience(3*time.Second)), "the connection is still there")
	assert.GreaterOrEqual(t, time.Since(begin), 900*time.Millisecond)
	var err error
	for b := make([]byte, 1<<20); err == nil; { // what came before the reset
		_, err = other.Read(b)
	}
	assert.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestLingerLetsAllArrive(t *testing.T) {
	_, conn, other := quiet(t)
	require.NoError(t, conn.SetLinger(1))
	sent := bytes.Repeat([]byte("x"), 500_000)
	_, err := conn.Write(sent)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	got := 0
	for b := make([]byte, 1<<16); ; {
		n, err := other.Read(b)
		got += n
		if err != nil {
			break
		}
	}
	assert.Equal(t, len(sent), got)
}
