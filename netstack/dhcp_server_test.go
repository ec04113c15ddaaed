package netstack_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
)

// dhcpSecond is what a second of DHCP is in these tests.
const dhcpSecond = 100 * time.Millisecond

const (
	discover = dhcpv4.MessageTypeDiscover
	offer    = dhcpv4.MessageTypeOffer
	request  = dhcpv4.MessageTypeRequest
	ack      = dhcpv4.MessageTypeAck
	nak      = dhcpv4.MessageTypeNak
	decline  = dhcpv4.MessageTypeDecline
	release  = dhcpv4.MessageTypeRelease
)

// A dhcpServer is a DHCP server in the peer's network, over its kernel's sockets. It
// lends one address unless a script says otherwise.
type dhcpServer struct {
	t    *testing.T
	peer *testns.Peer

	mu     sync.Mutex
	lends  string
	with   []dhcpv4.Modifier // in all answers
	silent bool
	script func(*dhcpServer, asked) []reply // nil, or a nil slice: the default
	seen   []asked
}

// asked is a message that came.
type asked struct {
	*dhcpv4.DHCPv4
	kind dhcpv4.MessageType
	n    int // of its kind, from 0
	from net.Addr
	when time.Time

	alone bool // it came to the server's address, and not to everybody
}

// renewal says that the client has the address that it asks for.
func (a asked) renewal() bool { return a.kind == request && !a.ClientIPAddr.IsUnspecified() }

// A reply goes to where the question came from, or to everybody if that has no address.
type reply struct {
	message []byte
	to      string // or to this address
}

// serveDHCP starts it. script is called with the server locked.
func serveDHCP(t *testing.T, p *testns.Peer, script func(*dhcpServer, asked) []reply) *dhcpServer {
	t.Helper()
	s := &dhcpServer{t: t, peer: p, lends: "192.0.2.50", script: script}
	require.NoError(t, p.Do(func() error {
		// What is for one address comes to the socket that has it, and only that.
		for _, at := range []net.IP{net.IPv4zero, net.ParseIP(peer4)} {
			handle := func(conn net.PacketConn, from net.Addr, m *dhcpv4.DHCPv4) {
				s.handle(conn, from, m, !at.IsUnspecified())
			}
			server, err := server4.NewServer("eth0", &net.UDPAddr{IP: at, Port: 67}, handle)
			if err != nil {
				return err
			}
			go server.Serve()
			t.Cleanup(func() { server.Close() })
		}
		return nil
	}))
	return s
}

func (s *dhcpServer) handle(conn net.PacketConn, from net.Addr, m *dhcpv4.DHCPv4, alone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := asked{DHCPv4: m, kind: m.MessageType(), from: from, when: time.Now(), alone: alone}
	for _, other := range s.seen {
		if other.kind == a.kind {
			a.n++
		}
	}
	s.seen = append(s.seen, a)
	var answers []reply
	if s.script != nil {
		answers = s.script(s, a)
	}
	if answers == nil {
		answers = s.usual(a)
	}
	for _, b := range answers {
		to := from
		if b.to != "" {
			to = &net.UDPAddr{IP: net.ParseIP(b.to), Port: 68}
		}
		_, _ = conn.WriteTo(b.message, to)
	}
}

// usual is what a good server answers.
func (s *dhcpServer) usual(a asked, with ...dhcpv4.Modifier) []reply {
	switch {
	case s.silent:
	case a.kind == discover:
		return []reply{s.answer(a, offer, with...)}
	case a.kind == request:
		if server := a.ServerIdentifier(); server != nil && server.String() != peer4 {
			return nil
		}
		return []reply{s.answer(a, ack, with...)}
	}
	return nil
}

func (s *dhcpServer) answer(a asked, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) reply {
	return reply{message: s.message(a, kind, with...).ToBytes()}
}

func (s *dhcpServer) message(a asked, kind dhcpv4.MessageType, with ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	all := []dhcpv4.Modifier{
		dhcpv4.WithMessageType(kind), dhcpv4.WithYourIP(net.ParseIP(s.lends)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithServerIP(net.ParseIP(peer4)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(peer4))),
		dhcpv4.WithRouter(net.ParseIP(peer4)), dhcpv4.WithDNS(net.ParseIP(peer4)), dhcpv4.WithLeaseTime(3600),
	}
	m, err := dhcpv4.NewReplyFromRequest(a.DHCPv4, append(append(all, s.with...), with...)...)
	require.NoError(s.t, err)
	return m
}

// refuse is a NAK, which is broadcast as RFC 2131 wants it.
func (s *dhcpServer) refuse(a asked, with ...dhcpv4.Modifier) reply {
	with = append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IPv4zero), without(1, 3, 6, 51)}, with...)
	b := s.answer(a, nak, with...)
	b.to = "255.255.255.255"
	return b
}

// without takes options out.
func without(codes ...uint8) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		for _, code := range codes {
			delete(m.Options, code)
		}
	}
}

// with sets an option to bytes.
func with(code uint8, b ...byte) dhcpv4.Modifier {
	return dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(code), b))
}

func lends(address string) dhcpv4.Modifier { return dhcpv4.WithYourIP(net.ParseIP(address)) }

func bySeconds(lease, t1, t2 uint32) dhcpv4.Modifier {
	return func(m *dhcpv4.DHCPv4) {
		for code, n := range map[uint8]uint32{51: lease, 58: t1, 59: t2} {
			if n != 0 {
				with(code, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))(m)
			}
		}
	}
}

// always puts these into all answers from now on.
func (s *dhcpServer) always(with ...dhcpv4.Modifier) {
	s.set(func() { s.with = append(s.with, with...) })
}

func (s *dhcpServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// got are the messages of a kind that came, or of all kinds without one.
func (s *dhcpServer) got(kinds ...dhcpv4.MessageType) (all []asked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.seen {
		for _, kind := range kinds {
			if a.kind == kind {
				all = append(all, a)
			}
		}
	}
	return all
}

func (s *dhcpServer) count(kind dhcpv4.MessageType) int { return len(s.got(kind)) }

// renewals are the requests of who has the address.
func (s *dhcpServer) renewals() (all []asked) {
	for _, a := range s.got(request) {
		if a.renewal() {
			all = append(all, a)
		}
	}
	return all
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, testns.Patience(15*time.Second), 5*time.Millisecond, what)
}

func prefix(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
