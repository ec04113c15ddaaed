package netstack

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A UDPConn is a UDP socket of a Host: the net.PacketConn that ListenPacket returns,
// and the net.Conn of Dial. Its methods do what those of *net.UDPConn do.
type UDPConn struct {
	socket
	ep            tcpip.Endpoint
	proto         tcpip.NetworkProtocolNumber
	local, remote net.Addr // remote is nil without Dial

	from bytes.Reader
	into tcpip.SliceWriter

	at    tcpip.FullAddress // here, no address for all
	peer  tcpip.FullAddress // where it was dialed, without an address if it was not
	reads atomic.Uint64     // packets taken from the stack
}

var (
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
)

// openUDP makes a socket, at local if it is not nil and towards remote if that is
// not.
func (h *Host) openUDP(op string, local, remote *tcpip.FullAddress, proto tcpip.NetworkProtocolNumber, v6only bool) (*UDPConn, error) {
	queue := &waiter.Queue{}
	ep, err := h.Stack.NewEndpoint(udp.ProtocolNumber, proto, queue)
	if err == nil {
		ep.SocketOptions().SetV6Only(v6only)
		ep.SocketOptions().SetBroadcast(true)
		// gVisor does not learn the MTU of a path for UDP: whoever has a link that is too
		// narrow may cut the packet, for it would be dropped for ever otherwise.
		err = ep.SetSockOptInt(tcpip.MTUDiscoverOption, int(tcpip.PMTUDiscoveryDont))
	}
	if err == nil {
		if local != nil {
			err = ep.Bind(*local)
		}
		if err == nil && remote != nil {
			err = ep.Connect(*remote)
		}
		if err != nil {
			ep.Close()
		}
	}
	if err != nil {
		at := remote
		if at == nil {
			at = local
		}
		return nil, opError(op, "udp", nil, udpAddr(*at), errnoOf(err))
	}
	c := &UDPConn{ep: ep, proto: proto}
	c.socket.init(h, queue)
	c.local, c.remote = addressesOf(ep, proto, udpAddr)
	if remote == nil {
		c.remote = nil
	} else {
		c.peer = *remote
	}
	if local != nil {
		c.at.Addr = local.Addr
	}
	if a, err := ep.GetLocalAddress(); err == nil {
		c.at.Port = a.Port
	}
	h.door.sockets.change(c.at.Port, c, true)
	return c, nil
}

// ReadFrom waits for a packet and returns its length and its sender, a
// *net.UDPAddr. What b has no room for is lost.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.ReadFromUDP(b)
	if err != nil {
		return 0, nil, err
	}
	return n, from, nil
}

// ReadFromUDP is ReadFrom with a sender of its own type.
func (c *UDPConn) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	got, err := c.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return got.Count, &net.UDPAddr{IP: ipOf(got.RemoteAddr), Port: int(got.RemoteAddr.Port)}, nil
}

// ReadFromUDPAddrPort is ReadFrom without allocating.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	got, err := c.receive(b)
	return got.Count, addrPort(got.RemoteAddr), err
}

// ReadMsgUDP is ReadFromUDP, and says with MSG_TRUNC in flags that b had no room for
// all. There are no control messages: oobn is 0.
func (c *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error) {
	got, err := c.receive(b)
	if err != nil {
		return 0, 0, 0, nil, err
	}
	return got.Count, 0, flagsOf(got), &net.UDPAddr{IP: ipOf(got.RemoteAddr), Port: int(got.RemoteAddr.Port)}, nil
}

// ReadMsgUDPAddrPort is ReadMsgUDP without allocating.
func (c *UDPConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	got, err := c.receive(b)
	return got.Count, 0, flagsOf(got), addrPort(got.RemoteAddr), err
}

func flagsOf(got tcpip.ReadResult) int {
	if got.Total > got.Count {
		return syscall.MSG_TRUNC
	}
	return 0
}

