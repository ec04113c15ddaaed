package bpf_test

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// Values that filters and packets have in common, so that they often meet; and
// their neighbours.
var (
	somePorts     = []uint16{53, 54, 22, 68, 546, 80, 443, 0x3500, 1, 65535, 4000, 4001, 8443}
	someProtocols = []uint8{1, 2, 6, 17, 47, 50, 51, 58, 59, 132}
	someAddresses = addresses("10.0.0.1", "10.0.0.2", "10.0.1.0", "10.255.255.255", "11.0.0.0", "192.0.2.1", "0.0.0.0", "255.255.255.255",
		"2001:db8::1", "2001:db8::2", "2001:db8:0:1::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db9::", "::", "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")
	someTypes = []uint16{typeIPv4, typeIPv6, 0x0806, 0x88f7, 0x0600, 0xffff}
	someMACs  = []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}, {1, 0x80, 0xc2, 0, 0, 0}, {255, 255, 255, 255, 255, 255}, {0, 0, 0, 0, 0, 0}}
	someVLANs = []uint16{1, 42, 43, 0x2a0, 4094}
)

func addresses(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// A dice makes what is random; the seed is in every message.
type dice struct{ *rand.Rand }

func pick[T any](d dice, values []T) T { return values[d.IntN(len(values))] }

// some picks up to n values.
func some[T any](d dice, n int, values []T) (all []T) {
	for range 1 + d.IntN(n) {
		all = append(all, pick(d, values))
	}
	return all
}

func (d dice) prefix() netip.Prefix {
	a := pick(d, someAddresses)
	p, _ := a.Prefix(d.IntN(a.BitLen() + 1))
	return p
}

func (d dice) flow() bpf.Flow {
	for {
		source, destination := pick(d, someAddresses), pick(d, someAddresses)
		if source.Is4() != destination.Is4() {
			continue
		}
		var f bpf.Flow
		var from, to uint16
		switch d.IntN(3) {
		case 0:
			f.Protocol = pick(d, someProtocols)
		case 1:
			f.Protocol = pick(d, []uint8{tcp, udp})
			if from = pick(d, somePorts); d.IntN(2) == 0 {
				from = 0
			}
			if to = pick(d, somePorts); d.IntN(2) == 0 {
				to = 0
			}
		}
		f.Source, f.Destination = netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to)
		return f
	}
}

// rules sets each field with a chance of one in n.
func (d dice) rules(n int) *bpf.Filter {
	var f bpf.Filter
	chance := func() bool { return d.IntN(n) == 0 }
	for _, ports := range []*[]uint16{&f.UDPPorts, &f.TCPPorts, &f.UDPSourcePorts, &f.TCPSourcePorts} {
		if chance() {
			*ports = some(d, 4, somePorts)
		}
	}
	f.Ping = chance()
	if chance() {
		f.Protocols = some(d, 3, someProtocols)
	}
	for _, prefixes := range []*[]netip.Prefix{&f.Sources, &f.Destinations} {
		for chance() {
			*prefixes = append(*prefixes, d.prefix())
		}
	}
	for chance() {
		f.Flows = append(f.Flows, d.flow())
	}
	if chance() {
		f.Hosts = some(d, 4, someAddresses)
	}
	if chance() {
		f.EtherTypes = some(d, 2, someTypes)
	}
	if chance() {
		f.MACs = some(d, 2, someMACs)
	}
	if chance() {
		f.VLAN = pick(d, someVLANs)
	}
	return &f
}

func (d dice) filter() *bpf.Filter {
	f := d.rules(2 + d.IntN(10))
	if rules := f.String(); rules == "no packets" || d.IntN(8) == 0 {
		f = &bpf.Filter{All: true}
	}
	if d.IntN(2) == 0 {
		if e := d.rules(2 + d.IntN(8)); e.String() != "no packets" {
			f.Except = e
		}
	}
	if d.IntN(4) == 0 {
		f.KeepManagement = true
		if d.IntN(2) == 0 {
			f.ManagementPorts = some(d, 2, somePorts)
		}
	}
	return f
}

