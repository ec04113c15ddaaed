package netstack

import (
	"bytes"
	"io"
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A TCPConn is a TCP connection of a Host: the net.Conn that Dial and Accept return.
// Its methods do what those of *net.TCPConn do.
type TCPConn struct {
	socket
	ep            tcpip.Endpoint
	local, remote net.Addr

	from bytes.Reader // what is being written
	pace pace
	into tcpip.SliceWriter // where to read
}

var _ net.Conn = (*TCPConn)(nil)

func newTCPConn(h *Host, ep tcpip.Endpoint, queue *waiter.Queue) *TCPConn {
	c := &TCPConn{ep: ep}
	c.socket.init(h, queue)
	c.local, c.remote = addressesOf(ep, 0, tcpAddr)
	_ = c.setKeepAlive(h.keepAlive())
	if ep, ok := ep.(*tcp.Endpoint); ok {
		c.pace.start(ep)
	}
	h.ledger.begin(c)
	return c
}

// Read reads what has come, at least a byte, and waits for it. It answers io.EOF
// when the other side has sent all.
func (c *TCPConn) Read(b []byte) (int, error) {
	c.read.mu.Lock()
	defer c.read.mu.Unlock()
	for {
		if err := c.open(&c.read); err != nil {
			return 0, c.fail("read", err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		c.into = b
		got, err := c.ep.Read(&c.into, tcpip.ReadOptions{})
		c.into = nil
		switch err.(type) {
		case nil:
			if c.host.ledger.share.Load() == 0 {
				c.ep.ModerateRecvBuf(got.Count)
			}
			return got.Count, nil
		case *tcpip.ErrClosedForReceive:
			if err := c.open(&c.read); err != nil {
				return 0, c.fail("read", err)
			}
			return 0, io.EOF
		case *tcpip.ErrWouldBlock:
			if err := c.wait(&c.read); err != nil {
				return 0, c.fail("read", err)
			}
		default:
			if closed := c.open(&c.read); closed != nil {
				return 0, c.fail("read", closed)
			}
			return 0, c.fail("read", errnoOf(err))
		}
	}
}

// Write hands b to the stack, and waits until it has taken all.
func (c *TCPConn) Write(b []byte) (int, error) {
	c.write.mu.Lock()
	defer c.write.mu.Unlock()
	for total := 0; ; {
		if err := c.open(&c.write); err != nil {
			return total, c.fail("write", err)
		}
		if total == len(b) {
			return total, nil
		}
		c.from.Reset(b[total:])
		n, err := c.ep.Write(&c.from, tcpip.WriteOptions{})
		c.from.Reset(nil)
		total += int(n)
		c.host.ledger.note(int(n))
		if ep, ok := c.ep.(*tcp.Endpoint); ok {
			c.pace.step(ep, int(n))
		}
		switch err.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			if err := c.wait(&c.write); err != nil {
				return total, c.fail("write", err)
			}
		default:
			if closed := c.open(&c.write); closed != nil {
				return total, c.fail("write", closed)
			}
			return total, c.fail("write", errnoOf(err))
		}
	}
}

// Close closes the connection. What was written is still sent, as long as the Host
// is open.
func (c *TCPConn) Close() error {
	if !c.close() {
		return c.fail("close", errClosed)
	}
	linger := c.ep.SocketOptions().GetLinger()
	c.ep.Close()
	c.host.ledger.end(c)
	if linger.Enabled && linger.Timeout > 0 {
		time.AfterFunc(linger.Timeout, c.giveUp)
	}
	return nil
}

// giveUp resets a closed connection whose data has not arrived.
func (c *TCPConn) giveUp() {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
		c.ep.Abort()
	}
}

// CloseRead shuts down reading.
func (c *TCPConn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

// CloseWrite tells the other side that all is sent.
func (c *TCPConn) CloseWrite() error { return c.shutdown(tcpip.ShutdownWrite) }

func (c *TCPConn) shutdown(how tcpip.ShutdownFlags) error {
	select {
	case <-c.done:
		return c.fail("close", errClosed)
	default:
	}
	if err := c.ep.Shutdown(how); err != nil {
		return c.fail("close", errnoOf(err))
	}
	return nil
}

// LocalAddr is the *net.TCPAddr here.
func (c *TCPConn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is that of the other side.
func (c *TCPConn) RemoteAddr() net.Addr { return c.remote }

// SetNoDelay says whether to send at once (true, the default) or to gather (Nagle).
func (c *TCPConn) SetNoDelay(noDelay bool) error {
	c.ep.SocketOptions().SetDelayOption(!noDelay)
	return nil
}

// SetLinger says what Close does with data that is not sent yet: sec < 0, the
// default, sends it in the background; 0 drops it and resets the connection; more
// sends it in the background for so many seconds, and then resets the connection.
func (c *TCPConn) SetLinger(sec int) error {
	c.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: sec >= 0, Timeout: time.Duration(max(sec, 0)) * time.Second})
	return nil
}

func (c *TCPConn) fail(op string, err error) error {
	return opError(op, "tcp", c.local, c.remote, c.host.because(err))
}

// A TCPListener waits for connections: the net.Listener that Listen returns.
type TCPListener struct {
	socket
	ep    tcpip.Endpoint
	local net.Addr
	at    tcpip.Address // none for all
	port  uint16
}

var _ net.Listener = (*TCPListener)(nil)

// waitingBuffer is what a connection may hold until it is accepted, in bytes: as many
// as Options.Backlog can be made to wait by anybody.
const waitingBuffer = 64 << 10

// Accept waits for a connection, which is a *TCPConn.
func (l *TCPListener) Accept() (net.Conn, error) {
	l.read.mu.Lock()
	defer l.read.mu.Unlock()
	for {
		if err := l.open(&l.read); err != nil {
			return nil, l.fail("accept", err)
		}
		ep, queue, err := l.ep.Accept(nil)
		switch err.(type) {
		case nil:
			if l.host.ledger.full() {
				ep.Abort()
				l.host.limits.connections.Add(1)
				continue
			}
			widen(ep)
			return newTCPConn(l.host, ep, queue), nil
		case *tcpip.ErrWouldBlock:
			if err := l.wait(&l.read); err != nil {
				return nil, l.fail("accept", err)
			}
		default:
			if closed := l.open(&l.read); closed != nil {
				return nil, l.fail("accept", closed)
			}
			return nil, l.fail("accept", errnoOf(err))
		}
	}
}

// widen gives a connection that was accepted the buffer of one that was dialed. If
// much has come already it grows by what is read, for only that tells the other side.
func widen(ep tcpip.Endpoint) {
	if n, err := ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption); err == nil && n <= waitingBuffer/4 {
		ep.SocketOptions().SetReceiveBufferSize(defaultBuffer, false)
	}
}

