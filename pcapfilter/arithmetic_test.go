package pcapfilter_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcap"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/pcapfilter"
)

// TestShiftsBeyondTheWordAreZero as in libpcap, whose shifts do not wrap.
func TestShiftsBeyondTheWordAreZero(t *testing.T) {
	packet := stacks["udp"].bytes(t)
	const tos, ttl = 15, 22
	for _, f := range []pcapfilter.Filter{
		"ip[0] << ip[1] > 0",
		"ip[0] >> ip[1] > 0",
		"1 << ip[1] = 0",
		"0xffffffff >> ip[1] > 0",
		"ip[0] << (ip[1] << 24) > 0", // the count is beyond a byte
		"ip[0] << ip[1] = ip[8] << ip[1]",
		"ip[0] << (ip[1] - ip[1] + 40) > 0",
		"ip[0] >> (ip[1] + ip[1]) > 0 or ip[0] << (ip[1] - 1) > 0", // one that is jumped to
	} {
		want, run := reference(t, f), trial(t, f)
		for count := range 256 {
			packet[tos], packet[ttl] = byte(count), byte(3*count)
			got, err := run.Match(packet)
			require.NoError(t, err)
			require.Equal(t, want(packet), got, "%s, ip[1] = %d", f, count)
		}
	}
}

// An author writes expressions of arithmetic.
type author struct{ *rand.Rand }

func (a author) pick(of ...string) string { return of[a.IntN(len(of))] }

// number is an expression of at most so many levels.
func (a author) number(levels int) string {
	if levels == 0 || a.IntN(5) == 0 {
		switch a.IntN(6) {
		case 0:
			return fmt.Sprint(a.IntN(40))
		case 1:
			return fmt.Sprintf("%#x", a.Uint32()>>a.IntN(32))
		case 2:
			return "len"
		}
		at := a.IntN(12)
		return fmt.Sprintf("ip[%d:%s]", at, a.pick("1", "2", "4"))
	}
	if a.IntN(10) == 0 {
		return fmt.Sprintf("ip[%s & 15]", a.number(levels-1))
	}
	op := a.pick("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "<<", ">>")
	return fmt.Sprintf("(%s %s %s)", a.number(levels-1), op, a.number(levels-1))
}

func (a author) expression() pcapfilter.Filter {
	return pcapfilter.Filter(fmt.Sprintf("%s %s %s", a.number(3), a.pick("=", "!=", "<", ">", "<=", ">="), a.number(2)))
}

// tried compares one expression, over so many packets, with libpcap's own filter; it is
// false if libpcap refuses the expression.
func tried(t *testing.T, seed uint64, packets int) bool {
	a := author{rand.New(rand.NewPCG(seed, 1))}
	f := a.expression()
	if _, err := pcap.NewBPF(layers.LinkTypeEthernet, 262144, string(f)); err != nil {
		return false
	}
	want, run := reference(t, f), trial(t, f)
	for range packets {
		packet := make([]byte, 34+a.IntN(30))
		for i := range packet {
			packet[i] = byte(a.Uint32()) >> a.IntN(8)
		}
		packet[12], packet[13] = 8, 0
		got, err := run.Match(packet)
		require.NoError(t, err)
		require.Equal(t, want(packet), got, "%s\n% x", f, packet)
	}
	return true
}

func TestArithmeticIsLibpcaps(t *testing.T) {
	testns.Kernel(t)
	expressions, did := 400, 0
	if os.Getenv("XSK_TEST_ALL") == "1" {
		expressions = 20000
	}
	for seed := range expressions {
		t.Run("", func(t *testing.T) {
			if tried(t, uint64(seed), 50) {
				did++
			}
		})
	}
	assert.Greater(t, did, expressions/3)
}

func FuzzArithmetic(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { tried(t, seed, 200) })
}
