package netstack

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

func TestSumIsTheInternetChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 4096)
	for round := range 20000 {
		from := random.IntN(64)
		length := random.IntN(200)
		if round%8 == 0 {
			length = random.IntN(len(b) - from)
		}
		src := b[from : from+length]
		for i := range src {
			src[i] = byte(random.Uint32())
			if round%16 == 1 {
				src[i] = 0xff
			}
		}
		want := checksum.Checksum(src, 0)
		require.Equal(t, want%0xffff, swap16(sumOf(src).fold())%0xffff, "length %d", length)
		dst := make([]byte, length)
		require.Equal(t, sumOf(src).fold(), copySum(dst, src).fold(), "length %d", length)
		require.Equal(t, src, dst)
		cut := random.IntN(length/2+1) * 2
		require.Equal(t, sumOf(src).fold()%0xffff, sumOf(src[:cut]).plus(sumOf(src[cut:])).fold()%0xffff)
		if length > 2 {
			odd := sumOf(src[:1]).plus(sumOf(src[1:]).swapped())
			require.Equal(t, sumOf(src).fold()%0xffff, odd.fold()%0xffff)
		}
	}
}

// swap16 is for a machine of the other byte order than headers have.
func swap16(v uint16) uint16 {
	if word(1) == 1 {
		return v
	}
	return v<<8 | v>>8
}

func TestPutMakesTheSumValid(t *testing.T) {
	b := []byte{0x45, 0, 0, 40, 1, 2, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
	sumOf(b).put(b[10:])
	assert.True(t, sumOf(b).valid())
	b[3] ^= 4
	assert.False(t, sumOf(b).valid())
}

func BenchmarkCopySum(b *testing.B) {
	src, dst := make([]byte, 1448), make([]byte, 1448)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		copySum(dst, src)
	}
}

func BenchmarkCopy(b *testing.B) {
	src, dst := make([]byte, 1448), make([]byte, 1448)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		copy(dst, src)
	}
}

func BenchmarkSumOf(b *testing.B) {
	src := make([]byte, 1448)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		sumOf(src)
	}
}

func BenchmarkGVisorSum(b *testing.B) {
	src := make([]byte, 1448)
	b.SetBytes(int64(len(src)))
	for b.Loop() {
		checksum.Checksum(src, 0)
	}
}
