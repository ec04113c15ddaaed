package xsk_test

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A park lasts a second at most: a deadline, and Close, end it sooner. Ten in a row take
// half a second then, and ten without.
func TestDeadlinesAndCloseEndAParkSooner(t *testing.T) {
	limit := testns.Patience(7 * time.Second)
	a, b := queuePair(t, modes[0], xsk.Config{})
	frames := make([]xsk.Frame, 8)
	start := time.Now()
	for range 10 {
		require.NoError(t, a.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		_, err := a.Receive(frames)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	}
	assert.Less(t, time.Since(start), limit, "deadlines that were set before")
	require.NoError(t, a.SetReadDeadline(time.Time{}))

	start = time.Now()
	for range 10 {
		time.AfterFunc(20*time.Millisecond, func() { _ = a.SetReadDeadline(time.Now()) })
		_, err := a.Receive(frames)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, a.SetReadDeadline(time.Time{}))
	}
	assert.Less(t, time.Since(start), limit, "deadlines that were set meanwhile")
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())

	parked := time.Duration(0)
	for range 10 {
		q, _ := queuePair(t, modes[0], xsk.Config{})
		ended := make(chan error)
		go func() {
			_, err := q.Receive(frames)
			ended <- err
		}()
		time.Sleep(20 * time.Millisecond) // it is parked by now
		start := time.Now()
		require.NoError(t, q.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		parked += time.Since(start)
	}
	assert.Less(t, parked, limit, "Close wakes who receives")

	parked = 0
	for range 10 {
		a, _ := vethPair(t)
		q := openQueue(t, a, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 64}})
		testns.IP(t, "link", "set", a, "down")
		ended := make(chan error)
		go func() { // the kernel takes none of them
			_, err := q.Send(write(t, q, 0, 65, 60))
			ended <- err
		}()
		within(t, 5*time.Second, func() bool { return q.Stats().Frames.Tx == 64 })
		time.Sleep(20 * time.Millisecond)
		start := time.Now()
		require.NoError(t, q.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		parked += time.Since(start)
	}
	assert.Less(t, parked, limit, "Close wakes who sends")
}

// Alloc waits for a frame, until the write deadline.
func TestAllocHonoursDeadlines(t *testing.T) {
	q, _ := queuePair(t, modes[0], xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}})
	all := make([]xsk.Frame, 64)
	n, err := q.Alloc(all)
	require.NoError(t, err)
	require.Equal(t, 32, n, "half is for receiving")
	one := make([]xsk.Frame, 1)
	failed := make(chan error)
	alloc := func() {
		_, err := q.Alloc(one)
		failed <- err
	}
	soon := func(about string) {
		t.Helper()
		select {
		case err := <-failed:
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, about)
		case <-time.After(testns.Patience(10 * time.Second)):
			_ = q.Close()
			require.Fail(t, "Alloc goes on waiting", about)
		}
	}
	require.NoError(t, q.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
	go alloc()
	soon("set before")
	require.NoError(t, q.SetWriteDeadline(time.Time{}))
	go alloc()
	time.Sleep(20 * time.Millisecond)
	require.NoError(t, q.SetWriteDeadline(time.Now()))
	soon("set meanwhile")

	require.NoError(t, q.SetWriteDeadline(time.Time{}))
	time.AfterFunc(20*time.Millisecond, func() { all[0].Free() })
	n, err = q.Alloc(one)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	xsk.Free(one)
	xsk.Free(all[1:32])
}
