package netstack_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/netstack"
)

// A queue with fewer frames than a segment has packets sends it piece by piece.
func TestFewFramesAreEnough(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := open(t, p.Near, &netstack.Config{
			Addresses: prefixes(ours4), Mode: mode,
			Queue: xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 80, FrameSize: 2048}, RxFrames: 64},
		})
		transfer(t, onPeer(p), net.JoinHostPort(peer4, "0"), fromHost(t, h), 5e6, false)
		assert.Less(t, h.Endpoint().Stats().TxNoFrame, uint64(5), "an ARP answer may find none")
	})
}

// 100 MB each way, compared by SHA-256: over IPv4 in native mode in every run, and in
// all ways under scripts/test -all.
func TestTransferToAndFromTheKernel(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		for _, c := range []struct{ name, ours, peers string }{{"IPv4", ours4, peer4}, {"IPv6", ours6, peer6}} {
			t.Run(c.name, func(t *testing.T) {
				size := int64(10e6)
				if full() || mode == bpf.Native && c.ours == ours4 {
					size = 100e6
				}
				transfer(t, onPeer(p), net.JoinHostPort(c.peers, "0"), fromHost(t, h), size, false)
				transfer(t, h.Listen, net.JoinHostPort(c.ours, "0"), fromPeer(p), size, false)
			})
		}
		s := h.Endpoint().Stats()
		assert.Zero(t, s.RxBad, s)
		assert.Zero(t, s.RxUnwanted, s)
		assert.Zero(t, s.TxRefused, s)
		assert.Less(t, s.RxDelivered, s.RxPackets/2, "what came was joined")
		assert.Less(t, s.TxTaken, s.TxPackets*3/4, "what went was cut, but for the first megabytes of a connection")
	})
}
