package bpf_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// tenRules are ten fields, each with several values.
func tenRules() bpf.Filter {
	return bpf.Filter{
		UDPPorts:       append(bpf.Ports(4000, 4010), 53, 4789),
		TCPPorts:       []uint16{80, 443, 8080},
		UDPSourcePorts: []uint16{123},
		TCPSourcePorts: []uint16{179},
		Ping:           true,
		Protocols:      []uint8{47, 132},
		Sources:        prefixes(10, 4, 24),
		Destinations:   append(prefixes(10, 5, 24), netip.MustParsePrefix("2001:db8:5::/48")),
		EtherTypes:     []uint16{0x88f7},
		MACs:           []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}},
	}
}

// prefixes are n of a length from 16 to 32 below a network, 10 in 10.0.0.0/8.
func prefixes(n int, network byte, length int) (all []netip.Prefix) {
	for i := range n {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(i*5)<<(32-length)) // with gaps
		b[0] = network + b[0]
		all = append(all, netip.PrefixFrom(netip.AddrFrom4(b), length))
	}
	return all
}

// plainRedirect is the least that can feed an XSKMAP: the redirect alone.
func plainRedirect(tb testing.TB, xskMap int) (prog int) {
	tb.Helper()
	code := []uint64{
		0x61 | 2<<8 | 1<<12 | 16<<16,                // r2 = ctx->rx_queue_index
		0x18 | 1<<8 | 1<<12 | uint64(xskMap)<<32, 0, // r1 = the map
		0xb7 | 3<<8 | xdpPass<<32, // r3 = XDP_PASS
		0x85 | 51<<32,             // bpf_redirect_map
		0x95,
	}
	return loadProgram(tb, unix.BPF_PROG_TYPE_XDP, code)
}

// nanoseconds is what a packet costs in each of the programs, in a test run: the
// least of rounds that take turns, for the machine is not alone.
func nanoseconds(b *testing.B, packet []byte, progs ...int) []float64 {
	const rounds, runs = 30, 10_000 // a test run answers in whole nanoseconds
	least := slices.Repeat([]float64{math.Inf(1)}, len(progs))
	for range rounds {
		for i, prog := range progs {
			var sum float64
			for range 4 {
				_, ns := runProg(b, prog, packet, runs)
				sum += float64(ns)
			}
			least[i] = min(least[i], sum/4)
		}
	}
	return least
}

