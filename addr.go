package xsk

import (
	"math"
	"math/bits"
)

// An Addr is a byte offset into a Umem, as the rings carry it. In unaligned
// mode ([UmemUnalignedChunk]) its upper 16 bits hold an offset that the kernel
// added; Base, Offset and Data take the two apart, and pass an aligned address
// unchanged.
type Addr uint64

// addrOffsetShift is XSK_UNALIGNED_BUF_OFFSET_SHIFT.
const addrOffsetShift = 48

// Base is a without its offset, the address that was posted to the fill ring
// (xsk_umem__extract_addr).
func (a Addr) Base() Addr { return a & (1<<addrOffsetShift - 1) }

// Offset is a's offset alone, in bytes (xsk_umem__extract_offset).
func (a Addr) Offset() uint64 { return uint64(a >> addrOffsetShift) }

// Data is Base plus Offset, where the packet begins
// (xsk_umem__add_offset_to_addr).
func (a Addr) Data() Addr { return a.Base() + Addr(a.Offset()) }

// A layout is how memory is cut into frames of equal size, one behind the other,
// and says in which frame an address falls, in both modes. In unaligned mode a
// frame has any size, and its number takes a division.
type layout struct {
	frames    int
	frameSize uint64
	mask      uint64 // frameSize-1; 0 in unaligned mode
	shift     int    // frameSize is 1<<shift; -1 in unaligned mode
}

func newLayout(frames, frameSize int, flags UmemFlags) layout {
	l := layout{frames: frames, frameSize: uint64(frameSize), shift: -1}
	if flags&UmemUnalignedChunk == 0 {
		l.mask, l.shift = l.frameSize-1, bits.TrailingZeros64(l.frameSize)
	}
	return l
}

// frameOf is the number of the frame that a falls in, of the fill ring, the RX
// ring or the TX ring. It may be beyond the last.
func (l *layout) frameOf(a Addr) uint32 {
	var index uint64
	if l.shift >= 0 {
		index = uint64(a) >> l.shift
	} else {
		index = uint64(a.Base()) / l.frameSize
	}
	return uint32(min(index, math.MaxUint32))
}

// sentFrame is frameOf for the completion ring. Linux 6.18 clears the lowest bit
// of an address there, which of a packet at the start of a frame at an odd address
// would name the frame before. A packet has more than one byte, so the bit may as
// well be set.
func (l *layout) sentFrame(a Addr) uint32 { return l.frameOf(a | 1) }

// addr is where frame index begins.
func (l *layout) addr(index uint32) Addr { return Addr(uint64(index) * l.frameSize) }

// span is where frame index begins and where it ends.
func (l *layout) span(index uint32) (first, end uint64) {
	first = uint64(index) * l.frameSize
	return first, first + l.frameSize
}

// packet is where the packet of a descriptor begins, and where its frame ends in
// memory of size bytes. In unaligned mode a frame is what is posted or sent, from
// any address on.
func (l *layout) packet(d Desc, size int) (start, end uint64) {
	start = uint64(d.Addr.Data())
	if l.mask != 0 {
		return start, (start | l.mask) + 1
	}
	return start, min(uint64(d.Addr.Base())+l.frameSize, uint64(size))
}
