package netstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// Whatever protocol a packet says, and however little of it there is, the Host goes
// on.
func TestPacketsOfAnyProtocolAndLength(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	serve(t, h, ":80")
	r := newRaw(t, p)
	was, sent := h.Endpoint().Stats(), 0
	for protocol := range 256 {
		for length := range 9 {
			for _, b := range [][]byte{
				r.ip(nil, [4]byte{192, 0, 2, 2}, uint8(protocol), 0, false, make([]byte, length)),
				r.frame6(nil, tcpip.TransportProtocolNumber(protocol), make([]byte, length)),
			} {
				_, err := r.writeFrame(b)
				require.NoError(t, err)
				if sent++; sent%200 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}
	}
	come(t, h, was, sent)
	assert.Less(t, connects(t, p, ours4+":80"), floodConnect)
}
