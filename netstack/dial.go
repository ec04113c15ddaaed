package netstack

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Dial connects to an address, "tcp", "tcp4", "tcp6", "udp", "udp4" or "udp6", as
// net.Dialer.DialContext does, and http.Transport.DialContext takes it as it is. A
// name goes to the Resolver, and its addresses are tried one after the other, each
// for its share of the time that ctx leaves. The connection is a *TCPConn or a
// *UDPConn.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	t, err := parseTarget(ctx, network, address)
	if err == nil {
		err = h.ended()
	}
	var all []netip.Addr
	if err == nil {
		all, err = h.resolve(ctx, &t)
	}
	if err != nil {
		err = h.because(err)
		return nil, opError("dial", network, nil, nil, err)
	}
	for i, a := range all {
		to := tcpip.FullAddress{Addr: addressOf(a), Port: t.port}
		var conn net.Conn
		if t.transport == "udp" {
			conn, err = h.openUDP("dial", nil, &to, protocolOf(a), a.Is6())
		} else {
			share, cancel := shareOf(ctx, len(all)-i)
			conn, err = h.dialTCP(share, to, protocolOf(a))
			cancel()
		}
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, err
}

// shareOf gives one of n tries its part of the time.
func shareOf(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	until, ok := ctx.Deadline()
	if !ok || n == 1 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(until)/time.Duration(n))
}

func (h *Host) dialTCP(ctx context.Context, to tcpip.FullAddress, proto tcpip.NetworkProtocolNumber) (net.Conn, error) {
	fail := func(err error) error { return opError("dial", "tcp", nil, tcpAddr(to), err) }
	if err := ctx.Err(); err != nil {
		return nil, fail(timeoutOf(err))
	}
	queue := &waiter.Queue{}
	ep, terr := h.Stack.NewEndpoint(tcp.ProtocolNumber, proto, queue)
	if terr != nil {
		return nil, fail(errnoOf(terr))
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	terr = ep.Connect(to)
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-connected:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Close()
			return nil, fail(timeoutOf(ctx.Err()))
		case <-h.over:
			ep.Close()
			return nil, fail(h.Err())
		}
	}
	if terr != nil {
		ep.Close()
		return nil, fail(h.because(errnoOf(terr)))
	}
	return newTCPConn(h, ep, queue), nil
}

// timeoutOf is the error of a context as package net gives it.
func timeoutOf(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	return err
}

// Listen waits for TCP connections ("tcp", "tcp4", "tcp6") to an address of the Host,
// as net.Listen does: ":443" is all addresses, also those that are added later, but
// those of IPv6 only if the Host has one by now. The listener is a *TCPListener.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	t, err := parseTarget(context.Background(), network, address)
	if err == nil && t.transport != "tcp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = h.ended()
	}
	if err == nil {
		at, proto, v6only, failed := h.listenAt(&t)
		if err = failed; err == nil {
			return h.listenTCP(at, proto, v6only)
		}
	}
	return nil, opError("listen", network, nil, nil, err)
}

// ListenPacket opens a UDP socket ("udp", "udp4", "udp6") at an address of the Host,
// as net.ListenPacket does. It is a *UDPConn.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	t, err := parseTarget(context.Background(), network, address)
	if err == nil && t.transport != "udp" {
		err = net.UnknownNetworkError(network)
	}
	if err == nil {
		err = h.ended()
	}
	if err == nil {
		at, proto, v6only, failed := h.listenAt(&t)
		if err = failed; err == nil {
			c, err := h.openUDP("listen", &at, nil, proto, v6only)
			if err != nil {
				return nil, err
			}
			return c, nil
		}
	}
	return nil, opError("listen", network, nil, nil, err)
}
