package xsk_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// A burst takes back what was sent before it, and then what it has sent itself: each
// frame once, one behind the other.
func TestOneTxBurstTakesBackTwice(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		rx.Fill.Produce(rx.frames(0, 256))
		descs := func(first, n int) []xsk.Desc {
			all := make([]xsk.Desc, n)
			for i, a := range tx.frames(first, n) {
				all[i] = xsk.Desc{Addr: a, Len: 60}
				fillPacket(tx.umem.Bytes(all[i]), first+i)
			}
			return all
		}
		queued, completed, err := tx.TxBurst(descs(0, 20), nil)
		require.NoError(t, err)
		require.Equal(t, 20, queued)
		require.Zero(t, completed)
		rx.receive(t, 20)
		done := make([]xsk.Addr, 64)
		queued, completed, err = tx.TxBurst(descs(20, 10), done)
		require.NoError(t, err)
		require.Equal(t, 10, queued)
		rx.receive(t, 10)
		within(t, 5*time.Second, func() bool {
			_, n, err := tx.TxBurst(nil, done[completed:])
			require.NoError(t, err)
			completed += n
			return completed == 30
		})
		back := slices.Clone(done[:completed])
		slices.Sort(back)
		assert.Equal(t, tx.frames(0, 30), back)
	})
}
