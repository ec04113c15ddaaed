package netstack_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A dhcpTry is one behaviour of a server, and what has to become of it.
type dhcpTry struct {
	name   string
	script func(*dhcpServer, asked) []reply
	before func(*testing.T, *dhcpServer)                 // the network
	config func(*netstack.Config)                        // of the Host
	check  func(*testing.T, *dhcpServer, *netstack.Host) // the Host has a lease
	fails  string                                        // or Open must not get one, for this reason
}

// dhcpRun runs a table, each behaviour in one of the modes, or in both with
// XSK_TEST_ALL.
func dhcpRun(t *testing.T, tries []dhcpTry) {
	testns.Kernel(t)
	for i, try := range tries {
		for j, mode := range modes {
			if j != i%2 && !full() {
				continue
			}
			t.Run(try.name+"/"+mode.String(), func(t *testing.T) {
				t.Parallel()
				try.run(t, mode)
			})
		}
	}
}

func (try *dhcpTry) run(t *testing.T, mode bpf.Mode) {
	p := testns.MakePeer(t)
	s := serveDHCP(t, p, try.script)
	if try.before != nil {
		try.before(t, s)
	}
	cfg := &netstack.Config{DHCP: true, Mode: mode}
	cfg.Queue.UmemConfig = xsk.UmemConfig{FrameSize: 2048, Frames: 512} // there are many of them
	if try.config != nil {
		try.config(cfg)
	}
	if try.fails != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 6*dhcpSecond)
		defer cancel()
		_, err := netstack.Open(ctx, p.Near, cfg)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.ErrorContains(t, err, try.fails)
		return
	}
	h := open(t, p.Near, cfg)
	try.check(t, s, h)
}

// nothing is no answer at all.
var nothing = []reply{}

// has is the addresses that the Host must have.
func has(t *testing.T, h *netstack.Host, addresses ...string) {
	t.Helper()
	var want []netip.Prefix
	for _, a := range addresses {
		want = append(want, netip.MustParsePrefix(a))
	}
	assert.ElementsMatch(t, want, h.Addresses())
}

// becomes waits until the Host has the address, or none.
func becomes(t *testing.T, h *netstack.Host, address string) {
	t.Helper()
	eventually(t, "the address "+address, func() bool {
		all := h.Addresses()
		return address == "" && len(all) == 0 || len(all) == 1 && all[0].String() == address
	})
}

// talks moves some bytes to the peer over the lease.
func talks(t *testing.T, s *dhcpServer, h *netstack.Host) {
	t.Helper()
	transfer(t, onPeer(s.peer), net.JoinHostPort(peer4, "0"), fromHost(t, h), 10_000, false)
}

// offers answers DISCOVER so, and else as usual.
func offers(with ...dhcpv4.Modifier) func(*dhcpServer, asked) []reply {
	return func(s *dhcpServer, a asked) []reply { return s.usual(a, with...) }
}

// firstTries goes wrong so often, and then well.
func firstTries(n int, wrong func(*dhcpServer, asked) []reply) func(*dhcpServer, asked) []reply {
	return func(s *dhcpServer, a asked) []reply {
		if a.kind == discover && a.n < n {
			return wrong(s, a)
		}
		return nil
	}
}

const lease50 = "192.0.2.50/24"

func gets50(t *testing.T, s *dhcpServer, h *netstack.Host) {
	has(t, h, lease50)
	talks(t, s, h)
}

