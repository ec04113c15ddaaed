package bpf_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// A sample is a packet and what a filter makes of it.
type sample struct {
	name   string
	packet []byte
	want   bool
}

// try runs the samples through the program and through Filter.Func.
func try(t *testing.T, f bpf.Filter, samples []sample) {
	t.Helper()
	testns.Kernel(t)
	m, err := bpf.NewMatcher(&f)
	require.NoError(t, err)
	defer m.Close()
	match, err := f.Func()
	require.NoError(t, err)
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			got, err := m.Match(s.packet)
			require.NoError(t, err)
			assert.Equal(t, s.want, got, "%v\n% x", f, s.packet)
			assert.Equal(t, s.want, match(s.packet), "Func")
		})
	}
}

// packetOf is a packet between two addresses, of either family.
func packetOf(source, destination string, protocol byte, payload []byte) []byte {
	s, d := netip.MustParseAddr(source), netip.MustParseAddr(destination)
	if s.Is4() {
		p := ipv4(protocol, 0, nil, payload)
		copy(p[12:], s.AsSlice())
		copy(p[16:], d.AsSlice())
		return ethernet(typeIPv4, p)
	}
	p := ipv6(protocol, payload)
	copy(p[8:], s.AsSlice())
	copy(p[24:], d.AsSlice())
	return ethernet(typeIPv6, p)
}

// families are two addresses of each.
var families = map[string][2]string{"IPv4": {"10.0.0.1", "10.0.0.2"}, "IPv6": {"2001:db8::1", "2001:db8::2"}}

