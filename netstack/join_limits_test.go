package netstack

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// What is joined is one IP packet, whose header can say how long it is: a burst may
// have more.
func TestWhatIsJoinedFitsAnIPHeader(t *testing.T) {
	const ack, whole = header.TCPFlagAck, 1000
	for _, ipv6 := range []bool{false, true} {
		l4 := map[bool]int{false: ethernet + header.IPv4MinimumSize, true: ethernet + header.IPv6MinimumSize}[ipv6]
		headers := l4 - ethernet + header.TCPMinimumSize + 12
		// The last one just fits, or is a byte too long; or there are many more.
		last := longestIP - headers - 65*whole
		for _, lengths := range [][]int{
			append(equal(65, whole), last),
			append(equal(65, whole), last+1),
			equal(maxBurst, whole),
		} {
			var packets [][]byte
			var sent []byte
			for _, n := range lengths {
				payload := bytesFrom(len(sent)%251, n)
				packets = append(packets, tcpPacket(ipv6, 1, uint32(100+len(sent)), 5, ack, payload))
				sent = append(sent, payload...)
			}
			got, bad := given(t, packets, true)
			assert.Zero(t, bad)
			var came []byte
			for i, b := range got {
				require.LessOrEqual(t, len(b), ethernet+longestIP, "packet %d", i)
				require.EqualValues(t, 100+len(came), binary.BigEndian.Uint32(b[l4+header.TCPSeqNumOffset:]))
				length := len(b) - ethernet
				if ipv6 {
					require.EqualValues(t, length-header.IPv6MinimumSize, binary.BigEndian.Uint16(b[ethernet+4:]))
				} else {
					require.EqualValues(t, length, binary.BigEndian.Uint16(b[ethernet+2:]))
				}
				came = append(came, b[ethernet+headers:]...)
			}
			require.True(t, string(sent) == string(came), "%d bytes of %d", len(came), len(sent))
			total := len(sent) + headers
			want := (total - headers + longestIP - headers - 1) / (longestIP - headers)
			if total > longestIP && len(lengths) == maxBurst {
				want = (maxBurst + 64) / 65
			}
			assert.Len(t, got, want, "as few as can be")
		}
	}
}

// equal is n times the same.
func equal(n, each int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = each
	}
	return all
}
