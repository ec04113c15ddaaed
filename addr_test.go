package xsk

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAddrTakesBaseAndOffsetApart(t *testing.T) {
	a := Addr(5<<48 | 4096)
	assert.Equal(t, Addr(4096), a.Base())
	assert.EqualValues(t, 5, a.Offset())
	assert.Equal(t, Addr(4101), a.Data())
	assert.Equal(t, Addr(4352), Addr(4352).Data())
}

// FuzzLayout holds the arithmetic of both modes against the plain rule: frame i is
// the bytes from i*size to (i+1)*size.
func FuzzLayout(f *testing.F) {
	f.Add(uint16(2048), uint32(7), uint16(256), uint16(60), false)
	f.Add(uint16(4001), uint32(1), uint16(0), uint16(4001), true)
	f.Add(uint16(4096), uint32(4095), uint16(4095), uint16(1), true)
	f.Fuzz(func(t *testing.T, size uint16, index uint32, offset, length uint16, unaligned bool) {
		size = 2048 + size%2049
		flags := UmemUnalignedChunk
		if !unaligned {
			size, flags = 2048<<(size%2), 0
		}
		const frames = 64
		index %= frames
		offset %= size
		l := newLayout(frames, int(size), flags)
		first, end := l.span(index)
		require.Equal(t, uint64(index)*uint64(size), first)
		require.Equal(t, first+uint64(size), end)
		require.EqualValues(t, first, l.addr(index))
		posted, there := l.addr(index), l.addr(index)+Addr(offset)
		received := there
		if unaligned {
			received = posted | Addr(offset)<<addrOffsetShift
		}
		require.Equal(t, there, received.Data())
		for _, a := range []Addr{posted, there, received} {
			require.Equal(t, index, l.frameOf(a))
		}
		if offset < size-1 { // as it was sent, or without its lowest bit
			for _, a := range []Addr{there, there &^ 1, received, received &^ 1} {
				require.Equal(t, index, l.sentFrame(a), "%#x", uint64(a))
			}
		}

		// Bytes gives what lies inside of the frame and nothing else.
		u := &Umem{layout: l, area: make([]byte, frames*int(size))}
		d := Desc{Addr: received, Len: uint32(length)}
		if int(offset)+int(length) > int(size) {
			require.Panics(t, func() { u.Bytes(d) })
			return
		}
		b := u.Bytes(d)
		require.Len(t, b, int(length))
		require.Equal(t, int(size)-int(offset), cap(b))
	})
}

func TestFrameOfAnAddressBeyondAllFrames(t *testing.T) {
	for _, flags := range []UmemFlags{0, UmemUnalignedChunk} {
		l := newLayout(16, 2048, flags)
		assert.EqualValues(t, 16, l.frameOf(16*2048))
		assert.GreaterOrEqual(t, l.frameOf(1<<47), uint32(16))
	}
	l := newLayout(16, 2048, 0)
	assert.EqualValues(t, math.MaxUint32, l.frameOf(math.MaxUint64), "not 16 bits of it")
}
