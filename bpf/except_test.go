package bpf_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestFilterExcept(t *testing.T) {
	to := func(port uint16) []byte { return packetOf("10.0.0.1", "10.0.0.2", tcp, ported(tcp, 9, port)) }
	cut := to(80)[:14+20+19]
	fragment := func(protocol byte) []byte {
		p := packetOf("10.0.0.1", "10.0.0.2", protocol, ported(protocol, 9, 80))
		return poke(p, 14+7, 10)
	}
	all := func(except bpf.Filter) bpf.Filter { return bpf.Filter{All: true, Except: &except} }
	t.Run("ports", func(t *testing.T) {
		try(t, all(bpf.Filter{TCPPorts: []uint16{22}}), []sample{
			{"excepted", to(22), false}, {"other", to(23), true}, {"UDP", packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 22)), true},
			{"in doubt: cut short", cut, false}, {"in doubt: a fragment", fragment(tcp), false}, {"a UDP fragment is not", fragment(udp), true},
			{"a first fragment", poke(to(22), 14+6, 0x20), false}, {"another first fragment", poke(to(80), 14+6, 0x20), true},
			{"in doubt: broken header", poke(to(80), 14, 0x44), false}, {"in doubt: three tags", ethernet(typeVLAN, tag(typeVLAN, tag(typeVLAN, tag(0x88f7, nil)))), false},
			{"ARP is not", ethernet(0x0806, make([]byte, 28)), true},
			{"in doubt: five extension headers", ethernet(typeIPv6, ipv6(60, ext(60, 0, ext(60, 0, ext(60, 0, ext(60, 0, ext(udp, 0, nil))))))), false},
		})
	})
	t.Run("wins over every rule", func(t *testing.T) {
		f := bpf.Filter{TCPPorts: []uint16{80, 81}, Protocols: []uint8{tcp}, EtherTypes: []uint16{typeIPv4},
			Except: &bpf.Filter{Sources: []netip.Prefix{prefix("10.0.0.0/24")}, TCPPorts: []uint16{81}}}
		try(t, f, []sample{
			{"source", to(80), false}, {"port", packetOf("10.0.1.1", "10.0.0.2", tcp, ported(tcp, 9, 81)), false},
			{"neither", packetOf("10.0.1.1", "10.0.0.2", tcp, ported(tcp, 9, 80)), true}, {"no rule", ethernet(0x0806, make([]byte, 28)), false},
		})
	})
	t.Run("flows", func(t *testing.T) {
		flow := bpf.Flow{Protocol: tcp, Source: netip.MustParseAddrPort("10.0.0.1:9"), Destination: netip.MustParseAddrPort("10.0.0.2:80")}
		try(t, all(bpf.Filter{Flows: []bpf.Flow{flow}}), []sample{
			{"excepted", to(80), false}, {"other port", to(81), true}, {"in doubt: a fragment", fragment(tcp), false}, {"in doubt: cut short", cut, false},
			{"a UDP fragment is not", fragment(udp), true},
			{"a fragment from elsewhere is not", poke(packetOf("10.0.0.3", "10.0.0.2", tcp, ported(tcp, 9, 80)), 14+6, 0x20), true},
			{"a fragment to elsewhere is not", poke(packetOf("10.0.0.1", "10.0.0.3", tcp, ported(tcp, 9, 80)), 14+6, 0x20), true},
		})
	})
	t.Run("link layer", func(t *testing.T) {
		try(t, all(bpf.Filter{MACs: someMACs[:1], VLAN: 42, EtherTypes: []uint16{0x88f7}}), []sample{
			{"MAC", append(append([]byte{}, someMACs[0]...), be16(0, 0, 0, 0x0806)...), false}, {"VLAN", ethernet(typeVLAN, tag(0x0806, nil)), false},
			{"EtherType", ethernet(0x88f7, nil), false}, {"other", ethernet(0x0806, nil), true}, {"broken IP is not in doubt", ethernet(typeIPv4, nil), true},
			{"in doubt: tag cut short", ethernet(typeVLAN, []byte{0}), false},
		})
	})
}