// Read is ReadFrom for a socket that was dialed.
func (c *UDPConn) Read(b []byte) (int, error) {
	got, err := c.receive(b)
	return got.Count, err
}

func (c *UDPConn) receive(b []byte) (tcpip.ReadResult, error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	for {
		if err := c.open(&c.read); err != nil {
			return tcpip.ReadResult{}, c.fail("read", nil, err)
		}
		c.into = b
		got, err := c.ep.Read(&c.into, tcpip.ReadOptions{NeedRemoteAddr: true})
		c.into = nil
		switch err.(type) {
		case nil, *tcpip.ErrBadBuffer: // longer than b
			c.reads.Add(1)
			return got, nil
		case *tcpip.ErrWouldBlock:
			if err := c.wait(&c.read); err != nil {
				return tcpip.ReadResult{}, c.fail("read", nil, err)
			}
		default:
			if closed := c.open(&c.read); closed != nil {
				return tcpip.ReadResult{}, c.fail("read", nil, closed)
			}
			return tcpip.ReadResult{}, c.fail("read", nil, errnoOf(err))
		}
	}
}

// WriteTo sends a packet to addr, a *net.UDPAddr.
func (c *UDPConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok || to == nil {
		return 0, c.fail("write", addr, syscall.EINVAL)
	}
	return c.send(b, to.AddrPort(), addr)
}

// WriteToUDP is WriteTo with an address of its own type.
func (c *UDPConn) WriteToUDP(b []byte, addr *net.UDPAddr) (int, error) {
	if addr == nil {
		return 0, c.fail("write", nil, syscall.EDESTADDRREQ)
	}
	return c.send(b, addr.AddrPort(), addr)
}

// WriteToUDPAddrPort is WriteTo without allocating.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.send(b, to, nil)
}

// WriteMsgUDP is WriteToUDP, or Write on a socket that was dialed if addr is nil.
// Control messages are refused with EOPNOTSUPP.
func (c *UDPConn) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	switch {
	case len(oob) > 0:
		return 0, 0, c.fail("write", nil, syscall.EOPNOTSUPP)
	case addr == nil && c.remote == nil:
		return 0, 0, c.fail("write", nil, syscall.EDESTADDRREQ)
	case addr == nil:
		n, err = c.Write(b)
	default:
		n, err = c.WriteToUDP(b, addr)
	}
	return n, 0, err
}

// WriteMsgUDPAddrPort is WriteMsgUDP without allocating; no address is the zero
// AddrPort.
func (c *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	switch {
	case len(oob) > 0:
		return 0, 0, c.fail("write", nil, syscall.EOPNOTSUPP)
	case !addr.IsValid() && c.remote == nil:
		return 0, 0, c.fail("write", nil, syscall.EDESTADDRREQ)
	}
	n, err = c.send(b, addr, nil)
	return n, 0, err
}

// Write sends a packet to where the socket was dialed.
func (c *UDPConn) Write(b []byte) (int, error) { return c.send(b, netip.AddrPort{}, c.remote) }

func (c *UDPConn) send(b []byte, to netip.AddrPort, addr net.Addr) (int, error) {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	var o tcpip.WriteOptions
	if to.IsValid() {
		if c.remote != nil {
			return 0, c.fail("write", addr, net.ErrWriteToConnected)
		}
		full, ok := c.full(to)
		if !ok {
			return 0, c.fail("write", addr, syscall.EAFNOSUPPORT)
		}
		o.To = &full
	}
	for {
		if err := c.open(&c.write); err != nil {
			return 0, c.fail("write", addr, err)
		}
		c.from.Reset(b)
		n, err := c.ep.Write(&c.from, o)
		c.from.Reset(nil)
		switch err.(type) {
		case nil:
			return int(n), nil
		case *tcpip.ErrWouldBlock:
			if err := c.wait(&c.write); err != nil {
				return 0, c.fail("write", addr, err)
			}
		default:
			if closed := c.open(&c.write); closed != nil {
				return 0, c.fail("write", addr, closed)
			}
			return 0, c.fail("write", addr, errnoOf(err))
		}
	}
}

