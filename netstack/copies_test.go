package netstack_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// With a Filter on an address that the kernel has, ARP and ND go to the kernel; the Host
// finds its neighbours all the same.
func TestFilterOnTheKernelsAddressFindsNeighbours(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		require.NoError(t, testns.IPv6(p.Near))
		testns.IP(t, "address", "add", "2001:db8::1/64", "dev", p.Near, "nodad")
		h := open(t, p.Near, &netstack.Config{
			Addresses: prefixes("192.0.2.1", "2001:db8::1"), Mode: mode,
			Filter: &bpf.Filter{UDPPorts: []uint16{7000}},
		})
		for _, to := range []string{peer4, peer6} {
			ours, err := h.ListenPacket("udp", net.JoinHostPort(map[bool]string{true: "2001:db8::1", false: "192.0.2.1"}[strings.Contains(to, ":")], "7000"))
			require.NoError(t, err)
			defer ours.Close()
			var theirs net.PacketConn
			require.NoError(t, p.Do(func() (err error) {
				theirs, err = net.ListenPacket("udp", net.JoinHostPort(to, "7001"))
				return err
			}))
			defer theirs.Close()
			// The Host begins: it knows nobody yet.
			_, err = ours.WriteTo([]byte("ping"), theirs.LocalAddr())
			require.NoError(t, err)
			require.NoError(t, theirs.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
			b := make([]byte, 100)
			n, from, err := theirs.ReadFrom(b)
			require.NoError(t, err, to)
			assert.Equal(t, "ping", string(b[:n]))
			_, err = theirs.WriteTo([]byte("pong"), from)
			require.NoError(t, err)
			require.NoError(t, ours.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
			n, _, err = ours.ReadFrom(b)
			require.NoError(t, err, to)
			assert.Equal(t, "pong", string(b[:n]))
		}
	})
}

// With a Filter on an address of the Host's own, it answers for it: nobody else does.
func TestFilterOnAnAddressOfOursIsFound(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := open(t, p.Near, &netstack.Config{
			Addresses: prefixes(ours4, ours6), Mode: mode,
			Filter: &bpf.Filter{UDPPorts: []uint16{7000}},
		})
		for _, at := range []string{ours4, ours6} {
			ours, err := h.ListenPacket("udp", net.JoinHostPort(at, "7000"))
			require.NoError(t, err)
			defer ours.Close()
			theirs, err := fromPeer(p)("udp", net.JoinHostPort(at, "7000"))
			require.NoError(t, err)
			defer theirs.Close()
			_, err = theirs.Write([]byte("ping"))
			require.NoError(t, err)
			require.NoError(t, ours.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
			_, _, err = ours.ReadFrom(make([]byte, 100))
			require.NoError(t, err, at)
		}
	})
}
