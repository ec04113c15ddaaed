package netstack_test

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// What a flood may take: three times what the documentation says.
const (
	floodMemory     = 3 * 256 // MiB
	floodGoroutines = 3 * 1100
	floodQueue      = 3 * (4 << 20)
	floodConnect    = 3 * 3 * time.Second
)

// serve answers connections of a Host with a byte, and closes them.
func serve(t *testing.T, h *netstack.Host, address string) net.Listener {
	t.Helper()
	l, err := h.Listen("tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = conn.Write([]byte("x"))
				conn.Close()
			}()
		}
	}()
	return l
}

// serveUDP sends datagrams back.
func serveUDP(t *testing.T, h *netstack.Host, address string) {
	t.Helper()
	c, err := h.ListenPacket("udp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
}

// connects says how long a real peer takes for a connection and an answer.
func connects(t *testing.T, p *testns.Peer, address string) time.Duration {
	t.Helper()
	return connectsFrom(t, p, "", address)
}

func connectsFrom(t *testing.T, p *testns.Peer, local, address string) time.Duration {
	t.Helper()
	begun := time.Now()
	assert.NoError(t, p.Do(func() error {
		d := net.Dialer{Timeout: 4 * floodConnect}
		if local != "" {
			d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(local)}
		}
		conn, err := d.Dial("tcp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(4 * floodConnect))
		_, err = conn.Read(make([]byte, 1))
		return err
	}))
	return time.Since(begun)
}

// floodTime is how long each lasts.
func floodTime() time.Duration {
	if full() {
		return 15 * time.Second
	}
	return 700 * time.Millisecond
}

// Under a flood a real peer gets its connections, during it and afterwards, and
// memory and goroutines stay bounded.
func TestFloods(t *testing.T) {
	testns.Kernel(t)
	type flood struct {
		name string
		rate int
		make func(r *raw, i int, b []byte) []byte
	}
	syn := func(src [4]byte, i int) *segment {
		return &segment{src: src, sport: uint16(1024 + i%60000), dport: 80, seq: rand.Uint32(), flags: header.TCPFlagSyn, window: 65535}
	}
	for _, f := range []flood{
		{"SYN from 250 neighbours", 34_000, func(r *raw, i int, b []byte) []byte {
			return r.frame(b, syn([4]byte{192, 0, 2, byte(4 + i%250)}, i/250))
		}},
		{"SYN from anywhere", 116_000, func(r *raw, i int, b []byte) []byte {
			return r.frame(b, syn([4]byte{byte(1 + rand.IntN(126)), byte(rand.IntN(256)), byte(rand.IntN(256)), 1}, i))
		}},
		{"SYN from a /64", 50_000, func(r *raw, i int, b []byte) []byte { return r.frame6(b, protoTCP, tcpSYN) }},
		{"ACK from neighbours", 50_000, func(r *raw, i int, b []byte) []byte {
			return r.frame(b, &segment{src: [4]byte{192, 0, 2, byte(4 + i%250)}, sport: uint16(i), dport: 80, ack: 1, flags: header.TCPFlagAck})
		}},
		{"RST and FIN from anywhere", 50_000, func(r *raw, i int, b []byte) []byte {
			s := segment{src: [4]byte{9, byte(i >> 8), byte(i), 1}, sport: uint16(i), dport: 80, seq: 1, ack: 1, flags: header.TCPFlagRst}
			if i%2 == 0 {
				s.flags = header.TCPFlagFin | header.TCPFlagAck
			}
			return r.frame(b, &s)
		}},
		{"ping from neighbours", 50_000, func(r *raw, i int, b []byte) []byte {
			return r.ip(b, [4]byte{192, 0, 2, byte(4 + i%250)}, 1, 0, false, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0})
		}},
		{"UDP to a closed port", 50_000, func(r *raw, i int, b []byte) []byte {
			return r.ip(b, [4]byte{192, 0, 2, byte(4 + i%250)}, 17, 0, false, []byte{0, 9, 0, 9, 0, 8, 0, 0})
		}},
		{"UDP that is answered", 34_000, func(r *raw, i int, b []byte) []byte {
			return r.ip(b, [4]byte{192, 0, 2, byte(4 + i%250)}, 17, 0, false, append([]byte{0, 9, 0, 7, 4, 8, 0, 0}, fragment[:1024]...))
		}},
		{"ARP from anywhere", 50_000, func(r *raw, i int, b []byte) []byte {
			return r.arpFrame(b, [4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		}},
		{"neighbour solicitations", 50_000, func(r *raw, i int, b []byte) []byte { return r.frame6(b, protoICMPv6, solicitation) }},
		{"first fragments", 50_000, func(r *raw, i int, b []byte) []byte {
			return r.ip(b, [4]byte{9, 9, byte(i >> 8), byte(i)}, 17, 0, true, fragment)
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			p := makePeer(t)
			h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4, ours6), Gateways: addrs(peer4), Mode: bpf.Native})
			l := serve(t, h, ":80")
			serveUDP(t, h, ":7")
			r := newRaw(t, p)
			connects(t, p, ours4+":80")
			g := watch(l)
			done := make(chan int)
			go func() {
				done <- r.flood(f.rate, floodTime(), func(i int, b []byte) []byte { return f.make(r, i, b) })
			}()
			time.Sleep(floodTime() / 2)
			during := connects(t, p, ours4+":80")
			sent := <-done
			after := connects(t, p, ours4+":80")
			mib, goroutines, queued := g.end()
			t.Logf("%d packets, %d MiB, %d goroutines, %d KiB wait for the listener, connected after %v and %v\n%v", sent, mib,
				goroutines, queued>>10, during, after, h.Endpoint().Stats())
			assert.Less(t, mib, floodMemory)
			assert.Less(t, goroutines, floodGoroutines)
			assert.Less(t, queued, floodQueue)
			assert.Less(t, during, floodConnect)
			assert.Less(t, after, floodConnect)
		})
	}
}

