package kerneltest

import (
	"errors"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// packet makes one Frame of a packet of any length.
func packet(t *testing.T, q *xsk.Queue, k, length int) xsk.Frame {
	t.Helper()
	bytes := make([]byte, length)
	fill(bytes, k)
	var parts []xsk.Frame
	for len(bytes) > 0 {
		one := make([]xsk.Frame, 1)
		_, err := q.Alloc(one)
		require.NoError(t, err)
		n := min(len(bytes), cap(one[0].Data))
		one[0].Data = append(one[0].Data, bytes[:n]...)
		bytes = bytes[n:]
		parts = append(parts, one[0])
	}
	f := parts[0]
	f.Frags = parts[1:]
	return f
}

func TestJumboPacketsOfAllLengthsAndBurstsThatEndInTheMiddle(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		nameA, nameB := testns.Veth{MTU: 9000}.Make(t)
		c := xsk.Config{
			UmemConfig:   xsk.UmemConfig{Frames: 256},
			SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer, TxSize: 64, RxSize: 64},
		}
		c.XSKMap = attach(t, nameA, m)
		a := open(t, nameA, 0, c)
		c.XSKMap = attach(t, nameB, m)
		b := open(t, nameB, 0, c)

		lengths := make([]int, 600)
		for k := range lengths {
			if lengths[k] = 60 + rand.IntN(8955); k%5 == 0 {
				lengths[k] = []int{60, 3840, 3841, 7680, 9014}[k/5%5]
			}
		}
		var kept []xsk.Frame
		all := make([]byte, 10000)
		take := func(max int) (n int) {
			frames := make([]xsk.Frame, 1+rand.IntN(max)) // ends in the middle, often
			require.NoError(t, b.SetReadDeadline(time.Now().Add(patience)))
			n, err := b.Receive(frames)
			require.NoError(t, err, "%v", b.Stats())
			for i := range frames[:n] {
				f := &frames[i]
				k := number(all[:f.CopyTo(all)])
				require.GreaterOrEqual(t, k, 0, "a corrupt packet of %d bytes", f.Len())
				require.Equal(t, lengths[k], f.Len())
				require.Len(t, f.Frags, (f.Len()-1)/3840)
				switch rand.IntN(3) {
				case 0:
					f.Keep()
					kept = append(kept, *f)
				case 1:
					f.Free()
				}
			}
			if len(kept) > 10 {
				xsk.Free(kept)
				kept = nil
			}
			return n
		}
		for k, received := 0, 0; received < len(lengths); {
			burst := min(1+rand.IntN(6), len(lengths)-k)
			var frames []xsk.Frame
			for range burst {
				frames = append(frames, packet(t, a, k, lengths[k]))
				k++
			}
			n, err := a.Send(frames)
			require.NoError(t, err)
			require.Equal(t, burst, n)
			for received < k {
				received += take(4)
			}
		}
		for i := range kept {
			require.GreaterOrEqual(t, number(all[:kept[i].CopyTo(all)]), 0)
		}
		xsk.Free(kept)
		settled(t, 0, a, b)
		assert.EqualValues(t, len(lengths), b.Stats().RxPackets)

		// A receiver that falls behind loses whole packets, and no frame.
		lengths = append(lengths, 9014)
		for range 100 {
			_, err := a.Send([]xsk.Frame{packet(t, a, len(lengths)-1, 9014)})
			require.NoError(t, err)
		}
		kept = nil
		for {
			require.NoError(t, b.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
			frames := make([]xsk.Frame, 3)
			n, err := b.Receive(frames)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			require.NoError(t, err)
			for i := range frames[:n] {
				require.Equal(t, len(lengths)-1, number(all[:frames[i].CopyTo(all)]))
			}
		}
		settled(t, 0, a, b)

		// Wrong chains are refused by the address of the whole and the part.
		f, g := packet(t, a, 0, 9014), packet(t, a, 0, 60)
		for about, frags := range map[string][]xsk.Frame{
			"fragment 1 of frame ":  {f.Frags[0], {}},
			"fragment 0 of frame ":  {f, f.Frags[0]},
			"are 20, 18 make a":     make([]xsk.Frame, 19),
			"is with the kernel to": {g, g},
		} {
			wrong := f
			wrong.Frags = frags
			n, err := a.Send([]xsk.Frame{wrong})
			assert.Zero(t, n)
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, about)
			assert.ErrorContains(t, err, address(a, f))
		}
		n, err := a.Send([]xsk.Frame{f, g})
		require.NoError(t, err)
		require.Equal(t, 2, n)
		settled(t, 0, a)
	})
}
