// Package packet builds and checks the UDP packets that the examples send each
// other.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
)

// HeaderLen is the length of the Ethernet, IPv4 and UDP headers together.
const HeaderLen = ethLen + ipLen + udpLen

const (
	ethLen = 14
	ipLen  = 20
	udpLen = 8

	etherTypeIPv4 = 0x0800
	etherTypeIPv6 = 0x86dd
	protocolUDP   = 17

	// Where the fields are that this package touches.
	ipChecksum  = ethLen + 10
	udpStart    = ethLen + ipLen
	udpChecksum = udpStart + 6
)

// MinSize is the smallest Ethernet frame, without its FCS.
const MinSize = 60

// A MAC is an Ethernet address. It reads and prints itself, as in
// 02:00:00:00:00:01, so it can be a flag.
type MAC [6]byte

// Broadcast is every station's address.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// IsGroup reports whether m is a broadcast or multicast address, which no
// packet may come from.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// IsZero reports whether m is unset.
func (m MAC) IsZero() bool { return m == MAC{} }

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// MarshalText is for flag.TextVar; the zero MAC is empty.
func (m MAC) MarshalText() ([]byte, error) {
	if m.IsZero() {
		return nil, nil
	}
	return []byte(m.String()), nil
}

// UnmarshalText reads what String prints.
func (m *MAC) UnmarshalText(text []byte) error {
	address, err := net.ParseMAC(string(text))
	if err != nil || len(address) != len(m) {
		return fmt.Errorf("%q is no Ethernet address", text)
	}
	copy(m[:], address)
	return nil
}

// InterfaceMAC is the address of an interface.
func InterfaceMAC(ifname string) (MAC, error) {
	i, err := net.InterfaceByName(ifname)
	if err != nil {
		return MAC{}, fmt.Errorf("there is no interface %s here", ifname)
	}
	var m MAC
	if copy(m[:], i.HardwareAddr) != len(m) {
		return m, fmt.Errorf("%s has no Ethernet address", ifname)
	}
	return m, nil
}

// A Flow is what all packets from one sender to one receiver have in common.
type Flow struct {
	SrcMAC, DstMAC   MAC
	SrcIP, DstIP     netip.Addr // IPv4
	SrcPort, DstPort uint16
}

// Reverse is the way back.
func (f Flow) Reverse() Flow {
	return Flow{f.DstMAC, f.SrcMAC, f.DstIP, f.SrcIP, f.DstPort, f.SrcPort}
}

// Put writes the headers of a packet that is as long as frame, and both
// checksums, over the payload that is in frame already.
func (f *Flow) Put(frame []byte) {
	f.putHeaders(frame)
	putUDPChecksum(frame, pseudoSum(frame)+sum(frame[udpStart:]))
}

// putHeaders leaves the UDP checksum 0.
func (f *Flow) putHeaders(frame []byte) {
	copy(frame[0:], f.DstMAC[:])
	copy(frame[6:], f.SrcMAC[:])
	binary.BigEndian.PutUint16(frame[12:], etherTypeIPv4)

	ip := frame[ethLen : ethLen+ipLen]
	src, dst := f.SrcIP.As4(), f.DstIP.As4()
	clear(ip)
	ip[0] = 0x45 // version 4, five words long
	binary.BigEndian.PutUint16(ip[2:], uint16(len(frame)-ethLen))
	ip[6] = 0x40 // don't fragment
	ip[8] = 64   // time to live
	ip[9] = protocolUDP
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(frame[ipChecksum:], ^fold(sum(ip)))

	udp := frame[udpStart : udpStart+udpLen]
	binary.BigEndian.PutUint16(udp[0:], f.SrcPort)
	binary.BigEndian.PutUint16(udp[2:], f.DstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(frame)-udpStart))
	binary.BigEndian.PutUint16(udp[6:], 0)
}

// putUDPChecksum stores the checksum of a packet whose words add up to total.
// 0 would mean that there is none, so its other form goes instead.
func putUDPChecksum(frame []byte, total uint64) {
	c := ^fold(total)
	if c == 0 {
		c = 0xffff
	}
	binary.BigEndian.PutUint16(frame[udpChecksum:], c)
}