// full is an address as the socket takes it: on one of IPv6 those of IPv4 are
// mapped.
func (c *UDPConn) full(to netip.AddrPort) (tcpip.FullAddress, bool) {
	a := to.Addr().Unmap()
	if a.Is6() && c.proto == header.IPv4ProtocolNumber {
		return tcpip.FullAddress{}, false
	}
	if a.Is4() && c.proto == header.IPv6ProtocolNumber {
		a = netip.AddrFrom16(a.As16())
	}
	return tcpip.FullAddress{Addr: addressOf(a), Port: to.Port()}, true
}

// SetReadBuffer sets how many bytes of datagrams may wait to be read, and about as much
// for what they take beside their bytes: a thousand for each. More are dropped, and
// counted (Stats.UDPUnread). It begins with Options.UDPBuffer.
func (c *UDPConn) SetReadBuffer(bytes int) error {
	return c.setBuffer(bytes, c.ep.SocketOptions().SetReceiveBufferSize)
}

// SetWriteBuffer sets how many bytes may wait to be sent.
func (c *UDPConn) SetWriteBuffer(bytes int) error {
	return c.setBuffer(bytes, c.ep.SocketOptions().SetSendBufferSize)
}

func (c *UDPConn) setBuffer(bytes int, set func(int64, bool)) error {
	if err := c.host.setBuffer(&c.socket, bytes, set); err != nil {
		return c.fail("set", nil, err)
	}
	return nil
}

// Close closes the socket.
func (c *UDPConn) Close() error {
	if !c.close() {
		return c.fail("close", nil, errClosed)
	}
	c.host.door.sockets.change(c.at.Port, c, false)
	c.ep.Close()
	return nil
}

// LocalAddr is the *net.UDPAddr here.
func (c *UDPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is where the socket was dialed, or nil.
func (c *UDPConn) RemoteAddr() net.Addr { return c.remote }

func (c *UDPConn) fail(op string, addr net.Addr, err error) error {
	if addr == nil {
		addr = c.remote
	}
	return opError(op, "udp", c.local, addr, c.host.because(err))
}

// takes reports whether a packet is for the socket, as the stack finds out.
func (c *UDPConn) takes(source []byte, port uint16, dest []byte) bool {
	return matches(c.at.Addr, dest) && (c.remote == nil || c.peer.Port == port && matches(c.peer.Addr, source))
}

// datagramCharge is what a datagram takes beside its bytes. The stack does not count
// that, and would keep any number of empty ones.
const datagramCharge = 1 << 10

// crowded reports whether the datagrams that wait to be read take as much beside their
// bytes as these may take.
func (c *UDPConn) crowded() bool {
	s, ok := c.ep.Stats().(*tcpip.TransportEndpointStats)
	if !ok {
		return false
	}
	e := &s.ReceiveErrors
	waiting := s.PacketsReceived.Value() - e.ReceiveBufferOverflow.Value() - e.ClosedReceiver.Value() - c.reads.Load()
	return int64(waiting)*datagramCharge >= c.ep.SocketOptions().GetReceiveBufferSize()
}

// tuneUDP sets what the buffers of UDP sockets begin with.
func (h *Host) tuneUDP() error {
	n := max(h.endpoint.options.UDPBuffer, leastBuffer)
	receive := tcpip.ReceiveBufferSizeOption{Min: leastBuffer, Default: n, Max: max(n, mostBuffer)}
	send := tcpip.SendBufferSizeOption{Min: leastBuffer, Default: n, Max: max(n, mostBuffer)}
	for _, o := range []any{receive, send} {
		if err := h.Stack.SetOption(o); err != nil {
			return fmt.Errorf("set %T: %w", o, errnoOf(err))
		}
	}
	return nil
}
