package netstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
)

// A queue gets what a switch floods and what a promiscuous interface takes; only what is
// for our MAC, for all, or for a group is for the Host.
func TestPacketsForAnotherHostAreLeftAlone(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		w := newWire(t, p)
		here, err := h.ListenPacket("udp", ":7")
		require.NoError(t, err)
		defer here.Close()
		require.NoError(t, here.SetReadDeadline(time.Now().Add(10*time.Second)))
		send := func(text string) {
			w.write(uint16(header.IPv4ProtocolNumber), ipv4Packet(17, udpTo(peer4, ours4, text), 0, false))
		}
		ours := append([]byte(nil), w.head...)
		before := h.Endpoint().Stats().RxUnwanted
		for at := range 6 { // each byte of the MAC counts
			w.head[at] ^= 0x10
			send("another's")
			copy(w.head, ours)
		}
		send("ours")
		copy(w.head, "\xff\xff\xff\xff\xff\xff")
		send("everybody's")
		got := make([]byte, 100)
		for _, want := range []string{"ours", "everybody's"} {
			n, _, err := here.ReadFrom(got)
			require.NoError(t, err)
			assert.Equal(t, want, string(got[:n]))
		}
		assert.GreaterOrEqual(t, h.Endpoint().Stats().RxUnwanted-before, uint64(6))
	})
}
