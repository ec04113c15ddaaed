package packet

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// slowSum is the checksum as RFC 1071 words it, two bytes at a time.
func slowSum(b []byte) uint16 {
	total := uint32(0)
	for i, c := range b {
		if i%2 == 0 {
			total += uint32(c) << 8
		} else {
			total += uint32(c)
		}
		total = total>>16 + total&0xffff
	}
	return uint16(total)
}

func TestSumAgreesWithTheSlowOne(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		b := make([]byte, random.IntN(200))
		for i := range b {
			// Many ff bytes, for they make the carries.
			b[i] = byte(random.Uint32()) | byte(-(random.Uint32() & 1))
		}
		// 0 and 0xffff are the same number; which comes out does not matter.
		require.Equal(t, slowSum(b)%0xffff, fold(sum(b))%0xffff, "%x", b)
	}
	assert.Equal(t, uint16(0xffff), fold(^uint64(0)))
}

func TestSumOfTheExampleInRFC1071(t *testing.T) {
	assert.Equal(t, uint16(0xddf2), fold(sum([]byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7})))
}

// An IPv4 header whose checksum, b1e6, is widely printed.
func TestSumOfAKnownIPv4Header(t *testing.T) {
	header, err := hex.DecodeString("4500003c1c4640004006" + "0000" + "ac100a63ac100a0c")
	require.NoError(t, err)
	assert.Equal(t, uint16(0xb1e6), ^fold(sum(header)))
}

func testFlow() Flow {
	return Flow{
		SrcMAC: MAC{2, 0, 0, 0, 0, 1}, DstMAC: MAC{2, 0, 0, 0, 0, 2},
		SrcIP: netip.MustParseAddr("192.0.2.1"), DstIP: netip.MustParseAddr("192.0.2.2"),
		SrcPort: 9000, DstPort: 9001,
	}
}

// referenceChecksums computes both checksums as the RFCs word them, from the
// bytes alone.
func referenceChecksums(frame []byte) (ip, udp uint16) {
	header := append([]byte(nil), frame[14:34]...)
	header[10], header[11] = 0, 0
	ip = ^slowSum(header)

	datagram := append([]byte(nil), frame[34:]...)
	datagram[6], datagram[7] = 0, 0
	pseudo := append([]byte(nil), frame[26:34]...)
	pseudo = append(pseudo, 0, 17, byte(len(datagram)>>8), byte(len(datagram)))
	udp = ^slowSum(append(pseudo, datagram...))
	if udp == 0 {
		udp = 0xffff
	}
	return ip, udp
}

func TestPutBuildsAValidPacket(t *testing.T) {
	f := testFlow()
	for _, size := range []int{42, 43, 60, 61, 64, 1514, 3840} {
		frame := make([]byte, size)
		for i := range frame[HeaderLen:] {
			frame[HeaderLen+i] = byte(i*7 + 1)
		}
		f.Put(frame)
		ip, udp := referenceChecksums(frame)
		assert.Equal(t, ip, binary.BigEndian.Uint16(frame[24:]), "IPv4 checksum at %d", size)
		assert.Equal(t, udp, binary.BigEndian.Uint16(frame[40:]), "UDP checksum at %d", size)
		assert.Equal(t, uint16(size-14), binary.BigEndian.Uint16(frame[16:]), "IPv4 length at %d", size)
		assert.Equal(t, uint16(size-34), binary.BigEndian.Uint16(frame[38:]), "UDP length at %d", size)
	}
}

func TestParseReadsWhatPutWrote(t *testing.T) {
	f := testFlow()
	frame := make([]byte, 100)
	copy(frame[HeaderLen:], "payload")
	f.Put(frame)
	got, payload, err := Parse(frame)
	require.NoError(t, err)
	assert.Equal(t, f, got)
	assert.Equal(t, frame[HeaderLen:], payload)
	assert.NoError(t, checkSums(frame, len(payload)))
	assert.Equal(t, f, f.Reverse().Reverse())
	assert.Equal(t, f.SrcPort, f.Reverse().DstPort)
}

func TestParseLeavesPaddingOut(t *testing.T) {
	f := testFlow()
	frame := make([]byte, MinSize)
	f.Put(frame[:HeaderLen+3])
	_, payload, err := Parse(frame)
	require.NoError(t, err)
	assert.Len(t, payload, 3)
}

