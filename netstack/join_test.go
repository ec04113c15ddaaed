package netstack

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk"
)

// A listener keeps what it is given, as it was.
type listener struct {
	packets [][]byte
}

func (l *listener) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	v := stack.PayloadSince(pkt.LinkHeader())
	l.packets = append(l.packets, append([]byte(nil), v.AsSlice()...))
	v.Release()
}

func (l *listener) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// given has a receiver take the packets as one burst, and returns what it gives to
// the stack, and how many it found bad.
func given(t *testing.T, packets [][]byte, gro bool) ([][]byte, uint64) {
	t.Helper()
	frames := make([]xsk.Frame, len(packets))
	for i := range frames {
		frames[i].Data = packets[i]
	}
	return givenFrames(t, frames, gro)
}

func givenFrames(t *testing.T, frames []xsk.Frame, gro bool) ([][]byte, uint64) {
	t.Helper()
	e := &Endpoint{options: Options{NoGRO: !gro}}
	copy(e.filter[:], segmentEthernet(false))
	l := &listener{}
	var to stack.NetworkDispatcher = l
	e.to.Store(&to)
	newReceiver(e, nil).burst(frames)
	s := e.Stats()
	require.Equal(t, uint64(len(frames)), s.RxPackets)
	require.Equal(t, uint64(len(l.packets)), s.RxDelivered)
	return l.packets, s.RxBad
}

// tcpPacket is a segment as it comes in.
func tcpPacket(ipv6 bool, port uint16, seq, ack uint32, flags header.TCPFlags, payload []byte) []byte {
	c := segmentCase{ipv6: ipv6, options: 12, seq: seq, flags: flags, payload: payload}
	b := c.reference()[0]
	l4 := ethernet + header.IPv4MinimumSize
	if ipv6 {
		l4 = ethernet + header.IPv6MinimumSize
	}
	binary.BigEndian.PutUint16(b[l4:], port)
	binary.BigEndian.PutUint32(b[l4+header.TCPAckNumOffset:], ack)
	finishTCP(b, l4)
	return b
}

func finishTCP(b []byte, l4 int) {
	addrs := b[l4-32 : l4]
	if l4 == ethernet+header.IPv4MinimumSize {
		addrs = b[l4-8 : l4]
	}
	b[l4+header.TCPChecksumOffset], b[l4+header.TCPChecksumOffset+1] = 0, 0
	sumOf(b[l4:]).plus(pseudo(addrs, protoTCP, len(b)-l4)).put(b[l4+header.TCPChecksumOffset:])
}

func bytesFrom(first, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(first + i)
	}
	return b
}

func TestSegmentsThatContinueBecomeOne(t *testing.T) {
	const ack = header.TCPFlagAck
	for _, ipv6 := range []bool{false, true} {
		l4 := map[bool]int{false: ethernet + header.IPv4MinimumSize, true: ethernet + header.IPv6MinimumSize}[ipv6]
		packets := [][]byte{
			tcpPacket(ipv6, 1, 100, 5, ack, bytesFrom(0, 50)),
			tcpPacket(ipv6, 2, 900, 5, ack, bytesFrom(0, 9)), // another flow between
			tcpPacket(ipv6, 1, 150, 5, ack, bytesFrom(50, 50)),
			tcpPacket(ipv6, 1, 200, 5, ack|header.TCPFlagPsh, bytesFrom(100, 20)),
			tcpPacket(ipv6, 1, 220, 5, ack, bytesFrom(120, 50)), // PSH has ended it
		}
		got, bad := given(t, packets, true)
		assert.Zero(t, bad)
		require.Len(t, got, 3)
		want := tcpPacket(ipv6, 1, 100, 5, ack|header.TCPFlagPsh, bytesFrom(0, 120))
		copy(got[0][l4+header.TCPChecksumOffset:l4+header.TCPChecksumOffset+2], want[l4+header.TCPChecksumOffset:])
		assert.Equal(t, want, got[0])
		assert.Equal(t, packets[1], got[1])
		assert.Equal(t, packets[4], got[2])

		all, _ := given(t, packets, false)
		assert.Equal(t, packets, all, "without GRO")
	}
}

