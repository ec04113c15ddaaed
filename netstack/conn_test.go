package netstack_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// hosts makes two Hosts, one on each end of a link.
func hosts(t testing.TB, v testns.Veth, mode bpf.Mode, o netstack.Options) (a, b *netstack.Host) {
	t.Helper()
	near, far := v.Make(t)
	a = open(t, near, &netstack.Config{Addresses: prefixes(ours4, ours6), Mode: mode, Options: o})
	b = open(t, far, &netstack.Config{Addresses: prefixes(second4, second6), Mode: mode, Options: o})
	return a, b
}

func TestConnsAreLikeThoseOfPackageNet(t *testing.T) {
	testns.Kernel(t)
	a, b := hosts(t, testns.Veth{}, bpf.Native, netstack.Options{})
	l, err := a.Listen("tcp", net.JoinHostPort(ours4, "0"))
	require.NoError(t, err)
	defer l.Close()
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		accepted := make(chan error, 1)
		go func() {
			var err error
			c1, err = l.Accept()
			accepted <- err
		}()
		if c2, err = b.Dial(context.Background(), "tcp", l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if err = <-accepted; err != nil {
			return nil, nil, nil, err
		}
		return c1, c2, func() { c1.Close(); c2.Close() }, nil
	})
}

func TestPacketConnsAreLikeThoseOfPackageNet(t *testing.T) {
	testns.Kernel(t)
	a, b := hosts(t, testns.Veth{}, bpf.Native, netstack.Options{})
	for _, c := range []struct{ name, ours, second string }{{"IPv4", ours4, second4}, {"IPv6", ours6, second6}} {
		t.Run(c.name, func(t *testing.T) { testPacketConn(t, a, b, c.ours, c.second) })
	}
	t.Run("both families", func(t *testing.T) {
		p, err := a.ListenPacket("udp", ":7")
		require.NoError(t, err)
		defer p.Close()
		for _, to := range []string{ours4, ours6} {
			conn, err := b.Dial(soon(t), "udp", net.JoinHostPort(to, "7"))
			require.NoError(t, err)
			defer conn.Close()
			echo(t, p, conn, 100)
		}
	})
}

// echo sends n bytes from conn to p and back.
func echo(t *testing.T, p net.PacketConn, conn net.Conn, n int) {
	t.Helper()
	limit := time.Now().Add(10 * time.Second)
	require.NoError(t, p.SetDeadline(limit))
	require.NoError(t, conn.SetDeadline(limit))
	want, got := make([]byte, n), make([]byte, n+1)
	for i := range want {
		want[i] = byte(i * 7)
	}
	_, err := conn.Write(want)
	require.NoError(t, err)
	k, from, err := p.ReadFrom(got)
	require.NoError(t, err)
	require.Equal(t, want, got[:k])
	require.Equal(t, netip.MustParseAddrPort(conn.LocalAddr().String()), addrPortOf(from))
	_, err = p.WriteTo(got[:k], from)
	require.NoError(t, err)
	k, err = conn.Read(got)
	require.NoError(t, err)
	require.Equal(t, want, got[:k])
}

func addrPortOf(a net.Addr) netip.AddrPort {
	ap := a.(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

func testPacketConn(t *testing.T, a, b *netstack.Host, ours, second string) {
	p, err := a.ListenPacket("udp", net.JoinHostPort(ours, "0"))
	require.NoError(t, err)
	defer p.Close()
	conn, err := b.Dial(soon(t), "udp", p.LocalAddr().String())
	require.NoError(t, err)
	defer conn.Close()
	for _, n := range []int{1, 512, 1472, 1473, 20000, 65507 - 40} {
		echo(t, p, conn, n)
	}
	// A short buffer takes the beginning, and the rest is lost.
	_, err = conn.Write([]byte("hello"))
	require.NoError(t, err)
	short := make([]byte, 2)
	n, _, err := p.ReadFrom(short)
	require.NoError(t, err)
	assert.Equal(t, "he", string(short[:n]))
	// Deadlines that have passed, that pass, and that are moved while somebody waits.
	require.NoError(t, p.SetReadDeadline(time.Now().Add(-time.Second)))
	_, _, err = p.ReadFrom(short)
	isTimeout(t, err)
	require.NoError(t, p.SetReadDeadline(time.Now().Add(time.Hour)))
	time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, p.SetReadDeadline(time.Now())) })
	_, _, err = p.ReadFrom(short)
	isTimeout(t, err)
	require.NoError(t, p.SetWriteDeadline(time.Now().Add(-time.Second)))
	_, err = p.WriteTo(short, conn.LocalAddr())
	isTimeout(t, err)
	require.NoError(t, p.SetDeadline(time.Time{}))
	// What cannot be.
	_, err = p.WriteTo(short, &net.TCPAddr{})
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = conn.(*netstack.UDPConn).WriteTo(short, p.LocalAddr())
	assert.ErrorIs(t, err, net.ErrWriteToConnected)
	_, err = b.ListenPacket("udp", net.JoinHostPort(ours, "0"))
	isOpError(t, err, syscall.EADDRNOTAVAIL)
	_, err = a.ListenPacket("udp", p.LocalAddr().String())
	isOpError(t, err, syscall.EADDRINUSE)
	// Nobody listens.
	nobody, err := b.Dial(soon(t), "udp", net.JoinHostPort(ours, "9"))
	require.NoError(t, err)
	defer nobody.Close()
	_, err = nobody.Write(short)
	require.NoError(t, err)
	require.NoError(t, nobody.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = nobody.Read(short)
	isOpError(t, err, syscall.ECONNREFUSED)
	// Close wakes who waits.
	time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, p.Close()) })
	_, _, err = p.ReadFrom(short)
	isOpError(t, err, net.ErrClosed)
	_, err = p.WriteTo(short, conn.LocalAddr())
	isOpError(t, err, net.ErrClosed)
	isOpError(t, p.Close(), net.ErrClosed)
}

