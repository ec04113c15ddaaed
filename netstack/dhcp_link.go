package netstack

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A dhcpLink is how a DHCP client sends and hears whole packets, with or without an
// address. It hears in two places: at the packetSocket what the program leaves to the
// kernel, which is all that is broadcast, and before the stack what the program gives
// to the Host. While nobody asks it hears nothing.
//
// What does not belong to the transaction is not kept, so that nobody can drown the
// answers by guessing.
type dhcpLink struct {
	e    *Endpoint
	want func(listening bool) error // sets up the packetSocket

	listening atomic.Bool
	xid       atomic.Uint32         // of the transaction that answers are for
	candidate atomic.Uint32         // the address that is being probed; 0 for none
	heard     chan []byte           // messages of the transaction
	conflicts chan net.HardwareAddr // who has the candidate
}

func newDHCPLink(e *Endpoint) *dhcpLink {
	return &dhcpLink{e: e, heard: make(chan []byte, 16), conflicts: make(chan net.HardwareAddr, 1)}
}

// listen begins to hear answers, until stop is called.
func (l *dhcpLink) listen() (stop func(), err error) {
	for len(l.heard) > 0 {
		<-l.heard
	}
	l.listening.Store(true)
	var hook stack.NetworkDispatcher
	before := l.e.to.Load()
	if before != nil {
		hook = &dhcpHook{NetworkDispatcher: *before, link: l}
		l.e.to.CompareAndSwap(before, &hook)
	}
	stop = func() {
		l.listening.Store(false)
		if before != nil {
			l.e.to.CompareAndSwap(&hook, before)
		}
		_ = l.want(false)
	}
	if err = l.want(true); err != nil {
		stop()
	}
	return stop, err
}

// A dhcpHook stands before the stack while a client listens.
type dhcpHook struct {
	stack.NetworkDispatcher // the stack's
	link                    *dhcpLink
}

// DeliverNetworkPacket is for an Endpoint to call.
func (h *dhcpHook) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	switch proto {
	case header.ARPProtocolNumber:
		if b, ok := pkt.Data().PullUp(header.ARPSize); ok {
			h.link.hearARP(b)
		}
	case header.IPv4ProtocolNumber:
		if isForClient(pkt) && h.link.hearIP(pkt.Data().AsRange().ToSlice(), false) {
			return
		}
	}
	h.NetworkDispatcher.DeliverNetworkPacket(proto, pkt)
}

// isForClient looks no further than it must: the headers of others are in one piece
// already, and stay so.
func isForClient(pkt *stack.PacketBuffer) bool {
	b, ok := pkt.Data().PullUp(header.IPv4MinimumSize)
	if !ok || header.IPv4(b).Protocol() != protoUDP {
		return false
	}
	length := int(header.IPv4(b).HeaderLength())
	b, ok = pkt.Data().PullUp(length + header.UDPMinimumSize)
	return ok && header.UDP(b[length:]).DestinationPort() == dhcpPort
}

// hearFrame is for the packetSocket to call.
func (l *dhcpLink) hearFrame(frame []byte, unfinished bool) {
	if !l.listening.Load() || len(frame) < ethernet || frame[0]&1 == 0 && [6]byte(frame) != l.e.filter {
		return
	}
	switch payload := frame[ethernet:]; tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])) {
	case header.ARPProtocolNumber:
		l.hearARP(payload)
	case header.IPv4ProtocolNumber:
		l.hearIP(payload, unfinished)
	}
}

// hearIP keeps a message of the transaction, and reports whether it was one.
func (l *dhcpLink) hearIP(packet []byte, unfinished bool) bool {
	b := dhcpPayload(packet, unfinished)
	if b == nil || binary.BigEndian.Uint32(b[dhcpXID:]) != l.xid.Load() {
		return false
	}
	select {
	case l.heard <- append([]byte(nil), b...):
	default:
	}
	return true
}

// hearARP looks for one that has the candidate, or wants it at the same time (RFC 5227,
// 2.1.1).
func (l *dhcpLink) hearARP(b []byte) {
	arp := header.ARP(b)
	candidate := l.candidate.Load()
	if candidate == 0 || !arp.IsValid() {
		return
	}
	sender, target := binary.BigEndian.Uint32(arp.ProtocolAddressSender()), binary.BigEndian.Uint32(arp.ProtocolAddressTarget())
	probing := sender == 0 && target == candidate && arp.Op() == header.ARPRequest
	mac := net.HardwareAddr(arp.HardwareAddressSender())
	if [6]byte(mac) == l.e.filter || sender != candidate && !probing {
		return
	}
	select {
	case l.conflicts <- append(net.HardwareAddr(nil), mac...):
	default:
	}
}

// send sends a whole frame.
func (l *dhcpLink) send(frame []byte) error {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(frame)})
	defer pkt.DecRef()
	var all stack.PacketBufferList
	all.PushBack(pkt)
	if _, err := l.e.WritePackets(all); err != nil {
		return errnoOf(err)
	}
	return nil
}

// arpRequest asks who has an address. From none it is a probe; from the address itself
// it is an announcement.
func (l *dhcpLink) arpRequest(from, target netip.Addr) []byte {
	b := make([]byte, ethernet+header.ARPSize)
	copy(b, header.EthernetBroadcastAddress)
	copy(b[6:], l.e.mac)
	binary.BigEndian.PutUint16(b[12:], uint16(header.ARPProtocolNumber))
	arp := header.ARP(b[ethernet:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), l.e.mac)
	copy(arp.ProtocolAddressSender(), from.AsSlice())
	copy(arp.ProtocolAddressTarget(), target.AsSlice())
	return b
}
