package xsk_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

func TestKeptFramesOutliveLoanAndQueue(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	sendPackets(t, a, 0, 10, 60)
	frames, kept := make([]xsk.Frame, 10), []xsk.Frame{}
	for len(kept) < 5 {
		n, err := b.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:n] {
			if f := &frames[i]; number(t, f.Data)%2 == 0 {
				f.Keep()
				kept = append(kept, *f)
			}
		}
	}
	_, err := b.TryReceive(frames)
	require.NoError(t, err)
	assert.Equal(t, 5, b.Stats().Frames.User)
	require.NoError(t, b.Close())
	for i := range kept {
		assert.Equal(t, 2*i, number(t, kept[i].Data))
		kept[i].Data[0] = 1
	}
	xsk.Free(kept)
	assert.Panics(t, func() { xsk.Free(kept[:1]) })
}

func TestStaleAndForeignFramesAreRefusedByAddress(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	refused := func(why string, f xsk.Frame) {
		t.Helper()
		n, err := a.Send([]xsk.Frame{f})
		assert.Zero(t, n)
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, why)
		assert.ErrorContains(t, err, "xsk: send "+"va")
	}
	f := write(t, a, 0, 1, 60)[0]
	empty, short, long, outside := f, f, f, f
	empty.Data = f.Data[:0]
	short.Data = f.Data[:13]
	outside.Data = make([]byte, 60)
	refused("was Data set on a copy?", empty)
	refused("13 bytes, less than an Ethernet header", short)
	refused("lies outside of it", outside)
	long.Data = write(t, a, 1, 1, 60)[0].Data
	refused("lies outside of it", long)
	refused("came from neither Receive nor Alloc", xsk.Frame{Data: make([]byte, 60)})
	refused("belongs to another Umem", write(t, b, 0, 1, 60)[0])
	n, err := a.Send([]xsk.Frame{f, f})
	assert.Equal(t, 1, n)
	assert.ErrorContains(t, err, "is with the kernel to be sent")
	refused("stale", f)
	g := write(t, a, 2, 1, 60)[0]
	g.Free()
	refused("stale", g)
}

func TestPrependIsForWhoHasTheFrame(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	f := write(t, a, 0, 1, 60)[0]
	tagged := f
	require.True(t, tagged.Prepend(4))
	assert.Len(t, tagged.Data, 64)
	assert.Equal(t, f.Data, tagged.Data[4:])
	assert.False(t, tagged.Prepend(253), "256 bytes are before it")
	assert.False(t, tagged.Prepend(-1))
	assert.Len(t, tagged.Data, 64)
	_, err := a.Send([]xsk.Frame{tagged})
	require.NoError(t, err)
	assert.False(t, f.Prepend(4), "it was sent")
	assert.Len(t, f.Data, 60)

	frames := make([]xsk.Frame, 1)
	_, err = b.Receive(frames)
	require.NoError(t, err)
	lent := frames[0]
	require.True(t, lent.Prepend(4))
	_, err = b.TryReceive(frames)
	require.NoError(t, err)
	assert.False(t, lent.Prepend(4), "the loan is over")
	lent = write(t, b, 0, 1, 60)[0]
	lent.Free()
	assert.False(t, lent.Prepend(4), "it was freed")
	assert.False(t, new(xsk.Frame).Prepend(0))
}
