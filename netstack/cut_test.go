package netstack

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A segmentCase is a long TCP segment, and where its payload is split into buffers.
type segmentCase struct {
	ipv6    bool
	mss     uint16
	options int // bytes
	flags   header.TCPFlags
	seq     uint32
	id      uint16
	payload []byte
	split   int // bytes in one buffer
}

// outgoing is the packet as the stack would hand it over.
func (c *segmentCase) outgoing() *stack.PacketBuffer {
	network, gso := header.IPv4MinimumSize, stack.GSOTCPv4
	if c.ipv6 {
		network, gso = header.IPv6MinimumSize, stack.GSOTCPv6
	}
	var payload buffer.Buffer
	for rest := c.payload; len(rest) > 0; {
		n := min(max(c.split, 1), len(rest))
		_ = payload.Append(buffer.NewViewWithData(rest[:n]))
		rest = rest[n:]
	}
	tcpLength := header.TCPMinimumSize + c.options
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 3 + ethernet + network + tcpLength, Payload: payload})
	tcp := header.TCP(pkt.TransportHeader().Push(tcpLength))
	c.encode(tcp, c.seq, c.flags)
	tcp.SetChecksum(0xbeef) // whatever the stack leaves there
	pkt.TransportProtocolNumber = protoTCP
	ip := pkt.NetworkHeader().Push(network)
	c.encodeIP(ip, tcpLength+len(c.payload), c.id)
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	if c.ipv6 {
		pkt.NetworkProtocolNumber = header.IPv6ProtocolNumber
	}
	copy(pkt.LinkHeader().Push(ethernet), segmentEthernet(c.ipv6))
	pkt.GSOOptions = stack.GSO{Type: gso, NeedsCsum: true, MSS: c.mss, L3HdrLen: uint16(network)}
	return pkt
}

func segmentEthernet(ipv6 bool) []byte {
	b := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	if ipv6 {
		b[12], b[13] = 0x86, 0xdd
	}
	return b
}

func (c *segmentCase) addresses() (src, dst tcpip.Address) {
	if c.ipv6 {
		return tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 9}), tcpip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 8})
	}
	return tcpip.AddrFrom4([4]byte{192, 0, 2, 9}), tcpip.AddrFrom4([4]byte{192, 0, 2, 8})
}

func (c *segmentCase) encode(tcp header.TCP, seq uint32, flags header.TCPFlags) {
	tcp.Encode(&header.TCPFields{
		SrcPort: 4711, DstPort: 80, SeqNum: seq, AckNum: 77, WindowSize: 1000,
		DataOffset: uint8(header.TCPMinimumSize + c.options), Flags: flags,
	})
	for i := header.TCPMinimumSize; i < len(tcp); i++ {
		tcp[i] = header.TCPOptionNOP
	}
}

func (c *segmentCase) encodeIP(b []byte, length int, id uint16) {
	src, dst := c.addresses()
	if c.ipv6 {
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: uint16(length), TransportProtocol: protoTCP, HopLimit: 61, TrafficClass: 3, SrcAddr: src, DstAddr: dst,
		})
		return
	}
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(b) + length), ID: id, TTL: 61, TOS: 3, Protocol: protoTCP, SrcAddr: src, DstAddr: dst, Flags: header.IPv4FlagDontFragment,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
}

// reference cuts it the plain way.
func (c *segmentCase) reference() (packets [][]byte) {
	network := header.IPv4MinimumSize
	if c.ipv6 {
		network = header.IPv6MinimumSize
	}
	src, dst := c.addresses()
	for i, rest := 0, c.payload; i == 0 || len(rest) > 0; i++ {
		n := len(rest)
		if c.mss > 0 {
			n = min(int(c.mss), n)
		}
		flags := c.flags
		if n < len(rest) {
			flags &^= header.TCPFlagFin | header.TCPFlagPsh
		}
		if i > 0 {
			flags &^= header.TCPFlagCwr
		}
		tcp := make(header.TCP, header.TCPMinimumSize+c.options)
		c.encode(tcp, c.seq+uint32(len(c.payload)-len(rest)), flags)
		sum := header.PseudoHeaderChecksum(protoTCP, src, dst, uint16(len(tcp)+n))
		tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(rest[:n], sum)))
		b := append([]byte(nil), segmentEthernet(c.ipv6)...)
		ip := make([]byte, network)
		c.encodeIP(ip, len(tcp)+n, c.id+uint16(i))
		packets = append(packets, append(append(append(b, ip...), tcp...), rest[:n]...))
		rest = rest[n:]
	}
	return packets
}

