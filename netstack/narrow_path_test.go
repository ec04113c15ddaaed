package netstack_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

const far4, far6 = "198.51.100.2", "2001:db8:1::2"

// behindARouter makes a Host, a router, and a kernel behind a link of MTU 1280.
func behindARouter(t *testing.T, mode bpf.Mode) (h *netstack.Host, far *testns.Peer) {
	t.Helper()
	p := makePeer(t)
	far = testns.MakePeer(t)
	h = open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4, ours6), Gateways: hostsOf(peer4, peer6), Mode: mode})
	require.NoError(t, p.Take(far.Near, "narrow"))
	standIn(t, far)
	require.NoError(t, p.Do(func() error {
		testns.IP(t, "link", "set", "narrow", "mtu", "1280", "up")
		err := testns.IPv6("narrow")
		testns.IP(t, "address", "add", "198.51.100.1/24", "dev", "narrow")
		testns.IP(t, "address", "add", "2001:db8:1::1/64", "dev", "narrow", "nodad")
		return errors.Join(err, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv6/conf/all/forwarding", []byte("1"), 0))
	}))
	require.NoError(t, far.Do(func() error {
		testns.IP(t, "address", "flush", "dev", "eth0")
		testns.IP(t, "link", "set", "eth0", "mtu", "1280")
		err := testns.IPv6("eth0")
		testns.IP(t, "address", "add", far4+"/24", "dev", "eth0")
		testns.IP(t, "address", "add", far6+"/64", "dev", "eth0", "nodad")
		testns.IP(t, "route", "add", "default", "via", "198.51.100.1")
		testns.IP(t, "route", "add", "default", "via", "2001:db8:1::1")
		return err
	}))
	return h, far
}

// Datagrams of every size, TCP, and answers to pings go over a path that is narrower than
// the link. The first datagram may be lost in IPv6, as with a kernel: it is how the
// router comes to tell.
func TestWhatIsSentGoesOverANarrowPath(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		h, far := behindARouter(t, mode)
		for _, c := range []struct {
			far, ours     string
			headers, most int
		}{{far4, ours4, 28, 65507}, {far6, ours6, 48, 65527}} {
			var there net.PacketConn
			require.NoError(t, far.Do(func() (err error) {
				there, err = net.ListenPacket("udp", net.JoinHostPort(c.far, "7"))
				return err
			}))
			defer there.Close()
			require.NoError(t, there.(*net.UDPConn).SetReadBuffer(1<<20))
			dialed, err := h.Dial(soon(t), "udp", net.JoinHostPort(c.far, "7"))
			require.NoError(t, err)
			defer dialed.Close()
			free, err := h.ListenPacket("udp", net.JoinHostPort(c.ours, "0"))
			require.NoError(t, err)
			defer free.Close()
			to := there.LocalAddr()
			pattern := make([]byte, 1<<16)
			for i := range pattern {
				pattern[i] = byte(i % 251)
			}
			got := make([]byte, 1<<16)
			arrives := func(size int, wait time.Duration) error {
				_ = there.SetReadDeadline(time.Now().Add(wait))
				n, _, err := there.ReadFrom(got)
				if err == nil && string(pattern[:size]) != string(got[:n]) {
					err = fmt.Errorf("%d bytes arrived otherwise, %d", size, n)
				}
				return err
			}
			require.Eventually(t, func() bool {
				_, err := dialed.Write(pattern[:1300])
				return assert.NoError(t, err) && arrives(1300, 200*time.Millisecond) == nil
			}, testns.Patience(10*time.Second), time.Millisecond, "%s: nothing longer than the path's MTU", c.far)
			for { // what waited for a neighbour
				_ = there.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
				if _, _, err := there.ReadFrom(got); err != nil {
					break
				}
			}
			sizes := []int{1, 1280 - c.headers - 1, 1280 - c.headers, 1280 - c.headers + 1, 1232, 1233, 1300, 1400,
				1500 - c.headers - 1, 1500 - c.headers, 1500 - c.headers + 1, 2500, 9000, 20000, c.most - 1, c.most}
			for _, size := range sizes {
				_, err := dialed.Write(pattern[:size])
				require.NoError(t, err)
				require.NoError(t, arrives(size, testns.Patience(5*time.Second)), "%s, dialed, %d", c.far, size)
				_, err = free.WriteTo(pattern[:size], to)
				require.NoError(t, err)
				require.NoError(t, arrives(size, testns.Patience(5*time.Second)), "%s, by WriteTo, %d", c.far, size)
			}
			l, err := onPeer(far)("tcp", net.JoinHostPort(c.far, "0"))
			require.NoError(t, err)
			defer l.Close()
			assert.Less(t, send(t, byHost(t, h), l, 1<<20), testns.Patience(5*time.Second))
			assert.Zero(t, h.Stack.Stats().IP.OutgoingPacketErrors.Value())
		}
	})
}

// An answer to a ping of a host behind a narrow path arrives, also when nothing else
// has told of the path's MTU.
func TestPingsAreAnsweredOverANarrowPath(t *testing.T) {
	testns.Kernel(t)
	_, far := behindARouter(t, bpf.Native)
	for _, c := range []struct {
		network, address string
		request, reply   byte
	}{{"ip4:icmp", ours4, 8, 0}, {"ip6:ipv6-icmp", ours6, 128, 129}} {
		conn, err := fromPeer(far)(c.network, c.address)
		require.NoError(t, err)
		defer conn.Close()
		answered := func(id byte, length int) bool {
			ping := make([]byte, length)
			ping[0], ping[5], ping[7] = c.request, 9, id
			if c.request == 8 {
				putChecksum(ping)
			}
			_, err = conn.Write(ping)
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(testns.Patience(300*time.Millisecond))))
			for b := make([]byte, 1<<16); ; {
				n, _, err := conn.(*net.IPConn).ReadFrom(b)
				if err != nil {
					return false
				}
				if b[0] == c.reply && b[7] == id {
					assert.Equal(t, ping[4:], b[4:n])
					return true
				}
			}
		}
		require.Eventually(t, func() bool { return answered(0, 8) }, testns.Patience(10*time.Second), time.Millisecond, "the kernels' addresses are tentative at first")
		first := answered(1, 1400) || answered(2, 1400)
		assert.True(t, first, "%s: neither of the first two", c.address)
		for i, length := range []int{8, 1240, 1242, 1400, 1460, 5000, 60000} {
			assert.True(t, answered(byte(3+i), length), "%s, %d bytes", c.address, length)
		}
	}
}
