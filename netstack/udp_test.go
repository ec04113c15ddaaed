package netstack_test

import (
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

func listenUDP(t *testing.T, h *netstack.Host, network, address string) *netstack.UDPConn {
	t.Helper()
	c, err := h.ListenPacket(network, address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	return c.(*netstack.UDPConn)
}

func TestAllAddressesPrintAsInPackageNet(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	both := limited(t, p, netstack.Options{})
	for _, c := range []struct{ network, address, want string }{
		{"udp", ":7", "[::]:7"}, {"udp4", ":8", "0.0.0.0:8"}, {"udp6", ":9", "[::]:9"},
		{"udp", "0.0.0.0:10", "0.0.0.0:10"}, {"udp", ours4 + ":11", ours4 + ":11"},
	} {
		assert.Equal(t, c.want, listenUDP(t, both, c.network, c.address).LocalAddr().String(), c)
		l, err := both.Listen(strings.Replace(c.network, "udp", "tcp", 1), c.address)
		require.NoError(t, err)
		assert.Equal(t, c.want, l.Addr().String(), c)
		l.Close()
	}
	near, _ := testns.Veth{}.Make(t)
	one := open(t, near, &netstack.Config{Addresses: prefixes(ours4)})
	assert.Equal(t, "0.0.0.0:7", listenUDP(t, one, "udp", ":7").LocalAddr().String())
}

// All ways to receive and send a datagram that *net.UDPConn has without a descriptor.
func TestUDPConnHasTheMethodsOfPackageNet(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		for _, family := range []struct{ ours, peer string }{{ours4, peer4}, {ours6, peer6}} {
			var far *net.UDPConn
			require.NoError(t, p.Do(func() (err error) {
				far, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(family.peer)})
				return err
			}))
			defer far.Close()
			require.NoError(t, far.SetDeadline(time.Now().Add(20*time.Second)))
			to := far.LocalAddr().(*net.UDPAddr)
			at := to.AddrPort()
			at = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
			c := listenUDP(t, h, "udp", net.JoinHostPort(family.ours, "0"))
			dialed, err := h.Dial(soon(t), "udp", to.String())
			require.NoError(t, err)
			defer dialed.Close()
			d := dialed.(*netstack.UDPConn)

			b := make([]byte, 100)
			for name, send := range map[string]func() (int, int, error){
				"WriteToUDP":          func() (int, int, error) { n, err := c.WriteToUDP([]byte("hello"), to); return n, 0, err },
				"WriteToUDPAddrPort":  func() (int, int, error) { n, err := c.WriteToUDPAddrPort([]byte("hello"), at); return n, 0, err },
				"WriteMsgUDP":         func() (int, int, error) { return c.WriteMsgUDP([]byte("hello"), nil, to) },
				"WriteMsgUDPAddrPort": func() (int, int, error) { return c.WriteMsgUDPAddrPort([]byte("hello"), nil, at) },
				"WriteMsgUDP, dialed": func() (int, int, error) { return d.WriteMsgUDP([]byte("hello"), nil, nil) },
				"WriteMsgUDPAddrPort, dialed": func() (int, int, error) {
					return d.WriteMsgUDPAddrPort([]byte("hello"), nil, netip.AddrPort{})
				},
			} {
				n, oobn, err := send()
				require.NoError(t, err, name)
				assert.Equal(t, [2]int{5, 0}, [2]int{n, oobn}, name)
				n, err = far.Read(b)
				require.NoError(t, err, name)
				assert.Equal(t, "hello", string(b[:n]), name)
			}
			for name, receive := range map[string]func(b []byte) (n, flags int, from netip.AddrPort, err error){
				"ReadFromUDP": func(b []byte) (int, int, netip.AddrPort, error) {
					n, from, err := c.ReadFromUDP(b)
					return n, syscall.MSG_TRUNC, from.AddrPort(), err
				},
				"ReadFromUDPAddrPort": func(b []byte) (int, int, netip.AddrPort, error) {
					n, from, err := c.ReadFromUDPAddrPort(b)
					return n, syscall.MSG_TRUNC, from, err
				},
				"ReadMsgUDP": func(b []byte) (int, int, netip.AddrPort, error) {
					n, oobn, flags, from, err := c.ReadMsgUDP(b, make([]byte, 10))
					assert.Zero(t, oobn)
					return n, flags, from.AddrPort(), err
				},
				"ReadMsgUDPAddrPort": func(b []byte) (int, int, netip.AddrPort, error) {
					n, oobn, flags, from, err := c.ReadMsgUDPAddrPort(b, nil)
					assert.Zero(t, oobn)
					return n, flags, from, err
				},
			} {
				for _, size := range []int{20, 3} {
					_, err := far.WriteTo([]byte("hello"), c.LocalAddr())
					require.NoError(t, err)
					n, flags, from, err := receive(b[:size])
					require.NoError(t, err, name)
					assert.Equal(t, "hello"[:min(size, 5)], string(b[:n]), name)
					assert.Equal(t, at, from, name)
					if size == 20 && flags != syscall.MSG_TRUNC {
						assert.Zero(t, flags, name)
					} else {
						assert.Equal(t, syscall.MSG_TRUNC, flags, name)
					}
				}
			}

			for _, err := range []error{
				third(c.WriteMsgUDP([]byte("x"), nil, nil)), third(c.WriteMsgUDPAddrPort([]byte("x"), nil, netip.AddrPort{})),
			} {
				assert.ErrorIs(t, err, syscall.EDESTADDRREQ)
			}
			assert.ErrorIs(t, third(c.WriteMsgUDP([]byte("x"), []byte("oob"), to)), syscall.EOPNOTSUPP)
			assert.ErrorIs(t, third(d.WriteMsgUDP([]byte("x"), nil, to)), net.ErrWriteToConnected)
			assert.ErrorIs(t, c.SetReadBuffer(0), syscall.EINVAL)
			assert.ErrorIs(t, c.SetWriteBuffer(-1), syscall.EINVAL)
			require.NoError(t, c.Close())
			_, _, err = c.ReadFromUDP(b)
			assert.ErrorIs(t, err, net.ErrClosed)
			assert.ErrorIs(t, third(c.WriteMsgUDP([]byte("x"), nil, to)), net.ErrClosed)
			assert.ErrorIs(t, c.SetReadBuffer(1000), net.ErrClosed)
		}
	})
}

