package xsk_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
)

// A descriptor that the kernel refuses comes back as completed, as Linux 6.18 does it: a
// program that keeps its own list of frames must not put the frame there by itself as well.
func TestRefusedDescriptorsAreCompleted(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, _ := newPair(t, m, small)
		good, bad := tx.frame(1), tx.frame(2)
		done := make([]xsk.Addr, 8)
		_, n, err := tx.TxBurst([]xsk.Desc{
			{Addr: bad, Len: 60, Options: 0x80000000},
			{Addr: good, Len: 60},
		}, done)
		require.NoError(t, err)
		within(t, 5*time.Second, func() bool {
			_, more, err := tx.TxBurst(nil, done[n:])
			require.NoError(t, err)
			n += more
			stats, err := tx.Stats()
			require.NoError(t, err)
			return n >= 1 && stats.TxInvalidDescs == 1
		})
		time.Sleep(5 * time.Millisecond)
		_, more, err := tx.TxBurst(nil, done[n:])
		require.NoError(t, err)
		if kernel.AtLeast("6.18 completions of refused descriptors") {
			assert.ElementsMatch(t, []xsk.Addr{bad, good}, done[:n+more])
		} else {
			assert.Contains(t, done[:n+more], good)
		}
	})
}

// Without room to receive into there is nothing to wait for, however quickly packets came.
func TestRxBurstWaitWithoutRoomDoesNotWait(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		rx.Fill.Produce(rx.frames(0, 64))
		for i := range 32 { // they come quickly
			tx.send(t, i, 1, 60)
			_, n, err := rx.RxBurstWait(nil, make([]xsk.Desc, 1), 5*time.Second, 0)
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		start := time.Now()
		filled, n, err := rx.RxBurstWait(rx.frames(64, 3), nil, 10*time.Second, time.Millisecond)
		require.NoError(t, err)
		assert.Equal(t, 3, filled)
		assert.Zero(t, n)
		assert.Less(t, time.Since(start), 9*time.Second)
	})
}

func TestQueueAndSocketNameTheirInterfaceAndQueue(t *testing.T) {
	a, _ := vethPair(t)
	q := openQueue(t, a, modes[0], xsk.Config{})
	assert.Equal(t, a, q.Interface())
	assert.Zero(t, q.QueueID())
	assert.Equal(t, a, q.Socket().Interface())
	assert.Zero(t, q.Socket().QueueID())
	require.NoError(t, q.Close())
	assert.Equal(t, a, q.Interface(), "after Close, too")
	assert.Equal(t, a, q.Socket().Interface())
}

// libxdp 1.3.1 keeps two descriptors for each socket that its own program serves: the map
// and the program. More would be news, and ours.
func TestLibxdpsProgramLeavesTwoDescriptorsAtMost(t *testing.T) {
	a, _ := vethPair(t)
	cycle := func() {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, u.Close())
	}
	cycle()
	const cycles = 4
	before := openFiles(t)
	for range cycles {
		cycle()
	}
	left := openFiles(t) - before
	t.Logf("%d descriptors in %d cycles", left, cycles)
	assert.LessOrEqual(t, left, 2*cycles)
}
