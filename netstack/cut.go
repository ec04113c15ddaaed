package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A cutter makes packets of a TCP segment that is longer than one may be (GSO), and
// finishes the checksum of those that are not.
type cutter struct {
	head  []byte // Ethernet, IP and TCP header of the whole
	l4    int    // where TCP's begins
	ipv4  bool
	mss   int
	left  int // bytes of payload still to be cut
	count int // packets cut
	seq   uint32
	id    uint16
	flags byte
	addrs sum // of the addresses and the protocol

	buf [maxHeaders]byte
}

// maxHeaders is more than Ethernet, IPv6 with an extension, and TCP need together.
const maxHeaders = 256

// init reports whether the packet is for it: a TCP segment without a checksum. It
// takes the headers from its source.
func (c *cutter) init(pkt *stack.PacketBuffer, from *source) bool {
	o, length := &pkt.GSOOptions, pkt.HeaderSize()
	if (o.Type != stack.GSOTCPv4 && o.Type != stack.GSOTCPv6) || !o.NeedsCsum || length > maxHeaders {
		return false
	}
	c.head = c.buf[:length]
	from.copyTo(c.head)
	c.l4 = length - len(pkt.TransportHeader().Slice())
	c.ipv4 = o.Type == stack.GSOTCPv4
	c.left, c.count = pkt.Size()-length, 0
	if c.mss = int(o.MSS); c.mss == 0 {
		c.mss = c.left
	}
	ip, tcp := c.head[c.l4-len(pkt.NetworkHeader().Slice()):], c.head[c.l4:]
	c.seq, c.flags = binary.BigEndian.Uint32(tcp[header.TCPSeqNumOffset:]), tcp[header.TCPFlagsOffset]
	addrs := ip[8:40]
	if c.ipv4 {
		c.id, addrs = binary.BigEndian.Uint16(ip[4:]), ip[12:20]
	}
	c.addrs = pseudo(addrs, protoTCP, 0)
	return true
}

// packets is how many are still to come.
func (c *cutter) packets() int {
	if c.left == 0 && c.count == 0 {
		return 1
	}
	return (c.left + c.mss - 1) / max(c.mss, 1)
}

// next takes n bytes of payload, whose sum is payload, for the packet whose headers
// are b, a copy of head. With offload the device is to add up payload and header.
func (c *cutter) next(b []byte, n int, payload sum, offload bool) {
	ip, tcp := b[ethernet:c.l4], b[c.l4:]
	length := len(tcp) + n
	if c.ipv4 {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+length))
		binary.BigEndian.PutUint16(ip[4:], c.id+uint16(c.count))
		ip[10], ip[11] = 0, 0
		sumOf(ip).put(ip[10:])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-header.IPv6MinimumSize+length))
	}
	binary.BigEndian.PutUint32(tcp[header.TCPSeqNumOffset:], c.seq)
	flags := c.flags
	if c.left > n {
		flags &^= byte(header.TCPFlagFin | header.TCPFlagPsh)
	}
	if c.count > 0 {
		flags &^= byte(header.TCPFlagCwr)
	}
	tcp[header.TCPFlagsOffset] = flags
	total := c.addrs.plus(word(uint16(length)))
	if offload {
		binary.NativeEndian.PutUint16(tcp[header.TCPChecksumOffset:], total.fold())
	} else {
		tcp[header.TCPChecksumOffset], tcp[header.TCPChecksumOffset+1] = 0, 0
		total.plus(sumOf(tcp)).plus(payload).put(tcp[header.TCPChecksumOffset:])
	}
	c.seq += uint32(n)
	c.left -= n
	c.count++
}