// A flood of made-up neighbours takes nothing from a real one, not even from one that
// never asks for our MAC address: what cannot be found rests.
func TestMadeUpNeighboursDoNotHinderRealOnes(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4), Mode: bpf.Native})
	serve(t, h, ":80")
	near, err := net.InterfaceByName(p.Near)
	require.NoError(t, err)
	require.NoError(t, p.Do(func() error {
		testns.IP(t, "address", "add", "192.0.2.3/24", "dev", "eth0")
		testns.IP(t, "address", "add", "192.0.2.4/24", "dev", "eth0")
		testns.IP(t, "neighbour", "replace", ours4, "lladdr", near.HardwareAddr.String(), "dev", "eth0", "nud", "permanent")
		return nil
	}))
	r := newRaw(t, p)
	done := make(chan int)
	const lasts = 3 * time.Second
	go func() {
		done <- r.flood(20_000, lasts, func(i int, b []byte) []byte {
			return r.frame(b, &segment{src: [4]byte{192, 0, 2, byte(20 + i%200)}, sport: uint16(i / 200), dport: 80, flags: header.TCPFlagSyn, window: 1000})
		})
	}()
	time.Sleep(lasts / 2)
	during := connectsFrom(t, p, "192.0.2.3", ours4+":80")
	s := h.Endpoint().Stats()
	assert.Greater(t, s.StrangersUnmet, s.RxPackets/2)
	assert.Contains(t, s.String(), "Options.MaxStrangers")
	<-done
	after := connectsFrom(t, p, "192.0.2.4", ours4+":80") // which was never seen, either
	t.Logf("connected after %v and %v", during, after)
	assert.Less(t, during, floodConnect)
	assert.Less(t, after, floodConnect)
}

// What goes into floods, whose checksums frame6 fills in.
var (
	tcpSYN       = []byte{4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, 2, 255, 255, 0, 0, 0, 0}
	solicitation = append(append([]byte{135, 0, 0, 0, 0, 0, 0, 0}, net.ParseIP(ours6)...), 1, 1, 2, 0, 0, 0, 0, 1)
	fragment     = make([]byte, 1400)
)