// Close ends listening; connections that nobody accepted are reset.
func (l *TCPListener) Close() error {
	if !l.close() {
		return l.fail("close", errClosed)
	}
	l.host.door.listeners.change(l.port, l, false)
	l.ep.Close()
	return nil
}

// Addr is the *net.TCPAddr where it listens.
func (l *TCPListener) Addr() net.Addr { return l.local }

func (l *TCPListener) fail(op string, err error) error {
	return opError(op, "tcp", nil, l.local, l.host.because(err))
}

// listenTCP listens at an address.
func (h *Host) listenTCP(at tcpip.FullAddress, proto tcpip.NetworkProtocolNumber, v6only bool) (net.Listener, error) {
	queue := &waiter.Queue{}
	ep, err := h.Stack.NewEndpoint(tcp.ProtocolNumber, proto, queue)
	if err == nil {
		ep.SocketOptions().SetV6Only(v6only)
		ep.SocketOptions().SetReuseAddress(true)
		if err = ep.Bind(at); err == nil {
			ep.SocketOptions().SetReceiveBufferSize(waitingBuffer, false)
			err = ep.Listen(h.endpoint.options.Backlog)
		}
		if err != nil {
			ep.Close()
		}
	}
	if err != nil {
		return nil, opError("listen", "tcp", nil, tcpAddr(at), errnoOf(err))
	}
	l := &TCPListener{ep: ep}
	l.socket.init(h, queue)
	l.local, _ = addressesOf(ep, proto, tcpAddr)
	l.at = at.Addr
	if local, err := ep.GetLocalAddress(); err == nil {
		l.port = local.Port
	}
	h.door.listeners.change(l.port, l, true)
	return l, nil
}
