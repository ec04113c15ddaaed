package netstack_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/netstack"
)

func TestNoPortLeftIsNoTimeout(t *testing.T) {
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4)})
	require.Nil(t, h.Stack.SetPortRange(50000, 50015))
	l, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	defer l.Close()
	for range 17 {
		var conn net.Conn
		if conn, err = h.Dial(soon(t), "tcp", l.Addr().String()); err != nil {
			break
		}
		defer conn.Close()
	}
	isOpError(t, err, syscall.EADDRNOTAVAIL)
	var timeout net.Error
	require.True(t, errors.As(err, &timeout))
	assert.False(t, timeout.Timeout())
}

// What closes holds ports for a minute, but no more of them than MaxClosing: a program
// that dials the same address again and again finds one, and soon.
func TestConnectionsThatCloseDoNotTakeAllPorts(t *testing.T) {
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4), Options: netstack.Options{MaxClosing: 100}})
	require.Nil(t, h.Stack.SetPortRange(20000, 20399))
	l, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // which closes last, so that TIME-WAIT is ours
				_, _ = conn.Read(make([]byte, 1))
				conn.Close()
			}()
		}
	}()
	for range 2000 {
		conn, err := h.Dial(soon(t), "tcp", l.Addr().String())
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	assert.Positive(t, h.Endpoint().Stats().ClosingEnded)
}