// Parse takes a packet apart: its flow, and its payload inside frame. It checks
// the lengths, not the checksums.
func Parse(frame []byte) (Flow, []byte, error) {
	if len(frame) < HeaderLen {
		return Flow{}, nil, fmt.Errorf("%d bytes are too few for a UDP packet", len(frame))
	}
	ip := frame[ethLen:]
	length := int(binary.BigEndian.Uint16(ip[2:]))
	switch {
	case binary.BigEndian.Uint16(frame[12:]) != etherTypeIPv4, ip[0] != 0x45, ip[9] != protocolUDP:
		return Flow{}, nil, errors.New("not a plain IPv4 UDP packet")
	case length < ipLen+udpLen || length > len(ip):
		return Flow{}, nil, fmt.Errorf("IPv4 length %d in a frame of %d", length, len(frame))
	}
	udp := ip[ipLen:length]
	if n := int(binary.BigEndian.Uint16(udp[4:])); n != len(udp) {
		return Flow{}, nil, fmt.Errorf("UDP length %d in an IPv4 packet of %d", n, length)
	}
	f := Flow{
		DstMAC:  MAC(frame[0:6]),
		SrcMAC:  MAC(frame[6:12]),
		SrcIP:   netip.AddrFrom4([4]byte(ip[12:16])),
		DstIP:   netip.AddrFrom4([4]byte(ip[16:20])),
		SrcPort: binary.BigEndian.Uint16(udp[0:]),
		DstPort: binary.BigEndian.Uint16(udp[2:]),
	}
	return f, udp[udpLen:], nil
}

// checkSums checks both checksums of a packet that Parse takes.
func checkSums(frame []byte, payload int) error {
	if fold(sum(frame[ethLen:udpStart])) != 0xffff {
		return errors.New("IPv4 checksum is wrong")
	}
	udp := frame[udpStart : HeaderLen+payload]
	switch {
	case binary.BigEndian.Uint16(frame[udpChecksum:]) == 0:
		return errors.New("UDP checksum is missing")
	case fold(pseudoSum(frame)+sum(udp)) != 0xffff:
		return errors.New("UDP checksum is wrong")
	}
	return nil
}

// SwapMACs exchanges source and destination of an Ethernet frame.
func SwapMACs(frame []byte) { swap(frame, 6) }

// TurnAround makes a received UDP packet, IPv4 or IPv6, behind up to two VLAN
// tags or none, its own answer: it exchanges source and destination of all
// three headers. Both checksums stay right, because they are sums. It reports
// false, and changes nothing, if the packet is something else, or was not sent
// to one station alone.
func TurnAround(frame []byte) bool {
	at := 12
	for tags := 0; tags < 2 && len(frame) >= at+4 && isVLAN(frame[at:]); tags++ {
		at += 4
	}
	if len(frame) < at+2+ipLen || frame[0]&1 != 0 {
		return false
	}
	ip := frame[at+2:]
	var addresses, header, length int // where the addresses are, the header's length, an address's
	switch binary.BigEndian.Uint16(frame[at:]) {
	case etherTypeIPv4:
		addresses, header, length = 12, int(ip[0]&15)*4, 4
		if ip[9] != protocolUDP || header < ipLen || binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 {
			return false // a fragment, for one
		}
	case etherTypeIPv6:
		addresses, header, length = 8, 40, 16
		if ip[6] != protocolUDP {
			return false
		}
	default:
		return false
	}
	if len(ip) < header+udpLen {
		return false
	}
	swap(frame, 6)
	swap(ip[addresses:], length)
	swap(ip[header:], 2)
	return true
}

func isVLAN(b []byte) bool {
	t := binary.BigEndian.Uint16(b)
	return t == 0x8100 || t == 0x88a8
}

// swap exchanges the first n bytes of b and the n that follow.
func swap(b []byte, n int) {
	var first [16]byte
	copy(first[:n], b)
	copy(b, b[n:2*n])
	copy(b[n:2*n], first[:n])
}

// pseudoSum adds up the words of UDP's pseudo header: addresses, protocol and
// the length of header and payload.
func pseudoSum(frame []byte) uint64 {
	return sum(frame[ethLen+12:udpStart]) + protocolUDP + uint64(binary.BigEndian.Uint16(frame[udpStart+4:]))
}

// sum is the Internet checksum's (RFC 1071) before it is folded. It adds eight
// bytes at a time: 2^16 is 1 modulo 65535, so a carry counts the same wherever
// it is added, and a large word the same as the sum of its four small ones.
func sum(b []byte) uint64 {
	var total, carry uint64
	for ; len(b) >= 8; b = b[8:] {
		total, carry = bits.Add64(total, binary.BigEndian.Uint64(b), carry)
	}
	var tail [8]byte
	copy(tail[:], b)
	total, carry = bits.Add64(total, binary.BigEndian.Uint64(tail[:]), carry)
	return half(total) + carry
}

// half brings a sum down to 33 bits, so that a few can be added up.
func half(s uint64) uint64 { return s>>32 + s&0xffffffff }

// fold brings a sum down to 16 bits.
func fold(s uint64) uint16 {
	s = half(s)
	s = s>>16 + s&0xffff // 33 bits to 18
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}