func TestWhatDiffersIsNotJoined(t *testing.T) {
	const ack = header.TCPFlagAck
	first := func() []byte { return tcpPacket(false, 1, 100, 5, ack, bytesFrom(0, 50)) }
	second := func() []byte { return tcpPacket(false, 1, 150, 5, ack, bytesFrom(50, 50)) }
	got, _ := given(t, [][]byte{first(), second()}, true)
	require.Len(t, got, 1, "they would be joined")
	for what, change := range map[string]func(b []byte){
		"sequence number":     func(b []byte) { b[ethernet+20+7]++ },
		"acknowledgment":      func(b []byte) { b[ethernet+20+11]++ },
		"option":              func(b []byte) { b[ethernet+20+25] = 9 },
		"flag":                func(b []byte) { b[ethernet+20+13] |= byte(header.TCPFlagUrg) },
		"time to live":        func(b []byte) { b[ethernet+8]++ },
		"type of service":     func(b []byte) { b[ethernet+1]++ },
		"sender's MAC":        func(b []byte) { b[7]++ },
		"sender's IP address": func(b []byte) { b[ethernet+12]++ },
	} {
		other := second()
		change(other)
		ip := other[ethernet:]
		ip[10], ip[11] = 0, 0
		sumOf(ip[:20]).put(ip[10:])
		finishTCP(other, ethernet+20)
		got, bad := given(t, [][]byte{first(), other}, true)
		assert.Zero(t, bad, what)
		assert.Equal(t, [][]byte{first(), other}, got, what)
	}
	// An acknowledgment between them keeps its place.
	between := tcpPacket(false, 1, 150, 6, ack, nil)
	got, _ = given(t, [][]byte{first(), between, second()}, true)
	assert.Equal(t, [][]byte{first(), between, second()}, got)
}

func TestWhatIsJoinedHasTheLastWindow(t *testing.T) {
	const at = ethernet + header.IPv4MinimumSize
	var packets [][]byte
	for i := range 3 {
		b := tcpPacket(false, 1, uint32(100+50*i), 5, header.TCPFlagAck, bytesFrom(50*i, 50))
		binary.BigEndian.PutUint16(b[at+header.TCPWinSizeOffset:], uint16(i))
		finishTCP(b, at)
		packets = append(packets, b)
	}
	got, bad := given(t, packets, true)
	assert.Zero(t, bad)
	require.Len(t, got, 1)
	assert.Equal(t, uint16(2), header.TCP(got[0][at:]).WindowSize())
}

// The first part of a packet in several frames may have any length, with a headroom
// that is odd.
func TestChecksumsOfPacketsInSeveralFrames(t *testing.T) {
	packet := append([]byte(nil), segmentEthernet(false)...)
	c := segmentCase{}
	ip := header.IPv4(make([]byte, header.IPv4MinimumSize))
	c.encodeIP(ip, 200, 1)
	ip[9] = protoICMP
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	packet = append(packet, ip...)
	icmp := bytesFrom(8, 200)
	icmp[2], icmp[3] = 0, 0
	sumOf(icmp).put(icmp[2:])
	packet = append(packet, icmp...)
	for first := ethernet + header.IPv4MinimumSize + header.ICMPv4MinimumSize; first < len(packet); first++ {
		for broken := range 2 {
			b := append([]byte(nil), packet...)
			b[len(b)-1] ^= byte(broken)
			middle := first + (len(b)-first)/2
			f := xsk.Frame{Data: b[:first], Frags: []xsk.Frame{{Data: b[first:middle]}, {Data: b[middle:]}}}
			got, bad := givenFrames(t, []xsk.Frame{f}, true)
			require.Equal(t, uint64(broken), bad, "%d bytes in the first", first)
			if broken == 0 {
				require.Equal(t, [][]byte{b}, got)
			}
		}
	}
}