func isTimeout(t *testing.T, err error) {
	t.Helper()
	isOpError(t, err, os.ErrDeadlineExceeded)
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout())
}

func isOpError(t *testing.T, err, cause error) {
	t.Helper()
	require.Error(t, err)
	var op *net.OpError
	assert.True(t, errors.As(err, &op), "%v is no *net.OpError", err)
	assert.ErrorIs(t, err, cause)
}

func TestDialFailsAsInPackageNet(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	for _, to := range []string{peer4, peer6} {
		_, err := h.Dial(soon(t), "tcp", net.JoinHostPort(to, "9"))
		isOpError(t, err, syscall.ECONNREFUSED)
	}
	_, err := h.Dial(soon(t), "tcp", "198.51.100.1:9")
	isOpError(t, err, syscall.ENETUNREACH)
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = h.Dial(short, "tcp", "192.0.2.77:9") // nobody answers
	isTimeout(t, err)
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = h.Dial(canceled, "tcp", net.JoinHostPort(peer4, "9"))
	isOpError(t, err, context.Canceled)
	_, err = h.Dial(soon(t), "sctp", net.JoinHostPort(peer4, "9"))
	isOpError(t, err, net.UnknownNetworkError("sctp"))
	_, err = h.Dial(soon(t), "tcp6", net.JoinHostPort(peer4, "9"))
	require.Error(t, err)
	_, err = h.Listen("tcp", "192.0.2.99:80")
	isOpError(t, err, syscall.EADDRNOTAVAIL)

	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	_, err = h.Listen("tcp", ":80")
	isOpError(t, err, syscall.EADDRINUSE)
	require.NoError(t, l.(*netstack.TCPListener).SetDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = l.Accept()
	isTimeout(t, err)
	require.NoError(t, l.(*netstack.TCPListener).SetDeadline(time.Time{}))
	for _, to := range []string{ours4, ours6} {
		conn, err := fromPeer(p)("tcp", net.JoinHostPort(to, "80"))
		require.NoError(t, err)
		here, err := l.Accept()
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).SetLinger(0))
		require.NoError(t, conn.Close())
		_, err = here.Read(make([]byte, 1))
		isOpError(t, err, syscall.ECONNRESET)
		require.NoError(t, here.Close())
	}
	time.AfterFunc(20*time.Millisecond, func() { assert.NoError(t, h.Close()) })
	_, err = l.Accept()
	isOpError(t, err, net.ErrClosed)
	_, err = h.Dial(soon(t), "tcp", net.JoinHostPort(peer4, "9"))
	isOpError(t, err, net.ErrClosed)
	_, err = h.Listen("tcp", ":81")
	isOpError(t, err, net.ErrClosed)
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	for what, cfg := range map[string]*netstack.Config{
		"nothing would reach":    nil,
		"that a host can have":   {Addresses: prefixes("0.0.0.0")},
		"of the network itself":  {Addresses: prefixes("192.0.2.0")},
		"MTU 100 is not between": {Addresses: prefixes(ours4), Options: netstack.Options{MTU: 100}},
		"are of one family":      {Addresses: prefixes(ours4), Gateways: []netip.Addr{netip.MustParseAddr(peer4), netip.MustParseAddr("192.0.2.3")}},
		"is no address":          {Addresses: prefixes(ours4), Gateways: []netip.Addr{{}}},
	} {
		_, err := netstack.Open(soon(t), p.Near, cfg)
		require.ErrorIs(t, err, syscall.EINVAL, what)
		assert.ErrorContains(t, err, what)
		assert.ErrorContains(t, err, "netstack: open "+p.Near)
	}
	_, err := netstack.Open(soon(t), "none0", &netstack.Config{Addresses: prefixes(ours4)})
	require.Error(t, err)
	openOurs(t, p.Near, bpf.Native) // nothing was left in the way
}

func TestThousandConnections(t *testing.T) {
	const connections, size = 1000, 6000
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	l, err := h.Listen("tcp", net.JoinHostPort(ours4, "0"))
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	var open sync.WaitGroup
	open.Add(connections) // all are open before the first sends
	errs := make(chan error, connections)
	for i := range connections {
		go func() {
			conn, err := fromPeer(p)("tcp", l.Addr().String())
			open.Done()
			if err == nil {
				open.Wait()
				err = exchangeWithEcho(conn, size, i)
				conn.Close()
			}
			errs <- err
		}()
	}
	for range connections {
		require.NoError(t, <-errs)
	}
}

// exchangeWithEcho sends size bytes and receives the same.
func exchangeWithEcho(conn net.Conn, size, seed int) error {
	if err := conn.SetDeadline(time.Now().Add(60 * time.Second)); err != nil {
		return err
	}
	want, got := make([]byte, size), make([]byte, size)
	for i := range want {
		want[i] = byte(i*i + seed)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := conn.Write(want)
		sent <- err
	}()
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != string(want) {
		return fmt.Errorf("connection %d: other bytes came back", seed)
	}
	return <-sent
}
