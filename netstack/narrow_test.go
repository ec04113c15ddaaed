package netstack_test

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A router with a link of MTU 1280 behind it cuts what is longer.
func TestUDPGoesOverANarrowLink(t *testing.T) {
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4), Gateways: hostsOf(peer4)})
	require.NoError(t, p.Do(func() error {
		testns.IP(t, "link", "add", "narrow", "mtu", "1280", "type", "veth", "peer", "name", "far")
		testns.IP(t, "address", "add", "198.51.100.1/24", "dev", "narrow")
		testns.IP(t, "link", "set", "narrow", "up")
		testns.IP(t, "link", "set", "far", "up")
		testns.IP(t, "neighbor", "add", "198.51.100.2", "lladdr", "02:00:00:00:00:02", "dev", "narrow")
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}))
	cut := func() (ok, failed string) {
		require.NoError(t, p.Do(func() error {
			b, err := os.ReadFile("/proc/thread-self/net/snmp")
			lines := strings.SplitN(string(b), "\n", 3)
			names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
			for i, name := range names {
				switch name {
				case "FragOKs":
					ok = values[i]
				case "FragFails":
					failed = values[i]
				}
			}
			return err
		}))
		return ok, failed
	}
	dialed, err := h.Dial(soon(t), "udp", "198.51.100.2:9")
	require.NoError(t, err)
	defer dialed.Close()
	free, err := h.ListenPacket("udp", ours4+":0")
	require.NoError(t, err)
	defer free.Close()
	_, err = dialed.Write(make([]byte, 1300))
	require.NoError(t, err)
	_, err = free.WriteTo(make([]byte, 1400), &net.UDPAddr{IP: net.IPv4(198, 51, 100, 2), Port: 9})
	require.NoError(t, err)
	assert.Eventually(t, func() bool { ok, _ := cut(); return ok == "2" }, testns.Patience(5*time.Second), 20*time.Millisecond)
	_, failed := cut()
	assert.Equal(t, "0", failed)
}