// What the stack finds behind extension headers was verified.
func TestChecksumsBehindExtensionHeaders(t *testing.T) {
	plain := tcpPacket(true, 1, 100, 5, header.TCPFlagAck, bytesFrom(0, 50))
	const l4 = ethernet + header.IPv6MinimumSize
	for _, extension := range []struct {
		id     byte
		header []byte
	}{
		{0, []byte{protoTCP, 0, 1, 4, 0, 0, 0, 0}},
		{43, []byte{protoTCP, 0, 0, 0, 0, 0, 0, 0}},
		{44, []byte{protoTCP, 0, 0, 0, 0, 0, 0, 9}}, // an atomic fragment
		{60, []byte{protoTCP, 1, 1, 12, 14: 0, 15: 0}},
		{253, []byte{protoTCP, 1, 2, 3, 0, 0, 0, 0}},
	} {
		for broken := range 2 {
			b := append([]byte(nil), plain[:l4]...)
			b[ethernet+6] = extension.id
			binary.BigEndian.PutUint16(b[ethernet+4:], uint16(len(extension.header)+len(plain)-l4))
			b = append(append(b, extension.header...), plain[l4:]...)
			b[len(b)-1] ^= byte(broken)
			got, bad := given(t, [][]byte{b}, true)
			require.Equal(t, uint64(broken), bad, "header %d", extension.id)
			if broken == 0 {
				require.Equal(t, [][]byte{b}, got)
			}
		}
	}
}

func TestABadSegmentIsLeftOutOfWhatIsJoined(t *testing.T) {
	for broken := range 5 {
		var packets [][]byte
		for i := range 5 {
			packets = append(packets, tcpPacket(false, 1, uint32(100+10*i), 5, header.TCPFlagAck, bytesFrom(10*i, 10)))
		}
		packets[broken][ethernet+20+32+3] ^= 0x40
		got, bad := given(t, packets, true)
		assert.Equal(t, uint64(1), bad)
		var all []byte
		for _, b := range got {
			seq := binary.BigEndian.Uint32(b[ethernet+20+4:])
			assert.Equal(t, int(seq)-100, int(b[ethernet+20+32]), "where it begins")
			assert.Equal(t, len(b)-ethernet, int(binary.BigEndian.Uint16(b[ethernet+2:])))
			all = append(all, b[ethernet+20+32:]...)
		}
		want := append(bytesFrom(0, 10*broken), bytesFrom(10*broken+10, 40-10*broken)...)
		assert.Equal(t, want, all)
	}
}

// Many flows with random faults, gaps and lengths: per flow the bytes that arrive are
// those that were right, in their order.
func TestJoiningKeepsEveryByteOfEveryFlow(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		type flow struct {
			seq  uint32
			want []byte
		}
		flows := make([]flow, 1+random.IntN(40))
		var packets [][]byte
		wantBad := uint64(0)
		ipv6 := random.IntN(2) == 0
		l4 := map[bool]int{false: ethernet + header.IPv4MinimumSize, true: ethernet + header.IPv6MinimumSize}[ipv6]
		for range random.IntN(maxBurst + 1) {
			n := random.IntN(len(flows))
			f := &flows[n]
			size := []int{0, 1, 100, 100, 100, 100, 1448}[random.IntN(7)]
			flags := header.TCPFlagAck
			if random.IntN(10) == 0 {
				flags |= header.TCPFlagPsh
			}
			payload := bytesFrom(random.IntN(256), size)
			b := tcpPacket(ipv6, uint16(n), f.seq, 1, flags, payload)
			f.seq += uint32(size)
			if random.IntN(20) == 0 {
				b[l4+random.IntN(len(b)-l4)] ^= 1 << random.IntN(8)
				wantBad++
			} else {
				f.want = append(f.want, payload...)
			}
			packets = append(packets, b)
		}
		got, bad := given(t, packets, true)
		require.Equal(t, wantBad, bad)
		have := map[uint16][]byte{}
		for _, b := range got {
			port := binary.BigEndian.Uint16(b[l4:])
			have[port] = append(have[port], b[l4+int(b[l4+12]>>4)*4:]...)
		}
		for i, f := range flows {
			require.Equal(t, len(f.want), len(have[uint16(i)]))
			require.True(t, string(f.want) == string(have[uint16(i)]), "flow %d", i)
		}
	}
}