// BenchmarkFilterLive is what ten rules cost a packet from its sender, through
// veth and the program, to the socket: the least of rounds that take turns with
// the plain redirect on the same link.
func BenchmarkFilterLive(b *testing.B) {
	const rounds, bursts, burst = 150, 50, 64
	packet := packetOf("4.0.5.1", "9.9.9.9", udp, ported(udp, 9, 9)) // of the seventh rule
	for _, mode := range bothModes {
		b.Run(mode.String(), func(b *testing.B) {
			near, far := testns.Veth{}.Make(b)
			p := attach(b, near, bpf.Options{Filter: tenRules(), Mode: mode})
			umem, socket := open(b, near, 0)
			require.NoError(b, socket.UpdateXSKMap(p))
			wire := openTap(b, far)
			plain := plainRedirect(b, p.FileDescriptor())
			filter := p.ProgFD()
			descs, addrs := make([]xsk.Desc, burst), make([]xsk.Addr, burst)
			round := func(prog int) float64 {
				require.NoError(b, bpf.LinkUpdate(p, prog))
				begin := time.Now()
				for range bursts {
					for range burst / 2 {
						wire.send(b, packet)
					}
					for got := 0; got < burst/2; {
						_, n, err := socket.RxBurst(nil, descs)
						require.NoError(b, err)
						for i, d := range descs[:n] {
							addrs[i] = d.Addr - d.Addr%xsk.Addr(umem.FrameSize())
						}
						socket.Fill.Produce(addrs[:n])
						got += n
					}
				}
				return float64(time.Since(begin).Nanoseconds()) / (bursts * burst / 2)
			}
			with, without := math.Inf(1), math.Inf(1)
			for range b.N * rounds {
				without = min(without, round(plain))
				with = min(with, round(filter))
			}
			require.NoError(b, bpf.LinkUpdate(p, filter))
			b.ReportMetric(without, "plain-ns")
			b.ReportMetric(with, "ns/packet")
			b.ReportMetric(with/without, "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkFilter is what a filter costs a packet, beside the plain redirect:
// scripts/bench filter runs it.
func BenchmarkFilter(b *testing.B) {
	datagram := udpTo(53, "payload")
	from := func(packet []byte, source, destination string) []byte {
		s, d := netip.MustParseAddr(source).As4(), netip.MustParseAddr(destination).As4()
		copy(packet[26:], s[:])
		copy(packet[30:], d[:])
		return packet
	}
	plain4 := ethernet(typeIPv4, ipv4(udp, 0, nil, datagram))
	other4 := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(9, "payload")))
	other6 := ethernet(typeIPv6, ipv6(udp, udpTo(9, "payload")))
	excepting := tenRules()
	excepting.Except = &bpf.Filter{TCPPorts: []uint16{8080}, Sources: prefixes(2, 4, 30)}
	excepting.KeepManagement = true
	wide := tenRules() // as many prefixes of IPv6 as of IPv4
	for i := range 10 {
		wide.Sources = append(wide.Sources, netip.MustParsePrefix(fmt.Sprintf("2001:db8:%x::/48", 3*i)))
		wide.Destinations = append(wide.Destinations, netip.MustParsePrefix(fmt.Sprintf("2a00:%x::/32", 5*i)))
	}
	from6 := func(source, destination string) []byte {
		return packetOf(source, destination, udp, udpTo(9, "payload"))
	}
	for _, c := range []struct {
		name   string
		filter bpf.Filter
		packet []byte
	}{
		{"all", bpf.Filter{All: true}, plain4},
		{"1 port, IPv4", bpf.Filter{UDPPorts: []uint16{53}}, plain4},
		{"1 port, IPv6", bpf.Filter{UDPPorts: []uint16{53}}, ethernet(typeIPv6, ipv6(udp, datagram))},
		{"1 port, QinQ", bpf.Filter{UDPPorts: []uint16{53}}, ethernet(typeQinQ, tag(typeVLAN, tag(typeIPv4, ipv4(udp, 0, nil, datagram))))},
		{"1 port, unmatched", bpf.Filter{UDPPorts: []uint16{53}}, other4},
		{"1000 ports", bpf.Filter{UDPPorts: bpf.Ports(1, 1000)}, plain4},
		{"all ports", bpf.Filter{UDPPorts: bpf.Ports(1, 65535)}, plain4},
		{"10 rules, first matches", tenRules(), plain4},
		{"10 rules, source matches", tenRules(), from(slices.Clone(other4), "4.0.5.1", "9.9.9.9")},
		{"10 rules, destination matches", tenRules(), from(slices.Clone(other4), "9.9.9.9", "5.0.5.1")},
		{"10 rules, unmatched", tenRules(), other4},
		{"10 rules, unmatched, IPv6", tenRules(), other6},
		{"10 rules, 40 prefixes, unmatched, IPv6", wide, from6("2001:db8:1::1", "2a00:4::1")},
		{"10 rules, 40 prefixes, source matches, IPv6", wide, from6("2001:db8:f::1", "2001:db8::1")},
		{"10 rules, 40 prefixes, destination matches, IPv6", wide, from6("2001:db8:1::1", "2a00:f::1")},
		{"all but management", bpf.Filter{All: true, KeepManagement: true}, plain4},
		{"10 rules and exceptions", excepting, plain4},
		{"10 rules and exceptions, source matches", excepting, from(slices.Clone(other4), "4.0.5.1", "9.9.9.9")},
		{"10 prefixes", bpf.Filter{Sources: prefixes(10, 4, 24)}, from(slices.Clone(other4), "4.0.25.1", "9.9.9.9")},
		{"100 prefixes", bpf.Filter{Sources: prefixes(100, 4, 24)}, from(slices.Clone(other4), "4.0.250.1", "9.9.9.9")},
		{"1000 prefixes", bpf.Filter{Sources: prefixes(1000, 4, 24)}, from(slices.Clone(other4), "4.1.144.1", "9.9.9.9")},
		{"10000 prefixes", bpf.Filter{Sources: prefixes(10000, 4, 24)}, from(slices.Clone(other4), "4.1.144.1", "9.9.9.9")},
	} {
		b.Run(c.name, func(b *testing.B) {
			a, _ := testns.Veth{}.Make(b)
			p := attach(b, a, bpf.Options{Filter: c.filter})
			require.NoError(b, register(b, p.FileDescriptor(), 0))
			plain := plainRedirect(b, p.FileDescriptor())
			var ns []float64
			for range b.N {
				ns = nanoseconds(b, c.packet, plain, p.ProgFD())
			}
			b.ReportMetric(ns[0], "plain-ns")
			b.ReportMetric(ns[1], "ns/packet")
			b.ReportMetric(ns[1]-ns[0], "more-ns")
			b.ReportMetric(0, "ns/op")
		})
	}
}
