package netstack

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// udpPacket is a datagram over IPv6 with its checksum, or the first fragment of one.
func udpPacket(size int, fragment bool) []byte {
	b := append([]byte(nil), segmentEthernet(true)...)
	plain := tcpPacket(true, 1, 1, 1, header.TCPFlagAck, nil)
	ip := append([]byte(nil), plain[ethernet:ethernet+header.IPv6MinimumSize]...)
	udp := bytesFrom(1, header.UDPMinimumSize+size)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	udp[6], udp[7] = 0, 0
	sumOf(udp).plus(pseudo(ip[8:40], protoUDP, len(udp))).put(udp[6:])
	ip[6] = protoUDP
	if fragment { // the first one, of more
		ip[6] = 44
		udp = append([]byte{protoUDP, 0, 0, 1, 0, 0, 0, 9}, udp[:header.UDPMinimumSize+size/2/8*8]...)
	}
	binary.BigEndian.PutUint16(ip[4:], uint16(len(udp)))
	return append(append(b, ip...), udp...)
}

// A datagram says how long it is, and its packet may not be that long.
func TestADatagramLongerThanItsPacketIsBad(t *testing.T) {
	const at = ethernet + header.IPv6MinimumSize + 4
	for _, more := range []int{-9, -1, 0, 1, 100, 60000} {
		b := udpPacket(100, false)
		length := binary.BigEndian.Uint16(b[at:])
		binary.BigEndian.PutUint16(b[at:], uint16(int(length)+more))
		got, bad := given(t, [][]byte{b}, true)
		if more == 0 {
			assert.Zero(t, bad)
			assert.Equal(t, [][]byte{b}, got)
			continue
		}
		assert.EqualValues(t, 1, bad, "%d bytes more", more)
		assert.Empty(t, got)
	}
}

// The checksum in the first fragment is that of the whole datagram.
func TestAFirstFragmentIsNotVerifiedByItself(t *testing.T) {
	b := udpPacket(100, true)
	got, bad := given(t, [][]byte{b}, true)
	assert.Zero(t, bad)
	assert.Equal(t, [][]byte{b}, got)
}

// What is joined has segments of one length, but for the last: a stack that cuts it
// again has to get the same.
func TestALongerSegmentBeginsAnew(t *testing.T) {
	const ack = header.TCPFlagAck
	packets := [][]byte{
		tcpPacket(false, 1, 100, 5, ack, bytesFrom(0, 50)),
		tcpPacket(false, 1, 150, 5, ack, bytesFrom(50, 60)),
		tcpPacket(false, 1, 210, 5, ack, bytesFrom(110, 60)),
	}
	got, _ := given(t, packets, true)
	assert.Len(t, got, 2)
	assert.Equal(t, packets[0], got[0])
}
