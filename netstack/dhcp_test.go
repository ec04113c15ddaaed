package netstack_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A dhcpServer lends one address, for two seconds, over the peer's kernel.
type dhcpServer struct {
	mu       sync.Mutex
	lends    net.IP
	silent   bool
	requests map[dhcpv4.MessageType]int
}

func serveDHCP(t *testing.T, p *testns.Peer) *dhcpServer {
	t.Helper()
	s := &dhcpServer{lends: net.ParseIP("192.0.2.50"), requests: map[dhcpv4.MessageType]int{}}
	require.NoError(t, p.Do(func() error {
		server, err := server4.NewServer("eth0", &net.UDPAddr{IP: net.IPv4zero, Port: 67}, s.handle)
		if err == nil {
			go server.Serve()
			t.Cleanup(func() { server.Close() })
		}
		return err
	}))
	return s
}

func (s *dhcpServer) handle(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests[m.MessageType()]++
	kind := dhcpv4.MessageTypeOffer
	switch {
	case m.MessageType() == dhcpv4.MessageTypeRelease:
		return
	case s.silent:
		return
	case m.MessageType() == dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	}
	reply, err := dhcpv4.NewReplyFromRequest(m,
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(s.lends), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithServerIP(net.ParseIP(peer4)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(peer4))),
		dhcpv4.WithRouter(net.ParseIP(peer4)), dhcpv4.WithDNS(net.ParseIP(peer4)), dhcpv4.WithLeaseTime(2))
	if err == nil {
		_, _ = conn.WriteTo(reply.ToBytes(), peer)
	}
}

func (s *dhcpServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *dhcpServer) count(m dhcpv4.MessageType) (n int) {
	s.set(func() { n = s.requests[m] })
	return n
}

func TestDHCPGetsAndKeepsALease(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	s := serveDHCP(t, p)
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
	require.Eventually(t, func() bool { return s.count(dhcpv4.MessageTypeRequest) >= 3 }, 10*time.Second, 10*time.Millisecond)
	assert.Equal(t, 1, s.count(dhcpv4.MessageTypeDiscover))
	assert.True(t, has("192.0.2.50")())

	// It ends when nobody answers, and another one is taken.
	s.set(func() { s.silent = true })
	require.Eventually(t, has(), 10*time.Second, 10*time.Millisecond)
	s.set(func() { s.silent, s.lends = false, net.ParseIP("192.0.2.60") })
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
	require.Eventually(t, func() bool { return s.count(dhcpv4.MessageTypeRelease) == 1 }, 10*time.Second, 10*time.Millisecond)
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