func TestDHCPAtTheBeginning(t *testing.T) {
	dhcpRun(t, []dhcpTry{
		{name: "a good server", check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Contains(t, h.String(), lease50+" via "+peer4)
			d, r := s.got(discover)[0], s.got(request)[0]
			assert.Equal(t, d.TransactionID, r.TransactionID)
			assert.Equal(t, peer4, r.ServerIdentifier().String())
			assert.Equal(t, "192.0.2.50", r.RequestedIPAddress().String())
			assert.Equal(t, d.Options.Get(dhcpv4.OptionClientIdentifier), r.Options.Get(dhcpv4.OptionClientIdentifier))
		}},
		{name: "the first two questions are lost", script: firstTries(2, func(*dhcpServer, asked) []reply { return nothing }),
			check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
				gets50(t, s, h)
				assert.Len(t, s.got(discover), 3)
			}},
		{name: "the first request is lost", script: func(_ *dhcpServer, a asked) []reply {
			if a.kind == request && a.n == 0 {
				return nothing
			}
			return nil
		}, check: gets50},
		{name: "requests are never answered, by this offer", script: func(_ *dhcpServer, a asked) []reply {
			if a.kind == request && a.n < 4 {
				return nothing
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Len(t, s.got(discover), 2, "it begins again")
		}},
		{name: "answers for another transaction", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, lends("192.0.2.66"), func(m *dhcpv4.DHCPv4) { m.TransactionID[0]++ })}
		}), check: gets50},
		{name: "answers for another machine", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, lends("192.0.2.66"), func(m *dhcpv4.DHCPv4) { m.ClientHWAddr[5]++ })}
		}), check: gets50},
		{name: "answers for another client of this machine", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, lends("192.0.2.66"), with(61, 1, 2, 3, 4, 5, 6, 7))}
		}), check: gets50},
		{name: "echoes the client's identifier", script: func(s *dhcpServer, a asked) []reply {
			return s.usual(a, with(61, a.Options.Get(dhcpv4.OptionClientIdentifier)...))
		}, check: gets50},
		{name: "a question comes back", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest })}
		}), check: gets50},
		{name: "a BOOTP server", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, without(53))}
		}), check: gets50},
		{name: "an offer without the server's identifier", script: firstTries(1, func(s *dhcpServer, a asked) []reply {
			return []reply{s.answer(a, offer, without(54))}
		}), check: gets50},
		{name: "noise before the offer", script: func(s *dhcpServer, a asked) []reply {
			good := s.usual(a)
			if len(good) == 0 {
				return nil
			}
			var all []reply
			for _, n := range []int{0, 1, 3, 235, 236, 240, 250, len(good[0].message) - 61} {
				all = append(all, reply{message: good[0].message[:n]})
			}
			long := append(append([]byte(nil), good[0].message[:240]...), 1, 200, 255) // an option that ends beyond the end
			return append(append(all, reply{message: long}), good...)
		}, check: gets50},
		{name: "two servers offer, the first is taken", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == discover {
				return []reply{s.answer(a, offer), s.answer(a, offer, lends("192.0.2.66"), with(54, 192, 0, 2, 3))}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Equal(t, peer4, s.got(request)[0].ServerIdentifier().String())
		}},
		{name: "the second server's offer is the good one", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == discover {
				return []reply{s.answer(a, offer, lends("255.255.255.255"), with(54, 192, 0, 2, 3)), s.answer(a, offer)}
			}
			return nil
		}, check: gets50},
		{name: "another server answers the request", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == request && a.n == 0 {
				return []reply{s.answer(a, ack, lends("192.0.2.66"), with(54, 192, 0, 2, 3)),
					s.refuse(a, with(54, 192, 0, 2, 3)), s.answer(a, ack)}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Len(t, s.got(discover), 1)
		}},
		{name: "refuses the request once", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == request && a.n == 0 {
				return []reply{s.refuse(a)}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Len(t, s.got(discover), 2)
		}},
		{name: "refuses every request", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == request {
				return []reply{s.refuse(a, dhcpv4.WithOption(dhcpv4.OptMessage("not today")))}
			}
			return nil
		}, fails: `the server refuses the request ("not today")`},
		{name: "a refusal to the question, which means nothing", script: func(s *dhcpServer, a asked) []reply {
			if a.kind == discover {
				return []reply{s.refuse(a), s.answer(a, offer)}
			}
			return nil
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			assert.Len(t, s.got(discover), 1)
		}},
		{name: "sends to the address before we have it", before: func(t *testing.T, s *dhcpServer) {
			mac := macOf(t, s.peer.Near)
			require.NoError(t, s.peer.Do(func() error {
				testns.IP(t, "neighbour", "add", "192.0.2.50", "lladdr", mac, "dev", "eth0")
				return nil
			}))
		}, script: func(s *dhcpServer, a asked) []reply {
			all := s.usual(a)
			for i := range all {
				all[i].to = "192.0.2.50"
			}
			return all
		}, check: gets50},
		{name: "a server that leaves checksums to its device", before: func(t *testing.T, s *dhcpServer) {
			require.NoError(t, s.peer.Do(func() error { return testns.TxChecksumOn("eth0") }))
		}, check: func(t *testing.T, _ *dhcpServer, h *netstack.Host) { has(t, h, lease50) }},
		{name: "behind a relay", script: func(s *dhcpServer, a asked) []reply {
			return s.usual(a, dhcpv4.WithGatewayIP(net.ParseIP(peer4)), dhcpv4.WithServerIP(net.ParseIP("198.51.100.1")))
		}, check: gets50},
	})
}

