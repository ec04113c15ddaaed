package netstack_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A wire writes raw packets at the peer's end.
type wire struct {
	t    *testing.T
	fd   int
	head []byte // Ethernet, without the type
}

func newWire(t *testing.T, p *testns.Peer) *wire {
	t.Helper()
	near, err := net.InterfaceByName(p.Near)
	require.NoError(t, err)
	w := &wire{t: t}
	require.NoError(t, p.Do(func() error {
		far, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		w.head = append(append(w.head, near.HardwareAddr...), far.HardwareAddr...)
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(w.fd, &unix.SockaddrLinklayer{Ifindex: far.Index})
	}))
	t.Cleanup(func() { unix.Close(w.fd) })
	return w
}

func (w *wire) write(etherType uint16, packet []byte) {
	w.t.Helper()
	b := binary.BigEndian.AppendUint16(append([]byte(nil), w.head...), etherType)
	_, err := unix.Write(w.fd, append(b, packet...))
	require.NoError(w.t, err)
}

// ipv4Packet puts a header before payload; offset is a fragment's, in bytes.
func ipv4Packet(protocol uint8, payload []byte, offset uint16, more bool) header.IPv4 {
	b := header.IPv4(make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload)))
	flags := uint8(0)
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	b.Encode(&header.IPv4Fields{
		TotalLength: uint16(cap(b)), ID: 77, TTL: 64, Protocol: protocol, Flags: flags, FragmentOffset: offset,
		SrcAddr: tcpip.AddrFromSlice(net.ParseIP(peer4).To4()), DstAddr: tcpip.AddrFromSlice(net.ParseIP(ours4).To4()),
	})
	b.SetChecksum(^b.CalculateChecksum())
	return append(b, payload...)
}

func ipv6Packet(protocol tcpip.TransportProtocolNumber, payload []byte) header.IPv6 {
	b := header.IPv6(make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload)))
	b.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: protocol, HopLimit: 64,
		SrcAddr: tcpip.AddrFromSlice(net.ParseIP(peer6)), DstAddr: tcpip.AddrFromSlice(net.ParseIP(ours6)),
	})
	return append(b, payload...)
}

// udpTo is a datagram to port 7 with its checksum.
func udpTo(from, to string, payload string) header.UDP {
	b := header.UDP(make([]byte, header.UDPMinimumSize, header.UDPMinimumSize+len(payload)))
	b.Encode(&header.UDPFields{SrcPort: 9, DstPort: 7, Length: uint16(cap(b))})
	b = append(b, payload...)
	src, dst := net.ParseIP(from), net.ParseIP(to)
	if v4 := src.To4(); v4 != nil {
		src, dst = v4, dst.To4()
	}
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, tcpip.AddrFromSlice(src), tcpip.AddrFromSlice(dst), uint16(len(b)))
	b.SetChecksum(^b.CalculateChecksum(checksum.Checksum([]byte(payload), sum)))
	return b
}

