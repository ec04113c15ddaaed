package netstack

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// tooBig is a router's message about a packet from us to a destination.
func tooBig(mtu uint32, us, to [16]byte, next byte, rest ...byte) []byte {
	b := make([]byte, 8+header.IPv6MinimumSize, 8+header.IPv6MinimumSize+len(rest))
	b[0] = packetTooBig
	binary.BigEndian.PutUint32(b[4:], mtu)
	ip := b[8:]
	ip[0], ip[6] = 0x60, next
	copy(ip[8:], us[:])
	copy(ip[24:], to[:])
	return append(b, rest...)
}

func TestWhatARouterTellsOfAPath(t *testing.T) {
	us, to, other := [16]byte{0xfd, 1}, [16]byte{0xfd, 2}, [16]byte{0xfd, 3}
	open := func(port uint16) bool { return port == 7 }
	udp := []byte{0, 7, 0, 9, 0, 0, 0, 0}
	for what, c := range map[string]struct {
		message []byte
		mtu     int // 0: nothing is learned
	}{
		"UDP":                             {tooBig(1400, us, to, protoUDP, udp...), 1400},
		"less than IPv6 allows":           {tooBig(600, us, to, protoUDP, udp...), 1280},
		"nothing":                         {tooBig(0, us, to, protoUDP, udp...), 1280},
		"as much as the link":             {tooBig(1500, us, to, protoUDP, udp...), 0},
		"more than there is":              {tooBig(1<<32-1, us, to, protoUDP, udp...), 0},
		"a port that nobody has":          {tooBig(1400, us, to, protoUDP, 0, 8, 0, 9), 0},
		"half a port":                     {tooBig(1400, us, to, protoUDP, 0), 0},
		"another's packet":                {tooBig(1400, other, to, protoUDP, udp...), 0},
		"the first fragment":              {tooBig(1400, us, to, protoFragment, append([]byte{protoUDP, 0, 0, 1, 1, 2, 3, 4}, udp...)...), 1400},
		"a later fragment":                {tooBig(1400, us, to, protoFragment, append([]byte{protoUDP, 0, 8, 1, 1, 2, 3, 4}, udp...)...), 0},
		"half a fragment header":          {tooBig(1400, us, to, protoFragment, 17, 0, 0), 0},
		"an answer to a ping":             {tooBig(1400, us, to, protoICMPv6, echoReply, 0), 1400},
		"another ICMPv6 message":          {tooBig(1400, us, to, protoICMPv6, 135, 0), 0},
		"TCP, which is the stack's":       {tooBig(1400, us, to, protoTCP, udp...), 0},
		"half a header":                   {tooBig(1400, us, to, protoUDP)[:40], 0},
		"another message":                 {append([]byte{1}, tooBig(1400, us, to, protoUDP, udp...)[1:]...), 0},
		"a quoted packet that is no IPv6": {append(tooBig(1400, us, to, protoUDP)[:8], make([]byte, 48)...), 0},
	} {
		var p paths
		assert.Equal(t, c.mtu != 0, p.learn(c.message, us, 1500, open), what)
		assert.Equal(t, c.mtu, p.to(to), what)
	}
}

func TestPathsAreBoundedAndEnd(t *testing.T) {
	var p paths
	for i := range 3 * mostPaths {
		p.set([16]byte{0xfd, byte(i >> 8), byte(i)}, 1280)
	}
	assert.Len(t, p.all, mostPaths)
	last := [16]byte{0xfd, byte((3*mostPaths - 1) >> 8), byte((3*mostPaths - 1) & 255)}
	assert.Equal(t, 1280, p.to(last))
	p.all[last] = path{1280, time.Now().Add(-time.Second)}
	assert.Zero(t, p.to(last))
	assert.Len(t, p.all, mostPaths-1)
	assert.EqualValues(t, mostPaths-1, p.some.Load())
}

func FuzzPacketTooBig(f *testing.F) {
	us := [16]byte{0xfd, 1}
	f.Add(tooBig(1400, us, [16]byte{0xfd, 2}, protoUDP, 0, 7, 0, 9))
	f.Add(tooBig(1400, us, [16]byte{0xfd, 2}, protoFragment, protoUDP, 0, 0, 1, 1, 2, 3, 4, 0, 7))
	f.Fuzz(func(t *testing.T, message []byte) {
		var p paths
		if p.learn(message, us, 1500, func(uint16) bool { return true }) {
			if mtu := p.to([16]byte(message[32:48])); mtu < 1280 || mtu >= 1500 {
				t.Errorf("MTU %d", mtu)
			}
		}
	})
}