func TestDHCPOptions(t *testing.T) {
	refusedFor := func(name, why string, with ...dhcpv4.Modifier) dhcpTry {
		return dhcpTry{name: name, script: offers(with...), fails: why}
	}
	via := func(gateway string) func(*testing.T, *dhcpServer, *netstack.Host) {
		return func(t *testing.T, _ *dhcpServer, h *netstack.Host) {
			want := lease50
			if gateway != "" {
				want += " via " + gateway
			}
			assert.Equal(t, want, lastLine(h.String()))
		}
	}
	dhcpRun(t, []dhcpTry{
		{name: "no mask", script: offers(without(1), lends("10.99.0.50"), without(3)),
			check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
				has(t, h, "10.99.0.50/8")
				require.NoError(t, s.peer.Do(func() error {
					testns.IP(t, "address", "add", "10.200.1.1/8", "dev", "eth0")
					return nil
				}))
				transfer(t, onPeer(s.peer), "10.200.1.1:0", fromHost(t, h), 10_000, false)
			}},
		refusedFor("a mask with holes", "lends 192.0.2.50 with the mask 255.0.255.0", with(1, 255, 0, 255, 0)),
		refusedFor("a mask of nothing", "lends 192.0.2.50 with the mask 0.0.0.0", with(1, 0, 0, 0, 0)),
		refusedFor("no address", "lends the address 0.0.0.0", lends("0.0.0.0")),
		refusedFor("no time", "for no time", with(51, 0, 0, 0, 0)),
		{name: "a single address and its router", script: offers(with(1, 255, 255, 255, 255)),
			check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
				has(t, h, "192.0.2.50/32")
				talks(t, s, h)
			}},
		{name: "no router", script: offers(without(3)), check: via("")},
		{name: "no router, and one of Config", script: offers(without(3)),
			config: func(c *netstack.Config) { c.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.3")} }, check: via("192.0.2.3")},
		{name: "a router before that of Config",
			config: func(c *netstack.Config) { c.Gateways = []netip.Addr{netip.MustParseAddr("192.0.2.3")} }, check: via(peer4)},
		{name: "routers that cannot be before one that can", script: offers(with(3, 0, 0, 0, 0, 192, 0, 2, 50, 224, 0, 0, 1, 192, 0, 2, 7)), check: via("192.0.2.7")},
		{name: "half a router", script: offers(with(3, 192, 0)), check: via("")},
		{name: "classless routes go before routers", script: offers(with(121,
			0, 192, 0, 2, 9,
			24, 198, 51, 100, 192, 0, 2, 2,
			32, 203, 0, 113, 5, 0, 0, 0, 0)),
			check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
				via("192.0.2.9")(t, s, h)
				require.NoError(t, s.peer.Do(func() error {
					testns.IP(t, "address", "add", "198.51.100.1/32", "dev", "eth0")
					testns.IP(t, "address", "add", "203.0.113.5/32", "dev", "eth0")
					return nil
				}))
				transfer(t, onPeer(s.peer), "198.51.100.1:0", fromHost(t, h), 10_000, false) // by a router
				transfer(t, onPeer(s.peer), "203.0.113.5:0", fromHost(t, h), 10_000, false)  // on the link
			}},
		{name: "classless routes without a default one", script: offers(with(121, 24, 198, 51, 100, 192, 0, 2, 2)), check: via("")},
		{name: "classless routes that cannot be read", script: offers(with(121, 33, 1, 2, 3)), check: via(peer4)},
		{name: "a route by ourselves", script: offers(with(121, 0, 192, 0, 2, 50)), check: via("")},
		{name: "options in the fields for names", script: func(s *dhcpServer, a asked) []reply {
			all := s.usual(a, without(1, 3, 51), with(52, 3))
			for _, r := range all {
				copy(r.message[108:], []byte{1, 4, 255, 255, 255, 128, 0, 3, 4, 192, 0, 2, 8, 255})
				copy(r.message[44:], []byte{51, 4, 0, 0, 14, 16, 255})
			}
			return all
		}, check: func(t *testing.T, _ *dhcpServer, h *netstack.Host) {
			assert.Equal(t, "192.0.2.50/25 via 192.0.2.8", lastLine(h.String()))
		}},
		{name: "an option in two parts", script: func(s *dhcpServer, a asked) []reply {
			all := s.usual(a, without(3))
			for i, r := range all {
				end := len(r.message) - 1
				for r.message[end] != 255 {
					end--
				}
				all[i].message = append(r.message[:end:end], 3, 2, 192, 0, 3, 2, 2, 6, 255)
			}
			return all
		}, check: via("192.0.2.6")},
		{name: "name servers", script: offers(with(6, 0, 0, 0, 0, 192, 0, 2, 2)),
			check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
				var names net.PacketConn
				require.NoError(t, s.peer.Do(func() (err error) {
					names, err = net.ListenPacket("udp", net.JoinHostPort(peer4, "53"))
					return err
				}))
				defer names.Close()
				go answerNames(names, net.ParseIP(peer4).To4())
				_, err := h.Resolver().LookupNetIP(soon(t), "ip4", "peer.example.")
				require.NoError(t, err)
			}},
	})
}