func TestFilterKeepsManagement(t *testing.T) {
	f := bpf.Filter{All: true, KeepManagement: true, ManagementPorts: []uint16{8443}}
	var samples []sample
	for family, a := range families {
		add := func(name string, protocol byte, payload []byte, want bool) {
			samples = append(samples, sample{family + " " + name, packetOf(a[0], a[1], protocol, payload), want})
		}
		add("ssh", tcp, ported(tcp, 9, 22), false)
		add("port 23", tcp, ported(tcp, 9, 23), true)
		add("answer of ssh", tcp, ported(tcp, 22, 9), false)
		add("from port 23", tcp, ported(tcp, 23, 9), true)
		add("UDP from port 22", udp, ported(udp, 22, 9), true)
		add("from the named port", tcp, ported(tcp, 8443, 9), true)
		add("UDP port 22", udp, ported(udp, 9, 22), true)
		add("DNS answer", udp, ported(udp, 53, 9), false)
		add("DNS answer over TCP", tcp, ported(tcp, 53, 9), false)
		add("DNS question", udp, ported(udp, 9, 53), true)
		add("DHCP answer", udp, ported(udp, 67, 68), false)
		add("DHCP question", udp, ported(udp, 68, 67), true)
		add("DHCPv6 answer", udp, ported(udp, 547, 546), false)
		add("named port, TCP", tcp, ported(tcp, 9, 8443), false)
		add("named port, UDP", udp, ported(udp, 9, 8443), false)
		add("next to it", tcp, ported(tcp, 9, 8444), true)
		add("in doubt: ssh cut short", tcp, ported(tcp, 9, 22)[:19], false)
		add("GRE", 47, make([]byte, 8), true)
		for kind, want := range map[byte]bool{
			1: true, 2: false, 3: true, 128: true, 129: true, 130: false, 131: false, 132: false, // 2 is too big, 130 to 132 MLD
			133: false, 135: false, 136: false, 137: false, 138: true, 142: true, 143: false, 144: true,
		} {
			message := []byte{kind, 0, 0, 0, 0, 0, 0, 0}
			add(fmt.Sprint("ICMP ", kind), map[string]byte{"IPv4": 1, "IPv6": 58}[family], message, want || family == "IPv4")
			add(fmt.Sprint("the other ICMP ", kind), map[string]byte{"IPv4": 58, "IPv6": 1}[family], message, true)
		}
	}
	tooBig := []byte{3, 4, 0, 0, 0, 0, 5, 220}
	samples = append(samples,
		sample{"too big", packetOf("10.0.0.1", "10.0.0.2", 1, tooBig), false},
		sample{"in doubt: too big, cut short", packetOf("10.0.0.1", "10.0.0.2", 1, tooBig[:7]), false},
		sample{"unreachable port", packetOf("10.0.0.1", "10.0.0.2", 1, []byte{3, 3, 0, 0, 0, 0, 0, 0}), true},
		sample{"ICMP 4 code 3", packetOf("10.0.0.1", "10.0.0.2", 1, []byte{4, 3, 0, 0, 0, 0, 0, 0}), true},
		sample{"ssh of others, that this host forwards", packetOf("198.51.100.1", "203.0.113.9", tcp, ported(tcp, 9, 22)), false},
		sample{"ARP", ethernet(0x0806, make([]byte, 28)), false},
		sample{"ARP in a VLAN", ethernet(typeVLAN, tag(0x0806, make([]byte, 28))), false},
		sample{"RARP", ethernet(0x8035, make([]byte, 28)), true},
		sample{"LLDP", ethernet(0x88cc, make([]byte, 28)), true})
	try(t, f, samples)
}

func TestMatchNeedsNoInterface(t *testing.T) {
	testns.Kernel(t)
	packet := packetOf("10.0.0.1", "10.0.0.2", udp, ported(udp, 9, 53))
	for filter, want := range map[*bpf.Filter]bool{
		{UDPPorts: []uint16{53}}: true, {UDPPorts: []uint16{54}}: false, {All: true}: true, {None: true}: false,
	} {
		got, err := filter.Match(packet)
		require.NoError(t, err)
		assert.Equal(t, want, got, filter)
	}
	jumbo := packetOf("10.0.0.1", "10.0.0.2", udp, append(ported(udp, 9, 53), make([]byte, 30000)...))
	got, err := bpf.Filter{UDPPorts: []uint16{53}}.Match(jumbo)
	require.NoError(t, err)
	assert.True(t, got, "in several buffers")

	_, err = bpf.Filter{}.Match(packet)
	assert.ErrorContains(t, err, "bpf: match no packets: invalid argument: the Filter is empty")
	_, err = bpf.Filter{All: true}.Match(packet[:13])
	assert.ErrorContains(t, err, "13 bytes are less than an Ethernet header")
	_, err = bpf.Filter{All: true}.Match(nil)
	assert.ErrorContains(t, err, "0 bytes are less")
}
