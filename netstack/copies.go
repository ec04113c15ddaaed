package netstack

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk"
)

// copies are what a Host hears of packets that the program leaves to the kernel: a DHCP
// client's answers, and with a Filter of the caller's the ARP and neighbour discovery
// that the Filter does not take. Without those a Host finds no neighbour, for the answer
// to its question goes to the kernel.
type copies struct {
	socket   *packetSocket
	receiver *receiver
	dhcp     *dhcpLink // nil without DHCP
	o        *opened

	mu     sync.Mutex
	wish   wish
	shared map[netip.Addr]bool // addresses that the kernel answers for
}

// openCopies opens the packet socket if somebody has a use for it.
func (o *opened) openCopies(e *Endpoint, ifindex int) (err error) {
	if o.dhcp == nil && o.config.Filter == nil {
		return nil
	}
	c := &copies{receiver: newReceiver(e, nil), o: o, wish: wish{neighbours: o.config.Filter != nil}}
	if o.dhcp != nil {
		c.dhcp = o.dhcp.link
		c.dhcp.want = c.wantDHCP
	}
	c.know(o.config.Addresses)
	if c.socket, err = openPacketSocket(ifindex, c.hear); err != nil {
		return err
	}
	o.copies = c
	return c.socket.want(c.wish)
}

func (c *copies) wantDHCP(listening bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wish.dhcp = listening
	return c.socket.want(c.wish)
}

// know finds out which of the Host's addresses the kernel has, too.
func (c *copies) know(addresses []netip.Prefix) {
	if c == nil || !c.wish.neighbours {
		return
	}
	shared := map[netip.Addr]bool{}
	for _, p := range addresses {
		if c.o.kernel.lacks(p.Addr()) != nil {
			shared[p.Addr()] = true
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shared = shared
}

// hear is for the packetSocket to call.
func (c *copies) hear(frame []byte, unfinished bool) {
	if c.dhcp != nil {
		c.dhcp.hearFrame(frame, unfinished)
	}
	target, answer := neighbourTarget(frame)
	if !target.IsValid() {
		return
	}
	c.mu.Lock()
	wanted := c.wish.neighbours && (answer || !c.shared[target])
	c.mu.Unlock()
	if wanted {
		c.receiver.burst([]xsk.Frame{{Data: frame}})
	}
}

// neighbourTarget is the address that ARP or neighbour discovery is about, and whether
// the packet is an answer; not valid if it is neither.
func neighbourTarget(frame []byte) (target netip.Addr, answer bool) {
	if len(frame) < ethernet {
		return target, false
	}
	payload := frame[ethernet:]
	switch tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(frame[12:])) {
	case header.ARPProtocolNumber:
		if arp := header.ARP(payload); arp.IsValid() {
			return netip.AddrFrom4([4]byte(arp.ProtocolAddressTarget())), arp.Op() == header.ARPReply
		}
	case header.IPv6ProtocolNumber:
		const least = header.IPv6MinimumSize + header.ICMPv6NeighborSolicitMinimumSize
		if len(payload) < least || payload[6] != protoICMPv6 {
			return target, false
		}
		kind := payload[header.IPv6MinimumSize]
		if kind == neighbourSolicitation || kind == neighbourAdvertisement {
			return netip.AddrFrom16([16]byte(payload[header.IPv6MinimumSize+8:])), kind == neighbourAdvertisement
		}
	}
	return target, false
}

func (c *copies) close() error {
	if c == nil {
		return nil
	}
	return c.socket.close()
}
