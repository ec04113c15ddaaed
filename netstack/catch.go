package netstack

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A catcher takes the answers of DHCP servers out of what goes to the stack, which
// would not have them as long as it has no address.
type catcher struct{ e *Endpoint }

// A caught is the packets that a catcher has taken, as a packet socket without an
// Ethernet header: a net.PacketConn of IPv4 packets, which it sends to everybody.
type caught struct {
	stack.NetworkDispatcher // the stack's
	e                       *Endpoint
	self                    stack.NetworkDispatcher
	packets                 chan []byte
	done                    chan struct{}
	once                    sync.Once
	read                    deadline
}

// listen begins to catch.
func (c *catcher) listen() *caught {
	k := &caught{e: c.e, packets: make(chan []byte, 16), done: make(chan struct{})}
	k.self = k
	if before := c.e.to.Load(); before != nil {
		k.NetworkDispatcher = *before
		c.e.to.CompareAndSwap(before, &k.self)
	}
	return k
}

// DeliverNetworkPacket is for an Endpoint to call.
func (k *caught) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if proto == header.IPv4ProtocolNumber {
		b := pkt.Data().AsRange().ToSlice()
		if ip := header.IPv4(b); ip.IsValid(len(b)) && ip.Protocol() == protoUDP && ip.FragmentOffset() == 0 {
			if udp := header.UDP(ip.Payload()); len(udp) >= header.UDPMinimumSize && udp.DestinationPort() == dhcpPort {
				select {
				case k.packets <- b:
				default:
				}
				return
			}
		}
	}
	k.NetworkDispatcher.DeliverNetworkPacket(proto, pkt)
}

func (k *caught) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		if err := k.read.passed(); err != nil {
			return 0, nil, err
		}
		select {
		case packet := <-k.packets:
			return copy(b, packet), &net.IPAddr{}, nil
		case <-k.read.expired():
		case <-k.done:
			return 0, nil, net.ErrClosed
		}
	}
}

func (k *caught) WriteTo(b []byte, _ net.Addr) (int, error) {
	frame := append([]byte(header.EthernetBroadcastAddress), k.e.mac...)
	frame = binary.BigEndian.AppendUint16(frame, uint16(header.IPv4ProtocolNumber))
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(append(frame, b...))})
	defer pkt.DecRef()
	var all stack.PacketBufferList
	all.PushBack(pkt)
	if _, err := k.e.WritePackets(all); err != nil {
		return 0, errnoOf(err)
	}
	return len(b), nil
}

// Close ends catching.
func (k *caught) Close() error {
	k.once.Do(func() {
		close(k.done)
		k.read.stop()
		if k.NetworkDispatcher != nil {
			before := k.NetworkDispatcher
			k.e.to.CompareAndSwap(&k.self, &before)
		}
	})
	return nil
}

func (k *caught) LocalAddr() net.Addr               { return &net.IPAddr{} }
func (k *caught) SetDeadline(t time.Time) error     { return k.SetReadDeadline(t) }
func (k *caught) SetReadDeadline(t time.Time) error { k.read.set(t); return nil }
func (k *caught) SetWriteDeadline(time.Time) error  { return nil }
