package bpf_test

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// The packets below are put together from the inside out: a layer takes its
// payload.

func udpTo(port uint16, payload string) []byte {
	return append(be16(4000, port, uint16(8+len(payload)), 0), payload...)
}

func ipv4(proto byte, fragment uint16, options, payload []byte) []byte {
	ihl := 5 + len(options)/4
	p := be16(uint16(0x4000|ihl<<8), uint16(ihl*4+len(payload)), 7, fragment, 64<<8|uint16(proto), 0, 0x0a00, 1, 0x0a00, 2)
	return append(append(p, options...), payload...)
}

func ipv6(next byte, payload []byte) []byte {
	p := be16(0x6000, 0, uint16(len(payload)), uint16(next)<<8|64)
	return append(append(p, make([]byte, 32)...), payload...)
}

// ext is an IPv6 extension header of 8 + 8*more bytes.
func ext(next, more byte, payload []byte) []byte {
	return append(append([]byte{next, more}, make([]byte, 6+8*int(more))...), payload...)
}

func ethernet(proto uint16, payload []byte) []byte {
	return append(append(make([]byte, 12), be16(proto)...), payload...)
}

// tag is what stands between a VLAN's EtherType and its payload.
func tag(proto uint16, payload []byte) []byte { return append(be16(42, proto), payload...) }

func be16(values ...uint16) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

const (
	typeIPv4, typeIPv6 = 0x0800, 0x86dd
	typeVLAN, typeQinQ = 0x8100, 0x88a8
	hopByHop, tcp, udp = 0, 6, 17
	routing, fragments = 43, 44
	authentication     = 51
	destination        = 60
	moreFragments      = 0x2000
	dontFragment       = 0x4000
)

func TestFilterDecides(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, udpPorts(53, 4789, 65535))
	require.NoError(t, register(t, p.FileDescriptor(), 0))

	datagram := udpTo(53, "payload")
	plain := ethernet(typeIPv4, ipv4(udp, 0, nil, datagram))
	options := make([]byte, 40)
	cases := []struct {
		name   string
		packet []byte
		want   uint32
	}{
		{"IPv4", plain, xdpRedirect},
		{"no payload", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, ""))), xdpRedirect},
		{"second port", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(4789, ""))), xdpRedirect},
		{"last port", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(65535, ""))), xdpRedirect},
		{"IPv4 don't fragment", ethernet(typeIPv4, ipv4(udp, dontFragment, nil, datagram)), xdpRedirect},
		{"IPv4 4 bytes of options", ethernet(typeIPv4, ipv4(udp, 0, options[:4], datagram)), xdpRedirect},
		{"IPv4 40 bytes of options", ethernet(typeIPv4, ipv4(udp, 0, options, datagram)), xdpRedirect},
		{"VLAN", ethernet(typeVLAN, tag(typeIPv4, ipv4(udp, 0, nil, datagram))), xdpRedirect},
		{"QinQ", ethernet(typeQinQ, tag(typeVLAN, tag(typeIPv4, ipv4(udp, 0, nil, datagram)))), xdpRedirect},
		{"QinQ IPv6", ethernet(typeQinQ, tag(typeVLAN, tag(typeIPv6, ipv6(udp, datagram)))), xdpRedirect},
		{"IPv6", ethernet(typeIPv6, ipv6(udp, datagram)), xdpRedirect},
		{"IPv6 hop-by-hop", ethernet(typeIPv6, ipv6(hopByHop, ext(udp, 0, datagram))), xdpRedirect},
		{"IPv6 long destination options", ethernet(typeIPv6, ipv6(destination, ext(udp, 30, datagram))), xdpRedirect},
		{"IPv6 four headers", ethernet(typeIPv6, ipv6(hopByHop, ext(destination, 0, ext(routing, 2, ext(destination, 1, ext(udp, 0, datagram)))))), xdpRedirect},
		{"IPv6 fragment that is the whole", ethernet(typeIPv6, ipv6(fragments, ext(udp, 0, datagram))), xdpRedirect},
		{"IPv4 first fragment", ethernet(typeIPv4, ipv4(udp, moreFragments, nil, datagram)), xdpRedirect},
		{"IPv6 first fragment", ethernet(typeIPv6, ipv6(fragments, poke(ext(udp, 0, datagram), 3, 1))), xdpRedirect},
		{"several buffers", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, string(make([]byte, 8900))))), xdpRedirect},

		{"other port", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(54, ""))), xdpPass},
		{"port in the other byte order", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53<<8, ""))), xdpPass},
		{"source port", ethernet(typeIPv4, ipv4(udp, 0, nil, be16(53, 9, 8, 0))), xdpPass},
		{"port 0", ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(0, ""))), xdpPass},
		{"TCP", ethernet(typeIPv4, ipv4(tcp, 0, nil, append(be16(4000, 53), make([]byte, 16)...))), xdpPass},
		{"TCP over IPv6", ethernet(typeIPv6, ipv6(tcp, append(be16(4000, 53), make([]byte, 16)...))), xdpPass},
		{"ARP", ethernet(0x0806, make([]byte, 46)), xdpPass},
		{"IPv4 middle fragment", ethernet(typeIPv4, ipv4(udp, moreFragments|10, nil, datagram)), xdpPass},
		{"IPv4 last fragment", ethernet(typeIPv4, ipv4(udp, 10, nil, datagram)), xdpPass},
		{"IPv6 later fragment", ethernet(typeIPv6, ipv6(fragments, poke(ext(udp, 0, datagram), 3, 8))), xdpPass},
		{"IPv6 authentication", ethernet(typeIPv6, ipv6(authentication, ext(udp, 0, datagram))), xdpPass},
		{"IPv6 five headers", ethernet(typeIPv6, ipv6(hopByHop, ext(destination, 0, ext(destination, 0, ext(destination, 0, ext(destination, 0, ext(udp, 0, datagram))))))), xdpPass},
		{"three tags", ethernet(typeVLAN, tag(typeVLAN, tag(typeVLAN, tag(typeIPv4, ipv4(udp, 0, nil, datagram))))), xdpPass},
		{"IPv6 under IPv4's type", ethernet(typeIPv4, ipv6(udp, datagram)), xdpPass},
		{"IPv4 under IPv6's type", ethernet(typeIPv6, append(ipv4(udp, 0, nil, datagram), make([]byte, 40)...)), xdpPass},
		{"IPv4 header length 4", ethernet(typeIPv4, poke(ipv4(udp, 0, nil, datagram), 0, 0x44)), xdpPass},
		{"IPv4 shorter than its header", ethernet(typeIPv4, poke(ipv4(udp, 0, nil, datagram), 3, 19)), xdpPass},
		{"IPv4 datagram is padding", ethernet(typeIPv4, append(ipv4(udp, 0, nil, nil), datagram...)), xdpPass},
		{"IPv6 datagram is padding", ethernet(typeIPv6, append(ipv6(udp, nil), datagram...)), xdpPass},
		{"IPv6 header beyond the payload", ethernet(typeIPv6, append(ipv6(destination, ext(udp, 0, nil)[:4]), ext(udp, 0, datagram)[4:]...)), xdpPass},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, verdict(t, p, c.packet))
		})
	}
}

