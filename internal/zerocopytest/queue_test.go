package zerocopytest

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// open opens a Queue in zero copy that receives by p; nil p for one that only sends.
func open(t *testing.T, nic string, p xsk.XSKMap, c xsk.Config) *xsk.Queue {
	t.Helper()
	if c.Umem == nil && c.UmemConfig.Frames == 0 {
		c.UmemConfig = small
	}
	c.SocketConfig.BindFlags |= xsk.BindZeroCopy
	c.XSKMap = p
	q, err := xsk.Open(nic, 0, &c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	granted(t, q.Socket())
	require.NoError(t, q.SetDeadline(time.Now().Add(patience)))
	return q
}

// send sends packets number first, first+1 ... of these lengths, and waits for room
// and frames as often as it takes.
func send(t *testing.T, q *xsk.Queue, first int, lengths []int) {
	t.Helper()
	frames := make([]xsk.Frame, 64)
	for len(lengths) > 0 {
		n, err := q.Alloc(frames[:min(len(frames), len(lengths))])
		require.NoError(t, err)
		for i := range frames[:n] {
			f := &frames[i]
			f.Data = f.Data[:lengths[i]]
			fill(f.Data, first+i)
		}
		sent, err := q.Send(frames[:n])
		require.NoError(t, err)
		require.Equal(t, n, sent)
		first, lengths = first+n, lengths[n:]
	}
}

// expect receives what send has sent.
func expect(t *testing.T, q *xsk.Queue, first int, lengths []int) {
	t.Helper()
	frames := make([]xsk.Frame, 64)
	for got := 0; got < len(lengths); {
		n, err := q.Receive(frames[:min(len(frames), len(lengths)-got)])
		require.NoError(t, err, "%v", q.Stats())
		for i := range frames[:n] {
			check(t, frames[i].Data, first+got+i, lengths[got+i])
		}
		got += n
	}
}

// settled asserts that all frames are free or with the kernel to receive into, once
// what was sent is sent and loans are over.
func settled(t *testing.T, queues ...*xsk.Queue) {
	t.Helper()
	for _, q := range queues {
		within(t, "sending", func() bool {
			_, err := q.TrySend(nil) // takes back what was sent
			require.NoError(t, err)
			_, err = q.TryReceive(nil) // ends loans
			if !errors.Is(err, syscall.EINVAL) {
				require.NoError(t, err)
			}
			return q.Stats().Frames.Tx == 0
		})
		f := q.Stats().Frames
		assert.Equal(t, q.Umem().Frames(), f.Total(), "%v", q.Stats())
		assert.Zero(t, f.Loan+f.User, "%v", q.Stats())
	}
}

func TestQueueCarriesEveryByteOfEveryLength(t *testing.T) {
	for _, c := range []struct {
		name string
		umem xsk.UmemConfig
	}{
		{"frames of 2048", small},
		{"frames of 4096", xsk.UmemConfig{Frames: 256, FrameSize: 4096}},
		{"unaligned, headroom", odd},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, from, to string) {
				rx := open(t, to, attach(t, to), xsk.Config{UmemConfig: c.umem})
				tx := open(t, from, nil, xsk.Config{UmemConfig: c.umem, SocketConfig: xsk.SocketConfig{TxOnly: true}})
				first := 0
				for _, lengths := range everyLength(64) {
					send(t, tx, first, lengths)
					expect(t, rx, first, lengths)
					first += len(lengths)
				}
				settled(t, rx, tx)
			})
		})
	}
}

// A TX ring of 32 is full again and again. In zero copy no event tells of packets
// that were sent, nor does a kick send a certain number.
func TestSenderWaitsForRoom(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to string) {
		rx := open(t, to, attach(t, to), xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4096, FrameSize: 2048}})
		tx := open(t, from, nil, xsk.Config{UmemConfig: small, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 32}})
		lengths := make([]int, 1000)
		for i := range lengths {
			lengths[i] = shortest + i
		}
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for first := 0; first < len(lengths); first += 50 {
				send(t, tx, first, lengths[first:first+50])
			}
		}()
		// More are under way than the NIC has entries: an emulated one then gets them
		// out of order.
		frames, seen := make([]xsk.Frame, 64), map[int]bool{}
		for len(seen) < len(lengths) {
			n, err := rx.Receive(frames)
			require.NoError(t, err, "%v", rx.Stats())
			for i := range frames[:n] {
				number := len(frames[i].Data) - shortest
				check(t, frames[i].Data, number, lengths[number])
				require.False(t, seen[number], "twice")
				seen[number] = true
			}
		}
		<-sent
		settled(t, rx, tx)
	})
}

// A program that keeps every frame starves the driver. Once it gives them back, the
// Queue must wake the driver, or it would sleep for ever.
func TestQueueGoesOnAfterStarvation(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to string) {
		rx := open(t, to, attach(t, to), xsk.Config{RxFrames: 64, UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048, FillSize: 64}})
		tx := open(t, from, nil, xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
		for round := range 5 {
			var kept []xsk.Frame
			frames := make([]xsk.Frame, 64)
			lengths := make([]int, 64)
			for i := range lengths {
				lengths[i] = shortest + i
			}
			send(t, tx, round, lengths)
			for len(kept) < 64 {
				n, err := rx.Receive(frames[:64-len(kept)])
				require.NoError(t, err)
				for i := range frames[:n] {
					f := &frames[i]
					check(t, f.Data, round+len(kept), lengths[len(kept)])
					f.Keep()
					kept = append(kept, *f)
				}
			}
			_, err := rx.Receive(frames)
			require.ErrorIs(t, err, syscall.ENOBUFS)
			within(t, "the request to be woken", rx.Socket().Fill.NeedsWakeup)
			xsk.Free(kept)

			back := make(chan struct{})
			go func() {
				defer close(back)
				expect(t, rx, 500, []int{shortest})
			}()
			time.Sleep(time.Duration(round) * time.Millisecond) // before or after it waits
			send(t, tx, 500, []int{shortest})
			<-back
			settled(t, rx, tx)
		}
	})
}

func TestCloseAndBindAgain(t *testing.T) {
	for round := range 10 {
		eachWay(t, func(t *testing.T, from, to string) {
			rx := open(t, to, attach(t, to), xsk.Config{})
			tx := open(t, from, nil, xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
			send(t, tx, round, []int{60, 600, longest})
			expect(t, rx, round, []int{60, 600, longest})
			settled(t, rx, tx)
			require.NoError(t, rx.Close())
			require.NoError(t, tx.Close())
		})
	}
}
