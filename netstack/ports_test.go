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
