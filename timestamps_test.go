package xsk_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// stamps takes n timestamps of q.
func stamps(t *testing.T, q *xsk.Queue, n int) []xsk.TxTimestamp {
	t.Helper()
	all, got := make([]xsk.TxTimestamp, n+1), 0
	within(t, 5*time.Second, func() bool {
		k, err := q.TxTimestamps(all[got:])
		require.NoError(t, err)
		got += k
		return got >= n
	})
	return all[:got]
}

// Linux 6.18 completes a packet at an odd address as the one before it.
func TestTimestampOfAPacketAtAnOddAddressWithMetadata(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		tx, _ := metadataQueues(t, m, 0)
		frames := udpFrames(t, tx, 0, 4)
		for i := range frames {
			f := &frames[i]
			f.Data = f.Data[i:]
			require.NoError(t, f.Request(xsk.TxRequest{ID: uint64(i), Timestamp: true}))
		}
		before := tai(t)
		_, err := tx.Send(frames)
		require.NoError(t, err)
		for _, s := range stamps(t, tx, 4) {
			assert.GreaterOrEqual(t, s.Time, before, "packet %d", s.ID)
			assert.LessOrEqual(t, s.Time, tai(t))
		}
	})
}

// A frame that waited for a timestamp when its Queue was closed waits no longer as
// a fragment of another packet.
func TestTimestampOfAClosedQueueIsNoFragmentsWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	a, _ := vethPair(t)
	first, _ := vethPair(t)
	c := withTxMetadata(0)
	u := newUmem(t, &c)
	sends := xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer, TxOnly: true, TxSize: 64}}
	openQueue(t, first, modes[1], sends)
	q, err := xsk.Open(a, 0, &sends)
	require.NoError(t, err)
	testns.IP(t, "link", "set", a, "down") // nothing is sent
	frames := udpFrames(t, q, 0, 64)
	for i := range frames {
		require.NoError(t, frames[i].Request(xsk.TxRequest{Timestamp: true}))
	}
	n, err := q.TrySend(frames)
	require.NoError(t, err)
	require.Equal(t, 64, n)
	require.NoError(t, q.Close())

	testns.IP(t, "link", "set", a, "up")
	q = openQueue(t, a, modes[1], sends)
	parts := udpFrames(t, q, 0, 512)
	for from := 0; from < 512; from += 32 {
		packets := parts[from : from+16]
		for i := range packets {
			packets[i].Frags = parts[from+16+i : from+16+i+1]
		}
		_, err = q.Send(packets)
		require.NoError(t, err)
	}
	within(t, 5*time.Second, func() bool {
		_, err := q.TrySend(nil)
		return assert.NoError(t, err) && q.Stats().Frames.Tx == 0
	})
	n, err = q.TxTimestamps(make([]xsk.TxTimestamp, 1))
	require.NoError(t, err)
	assert.Zero(t, n)
}

func TestTimestampsOfAClosedQueueWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	tx, rx := metadataQueues(t, modes[0], 0)
	frames := udpFrames(t, tx, 0, 1)
	require.NoError(t, frames[0].Request(xsk.TxRequest{Timestamp: true}))
	_, err := tx.Send(frames)
	require.NoError(t, err)
	require.NoError(t, tx.Close())
	_, err = tx.TxTimestamps(make([]xsk.TxTimestamp, 1))
	assert.True(t, errors.Is(err, os.ErrClosed), fmt.Sprint(err))
	_ = rx
}