// cut cuts it as a sender does, into frames in several parts.
func (c *segmentCase) cut(t *testing.T, part int) (packets [][]byte) {
	pkt := c.outgoing()
	defer pkt.DecRef()
	var from source
	var cut cutter
	from.init(pkt)
	require.True(t, cut.init(pkt, &from))
	for left := cut.packets(); left > 0; left-- {
		n := min(cut.left, cut.mss)
		b := make([]byte, len(cut.head)+n)
		head := b[:copy(b, cut.head)]
		var total sum
		var odd bool
		for at := len(head); at < len(b); at += part {
			total, odd = from.copySumTo(b[at:min(at+part, len(b))], total, odd)
		}
		cut.next(head, n, total, false)
		packets = append(packets, b)
	}
	require.Zero(t, cut.left)
	return packets
}

func (c *segmentCase) check(t *testing.T, part int) {
	want, got := c.reference(), c.cut(t, part)
	require.Len(t, got, len(want))
	for i := range want {
		normalize(want[i], c.ipv6)
		normalize(got[i], c.ipv6)
		require.Equal(t, want[i], got[i], "packet %d", i)
	}
}

// normalize makes the two ways to write a checksum of zero one.
func normalize(b []byte, ipv6 bool) {
	at := ethernet + header.IPv4MinimumSize
	if ipv6 {
		at = ethernet + header.IPv6MinimumSize
	}
	if sum := b[at+header.TCPChecksumOffset:]; binary.BigEndian.Uint16(sum) == 0xffff {
		sum[0], sum[1] = 0, 0
	}
}

func FuzzCutEqualsTheReference(f *testing.F) {
	f.Add(false, uint16(1448), uint8(3), uint8(0x18), uint32(1), uint16(65535), []byte("hello, this is to be cut"), uint16(5), uint8(1), uint16(40000))
	f.Add(true, uint16(1), uint8(0), uint8(0x99), uint32(0xfffffff0), uint16(0), []byte("abcdefghijkl"), uint16(1), uint8(7), uint16(33))
	f.Add(false, uint16(0), uint8(10), uint8(0x10), uint32(5), uint16(7), []byte{}, uint16(1), uint8(1), uint16(0))
	f.Fuzz(func(t *testing.T, ipv6 bool, mss uint16, options, flags uint8, seq uint32, id uint16, seed []byte, split uint16, part uint8, length uint16) {
		c := segmentCase{
			ipv6: ipv6, mss: mss, options: int(options%11) * 4, flags: header.TCPFlags(flags) | header.TCPFlagAck, seq: seq, id: id,
			split: int(split), payload: make([]byte, int(length)%(1<<16-header.TCPTotalHeaderMaximumSize)),
		}
		if c.mss != 0 && len(c.payload)/int(c.mss) > 1000 {
			c.mss = uint16(len(c.payload) / 1000)
		}
		if len(c.payload)/max(c.split, 1) > 1000 {
			c.split = len(c.payload)/1000 + 1
		}
		for i := range c.payload {
			if len(seed) > 0 {
				c.payload[i] = seed[i%len(seed)] + byte(i/len(seed))
			}
		}
		c.check(t, max(int(part), 1)*64+int(part%3))
	})
}

func TestCutEqualsTheReference(t *testing.T) {
	payload := make([]byte, 65000)
	for i := range payload {
		payload[i] = byte(i * i >> 3)
	}
	for _, ipv6 := range []bool{false, true} {
		for _, mss := range []uint16{0, 1, 535, 536, 1428, 1448, 1460, 8948, 65000} {
			for _, length := range []int{0, 1, 1447, 1448, 1449, 2896, 2897, 65000} {
				if mss == 1 && length > 3000 {
					continue
				}
				for _, split := range []int{7, 4096, 65536} {
					c := segmentCase{
						ipv6: ipv6, mss: mss, options: 12, seq: 0xffffff00, id: 65530, payload: payload[:length], split: split,
						flags: header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin | header.TCPFlagCwr,
					}
					c.check(t, 1001)
				}
			}
		}
	}
}