func TestDHCPAddressesOfOthers(t *testing.T) {
	kernelHas := func(address, on string) func(*testing.T, *dhcpServer) {
		return func(t *testing.T, s *dhcpServer) {
			if on == "" {
				on = s.peer.Near
			}
			testns.IP(t, "address", "add", address+"/32", "dev", on)
			t.Cleanup(func() {
				if on == "lo" {
					testns.IP(t, "address", "del", address+"/32", "dev", on)
				}
			})
		}
	}
	notAsked := func(t *testing.T, s *dhcpServer, h *netstack.Host) {
		gets50(t, s, h)
		for _, a := range s.got(request, decline) {
			assert.Equal(t, "192.0.2.50", a.RequestedIPAddress().String())
		}
	}
	theirs := func(address string) func(*dhcpServer, asked) []reply {
		return firstTries(2, func(s *dhcpServer, a asked) []reply { return s.usual(a, lends(address)) })
	}
	dhcpRun(t, []dhcpTry{
		{name: "somebody on the link", before: func(t *testing.T, s *dhcpServer) {
			require.NoError(t, s.peer.Do(func() error {
				testns.IP(t, "address", "add", "192.0.2.51/24", "dev", "eth0")
				return nil
			}))
		}, script: func(s *dhcpServer, a asked) []reply {
			if len(s.seen) > 2 { // after it was declined
				return nil
			}
			return s.usual(a, lends("192.0.2.51"))
		}, check: func(t *testing.T, s *dhcpServer, h *netstack.Host) {
			gets50(t, s, h)
			declined := s.got(decline)
			require.Len(t, declined, 1)
			assert.Equal(t, "192.0.2.51", declined[0].RequestedIPAddress().String())
			assert.Equal(t, peer4, declined[0].ServerIdentifier().String())
			assert.True(t, declined[0].ClientIPAddr.IsUnspecified())
			assert.Contains(t, string(declined[0].Options.Get(dhcpv4.OptionMessage)), "in use by")
			assert.GreaterOrEqual(t, s.got(discover)[1].when.Sub(declined[0].when), 9*dhcpSecond, "ten seconds")
		}},
		{name: "the kernel on this interface", before: kernelHas("192.0.2.71", ""), script: theirs("192.0.2.71"), check: notAsked},
		{name: "the kernel on another interface", before: kernelHas("192.0.2.72", "lo"), script: theirs("192.0.2.72"), check: notAsked},
		{name: "the kernel, and nothing else", before: kernelHas("192.0.2.73", "lo"), script: offers(lends("192.0.2.73")),
			fails: "this machine's kernel has 192.0.2.73 on lo"},
		{name: "the kernel by a local route", before: func(t *testing.T, _ *dhcpServer) {
			testns.IP(t, "route", "add", "local", "192.0.2.74/32", "dev", "lo")
			t.Cleanup(func() { testns.IP(t, "route", "del", "local", "192.0.2.74/32", "dev", "lo") })
		}, script: offers(lends("192.0.2.74")), fails: "this machine's kernel has 192.0.2.74 by a local route"},
		{name: "the Host itself", config: func(c *netstack.Config) { c.Addresses = prefix("192.0.2.75/24") },
			script: offers(lends("192.0.2.75")), fails: "192.0.2.75 is one of the Host's Addresses"},
	})
}

func macOf(t *testing.T, ifname string) string {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	return device.HardwareAddr.String()
}

func lastLine(s string) string {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '\n' {
			return s[i+1:]
		}
	}
	return s
}

