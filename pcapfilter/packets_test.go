package pcapfilter_test

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/stretchr/testify/require"
)

// The layers of the packets below; each function makes one.

var (
	stationA = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	stationB = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	hostA    = net.IP{192, 0, 2, 1}
	hostB    = net.IP{198, 51, 100, 2}
	hostA6   = net.ParseIP("2001:db8::1")
	hostB6   = net.ParseIP("2001:db8:1::2")
)

type stack []gopacket.SerializableLayer

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: stationA, DstMAC: stationB, EthernetType: kind}
}

func vlan(id uint16, kind layers.EthernetType) *layers.Dot1Q {
	return &layers.Dot1Q{VLANIdentifier: id, Type: kind}
}

func ipv4(proto layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, TTL: 64, Id: 7, Protocol: proto, SrcIP: hostA, DstIP: hostB}
}

func fragment(offset uint16, more bool) *layers.IPv4 {
	ip := ipv4(layers.IPProtocolUDP)
	ip.FragOffset = offset
	if more {
		ip.Flags = layers.IPv4MoreFragments
	}
	return ip
}

func withOptions(ip *layers.IPv4) *layers.IPv4 {
	for range 8 {
		ip.Options = append(ip.Options, layers.IPv4Option{OptionType: 1})
	}
	return ip
}

func ipv6(next layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: hostA6, DstIP: hostB6}
}

func udp(from, to layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: from, DstPort: to} }

func tcp(from, to layers.TCPPort, syn, ack bool) *layers.TCP {
	return &layers.TCP{SrcPort: from, DstPort: to, SYN: syn, ACK: ack, Window: 1000}
}

func echo(kind uint8) *layers.ICMPv4 {
	return &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 1, Seq: 1}
}

func arp() *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4,
		Operation: layers.ARPRequest, SourceHwAddress: stationA, SourceProtAddress: hostA.To4(),
		DstHwAddress: make([]byte, 6), DstProtAddress: hostB.To4(),
	}
}

// payload is data of so many bytes.
func payload(n int) gopacket.Payload {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i)
	}
	return data
}

const (
	typeIPv4, typeIPv6, typeARP = layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeARP
	typeVLAN, typeQinQ          = layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ
	protoUDP, protoTCP          = layers.IPProtocolUDP, layers.IPProtocolTCP
	protoICMP                   = layers.IPProtocolICMPv4
)

// stacks are the kinds of packet that expressions tell apart.
var stacks = map[string]stack{
	"udp":            {ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(20)},
	"udp answer":     {ethernet(typeIPv4), ipv4(protoUDP), udp(53, 4000), payload(200)},
	"udp empty":      {ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 4010)},
	"udp options":    {ethernet(typeIPv4), withOptions(ipv4(protoUDP)), udp(4000, 53), payload(20)},
	"udp6":           {ethernet(typeIPv6), ipv6(protoUDP), udp(4000, 53), payload(20)},
	"tcp syn":        {ethernet(typeIPv4), ipv4(protoTCP), tcp(40000, 443, true, false)},
	"tcp syn ack":    {ethernet(typeIPv4), ipv4(protoTCP), tcp(443, 40000, true, true)},
	"tcp data":       {ethernet(typeIPv4), ipv4(protoTCP), tcp(40000, 443, false, true), payload(1000)},
	"tcp ssh":        {ethernet(typeIPv4), withOptions(ipv4(protoTCP)), tcp(40000, 22, false, true), payload(30)},
	"tcp6":           {ethernet(typeIPv6), ipv6(protoTCP), tcp(40000, 443, true, false)},
	"icmp echo":      {ethernet(typeIPv4), ipv4(protoICMP), echo(8), payload(56)},
	"icmp reply":     {ethernet(typeIPv4), ipv4(protoICMP), echo(0), payload(56)},
	"icmp6":          {ethernet(typeIPv6), ipv6(layers.IPProtocolICMPv6), payload(16)},
	"gre":            {ethernet(typeIPv4), ipv4(layers.IPProtocolGRE), payload(24)},
	"arp":            {ethernet(typeARP), arp(), payload(18)},
	"lldp":           {ethernet(layers.EthernetTypeLinkLayerDiscovery), payload(46)},
	"first fragment": {ethernet(typeIPv4), fragment(0, true), udp(4000, 53), payload(24)},
	"later fragment": {ethernet(typeIPv4), fragment(4, true), payload(32)},
	"last fragment":  {ethernet(typeIPv4), fragment(8, false), payload(10)},
	"fragment6":      {ethernet(typeIPv6), ipv6(layers.IPProtocolIPv6Fragment), payload(40)},
	"udp fragment6":  {ethernet(typeIPv6), ipv6(layers.IPProtocolIPv6Fragment), gopacket.Payload{17, 0, 0, 1, 0, 0, 0, 9}, udp(4000, 53)},
	"hop by hop":     {ethernet(typeIPv6), ipv6(layers.IPProtocolIPv6HopByHop), payload(40)},
	"vlan":           {ethernet(typeVLAN), vlan(42, typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(20)},
	"vlan tcp6":      {ethernet(typeVLAN), vlan(43, typeIPv6), ipv6(protoTCP), tcp(40000, 443, true, false)},
	"two tags":       {ethernet(typeQinQ), vlan(7, typeVLAN), vlan(42, typeIPv4), ipv4(protoUDP), udp(4000, 53)},
	"large":          {ethernet(typeIPv4), ipv4(protoUDP), udp(4000, 53), payload(1472)},
}

// bytes is the packet of a stack, with lengths and checksums right.
func (s stack) bytes(t testing.TB) []byte {
	t.Helper()
	for _, l := range s {
		if ip, is := l.(gopacket.NetworkLayer); is {
			for _, l := range s {
				if u, is := l.(interface {
					SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
				}); is {
					require.NoError(t, u.SetNetworkLayerForChecksum(ip))
				}
			}
		}
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	require.NoError(t, gopacket.SerializeLayers(buffer, options, s...))
	return buffer.Bytes()
}