func TestFilterPassesTruncatedHeaders(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, udpPorts(53))
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	whole := map[string][]byte{
		"IPv4": ethernet(typeQinQ, tag(typeVLAN, tag(typeIPv4, ipv4(udp, 0, make([]byte, 8), udpTo(53, ""))))),
		"IPv6": ethernet(typeVLAN, tag(typeIPv6, ipv6(hopByHop, ext(destination, 1, ext(udp, 0, udpTo(53, "")))))),
	}
	for name, packet := range whole {
		for length := 14; length < len(packet); length++ {
			assert.EqualValues(t, xdpPass, verdict(t, p, packet[:length]), "%s cut to %d of %d bytes", name, length, len(packet))
		}
		assert.EqualValues(t, xdpRedirect, verdict(t, p, packet), name)
	}
}

func TestFilterAllMatchesAnything(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p := attach(t, a, everything)
	arp := ethernet(0x0806, make([]byte, 46))
	assert.EqualValues(t, xdpPass, verdict(t, p, arp), "no socket yet")
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	assert.EqualValues(t, xdpRedirect, verdict(t, p, arp))
	assert.EqualValues(t, xdpRedirect, verdict(t, p, make([]byte, 14)))
	assert.EqualValues(t, xdpRedirect, verdict(t, p, make([]byte, 9000)), "several buffers")
}

func TestSingleBufferProgramDecidesAlike(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	bpf.SingleBuffer(t)
	p := attach(t, a, udpPorts(53))
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	assert.EqualValues(t, xdpRedirect, verdict(t, p, ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, "")))))
	assert.EqualValues(t, xdpPass, verdict(t, p, ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(54, "")))))
}

func TestAttachRefusesBadOptions(t *testing.T) {
	cases := []struct {
		name    string
		options bpf.Options
		says    string
	}{
		{"empty filter", bpf.Options{}, "bpf.Filter{All: true}"},
		{"all and ports", bpf.Options{Filter: bpf.Filter{All: true, UDPPorts: []uint16{53}}}, "All already covers UDPPorts"},
		{"port 0", udpPorts(53, 0), "port 0"},
		{"mode below", bpf.Options{Filter: bpf.Filter{All: true}, Mode: -1}, "unknown mode -1"},
		{"mode above", bpf.Options{Filter: bpf.Filter{All: true}, Mode: 3}, "unknown mode 3"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			// Refused before anything else is looked at, the interface too.
			_, err := bpf.Attach("none0", c.options)
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, c.says)
			assert.True(t, strings.HasPrefix(err.Error(), "bpf: attach none0: "), err.Error())
		})
	}
}

func TestFilterReadsWell(t *testing.T) {
	assert.Equal(t, "all packets", bpf.Filter{All: true}.String())
	assert.Equal(t, "no packets", bpf.Filter{}.String())
	assert.Equal(t, "UDP port 53", bpf.Filter{UDPPorts: []uint16{53}}.String())
	assert.Equal(t, "UDP ports 53, 4789", bpf.Filter{UDPPorts: []uint16{53, 4789}}.String())
	assert.Equal(t, "5 UDP ports", bpf.Filter{UDPPorts: []uint16{1, 3, 5, 7, 9}}.String())
}

func poke(packet []byte, at int, value byte) []byte {
	packet[at] = value
	return packet
}