func third(_, _ int, err error) error { return err }

// come waits until as many packets have come, or were lost, as were sent.
func come(t *testing.T, h *netstack.Host, was netstack.Stats, sent int) {
	t.Helper()
	require.Eventually(t, func() bool {
		s := h.Endpoint().Stats()
		return s.RxPackets-was.RxPackets+s.RxLost-was.RxLost >= uint64(sent)
	}, 20*time.Second, 10*time.Millisecond, "all have come")
	time.Sleep(50 * time.Millisecond)
}

// What waits to be read is bounded, also if it is nothing but headers, and what is
// lost is counted. A larger buffer keeps more.
func TestDatagramsThatWaitAreBounded(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	c := listenUDP(t, h, "udp", ours4+":7")
	other := listenUDP(t, h, "udp", ours4+":8")
	r := newRaw(t, p)
	waiting := func() (n int) {
		b := make([]byte, 2000)
		for {
			require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			if _, _, err := c.ReadFromUDP(b); err != nil {
				return n
			}
			n++
		}
	}
	kept := func(count, size int) (n, grown int, unread uint64) {
		t.Helper()
		datagram := make([]byte, 8+size)
		copy(datagram, []byte{0, 9, 0, 7, byte(len(datagram) >> 8), byte(len(datagram))})
		before, was := held(), h.Endpoint().Stats()
		for i := range count {
			_, err := r.writeFrame(r.ip(nil, [4]byte{192, 0, 2, 2}, 17, 0, false, datagram))
			require.NoError(t, err)
			if i%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		come(t, h, was, count)
		grown = held() - before
		n = waiting()
		s := h.Endpoint().Stats()
		assert.Equal(t, count, n+int(s.UDPUnread-was.UDPUnread)+int(s.RxLost-was.RxLost))
		return n, grown, s.UDPUnread - was.UDPUnread
	}
	for _, size := range []int{0, 1, 1400} {
		n, grown, unread := kept(6000, size)
		t.Logf("%d datagrams of %d bytes wait, which take %d KiB", n, size, grown>>10)
		assert.Greater(t, n, 1000, "%d bytes", size)
		assert.Less(t, n, 6000)
		assert.Less(t, grown, 3*(2<<20), "%d bytes", size)
		assert.NotZero(t, unread)
	}
	assert.Contains(t, h.Endpoint().Stats().String(), "datagrams dropped: their socket was full")
	require.NoError(t, c.SetReadBuffer(16<<20))
	_, _, unread := kept(6000, 1400)
	assert.Zero(t, unread, "all in a larger buffer")
	require.NoError(t, c.SetReadBuffer(1))
	n, _, _ := kept(100, 1400)
	assert.Less(t, n, 10, "the least")
	assert.NotZero(t, n)

	// Another socket is not hindered.
	require.NoError(t, c.SetReadBuffer(1))
	kept0 := make([]byte, 8)
	copy(kept0, []byte{0, 9, 0, 7, 0, 8})
	for range 100 {
		_, err := r.writeFrame(r.ip(nil, [4]byte{192, 0, 2, 2}, 17, 0, false, kept0))
		require.NoError(t, err)
	}
	copy(kept0, []byte{0, 9, 0, 8, 0, 8})
	_, err := r.writeFrame(r.ip(nil, [4]byte{192, 0, 2, 2}, 17, 0, false, kept0))
	require.NoError(t, err)
	n, _, err = other.ReadFromUDP(nil)
	require.NoError(t, err)
	assert.Zero(t, n)
}