func TestParseRefuses(t *testing.T) {
	f := testFlow()
	for name, damage := range map[string]func([]byte) []byte{
		"a short frame":      func(b []byte) []byte { return b[:HeaderLen-1] },
		"a cut packet":       func(b []byte) []byte { return b[:60] },
		"IPv6":               func(b []byte) []byte { b[12], b[13] = 0x86, 0xdd; return b },
		"IPv4 options":       func(b []byte) []byte { b[14] = 0x46; return b },
		"TCP":                func(b []byte) []byte { b[23] = 6; return b },
		"a wrong UDP length": func(b []byte) []byte { b[39]++; return b },
		"a tiny IPv4 length": func(b []byte) []byte { b[16], b[17] = 0, 27; return b },
	} {
		frame := make([]byte, 64)
		f.Put(frame)
		_, _, err := Parse(damage(frame))
		assert.Error(t, err, name)
	}
}

func TestSwapMACs(t *testing.T) {
	f := testFlow()
	frame := make([]byte, 60)
	f.Put(frame)
	SwapMACs(frame)
	got, _, err := Parse(frame)
	require.NoError(t, err)
	assert.Equal(t, f.SrcMAC, got.DstMAC)
	assert.Equal(t, f.DstMAC, got.SrcMAC)
}

func TestTurnAroundAnswersBehindTags(t *testing.T) {
	f := testFlow()
	for tags := range 3 {
		frame := make([]byte, 64)
		f.Put(frame)
		tag := bytes.Repeat([]byte{0x81, 0x00, 0x00, 0x07}, tags)
		tagged := slices.Concat(frame[:12], tag, frame[12:])
		require.True(t, TurnAround(tagged))
		assert.Equal(t, tag, tagged[12:12+len(tag)])
		got, payload, err := Parse(slices.Concat(tagged[:12], tagged[12+len(tag):]))
		require.NoError(t, err)
		assert.Equal(t, f.Reverse(), got)
		assert.Len(t, payload, 64-HeaderLen)
		assert.NoError(t, checkSums(slices.Concat(tagged[:12], tagged[12+len(tag):]), len(payload)))
	}
}

func TestTurnAroundRefuses(t *testing.T) {
	f := testFlow()
	for name, damage := range map[string]func([]byte) []byte{
		"a short frame":   func(b []byte) []byte { return b[:13] },
		"a cut header":    func(b []byte) []byte { return b[:HeaderLen-1] },
		"broadcast":       func(b []byte) []byte { b[0] = 0xff; return b },
		"TCP":             func(b []byte) []byte { b[23] = 6; return b },
		"a fragment":      func(b []byte) []byte { b[20] = 0x20; return b },
		"a late fragment": func(b []byte) []byte { b[21] = 1; return b },
		"ARP":             func(b []byte) []byte { b[12], b[13] = 0x08, 0x06; return b },
		"a cut IPv6":      func(b []byte) []byte { b[12], b[13], b[20] = 0x86, 0xdd, 17; return b[:61] },
		"three tags": func(b []byte) []byte {
			return slices.Concat(b[:12], bytes.Repeat([]byte{0x81, 0, 0, 1}, 3), b[12:])
		},
	} {
		frame := make([]byte, 64)
		f.Put(frame)
		frame = damage(frame)
		before := slices.Clone(frame)
		assert.False(t, TurnAround(frame), name)
		assert.Equal(t, before, frame, name)
	}
}

func TestMACIsAFlag(t *testing.T) {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	var m MAC
	flags.TextVar(&m, "mac", Broadcast, "")
	assert.Equal(t, Broadcast, m)
	require.NoError(t, flags.Parse(strings.Fields("-mac 02:00:00:00:00:0a")))
	assert.Equal(t, "02:00:00:00:00:0a", m.String())
	assert.True(t, Broadcast.IsGroup())
	assert.False(t, m.IsGroup())
	assert.Error(t, flags.Parse(strings.Fields("-mac 02:00:00:00:00")))
	assert.Error(t, flags.Parse(strings.Fields("-mac 02:00:00:00:00:00:00:01")))
}
