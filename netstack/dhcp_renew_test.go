package netstack_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// renewals answers the renewals so, the n-th of them from 0, and else as usual.
func renewals(f func(s *dhcpServer, a asked, n int) []reply) func(*dhcpServer, asked) []reply {
	n := 0
	return func(s *dhcpServer, a asked) []reply {
		if !a.renewal() {
			return nil
		}
		n++
		return f(s, a, n-1)
	}
}

// times makes the lease last so long, in all answers.
func times(lease, t1, t2 uint32) func(*testing.T, *dhcpServer) {
	return func(_ *testing.T, s *dhcpServer) { s.always(bySeconds(lease, t1, t2)) }
}

// unicast says that a renewal came to the server alone.
func unicast(t *testing.T, a asked) {
	t.Helper()
	assert.True(t, a.alone)
	assert.Equal(t, "192.0.2.50:68", a.from.String())
	assert.Equal(t, "192.0.2.50", a.ClientIPAddr.String())
	assert.Nil(t, a.RequestedIPAddress(), "RFC 2131, table 5")
	assert.Nil(t, a.ServerIdentifier(), "RFC 2131, table 5")
	assert.False(t, a.IsBroadcast())
}

func TestDHCPRenewals(t *testing.T) {
	const later = dhcpSecond / 3 // that the server may hear the first request, but not the second
	within := func(t *testing.T, d, least, most time.Duration) {
		t.Helper()
		assert.GreaterOrEqual(t, d, least-later)
		assert.LessOrEqual(t, d, testns.Patience(most+10*dhcpSecond))
	}
	dhcpRun(t, []dhcpTry{
		{name: "at half of it, for the server alone", before: times(8, 0, 0), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "three renewals", func() bool { return len(s.renewals()) >= 3 })
			has(t, h, lease50)
			all := s.renewals()
			unicast(t, all[0])
			within(t, all[0].when.Sub(s.got(request)[0].when), 4*dhcpSecond, 4*dhcpSecond)
			assert.NotEqual(t, all[0].TransactionID, all[1].TransactionID)
			assert.Len(t, s.got(discover), 1)
		}},
		{name: "when the server says so", before: times(60, 3, 50), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "a renewal", func() bool { return len(s.renewals()) >= 1 })
			within(t, s.renewals()[0].when.Sub(s.got(request)[0].when), 3*dhcpSecond, 3*dhcpSecond)
		}},
		{name: "an infinite lease, which is to be renewed", before: times(0xffffffff, 3, 0), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "two renewals", func() bool { return len(s.renewals()) >= 2 })
			within(t, s.renewals()[0].when.Sub(s.got(request)[0].when), 3*dhcpSecond, 3*dhcpSecond)
			for _, a := range s.renewals() {
				unicast(t, a)
			}
			has(t, h, lease50)
		}},
		{name: "an infinite lease is left alone", before: times(0xffffffff, 0, 0), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			time.Sleep(8 * dhcpSecond)
			assert.Empty(t, s.renewals())
			has(t, h, lease50)
		}},
		{name: "the longest lease that ends", before: times(0xfffffffe, 0, 0), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			time.Sleep(8 * dhcpSecond)
			assert.Empty(t, s.renewals())
			has(t, h, lease50)
		}},
		{name: "times in the wrong order", before: times(8, 100, 90), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "a renewal", func() bool { return len(s.renewals()) >= 1 })
			within(t, s.renewals()[0].when.Sub(s.got(request)[0].when), 4*dhcpSecond, 4*dhcpSecond)
			unicast(t, s.renewals()[0])
		}},
		{name: "a lease of a second", before: times(1, 0, 0), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "renewals", func() bool { return len(s.renewals()) >= 3 })
		}},
		{name: "answers are broadcast", before: times(8, 0, 0), script: renewals(func(s *dhcpServer, a asked, _ int) []reply {
			all := s.usual(a)
			for i := range all {
				all[i].to = "255.255.255.255"
			}
			return all
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "three renewals", func() bool { return len(s.renewals()) >= 3 })
			for _, a := range s.renewals() {
				unicast(t, a)
			}
			has(t, h, lease50)
		}},
		{name: "refused, by broadcast", before: times(60, 4, 50), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				s.lends = "192.0.2.60"
				return []reply{s.refuse(a)}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			becomes(t, h, "192.0.2.60/24")
			at := s.got(discover)[1].when.Sub(s.got(request)[0].when)
			within(t, at, 4*dhcpSecond, 5*dhcpSecond) // long before the fiftieth second
			assert.Nil(t, s.got(discover)[1].RequestedIPAddress(), "it was refused")
			talks(t, s, h)
		}},
		{name: "refused, to the address", before: times(60, 4, 50), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				s.lends = "192.0.2.60"
				return []reply{{message: s.refuse(a).message}}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) { becomes(t, h, "192.0.2.60/24") }},
		{name: "refused by another server, when all were asked", before: times(16, 3, 5), script: renewals(func(s *dhcpServer, a asked, n int) []reply {
			if a.alone {
				return nothing
			}
			s.lends = "192.0.2.60"
			return []reply{s.refuse(a, with(54, 192, 0, 2, 3))}
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			becomes(t, h, "192.0.2.60/24")
			at := s.got(discover)[1].when.Sub(s.got(request)[0].when)
			within(t, at, 5*dhcpSecond, 8*dhcpSecond) // and not in the sixteenth second
		}},
		{name: "another server answers, when all are asked", before: times(16, 3, 5), script: renewals(func(s *dhcpServer, a asked, n int) []reply {
			if a.alone && n < 10 {
				return nothing
			}
			return []reply{s.answer(a, ack, with(54, 192, 0, 2, 3))}
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "a question to all", func() bool {
				return slices.ContainsFunc(s.renewals(), func(a asked) bool { return !a.alone })
			})
			time.Sleep(2 * dhcpSecond)
			has(t, h, lease50)
			assert.Len(t, s.got(discover), 1)
		}},
		{name: "an address that cannot be", before: times(40, 4, 0), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() && len(s.seen) < 6 {
				return s.usual(a, lends("0.0.0.0"))
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "it asks anew", func() bool { return s.count(discover) == 2 })
			has(t, h, lease50)
			eventually(t, "a lease again", func() bool { return s.count(request) >= 3 })
			assert.Equal(t, "192.0.2.50", s.got(discover)[1].RequestedIPAddress().String())
			talks(t, s, h)
		}},
		{name: "an address that cannot be, and nothing more", before: times(12, 3, 0), script: renewals(func(s *dhcpServer, a asked, _ int) []reply {
			s.silent = true
			return []reply{s.answer(a, ack, lends("224.0.0.1"))}
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "it asks anew", func() bool { return s.count(discover) >= 2 })
			has(t, h, lease50)
			becomes(t, h, "")
			within(t, time.Since(s.got(request)[0].when), 12*dhcpSecond, 12*dhcpSecond)
			s.set(func() { s.silent = false })
			becomes(t, h, lease50)
		}},
		{name: "another address than ours", before: times(60, 3, 0), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				s.lends = "192.0.2.60"
				return []reply{s.answer(a, ack)}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			becomes(t, h, "192.0.2.60/24")
			assert.Len(t, s.got(discover), 2, "by asking anew, so that it is probed")
		}},
		{name: "without a router from then on", before: times(8, 0, 0), script: renewals(func(s *dhcpServer, a asked, _ int) []reply {
			return s.usual(a, without(1, 3))
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "no gateway", func() bool { return lastLine(h.String()) == lease50 })
			_, err := h.Dial(soon(t), "tcp", "198.51.100.1:80")
			assert.ErrorContains(t, err, "unreachable")
		}},
		{name: "with other routes from then on", before: func(t *testing.T, s *dhcpServer) {
			s.always(bySeconds(8, 0, 0), with(121, 24, 198, 51, 100, 192, 0, 2, 2))
		}, script: renewals(func(s *dhcpServer, a asked, _ int) []reply {
			return s.usual(a, with(121, 24, 203, 0, 113, 192, 0, 2, 2))
		}), check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			require.NoError(t, s.peer.Do(func() error {
				testns.IP(t, "address", "add", "203.0.113.1/32", "dev", "eth0")
				return nil
			}))
			eventually(t, "a renewal", func() bool { return len(s.renewals()) >= 2 })
			transfer(t, onPeer(s.peer), "203.0.113.1:0", fromHost(t, h), 10_000, false)
			_, err := h.Dial(soon(t), "tcp", "198.51.100.1:80")
			assert.ErrorContains(t, err, "unreachable")
		}},
		{name: "nobody answers any more", before: times(8, 3, 5), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				s.silent = true
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			becomes(t, h, "")
			within(t, time.Since(s.got(request)[0].when), 8*dhcpSecond, 8*dhcpSecond)
			all := s.renewals()
			unicast(t, all[0])
			first := slices.IndexFunc(all, func(a asked) bool { return !a.alone })
			require.Positive(t, first, "then all servers are asked")
			assert.GreaterOrEqual(t, all[first].when.Sub(s.got(request)[0].when), 5*dhcpSecond-later)
			s.set(func() { s.silent, s.lends = false, "192.0.2.60" })
			becomes(t, h, "192.0.2.60/24")
			require.NoError(t, h.Close())
			eventually(t, "a release", func() bool { return s.count(release) == 1 })
			assert.Equal(t, "192.0.2.60", s.got(release)[0].ClientIPAddr.String())
		}},
		{name: "no address at the end, no release", before: times(4, 0, 0), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				s.silent = true
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			becomes(t, h, "")
			require.NoError(t, h.Close())
			time.Sleep(dhcpSecond)
			assert.Zero(t, s.count(release))
		}},
		{name: "the server's own address changes", before: times(10, 0, 0), script: func(s *dhcpServer, a asked) []reply {
			if a.renewal() {
				return []reply{s.answer(a, ack, with(54, 192, 0, 2, 3))}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			eventually(t, "a renewal", func() bool { return len(s.renewals()) == 1 })
			require.NoError(t, s.peer.Do(func() error {
				testns.IP(t, "address", "add", "192.0.2.3/24", "dev", "eth0")
				return nil
			}))
			eventually(t, "more", func() bool { return len(s.renewals()) >= 3 })
			require.NoError(t, h.Close())
			eventually(t, "a release", func() bool { return s.count(release) == 1 })
			assert.Equal(t, "192.0.2.3", s.got(release)[0].ServerIdentifier().String())
		}},
	})
}

// A server behind a router: renewals go by the router, and its answers come back so.
func TestDHCPServerBehindARouter(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := testns.MakePeer(t)
		s := serveDHCP(t, p, func(s *dhcpServer, a asked) []reply {
			if a.kind == request {
				return []reply{s.answer(a, ack)}
			}
			return nil
		})
		s.always(bySeconds(8, 0, 0), with(54, 198, 51, 100, 1), dhcpv4.WithGatewayIP(net.ParseIP(peer4)))
		require.NoError(t, p.Do(func() error {
			testns.IP(t, "address", "add", "198.51.100.1/32", "dev", "lo")
			return nil
		}))
		h := open(t, p.Near, &netstack.Config{DHCP: true, Mode: mode})
		eventually(t, "two renewals", func() bool { return len(s.renewals()) >= 2 })
		has(t, h, lease50)
		require.NoError(t, h.Close())
		eventually(t, "a release", func() bool { return s.count(release) == 1 })
	})
}
