package packet

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNumberKeepsTheChecksumRight(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	numbers := []uint64{0, 1, 2, 0xffff, 0x10000, math.MaxUint32, math.MaxUint64 - 1, math.MaxUint64}
	for range 100 {
		numbers = append(numbers, random.Uint64())
	}
	for size := MinSize; size <= 3840; size += 1 + size/20 {
		template := NewTemplate(testFlow(), size)
		frame := make([]byte, size)
		template.Prepare(frame)
		for _, n := range numbers {
			template.Number(frame, n)
			ip, udp := referenceChecksums(frame)
			require.Equal(t, ip, binary.BigEndian.Uint16(frame[24:]), "IPv4 checksum of %d in %d bytes", n, size)
			require.Equal(t, udp, binary.BigEndian.Uint16(frame[40:]), "UDP checksum of %d in %d bytes", n, size)
			require.NoError(t, new(Checker).Check(frame), "%d in %d bytes", n, size)
		}
	}
}

func TestNumberWritesTheFrameOnly(t *testing.T) {
	for size := MinSize; size < 140; size++ {
		template := NewTemplate(testFlow(), size)
		area := make([]byte, size+16)
		for i := size; i < len(area); i++ {
			area[i] = 0xa5
		}
		template.Prepare(area)
		template.Number(area, 12345)
		for i := size; i < len(area); i++ {
			require.Equal(t, byte(0xa5), area[i], "byte %d of a packet of %d", i, size)
		}
	}
}

// numbered is packet n in a fresh frame.
func numbered(n uint64, size int) []byte {
	template := NewTemplate(testFlow(), size)
	frame := make([]byte, size)
	template.Prepare(frame)
	template.Number(frame, n)
	return frame
}

func TestCheckerSeesEveryWrongByte(t *testing.T) {
	for _, size := range []int{60, 64, 101} {
		good := numbered(77, size)
		// The MACs are under no checksum.
		for i := 12; i < size; i++ {
			for _, flip := range []byte{0x01, 0x80, 0xff} {
				bad := append([]byte(nil), good...)
				bad[i] ^= flip
				c := new(Checker)
				require.Error(t, c.Check(bad), "byte %d of %d", i, size)
				require.Equal(t, uint64(1), c.Corrupt)
			}
		}
	}
}

// A payload of other bytes under a right checksum must not pass either.
func TestCheckerSeesAWrongPayloadUnderARightChecksum(t *testing.T) {
	for i := HeaderLen; i < 80; i++ {
		bad := numbered(77, 80)
		bad[i] ^= 0x10
		_, udp := referenceChecksums(bad)
		binary.BigEndian.PutUint16(bad[40:], udp)
		require.ErrorContains(t, new(Checker).Check(bad), "payload byte", "byte %d", i)
	}
}

func TestCheckerWantsAUDPChecksum(t *testing.T) {
	frame := numbered(1, 64)
	frame[40], frame[41] = 0, 0
	assert.ErrorContains(t, new(Checker).Check(frame), "missing")
}

func TestCheckerCountsGaps(t *testing.T) {
	for _, test := range []struct {
		numbers       []uint64
		lost, corrupt uint64
	}{
		{[]uint64{0, 1, 2, 3}, 0, 0},
		{[]uint64{5, 6, 7}, 0, 0},       // it came late
		{[]uint64{0, 1, 5, 6}, 3, 0},    // a gap
		{[]uint64{0, 1, 1, 2}, 0, 1},    // a duplicate
		{[]uint64{0, 2, 1, 3}, 1, 1},    // out of order
		{[]uint64{8, 9, 0, 1, 2}, 0, 0}, // a new sender
	} {
		c := new(Checker)
		for _, n := range test.numbers {
			_ = c.Check(numbered(n, 64))
		}
		assert.Equal(t, test.lost, c.Lost, "lost of %v", test.numbers)
		assert.Equal(t, test.corrupt, c.Corrupt, "corrupt of %v", test.numbers)
	}
}

func TestHotPathsDoNotAllocate(t *testing.T) {
	template := NewTemplate(testFlow(), 1514)
	frame := make([]byte, 1514)
	template.Prepare(frame)
	c, n := new(Checker), uint64(0)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		template.Number(frame, n)
		if c.Check(frame) != nil {
			t.Error("corrupt")
		}
		n++
	}))
}

func BenchmarkNumber(b *testing.B) {
	for _, size := range []int{64, 1514} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			template := NewTemplate(testFlow(), size)
			frame := make([]byte, size)
			template.Prepare(frame)
			for i := 0; i < b.N; i++ {
				template.Number(frame, uint64(i))
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	for _, size := range []int{64, 1514} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			frame := numbered(0, size)
			c := new(Checker)
			for i := 0; i < b.N; i++ {
				_ = c.Check(frame)
			}
		})
	}
}
