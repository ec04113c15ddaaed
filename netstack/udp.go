package netstack

import (
	"bytes"
	"net"
	"net/netip"
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
	c.local, c.remote = addressesOf(ep, udpAddr)
	if remote == nil {
		c.remote = nil
	}
	return c, nil
}

// ReadFrom waits for a packet and returns its length and its sender, a
// *net.UDPAddr. What b has no room for is lost.
func (c *UDPConn) ReadFrom(b []byte) (int, net.Addr, error) {
	n, from, err := c.receive(b)
	if err != nil {
		return 0, nil, err
	}
	return n, udpAddr(from), nil
}

// ReadFromUDPAddrPort is ReadFrom without allocating.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := c.receive(b)
	return n, addrPort(from), err
}

// Read is ReadFrom for a socket that was dialed.
func (c *UDPConn) Read(b []byte) (int, error) {
	n, _, err := c.receive(b)
	return n, err
}

func (c *UDPConn) receive(b []byte) (int, tcpip.FullAddress, error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	for {
		if err := c.open(&c.read); err != nil {
			return 0, tcpip.FullAddress{}, c.fail("read", nil, err)
		}
		c.into = b
		got, err := c.ep.Read(&c.into, tcpip.ReadOptions{NeedRemoteAddr: true})
		c.into = nil
		switch err.(type) {
		case nil, *tcpip.ErrBadBuffer: // longer than b
			return got.Count, got.RemoteAddr, nil
		case *tcpip.ErrWouldBlock:
			if err := c.wait(&c.read); err != nil {
				return 0, tcpip.FullAddress{}, c.fail("read", nil, err)
			}
		default:
			if closed := c.open(&c.read); closed != nil {
				return 0, tcpip.FullAddress{}, c.fail("read", nil, closed)
			}
			return 0, tcpip.FullAddress{}, c.fail("read", nil, errnoOf(err))
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

// WriteToUDPAddrPort is WriteTo without allocating.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return c.send(b, to, nil)
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

// Close closes the socket.
func (c *UDPConn) Close() error {
	if !c.close() {
		return c.fail("close", nil, errClosed)
	}
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
