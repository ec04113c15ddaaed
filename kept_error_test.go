package xsk_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// The kernel tells the end of an interface once, to one caller. All later calls answer it
// too, and none of them waits, which the deadlines would end.
func TestTheErrorOfTheDeviceIsKept(t *testing.T) {
	a, b := vethPair(t)
	q := openQueue(t, a, modes[0], xsk.Config{})
	frames := make([]xsk.Frame, 1)
	_, err := q.Alloc(frames)
	require.NoError(t, err)
	defer xsk.Free(frames)
	frames[0].Data = frames[0].Data[:60]
	testns.IP(t, "link", "del", b)
	require.NoError(t, q.SetDeadline(time.Now().Add(5*time.Second)))
	for range 3 {
		_, err := q.Receive(make([]xsk.Frame, 8))
		require.ErrorIs(t, err, syscall.ENODEV)
		_, err = q.Send(frames)
		require.ErrorIs(t, err, syscall.ENODEV)
	}
}

// The memory of a closed Queue stays while a packet is lent, and goes when the loan ends.
func TestTheEndOfTheLastLoanReleasesTheMemory(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := queuePair(t, m, xsk.Config{})
		_, err := a.Send(write(t, a, 7, 1, 60))
		require.NoError(t, err)
		frames := make([]xsk.Frame, 8)
		n, err := b.Receive(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.NoError(t, b.Close())
		require.True(t, b.Mapped())
		assert.Equal(t, 7, number(t, frames[0].Data))
		_, err = b.Receive(frames)
		assert.ErrorIs(t, err, net.ErrClosed)
		assert.False(t, b.Mapped())
	})
}
