package split_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/split"
)

// What a listener has not received when it is closed goes back to the kernel.
func TestWhatWaitsForAClosedListenerComesBack(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		l := newLink(t, mode, 1, xsk.Config{})
		s := l.run(t)
		m, err := s.Listen(nil)
		require.NoError(t, err)
		tap, err := s.Tap(nil)
		require.NoError(t, err)
		l.send(t, 0, make([]flow, 40)...)
		within(t, func() bool { return m.Stats().Waiting == 40 && tap.Stats().Waiting == 40 })
		require.NoError(t, m.Close())
		require.NoError(t, tap.Close())
		assert.EqualValues(t, 40, m.Stats().Dropped)
		within(t, func() bool {
			f := l.near[0].Stats().Frames
			return f.User+f.Loan == 0
		})
	})
}

// The copy of a packet has what stands before it, as far as a driver's metadata goes.
func TestACopyHasTheMetadataOfItsPacket(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	q := l.near[0]
	tap, err := split.NewTap(q, nil)
	require.NoError(t, err)
	packet := make([]xsk.Frame, 1)
	_, err = q.Alloc(packet)
	require.NoError(t, err)
	f := &packet[0]
	f.Data = udp(f.Data, flow{1, 2}, 7)
	for round := range 3 {
		for i := range f.Metadata(32) {
			f.Metadata(32)[i] = byte(100*round + i)
		}
		tap.Copy(packet)
		copies := make([]xsk.Frame, 1)
		n, err := tap.Receive(copies)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		assert.Equal(t, f.Data, copies[0].Data)
		assert.Equal(t, f.Metadata(32), copies[0].Metadata(32))
	}
	require.NoError(t, tap.Close())
	_, _ = tap.TryReceive(nil) // ends the last loan
	f.Free()
	l.settled(t)
}

// However often it is asked, a Tap has as many frames as its Depth: empty ones, copies
// that wait, and those that it has lent.
func TestATapHasNoMoreFramesThanItsDepth(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	q := l.near[0]
	tap, err := split.NewTap(q, &split.Options{Depth: 16})
	require.NoError(t, err)
	packet := make([]xsk.Frame, 1)
	_, err = q.Alloc(packet)
	require.NoError(t, err)
	packet[0].Data = udp(packet[0].Data, flow{1, 2}, 7)
	copies := make([]xsk.Frame, 4)
	for range 50 {
		tap.Copy(packet)
		_, err = tap.TryReceive(copies)
		require.NoError(t, err)
		f := q.Stats().Frames
		require.LessOrEqual(t, f.User+f.Loan, 1+2*16, "%v", f)
	}
	require.NoError(t, tap.Close())
	_, _ = tap.TryReceive(nil)
	packet[0].Free()
	l.settled(t)
}
