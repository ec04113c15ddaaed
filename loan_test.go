package xsk_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// One goroutine receives and keeps, another one lends to a third, which echoes
// some, keeps some, frees some and leaves the rest to the end of its loan.
func TestALoanHandsReceivedFramesOn(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		client, server := queuePair(t, m, xsk.Config{})
		const packets, burst = 2000, 32
		handed := make(chan []xsk.Frame, 2)
		go func() {
			defer close(handed)
			frames := make([]xsk.Frame, burst)
			for total := 0; total < packets; {
				n, err := server.Receive(frames)
				if !assert.NoError(t, err) {
					return
				}
				xsk.Keep(frames[:n])
				handed <- append([]xsk.Frame(nil), frames[:n]...)
				total += n
			}
		}()
		seen := make(chan []bool)
		go func() {
			all := make([]bool, packets)
			defer func() { seen <- all }()
			var loan xsk.Loan
			var kept []xsk.Frame
			for frames := range handed {
				stale := frames[0]
				loan.Lend(frames)
				for len(kept) > 64 { // since earlier loans
					assert.Equal(t, 1, number(t, kept[0].Data)%4)
					kept[0].Free()
					kept = kept[1:]
				}
				assert.Panics(t, stale.Keep, "Lend made copies stale")
				for i := range frames {
					f := &frames[i]
					n := number(t, f.Data)
					assert.False(t, all[n], "packet %d came twice", n)
					all[n] = true
					switch n % 4 {
					case 0:
						_, err := server.Send(frames[i : i+1])
						assert.NoError(t, err)
					case 1:
						f.Keep()
						kept = append(kept, *f)
					case 2:
						f.Free()
					}
				}
			}
			loan.Lend(nil)
			xsk.Free(kept)
		}()
		frames, echoed := make([]xsk.Frame, burst), 0
		for first := 0; first < packets; first += 100 {
			sendPackets(t, client, first, 100, 60)
			for before := echoed; echoed < before+25; {
				n, err := client.Receive(frames)
				require.NoError(t, err)
				for i := range frames[:n] {
					require.Equal(t, 4*(echoed+i), number(t, frames[i].Data))
				}
				echoed += n
			}
		}
		for n, saw := range <-seen {
			assert.True(t, saw, n)
		}
		_, err := server.TryReceive(nil) // ends its own loan
		require.NoError(t, err)
		within(t, 5e9, func() bool {
			_, err := server.TrySend(nil)
			require.NoError(t, err)
			f := server.Stats().Frames
			return f.Free+f.Rx == 512
		})
	})
}

func TestALoanOutlivesItsQueue(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	sendPackets(t, a, 7, 1, 60)
	frames := make([]xsk.Frame, 1)
	_, err := b.Receive(frames)
	require.NoError(t, err)
	var loan xsk.Loan
	loan.Lend(frames) // straight from the receiver's loan
	require.Same(t, b.Umem(), frames[0].Umem())
	require.NoError(t, b.Close())
	_, err = b.TryReceive(frames[:0])
	require.Error(t, err)
	assert.True(t, b.Mapped())
	assert.Equal(t, 7, number(t, frames[0].Data))
	assert.Equal(t, 1, b.Stats().Frames.Loan, "lent by a Loan counts too")
	loan.Lend(nil)
	assert.False(t, b.Mapped())
	_, err = a.Send(frames)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.Panics(t, func() { loan.Lend(frames) })
	xsk.Keep([]xsk.Frame{{}})
	loan.Lend([]xsk.Frame{{}})
	assert.Nil(t, (&xsk.Frame{}).Umem())
}

func TestALoanDoesNotAllocate(t *testing.T) {
	a, _ := vethPair(t)
	q := openQueue(t, a, modes[0], xsk.Config{})
	var loan xsk.Loan
	frames := make([]xsk.Frame, 64)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		n, err := q.Alloc(frames)
		require.NoError(t, err)
		loan.Lend(frames[:n])
		xsk.Keep(frames[:n/2])
		loan.Lend(nil)
		xsk.Free(frames[:n/2])
	}))
}