// ported is a UDP or TCP header.
func ported(protocol byte, from, to uint16) []byte {
	if protocol == udp {
		return be16(from, to, 8, 0)
	}
	return append(be16(from, to), make([]byte, 16)...)
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func TestFilterPorts(t *testing.T) {
	list := []uint16{53, 4000, 4001, 4002, 65535}
	for _, rule := range []struct {
		name     string
		filter   bpf.Filter
		protocol byte
		source   bool
	}{
		{"UDPPorts", bpf.Filter{UDPPorts: list}, udp, false},
		{"TCPPorts", bpf.Filter{TCPPorts: list}, tcp, false},
		{"UDPSourcePorts", bpf.Filter{UDPSourcePorts: list}, udp, true},
		{"TCPSourcePorts", bpf.Filter{TCPSourcePorts: list}, tcp, true},
	} {
		t.Run(rule.name, func(t *testing.T) {
			var samples []sample
			for family, a := range families {
				add := func(name string, protocol byte, port, other uint16, want bool) {
					if rule.source {
						port, other = other, port
					}
					samples = append(samples, sample{family + " " + name, packetOf(a[0], a[1], protocol, ported(protocol, other, port)), want})
				}
				for _, port := range list {
					add(fmt.Sprint(port), rule.protocol, port, 9, true)
				}
				for _, port := range []uint16{0, 52, 54, 3999, 4003, 65534} {
					add(fmt.Sprint(port), rule.protocol, port, 9, false)
				}
				add("byte order", rule.protocol, 53<<8, 9, false)
				add("other direction", rule.protocol, 9, 53, false)
				add("other protocol", udp+tcp-rule.protocol, 53, 9, false)
				add("SCTP", 132, 53, 9, false)
			}
			try(t, rule.filter, samples)
		})
	}
}

func TestFilterPing(t *testing.T) {
	var samples []sample
	for _, c := range []struct {
		family   string
		protocol byte
		kind     byte
		want     bool
	}{
		{"IPv4", 1, 8, true}, {"IPv4", 1, 0, true}, {"IPv4", 1, 3, false}, {"IPv4", 1, 128, false}, {"IPv4", 58, 128, false},
		{"IPv6", 58, 128, true}, {"IPv6", 58, 129, true}, {"IPv6", 58, 127, false}, {"IPv6", 58, 130, false}, {"IPv6", 58, 8, false}, {"IPv6", 1, 8, false},
	} {
		a := families[c.family]
		icmp := append([]byte{c.kind}, make([]byte, 7)...)
		name := fmt.Sprintf("%s protocol %d type %d", c.family, c.protocol, c.kind)
		samples = append(samples, sample{name, packetOf(a[0], a[1], c.protocol, icmp), c.want},
			sample{name + " cut", packetOf(a[0], a[1], c.protocol, icmp[:7]), false})
	}
	try(t, bpf.Filter{Ping: true}, samples)
}

func TestFilterProtocols(t *testing.T) {
	var samples []sample
	for family, a := range families {
		for protocol, want := range map[byte]bool{47: true, 132: true, 46: false, 48: false, 131: false, 133: false, udp: false} {
			samples = append(samples, sample{fmt.Sprint(family, " ", protocol), packetOf(a[0], a[1], protocol, make([]byte, 8)), want})
		}
		samples = append(samples, sample{family + " without a payload", packetOf(a[0], a[1], 47, nil), true})
	}
	samples = append(samples,
		sample{"later fragment", ethernet(typeIPv4, ipv4(47, 10, nil, make([]byte, 8))), true},
		sample{"IPv6 later fragment", ethernet(typeIPv6, ipv6(fragments, append(be16(47<<8, 80, 0, 1), 1, 2, 3))), true},
		sample{"IPv6 fragment of an extension header", ethernet(typeIPv6, ipv6(fragments, append(be16(60<<8, 80, 0, 1), 47, 0, 0, 0))), false},
		sample{"IPv6 behind options", ethernet(typeIPv6, ipv6(destination, ext(47, 0, nil))), true},
		sample{"ARP", ethernet(0x0806, ipv4(47, 0, nil, nil)), false})
	try(t, bpf.Filter{Protocols: []uint8{47, 132}}, samples)
}

func TestFilterPrefixes(t *testing.T) {
	list := []netip.Prefix{
		prefix("10.0.0.0/8"), prefix("10.1.0.0/16"), prefix("192.0.2.128/25"), prefix("198.51.100.7/32"), prefix("255.255.255.255/32"),
		prefix("2001:db8::/32"), prefix("2001:db8:1::/48"), prefix("2001:dba::8000:0:0:0/65"), prefix("2001:dbc::7/128"), prefix("ffff::/16"),
	}
	within := []string{
		"10.0.0.0", "10.255.255.255", "10.1.2.3", "192.0.2.128", "192.0.2.255", "198.51.100.7", "255.255.255.255",
		"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db8:1::1", "2001:dba::8000:0:0:0", "2001:dba::ffff:ffff:ffff:ffff", "2001:dbc::7",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	}
	without := []string{
		"9.255.255.255", "11.0.0.0", "192.0.2.127", "192.0.3.0", "198.51.100.6", "198.51.100.8", "255.255.255.254", "0.0.0.0", "7.100.51.198", "0.0.0.10",
		"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", "2001:db9::", "2001:dba::7fff:ffff:ffff:ffff", "2001:dba:0:1::", "2001:dbc::6", "2001:dbc::8", "::", "fffe:ffff::", "b80d:120::",
	}
	for _, rule := range []struct {
		name   string
		filter bpf.Filter
		place  func(a, other string) (source, destination string)
	}{
		{"Sources", bpf.Filter{Sources: list}, func(a, other string) (string, string) { return a, other }},
		{"Destinations", bpf.Filter{Destinations: list}, func(a, other string) (string, string) { return other, a }},
	} {
		t.Run(rule.name, func(t *testing.T) {
			var samples []sample
			add := func(a string, want bool) {
				// The other address is the contrary.
				other := map[bool]string{true: "9.9.9.9", false: "10.0.0.1"}[want]
				if netip.MustParseAddr(a).Is6() {
					other = map[bool]string{true: "2001:d00::1", false: "2001:db8::1"}[want]
				}
				source, destination := rule.place(a, other)
				samples = append(samples, sample{a, packetOf(source, destination, udp, ported(udp, 1, 2)), want})
			}
			for _, a := range within {
				add(a, true)
			}
			for _, a := range without {
				add(a, false)
			}
			source, destination := rule.place("10.0.0.1", "9.9.9.9")
			good := packetOf(source, destination, udp, ported(udp, 1, 2))
			samples = append(samples,
				sample{"first fragment", poke(clone(good), 14+6, 0x20), true},
				sample{"later fragment", poke(clone(good), 14+7, 10), true},
				sample{"no transport header", good[:34], true},
				sample{"header cut short", good[:33], false},
				sample{"version 5", poke(clone(good), 14, 0x55), false},
				sample{"ARP's type", poke(clone(good), 13, 6), false})
			try(t, rule.filter, samples)
		})
	}
}

func clone(packet []byte) []byte { return append([]byte(nil), packet...) }

func TestFilterFlows(t *testing.T) {
	for family, a := range families {
		t.Run(family, func(t *testing.T) {
			source, destination := netip.MustParseAddr(a[0]), netip.MustParseAddr(a[1])
			flow := func(protocol uint8, from, to uint16) bpf.Filter {
				return bpf.Filter{Flows: []bpf.Flow{{Protocol: protocol, Source: netip.AddrPortFrom(source, from), Destination: netip.AddrPortFrom(destination, to)}}}
			}
			there := func(protocol byte, from, to uint16) []byte {
				return packetOf(a[0], a[1], protocol, ported(protocol, from, to))
			}
			back := packetOf(a[1], a[0], udp, ported(udp, 53, 54))
			t.Run("addresses", func(t *testing.T) {
				try(t, flow(0, 0, 0), []sample{{"UDP", there(udp, 1, 2), true}, {"TCP", there(tcp, 1, 2), true}, {"back", back, false},
					{"other", packetOf(a[0], a[0], udp, nil), false}, {"no payload", packetOf(a[0], a[1], udp, nil), true}})
			})
			t.Run("protocol", func(t *testing.T) {
				try(t, flow(udp, 0, 0), []sample{{"UDP", there(udp, 1, 2), true}, {"TCP", there(tcp, 1, 2), false}, {"back", back, false}})
			})
			t.Run("source port", func(t *testing.T) {
				try(t, flow(udp, 53, 0), []sample{{"UDP", there(udp, 53, 2), true}, {"other port", there(udp, 54, 53), false}, {"TCP", there(tcp, 53, 2), false},
					{"byte order", there(udp, 53<<8, 2), false}})
			})
			t.Run("destination port", func(t *testing.T) {
				try(t, flow(tcp, 0, 80), []sample{{"TCP", there(tcp, 9, 80), true}, {"other port", there(tcp, 80, 81), false}, {"UDP", there(udp, 9, 80), false},
					{"cut", there(tcp, 9, 80)[:len(there(tcp, 9, 80))-1], false}})
			})
			t.Run("both ports", func(t *testing.T) {
				try(t, flow(udp, 53, 54), []sample{{"UDP", there(udp, 53, 54), true}, {"source", there(udp, 52, 54), false}, {"destination", there(udp, 53, 55), false},
					{"exchanged", there(udp, 54, 53), false}, {"back", back, false}})
			})
		})
	}
}

func TestFilterLinkLayer(t *testing.T) {
	frame := func(mac string, typ uint16, payload []byte) []byte {
		p := ethernet(typ, payload)
		address, _ := net.ParseMAC(mac)
		copy(p, address)
		return p
	}
	t.Run("EtherTypes", func(t *testing.T) {
		try(t, bpf.Filter{EtherTypes: []uint16{0x88f7, 0xffff}}, []sample{
			{"PTP", ethernet(0x88f7, nil), true}, {"last", ethernet(0xffff, nil), true}, {"below", ethernet(0x88f6, nil), false},
			{"above", ethernet(0x88f8, nil), false}, {"byte order", ethernet(0xf788, nil), false}, {"a length", ethernet(46, make([]byte, 46)), false},
			{"VLAN", ethernet(typeVLAN, tag(0x88f7, nil)), true}, {"QinQ", ethernet(typeQinQ, tag(typeVLAN, tag(0x88f7, nil))), true},
			{"three tags", ethernet(typeQinQ, tag(typeVLAN, tag(typeVLAN, tag(0x88f7, nil)))), false},
			{"tag cut short", ethernet(typeVLAN, be16(42)), false},
		})
	})
	t.Run("MACs", func(t *testing.T) {
		list := []net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 3}, {1, 0x80, 0xc2, 0, 0, 0x0e}, {255, 255, 255, 255, 255, 255}, {0, 0, 0, 0, 0, 0}}
		var samples []sample
		for mac, want := range map[string]bool{
			"02:00:00:00:00:01": true, "02:00:00:00:00:03": true, "01:80:c2:00:00:0e": true, "ff:ff:ff:ff:ff:ff": true, "00:00:00:00:00:00": true,
			"02:00:00:00:00:00": false, "02:00:00:00:00:02": false, "02:00:00:00:00:04": false, "03:00:00:00:00:01": false,
			"01:00:00:00:00:02": false, "0e:00:00:c2:80:01": false, "ff:ff:ff:ff:ff:fe": false, "00:ff:ff:ff:ff:ff": false,
		} {
			samples = append(samples, sample{mac, frame(mac, 0x88f7, nil), want})
		}
		try(t, bpf.Filter{MACs: list}, samples)
	})
	t.Run("VLAN", func(t *testing.T) {
		with := func(tci uint16) []byte { return ethernet(typeVLAN, be16(tci, 0x88f7)) }
		try(t, bpf.Filter{VLAN: 42}, []sample{
			{"42", with(42), true}, {"priority 7", with(7<<13 | 42), true}, {"drop eligible", with(1<<12 | 42), true},
			{"41", with(41), false}, {"43", with(43), false}, {"byte order", with(42 << 8), false}, {"0", with(0), false},
			{"untagged", ethernet(0x88f7, be16(42, 42)), false}, {"outer", ethernet(typeQinQ, be16(42, typeVLAN, 7, 0x88f7)), true},
			{"inner", ethernet(typeQinQ, be16(7, typeVLAN, 42, 0x88f7)), true}, {"third", ethernet(typeQinQ, be16(7, typeVLAN, 8, typeVLAN, 42, 0x88f7)), false},
			{"two of three", ethernet(typeQinQ, be16(7, typeVLAN, 42, typeVLAN, 8, 0x88f7)), true},
			{"tag cut short", ethernet(typeVLAN, []byte{0, 42, 8}), false},
		})
	})
}
