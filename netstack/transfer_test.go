package netstack_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-xsk/xsk/bpf"
)

func TestTransferToAndFromTheKernel(t *testing.T) {
	const size = 25 << 20
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		for _, c := range []struct{ name, ours, peers string }{{"IPv4", ours4, peer4}, {"IPv6", ours6, peer6}} {
			t.Run(c.name, func(t *testing.T) {
				transfer(t, onPeer(p), net.JoinHostPort(c.peers, "0"), fromHost(t, h), size, false)
				transfer(t, h.Listen, net.JoinHostPort(c.ours, "0"), fromPeer(p), size, false)
			})
		}
		s := h.Endpoint().Stats()
		fmt.Println(s)
		assert.Zero(t, s.RxBad)
		assert.Less(t, s.RxDelivered, s.RxPackets)
		assert.Less(t, s.TxTaken, s.TxPackets)
	})
}
