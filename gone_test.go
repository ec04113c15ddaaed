package xsk_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A port comes and goes, and each time its frames serve the healthy one again, whether
// the Queue is closed after the end of the interface or before. At last the Umem's first
// interface goes, and the other one has all frames.
func TestFramesOfAnInterfaceThatIsGoneComeBack(t *testing.T) {
	ways := map[string]func(q *xsk.Queue, name string){
		"closed after": func(q *xsk.Queue, name string) {
			testns.IP(t, "link", "del", name)
			_, err := q.Receive(make([]xsk.Frame, 1))
			require.ErrorIs(t, err, syscall.ENODEV)
			require.NoError(t, q.Close())
		},
		"closed before": func(q *xsk.Queue, name string) {
			require.NoError(t, q.Close())
			testns.IP(t, "link", "del", name)
		},
	}
	for way, end := range ways {
		t.Run(way, func(t *testing.T) {
			inEachMode(t, func(t *testing.T, m mode) {
				u := newUmem(t, &xsk.UmemConfig{Frames: 256, FrameSize: 2048})
				config := xsk.Config{Umem: u, RxFrames: 64}
				nearA, farA := vethPair(t)
				nearB, _ := vethPair(t)
				first := openQueue(t, nearB, m, config)
				healthy, peer := openQueue(t, nearA, m, config), openQueue(t, farA, m, xsk.Config{})
				for i := range 17 {
					q, name := first, nearB
					if i < 16 {
						name, _ = vethPair(t)
						q = openQueue(t, name, m, config)
					}
					require.NoError(t, q.SetWriteDeadline(time.Now().Add(testns.Patience(5*time.Second))))
					sendPackets(t, q, 0, 10, 60)
					end(q, name)
					if way == "closed after" {
						require.Zero(t, healthy.Stats().Frames.Retired, "the kernel had let go")
					}
				}
				frames, got := make([]xsk.Frame, 192), 0
				require.NoError(t, healthy.SetWriteDeadline(time.Now().Add(testns.Patience(5*time.Second))))
				for got < len(frames) {
					n, err := healthy.Alloc(frames[got:])
					require.NoError(t, err, "%v", healthy.Stats())
					got += n
				}
				assert.Zero(t, healthy.Stats().Frames.Retired)
				xsk.Free(frames)
				sendPackets(t, peer, 7, 1, 60)
				require.NoError(t, healthy.SetReadDeadline(time.Now().Add(testns.Patience(5*time.Second))))
				n, err := healthy.Receive(frames)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				assert.Equal(t, 7, number(t, frames[0].Data))
			})
		})
	}
}

// What is out of use for good is in the text of ENOBUFS.
func TestENOBUFSCountsTheRetired(t *testing.T) {
	a, _ := vethPair(t)
	b, far := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 128, FrameSize: 2048})
	other := openQueue(t, a, modes[0], xsk.Config{Umem: u, RxFrames: 64})
	q, peer := openQueue(t, b, modes[0], xsk.Config{Umem: u, RxFrames: 64}), openQueue(t, far, modes[0], xsk.Config{})
	require.NoError(t, other.Close())
	frames, kept := make([]xsk.Frame, 64), []xsk.Frame{}
	sendPackets(t, peer, 0, 64, 60)
	for len(kept) < 64 {
		n, err := q.Receive(frames)
		require.NoError(t, err)
		xsk.Keep(frames[:n])
		kept = append(kept, frames[:n]...)
	}
	_, err := q.Receive(frames)
	require.ErrorIs(t, err, syscall.ENOBUFS)
	assert.ErrorContains(t, err, "of 128 the program keeps 64, and 0 are being sent, and 64 went out of use with queues that were closed")
	xsk.Free(kept)
}

// reopened is a Queue beside which another was opened and closed n times.
func reopened(t testing.TB, n int) *xsk.Queue {
	stays, _ := vethPair(t)
	other, _ := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 64, FrameSize: 2048})
	program := redirect(t, other, modes[0])
	first := openQueue(t, stays, modes[0], xsk.Config{Umem: u, RxFrames: 16})
	for range n {
		q, err := xsk.Open(other, 0, &xsk.Config{Umem: u, RxFrames: 16, XSKMap: program})
		require.NoError(t, err)
		require.NoError(t, q.Close())
	}
	return first
}

// The numbers of closed Queues are used again.
func TestReopeningAQueueCostsNothing(t *testing.T) {
	n := 20
	q := reopened(t, n)
	assert.LessOrEqual(t, q.Shards(), 4)
	require.NoError(t, q.Balance())
}

// How long an Alloc without success takes does not depend on how many Queues were
// closed on the Umem before. An Open takes some 10 ms, so ten thousand are made below
// the Queues.
func BenchmarkTryAllocAfterReopens(b *testing.B) {
	for _, n := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q := reopened(b, min(n, 10))
			q.Reopen(n - min(n, 10))
			all := make([]xsk.Frame, 64)
			got, err := q.TryAlloc(all)
			require.NoError(b, err)
			frames := make([]xsk.Frame, 1)
			for b.Loop() {
				_, _ = q.TryAlloc(frames)
			}
			xsk.Free(all[:got])
		})
	}
}
