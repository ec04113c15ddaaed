package xsk_test

import (
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// A frame behind another one takes a shorter way through Send, which must refuse the
// same: what begins before its frame, ends behind it, or is no packet at all.
func TestSendRefusesAWrongFrameBehindAGoodOne(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	first := 0
	for about, spoil := range map[string]func(data []byte) []byte{
		"ends a byte behind":     func(d []byte) []byte { return unsafe.Slice(unsafe.SliceData(d), cap(d)+1) },
		"begins a byte before":   func(d []byte) []byte { return unsafe.Slice(before(d, 257), 60) },
		"is of the next frame":   func(d []byte) []byte { return unsafe.Slice(before(d, -cap(d)-1), 60) },
		"is of no frame":         func([]byte) []byte { return make([]byte, 60) },
		"is empty":               func(d []byte) []byte { return d[:0] },
		"has no Ethernet header": func(d []byte) []byte { return d[:13] },
	} {
		frames := write(t, a, first, 3, 60)
		good := frames[1]
		frames[1].Data = spoil(frames[1].Data[:60:cap(frames[1].Data)])
		n, err := a.Send(frames)
		assert.Equal(t, 1, n, about)
		assert.ErrorIs(t, err, syscall.EINVAL, about)
		frames[1] = good
		n, err = a.Send(frames[1:])
		require.NoError(t, err, about)
		require.Equal(t, 2, n)
		received := make([]xsk.Frame, 3)
		for got := 0; got < 3; {
			n, err := b.Receive(received[:3-got])
			require.NoError(t, err)
			for i := range received[:n] {
				require.Equal(t, first+got+i, number(t, received[i].Data), about)
			}
			got += n
		}
		first += 3
	}
	assert.Zero(t, a.Strange())
}

// before is where n bytes come before b; less than 0 is behind its beginning.
func before(b []byte, n int) *byte {
	return (*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -n))
}

// To append to a packet never reaches into the next frame.
func TestReceivedDataEndsWithItsFrame(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := queuePair(t, m, xsk.Config{})
		room := b.Umem().FrameSize() - 256
		frames := make([]xsk.Frame, 64)
		sendPackets(t, a, 0, 20, 60)
		for got := 0; got < 20; {
			n, err := b.Receive(frames)
			require.NoError(t, err)
			for i := range frames[:n] {
				require.Equal(t, room, cap(frames[i].Data))
			}
			got += n
		}
		for _, f := range write(t, a, 0, 20, 60) {
			require.Equal(t, room, cap(f.Data))
			f.Free()
		}
	})
}
