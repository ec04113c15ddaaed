package kerneltest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// queueUnaligned is SEND_RECEIVE_UNALIGNED through Queues: frames of many sizes,
// with and without headroom, received, kept, prepended to, and sent on.
func queueUnaligned(t *testing.T, m mode) {
	for _, u := range []xsk.UmemConfig{unaligned(2048), unaligned(2050), unaligned(3000), unaligned(4001), unaligned(4096)} {
		u.Frames, u.Headroom = 300, u.FrameSize%100
		a, b := pair(t, m, xsk.Config{UmemConfig: u})
		length := min(1500, b.Umem().MaxPacket())
		queueExchange(t, a, b, 1024, 64, length)
		frames := make([]xsk.Frame, 16)
		for round := range 40 { // every frame several times
			send(t, a, round, 16, length)
			each(t, b, 16, func(i int, f *xsk.Frame) {
				f.Keep()
				require.Equal(t, round+i, number(f.Data))
				require.Equal(t, u.FrameSize-256-u.Headroom, cap(f.Data))
				require.False(t, f.Prepend(256+u.Headroom+1))
				require.True(t, f.Prepend(256+u.Headroom))
				require.Equal(t, u.FrameSize, cap(f.Data))
				f.Data = f.Data[:length-100] // from the frame's first byte
				fill(f.Data, 1000+round+i)
				frames[i] = *f
			})
			n, err := b.Send(frames)
			require.NoError(t, err)
			require.Equal(t, 16, n)
			expect(t, a, 1000+round, 16)
			_, err = b.Send(frames[:1])
			require.ErrorContains(t, err, "is stale")
		}
		settled(t, 0, a, b)
		assert.EqualValues(t, 1024+40*16, b.Stats().RxPackets)
	}
}

// queueUnalignedInvalid is UNALIGNED_INV_DESC through Queues: Send knows where a
// frame ends, which the kernel does not.
func queueUnalignedInvalid(size int) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{UmemConfig: unaligned(size)})
		good := write(t, a, 5, 1, 60)[0]
		room := cap(good.Data)
		for about, data := range map[string][]byte{
			"into the next frame":   wider(good.Data, room+1),
			"before the frame":      before(good.Data, 256+1),
			"of the next frame":     wider(good.Data, room+100)[room+1:],
			"not of any frame":      make([]byte, 60),
			"the frame after a lot": wider(good.Data, 10*size)[9*size:],
		} {
			wrong := good
			wrong.Data = data
			n, err := a.Send([]xsk.Frame{wrong})
			assert.Zero(t, n, about)
			assert.ErrorContains(t, err, "lies outside of it", about)
		}
		n, err := a.Send([]xsk.Frame{good})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		expect(t, b, 5, 1)
		settled(t, 0, a, b)
		assert.Zero(t, must(a.Socket().Stats()).TxInvalidDescs)
	}
}
