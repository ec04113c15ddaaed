package netstack_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// Frames of packets that the ring has no room for go back, and so do those of a packet
// that there were too few for. While the link is down both happen.
func TestFramesOfPacketsThatCannotBeSentComeBack(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		for _, c := range []struct {
			mtu, frames, size int
			flags             xsk.BindFlags
		}{
			{1500, 160, 100, 0},                   // 96 frames, and 64 entries
			{9000, 80, 8900, xsk.BindMultiBuffer}, // 16 frames, and packets of five
		} {
			if c.mtu > 1500 {
				testns.Need(t, "6.9 generic multi-buffer")
			}
			near, far := testns.Veth{MTU: c.mtu}.Make(t)
			testns.IP(t, "address", "add", peer4+"/24", "dev", far)
			program, err := bpf.Attach(near, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
			require.NoError(t, err)
			q, err := xsk.Open(near, 0, &xsk.Config{
				UmemConfig:   xsk.UmemConfig{Frames: c.frames, FrameSize: 2048},
				SocketConfig: xsk.SocketConfig{TxSize: 64, BindFlags: c.flags},
				XSKMap:       program, RxFrames: 64,
			})
			require.NoError(t, err)
			device, err := net.InterfaceByName(near)
			require.NoError(t, err)
			e, err := netstack.NewEndpoint(xsk.Queues{q}, device.HardwareAddr, &netstack.Options{MTU: c.mtu})
			require.NoError(t, err)
			h, err := netstack.NewHost(e, prefixes(ours4))
			require.NoError(t, err)
			answers, err := net.ListenPacket("udp", peer4+":7")
			require.NoError(t, err)
			conn, err := h.Dial(soon(t), "udp", peer4+":7")
			require.NoError(t, err)
			packet := make([]byte, c.size)
			_, err = conn.Write(packet) // the neighbour is known from now on
			require.NoError(t, err)
			_, _, err = answers.ReadFrom(packet)
			require.NoError(t, err)

			testns.IP(t, "link", "set", near, "down")
			before := e.Stats().TxNoFrame
			for range 300 {
				_, _ = conn.Write(packet) // lost, all but a few
			}
			require.Greater(t, e.Stats().TxNoFrame, before)
			f := q.Stats().Frames
			assert.Zero(t, f.User, "MTU %d: %+v", c.mtu, f)
			testns.IP(t, "link", "set", near, "up")
			require.NoError(t, conn.Close())
			require.NoError(t, answers.Close())
			require.NoError(t, h.Close())
			require.NoError(t, program.Close())
			testns.IP(t, "link", "del", near)
		}
	})
}
