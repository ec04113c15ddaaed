package netstack_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
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

// bothClosed are what programs of package net and of package os look for.
func bothClosed(t *testing.T, err error) {
	t.Helper()
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.ErrorIs(t, err, os.ErrClosed)
	assert.ErrorContains(t, err, "use of closed network connection")
}

func TestClosedIsBothKindsOfClosed(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	l, err := h.Listen("tcp", ":0")
	require.NoError(t, err)
	u, err := h.ListenPacket("udp", ours4+":0")
	require.NoError(t, err)
	waiting := make(chan error, 2)
	go func() { _, err := l.Accept(); waiting <- err }()
	go func() { _, _, err := u.ReadFrom(make([]byte, 1)); waiting <- err }()
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, l.Close())
	bothClosed(t, <-waiting)
	bothClosed(t, l.Close())
	assert.NoError(t, h.Err())
	require.NoError(t, h.Close())
	bothClosed(t, <-waiting)
	_, err = h.Dial(soon(t), "tcp", net.JoinHostPort(peer4, "9"))
	bothClosed(t, err)
	_, err = h.Listen("tcp", ":0")
	bothClosed(t, err)
	_, err = u.WriteTo([]byte{1}, &net.UDPAddr{IP: net.ParseIP(peer4), Port: 9})
	bothClosed(t, err)
	bothClosed(t, u.SetDeadline(time.Time{}))
	bothClosed(t, h.AddAddress(netip.MustParsePrefix("192.0.2.99/24")))
	bothClosed(t, h.Err())
	select {
	case <-h.Done():
	default:
		t.Error("Done is open after Close")
	}
}

// The interface is deleted, or moved to another network: whoever waits is told.
func TestWhoeverWaitsIsToldThatTheInterfaceIsGone(t *testing.T) {
	for _, how := range []string{"deleted", "moved"} {
		t.Run(how, func(t *testing.T) {
			inEachMode(t, func(t *testing.T, mode bpf.Mode) { interfaceGoes(t, mode, how) })
		})
	}
}

// standIn is an interface of the name for the clean-up to delete.
func standIn(t *testing.T, p *testns.Peer) {
	testns.IP(t, "link", "add", p.Near, "type", "veth", "peer", "name", p.Near+"x")
}

func interfaceGoes(t *testing.T, mode bpf.Mode, how string) {
	p := makePeer(t)
	left := leavesNothing(t)
	h, err := netstack.Open(soon(t), p.Near, &netstack.Config{Addresses: prefixes(ours4, ours6), Mode: mode})
	require.NoError(t, err)
	defer h.Close()
	l, err := h.Listen("tcp", ours4+":0")
	require.NoError(t, err)
	u, err := h.ListenPacket("udp", ours4+":0")
	require.NoError(t, err)
	kernels, err := onPeer(p)("tcp", net.JoinHostPort(peer4, "0"))
	require.NoError(t, err)
	defer kernels.Close()
	conns, others := make([]net.Conn, 3), make([]net.Conn, 3)
	for i := range conns {
		conns[i], err = h.Dial(soon(t), "tcp", kernels.Addr().String())
		require.NoError(t, err)
		defer conns[i].Close()
		others[i], err = kernels.Accept()
		require.NoError(t, err)
		defer others[i].Close()
	}
	unread := conns[2]
	_, err = others[2].Write([]byte("unread"))
	require.NoError(t, err)

	var silent net.PacketConn
	require.NoError(t, p.Do(func() (err error) {
		silent, err = net.ListenPacket("udp", net.JoinHostPort(peer4, "5353"))
		return err
	}))
	defer silent.Close()

	type told struct {
		what string
		err  error
		when time.Time
	}
	heard := make(chan told)
	waiters := 0
	wait := func(what string, f func() error) {
		waiters++
		go func() {
			err := f()
			heard <- told{what, err, time.Now()}
		}()
	}
	wait("accept", func() error { _, err := l.Accept(); return err })
	wait("read", func() error { _, err := conns[0].Read(make([]byte, 1)); return err })
	wait("write", func() error { _, err := conns[1].Write(make([]byte, 64<<20)); return err })
	wait("read a packet", func() error { _, _, err := u.ReadFrom(make([]byte, 1)); return err })
	wait("dial", func() error { _, err := h.Dial(soon(t), "tcp", "192.0.2.99:9"); return err }) // whom nobody answers for
	wait("look up", func() error {
		_, err := h.Resolver(netip.MustParseAddrPort(net.JoinHostPort(peer4, "5353"))).LookupNetIP(soon(t), "ip4", "peer.example.")
		if err != nil && !strings.Contains(err.Error(), syscall.ENODEV.Error()) {
			return err
		}
		return syscall.ENODEV // net.DNSError keeps the text only
	})
	wait("done", func() error { <-h.Done(); return h.Err() })
	time.Sleep(200 * time.Millisecond)
	require.NoError(t, h.Err())
	began := time.Now()
	if how == "deleted" {
		testns.IP(t, "link", "del", p.Near)
		standIn(t, p)
	} else {
		require.NoError(t, p.Take(p.Near, "taken"))
		standIn(t, p)
	}
	for range waiters {
		got := <-heard
		assert.ErrorIs(t, got.err, syscall.ENODEV, got.what)
		assert.Less(t, got.when.Sub(began), testns.Patience(6*time.Second), got.what)
		t.Logf("%s: told after %v", got.what, got.when.Sub(began).Round(time.Millisecond))
	}
	assert.ErrorIs(t, h.Err(), syscall.ENODEV)
	assert.ErrorIs(t, h.Endpoint().Err(), syscall.ENODEV)

	// What had come can be read, and nothing more is begun.
	b := make([]byte, 6)
	_, err = io.ReadFull(unread, b)
	require.NoError(t, err)
	assert.Equal(t, "unread", string(b))
	for what, f := range map[string]func() error{
		"read":           func() error { _, err := unread.Read(b); return err },
		"write":          func() error { _, err := unread.Write(b); return err },
		"write a packet": func() error { _, err := u.WriteTo(b, silent.LocalAddr()); return err },
		"accept":         func() error { _, err := l.Accept(); return err },
		"dial":           func() error { _, err := h.Dial(soon(t), "udp", "192.0.2.2:9"); return err },
		"listen":         func() error { _, err := h.Listen("tcp", ":0"); return err },
		"listen packet":  func() error { _, err := h.ListenPacket("udp", ":0"); return err },
		"add":            func() error { return h.AddAddress(netip.MustParsePrefix("192.0.2.99/24")) },
	} {
		assert.ErrorIs(t, f(), syscall.ENODEV, what)
	}
	closed := make(chan error, 1)
	go func() { closed <- h.Close() }()
	select {
	case err := <-closed:
		assert.True(t, err == nil || errors.Is(err, syscall.ENODEV), "%v", err)
	case <-time.After(testns.Patience(10 * time.Second)):
		t.Fatal("Close hangs")
	}
	_, err = l.Accept()
	bothClosed(t, err)
	for i := range conns {
		conns[i].Close()
		others[i].Close()
	}
	silent.Close()
	kernels.Close()
	left()
}