func (d dice) packet() []byte {
	version := []int{4, 6}[d.IntN(2)]
	p := d.network(version, d.transport(version))
	typ := map[int]uint16{4: typeIPv4, 6: typeIPv6}[version]
	switch d.IntN(20) {
	case 0, 1:
		typ = pick(d, someTypes)
	case 2:
		typ, p = 0x0806, d.arp()
	}
	for range pick(d, []int{0, 0, 0, 0, 1, 1, 2, 3}) {
		p = append(be16(uint16(d.IntN(16))<<12|pick(d, someVLANs), typ), p...)
		typ = pick(d, []uint16{typeVLAN, typeQinQ, 0x9100})
	}
	p = append(append(append([]byte{}, pick(d, someMACs)...), pick(d, someMACs)...), append(be16(typ), p...)...)
	if d.IntN(4) == 0 { // spoil a byte
		p[d.IntN(len(p))] = byte(d.Uint32())
	}
	if d.IntN(4) == 0 { // cut it short
		p = p[:14+d.IntN(len(p)-13)]
	}
	return p
}

func (d dice) arp() []byte {
	p := append(be16(1, typeIPv4, 0x0604, 1+uint16(d.IntN(2))), make([]byte, 16)...)
	return append(p, pick(d, someAddresses).AsSlice()...)
}

type segment struct {
	protocol byte
	bytes    []byte
}

func (d dice) transport(version int) segment {
	ports := be16(pick(d, somePorts), pick(d, somePorts))
	switch d.IntN(4) {
	case 0:
		return segment{tcp, append(ports, make([]byte, 16+d.IntN(8))...)}
	case 1:
		icmp := append([]byte{pick(d, []byte{0, 3, 5, 8}), pick(d, []byte{0, 4})}, make([]byte, 6)...)
		if version == 4 {
			return segment{1, icmp}
		}
		icmp[0] = pick(d, []byte{1, 2, 3, 127, 128, 129, 130, 132, 133, 135, 136, 137, 138, 142, 143, 144, 135, 135})
		return segment{58, append(icmp, pick(d, someAddresses).AsSlice()...)}
	case 2:
		return segment{pick(d, someProtocols), append(ports, make([]byte, d.IntN(20))...)}
	}
	return segment{udp, append(ports, make([]byte, 4+d.IntN(8))...)}
}

func (d dice) network(version int, s segment) []byte {
	fragment := pick(d, []uint16{0, 0, 0, 0, moreFragments, 1, moreFragments | 100, dontFragment})
	source, destination := pick(d, someAddresses), pick(d, someAddresses)
	for source.Is4() != (version == 4) {
		source = pick(d, someAddresses)
	}
	for destination.Is4() != (version == 4) {
		destination = pick(d, someAddresses)
	}
	if version == 4 {
		p := ipv4(s.protocol, fragment, make([]byte, 4*pick(d, []int{0, 0, 0, 1, 10})), s.bytes)
		copy(p[12:], source.AsSlice())
		copy(p[16:], destination.AsSlice())
		return p
	}
	next, payload := s.protocol, s.bytes
	for range pick(d, []int{0, 0, 0, 1, 2, 3, 4, 5}) {
		kind := pick(d, []byte{hopByHop, routing, fragments, 60})
		if kind == fragments {
			payload = append(be16(uint16(next)<<8, pick(d, []uint16{0, 0, 1, 8, 9, 6}), 0, 7), payload...)
		} else {
			payload = ext(next, byte(pick(d, []int{0, 0, 1, 3})), payload)
		}
		next = kind
	}
	p := ipv6(next, payload)
	copy(p[8:], source.AsSlice())
	copy(p[24:], destination.AsSlice())
	return p
}

// The program in the kernel and Filter.Func are two hands' work on one documentation:
// random packets on random filters find where they differ.
func TestFilterAgreesWithGo(t *testing.T) {
	testns.Kernel(t)
	filters, packets := 100, 200
	if os.Getenv("XSK_TEST_ALL") != "" {
		filters, packets = 2000, 500
	}
	seed := rand.Uint64()
	var matched, differ int
	for i := range filters {
		d := dice{rand.New(rand.NewPCG(seed, uint64(i)))}
		f := d.filter()
		m, err := bpf.NewMatcher(f)
		require.NoError(t, err, "seed %d, filter %d: %v", seed, i, f)
		match, err := f.Func()
		require.NoError(t, err)
		for j := range packets {
			p := d.packet()
			want := match(p)
			got, err := m.Match(p)
			require.NoError(t, err)
			if got {
				matched++
			}
			if got != want {
				differ++
				t.Errorf("seed %d, filter %d, packet %d: kernel %v, Go %v\n%v\n%#v\n% x", seed, i, j, got, want, f, f, p)
				if differ == 5 {
					m.Close()
					t.FailNow()
				}
			}
		}
		m.Close()
	}
	total := filters * packets
	t.Logf("seed %d: %d packets, %d matched, %d differences", seed, total, matched, differ)
	require.Greater(t, matched, total/20, "hardly any match: the packets and the filters miss each other")
	require.Less(t, matched, total*19/20)
}