// The kernel's own DHCP client hears all that it heard before, at any time.
func TestDHCPLeavesTheKernelsClientAlone(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := testns.MakePeer(t)
		var here, there net.PacketConn
		var kernels net.ListenConfig
		kernels.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) {
				_ = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, p.Near)
			})
		}
		here, err := kernels.ListenPacket(soon(t), "udp4", "0.0.0.0:68")
		require.NoError(t, err)
		defer here.Close()
		// Like a client of the kernel's, it waits for broadcast and for its own address.
		heard := func(what string) {
			t.Helper()
			for _, to := range []string{"192.0.2.1:68", "255.255.255.255:68"} {
				addr, err := net.ResolveUDPAddr("udp4", to)
				require.NoError(t, err)
				_, err = there.WriteTo([]byte(what), addr)
				require.NoError(t, err)
				b := make([]byte, 2000)
				for got := ""; got != what; {
					require.NoError(t, here.SetReadDeadline(time.Now().Add(testns.Patience(5*time.Second))))
					n, _, err := here.ReadFrom(b)
					require.NoError(t, err, "%s to %s", what, to)
					got = string(b[:n])
				}
			}
		}
		s := serveDHCP(t, p, nil)
		s.set(func() { s.silent = true })
		require.NoError(t, p.Do(func() error {
			kernels.Control = func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) {
					_ = syscall.SetsockoptString(int(fd), syscall.SOL_SOCKET, syscall.SO_BINDTODEVICE, "eth0")
					_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1)
				})
			}
			there, err = kernels.ListenPacket(soon(t), "udp4", "192.0.2.2:0")
			return err
		}))
		defer there.Close()

		type opened struct {
			h   *netstack.Host
			err error
		}
		done := make(chan opened, 1)
		go func() {
			h, err := netstack.Open(soon(t), p.Near, &netstack.Config{DHCP: true, Mode: mode})
			done <- opened{h, err}
		}()
		eventually(t, "a question", func() bool { return s.count(discover) > 0 })
		heard("while it asks")
		s.set(func() { s.silent = false })
		got := <-done
		require.NoError(t, got.err)
		defer got.h.Close()
		has(t, got.h, lease50)
		heard("while it has a lease")
	})
}

func TestDHCPIdentifierIsOurOwnAndStays(t *testing.T) {
	testns.Kernel(t)
	p := testns.MakePeer(t)
	s := serveDHCP(t, p, nil)
	for range 2 {
		h, err := netstack.Open(soon(t), p.Near, &netstack.Config{DHCP: true})
		require.NoError(t, err)
		require.NoError(t, h.Close())
	}
	eventually(t, "two releases", func() bool { return s.count(release) == 2 })
	id := s.got(discover)[0].Options.Get(dhcpv4.OptionClientIdentifier)
	for _, a := range s.got(discover, request, release) {
		assert.Equal(t, id, a.Options.Get(dhcpv4.OptionClientIdentifier), "%v", a.kind)
	}
	require.Len(t, id, 23)
	assert.Equal(t, []byte{255}, id[:1], "RFC 4361")
	assert.Equal(t, []byte{0, 4}, id[5:7], "DUID-UUID")
	for _, a := range s.got(release) {
		assert.Equal(t, "192.0.2.50", a.ClientIPAddr.String())
		assert.Equal(t, peer4, a.ServerIdentifier().String())
		assert.Equal(t, "192.0.2.50:68", a.from.String())
	}
}

// With a Filter that takes everything the answers come to the Host's own queues.
func TestDHCPHearsWhatTheFilterTakes(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := testns.MakePeer(t)
		s := serveDHCP(t, p, nil)
		s.always(bySeconds(10, 0, 0))
		require.NoError(t, p.Do(func() error {
			testns.IP(t, "address", "add", "192.0.2.51/24", "dev", "eth0")
			return nil
		}))
		s.set(func() { s.lends = "192.0.2.51" }) // which is taken
		opened := make(chan error, 1)
		var h *netstack.Host
		go func() {
			var err error
			h, err = netstack.Open(soon(t), p.Near, &netstack.Config{DHCP: true, Mode: mode, Filter: &bpf.Filter{All: true}})
			opened <- err
		}()
		eventually(t, "a DECLINE", func() bool { return s.count(decline) == 1 })
		s.set(func() { s.lends = "192.0.2.50" })
		require.NoError(t, <-opened)
		defer h.Close()
		gets50(t, s, h)
		eventually(t, "two renewals", func() bool { return len(s.renewals()) >= 2 })
		has(t, h, lease50)
	})
}
