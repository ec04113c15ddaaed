package netstack_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

func TestDHCPGetsAndKeepsALease(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	s := serveDHCP(t, p, nil)
	s.always(bySeconds(20, 0, 0))
	h := open(t, p.Near, &netstack.Config{DHCP: true, Mode: bpf.Native})
	has := func(addresses ...string) func() bool {
		return func() bool {
			got := h.Addresses()
			return assert.ObjectsAreEqual(prefixes(addresses...), append([]netip.Prefix(nil), got...))
		}
	}
	require.True(t, has("192.0.2.50")(), "%v", h.Addresses())
	assert.Contains(t, h.String(), "192.0.2.50/24 via "+peer4)
	transfer(t, onPeer(p), net.JoinHostPort(peer4, "0"), fromHost(t, h), 1<<20, false)
	transfer(t, h.Listen, "192.0.2.50:0", fromPeer(p), 1<<20, false)

	// It is renewed, by asking that server only.
	require.Eventually(t, func() bool { return s.count(request) >= 3 }, 10*time.Second, 10*time.Millisecond)
	assert.Equal(t, 1, s.count(discover))
	assert.True(t, has("192.0.2.50")())

	// It ends when nobody answers, and another one is taken.
	s.set(func() { s.silent = true })
	require.Eventually(t, has(), 10*time.Second, 10*time.Millisecond)
	s.set(func() { s.silent, s.lends = false, "192.0.2.60" })
	require.Eventually(t, has("192.0.2.60"), 20*time.Second, 10*time.Millisecond)
	transfer(t, h.Listen, "192.0.2.60:0", fromPeer(p), 1<<20, false)

	// The kernel's own DHCP client hears its answers while the Host has a lease.
	here, err := net.ListenPacket("udp4", "192.0.2.1:68")
	require.NoError(t, err)
	defer here.Close()
	there, err := fromPeer(p)("udp4", "192.0.2.1:68")
	require.NoError(t, err)
	defer there.Close()
	_, err = there.Write([]byte("for the kernel"))
	require.NoError(t, err)
	require.NoError(t, here.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, _, err = here.ReadFrom(make([]byte, 100))
	require.NoError(t, err)

	require.NoError(t, h.Close())
	require.Eventually(t, func() bool { return s.count(release) == 1 }, 10*time.Second, 10*time.Millisecond)
}

func TestDHCPWithoutAServerEndsWithTheContext(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := netstack.Open(ctx, p.Near, &netstack.Config{DHCP: true})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	assert.ErrorContains(t, err, "netstack: open "+p.Near+": DHCP: ")
	openOurs(t, p.Near, bpf.Native) // nothing was left in the way
}

// Open that waits for a lease hears that the interface is gone, and so does who keeps one.
func TestDHCPEndsWithTheInterface(t *testing.T) {
	testns.Kernel(t)
	p := testns.MakePeer(t)
	s := serveDHCP(t, p, nil)
	s.set(func() { s.silent = true })
	left := leavesNothing(t)
	done := make(chan error, 1)
	go func() {
		_, err := netstack.Open(soon(t), p.Near, &netstack.Config{DHCP: true})
		done <- err
	}()
	eventually(t, "a question", func() bool { return s.count(discover) > 0 })
	began := time.Now()
	testns.IP(t, "link", "del", p.Near)
	standIn(t, p)
	err := <-done
	assert.ErrorIs(t, err, syscall.ENODEV)
	assert.Less(t, time.Since(began), testns.Patience(6*time.Second))
	left()

	p = testns.MakePeer(t)
	s = serveDHCP(t, p, nil)
	s.always(bySeconds(4, 0, 0))
	left = leavesNothing(t)
	h, err := netstack.Open(soon(t), p.Near, &netstack.Config{DHCP: true})
	require.NoError(t, err)
	testns.IP(t, "link", "del", p.Near)
	standIn(t, p)
	select {
	case <-h.Done():
		assert.ErrorIs(t, h.Err(), syscall.ENODEV)
	case <-time.After(testns.Patience(6 * time.Second)):
		t.Error("nobody is told")
	}
	_ = h.Close()
	left()
}

func TestResolverAsksOverTheHost(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	var asked net.PacketConn
	require.NoError(t, p.Do(func() (err error) {
		asked, err = net.ListenPacket("udp", net.JoinHostPort(peer4, "53"))
		return err
	}))
	defer asked.Close()
	go answerNames(asked, net.ParseIP(peer4).To4())
	got, err := h.Resolver(netip.MustParseAddrPort(net.JoinHostPort(peer4, "53"))).LookupNetIP(soon(t), "ip4", "peer.example.")
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr(peer4)}, got)
}

// answerNames answers every question for an IPv4 address with ip.
func answerNames(conn net.PacketConn, ip net.IP) {
	b := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(b)
		if err != nil || n < 12 {
			return
		}
		end := 12
		for end < n && b[end] != 0 {
			end += int(b[end]) + 1
		}
		end += 5 // the root, type and class
		answer := append([]byte(nil), b[:end]...)
		answer[2], answer[3] = 0x84, 0
		copy(answer[4:12], []byte{0, 1, 0, 1, 0, 0, 0, 0})
		answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4)
		_, _ = conn.WriteTo(append(answer, ip...), from)
	}
}