func TestBadPacketsAreDroppedAndCounted(t *testing.T) {
	const ipv4, ipv6 = uint16(header.IPv4ProtocolNumber), uint16(header.IPv6ProtocolNumber)
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		w := newWire(t, p)
		here, err := h.ListenPacket("udp", ":7")
		require.NoError(t, err)
		defer here.Close()
		arrives := func(want string) {
			t.Helper()
			require.NoError(t, here.SetReadDeadline(time.Now().Add(10*time.Second)))
			got := make([]byte, 100)
			n, _, err := here.ReadFrom(got)
			require.NoError(t, err)
			require.Equal(t, want, string(got[:n]))
		}
		good4, good6 := udpTo(peer4, ours4, "good"), udpTo(peer6, ours6, "good6")
		w.write(ipv4, ipv4Packet(17, good4, 0, false))
		arrives("good")
		w.write(ipv6, ipv6Packet(17, good6))
		arrives("good6")
		padded := append(ipv4Packet(17, good4, 0, false), make([]byte, 20)...)
		w.write(ipv4, padded)
		arrives("good")
		unsummed := append(header.UDP(nil), good4...)
		unsummed.SetChecksum(0)
		w.write(ipv4, ipv4Packet(17, unsummed, 0, false))
		arrives("good")
		require.Zero(t, h.Endpoint().Stats().RxBad)

		broken4, broken6 := append(header.UDP(nil), good4...), append(header.UDP(nil), good6...)
		broken4[10] ^= 1
		broken6[10] ^= 1
		unsummed6 := append(header.UDP(nil), good6...)
		unsummed6.SetChecksum(0)
		badIP := ipv4Packet(17, good4, 0, false)
		badIP.SetChecksum(badIP.Checksum() ^ 1)
		long := ipv4Packet(17, good4, 0, false)
		long.SetTotalLength(1000)
		long.SetChecksum(0)
		long.SetChecksum(^long.CalculateChecksum())
		tcp := make([]byte, 40)
		tcp[12] = 5 << 4
		ping := []byte{8, 0, 1, 2, 3, 4, 5, 6}
		for i, bad := range []struct {
			etherType uint16
			packet    []byte
		}{
			{ipv4, ipv4Packet(17, broken4, 0, false)},
			{ipv6, ipv6Packet(17, broken6)},
			{ipv6, ipv6Packet(17, unsummed6)},
			{ipv4, badIP},
			{ipv4, long},
			{ipv4, ipv4Packet(6, tcp, 0, false)},
			{ipv6, ipv6Packet(6, tcp)},
			{ipv4, ipv4Packet(6, tcp[:10], 0, false)},
			{ipv4, ipv4Packet(1, ping, 0, false)},
			{ipv6, ipv6Packet(58, append([]byte{128}, ping[1:]...))},
		} {
			w.write(bad.etherType, bad.packet)
			w.write(ipv4, ipv4Packet(17, good4, 0, false))
			arrives("good") // and not the bad one before
			require.Equal(t, uint64(i+1), h.Endpoint().Stats().RxBad, "packet %d", i)
		}

		// The stack verifies what it puts together of fragments.
		before := h.Stack.Stats().UDP.ChecksumErrors.Value()
		for _, datagram := range []header.UDP{udpTo(peer4, ours4, "in two pieces, right"), udpTo(peer4, ours4, "in two pieces, wrong")} {
			if datagram[len(datagram)-1] == 'g' {
				datagram[20] ^= 1
			}
			w.write(ipv4, ipv4Packet(17, datagram[:16], 0, true))
			w.write(ipv4, ipv4Packet(17, datagram[16:], 16, false))
		}
		arrives("in two pieces, right")
		w.write(ipv4, ipv4Packet(17, good4, 0, false))
		arrives("good")
		assert.Equal(t, before+1, h.Stack.Stats().UDP.ChecksumErrors.Value(), "the stack's own count")
	})
}

func TestSourceRouteIsDroppedAndCounted(t *testing.T) {
	p := makePeer(t)
	h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4)})
	conn, err := h.ListenPacket("udp", ours4+":7")
	require.NoError(t, err)
	defer conn.Close()
	w := newWire(t, p)
	for _, option := range []byte{131, 137, 148} { // loose and strict source route, router alert
		datagram := make([]byte, header.UDPMinimumSize+1)
		binary.BigEndian.PutUint16(datagram, 9)
		binary.BigEndian.PutUint16(datagram[2:], 7)
		binary.BigEndian.PutUint16(datagram[4:], uint16(len(datagram)))
		datagram[8] = option
		options := []byte{1, option, 7, 4, 192, 0, 2, 99}
		if option == 148 {
			options = []byte{148, 4, 0, 0}
		}
		b := make([]byte, header.IPv4MinimumSize+len(options), 100)
		b = append(b, datagram...)
		ip := header.IPv4(b)
		ip.Encode(&header.IPv4Fields{
			TotalLength: uint16(len(b)), TTL: 64, Protocol: 17,
			SrcAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 2}), DstAddr: tcpip.AddrFrom4([4]byte{192, 0, 2, 10}),
		})
		ip.SetHeaderLength(uint8(header.IPv4MinimumSize + len(options)))
		copy(b[header.IPv4MinimumSize:], options)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		w.write(0x0800, b)
	}
	require.NoError(t, conn.SetDeadline(time.Now().Add(testns.Patience(5*time.Second))))
	got := make([]byte, 10)
	n, _, err := conn.ReadFrom(got)
	require.NoError(t, err)
	assert.Equal(t, []byte{148}, got[:n], "only the one without a source route arrives")
	assert.Equal(t, uint64(2), h.Endpoint().Stats().RxBad)
}
