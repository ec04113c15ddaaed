package netstack_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// Datagrams of one to 64 frames, and of a byte less and more than whole frames, arrive
// whole; eight come at once.
func TestDatagramsOfAnyNumberOfFramesArriveWhole(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		if mode == bpf.Generic {
			testns.Need(t, "6.9 generic multi-buffer")
		}
		const perFrame, headers, mtu = 1024, 14 + 20 + 8, 65535
		near, far := testns.Veth{MTU: mtu}.Make(t)
		testns.IP(t, "address", "add", peer4+"/24", "dev", far)
		program, err := bpf.Attach(near, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
		require.NoError(t, err)
		q, err := xsk.Open(near, 0, &xsk.Config{
			UmemConfig:   xsk.UmemConfig{Frames: 4096, FrameSize: 2048, Headroom: 2048 - 256 - perFrame},
			SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
			XSKMap:       program,
		})
		require.NoError(t, err)
		require.Equal(t, perFrame, q.Umem().MaxPacket())
		device, err := net.InterfaceByName(near)
		require.NoError(t, err)
		e, err := netstack.NewEndpoint(xsk.Queues{q}, device.HardwareAddr, &netstack.Options{MTU: 9000})
		require.NoError(t, err)
		h, err := netstack.NewHost(e, prefixes(ours4))
		require.NoError(t, err)
		defer func() {
			assert.NoError(t, h.Close())
			assert.NoError(t, program.Close())
		}()
		here, err := h.ListenPacket("udp", ours4+":7")
		require.NoError(t, err)
		defer here.Close()
		from, err := net.Dial("udp", ours4+":7")
		require.NoError(t, err)
		defer from.Close()

		pattern, got := make([]byte, 1<<16+251), make([]byte, 1<<16)
		for i := range pattern {
			pattern[i] = byte(i % 251)
		}
		for frames := 1; frames <= 64; frames++ {
			for _, length := range []int{frames*perFrame - 1, frames * perFrame, frames*perFrame + 1} {
				size := length - headers
				if length > mtu+14 {
					continue
				}
				const atOnce = 8
				for i := range atOnce {
					_, err := from.Write(pattern[i:][:size])
					require.NoError(t, err)
				}
				for i := range atOnce {
					require.NoError(t, here.SetReadDeadline(time.Now().Add(testns.Patience(5*time.Second))))
					n, _, err := here.ReadFrom(got)
					require.NoError(t, err, "datagram %d of %d bytes, %v", i, size, e.Stats())
					require.Equal(t, pattern[i:][:size], got[:n])
				}
			}
		}
		assert.Zero(t, e.Stats().RxBad)
	})
}
