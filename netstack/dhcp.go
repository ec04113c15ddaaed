package netstack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

const (
	dhcpPort   = nclient4.ClientPort
	serverPort = nclient4.ServerPort

	firstTry  = time.Second // how long to wait for an answer, at first; then twice as long, each time
	lastTry   = 4           // tries, before it begins again
	shortest  = 500 * time.Millisecond
	byDefault = time.Hour // a lease that does not say how long it lasts
)

// A lease is an address that a DHCP server has lent the Host, and the goroutine that
// keeps it.
type lease struct {
	h       *Host
	catcher *catcher
	open    atomic.Bool // the program gives us what is for dhcpPort
	cancel  context.CancelFunc
	keeper  sync.WaitGroup

	lent   *nclient4.Lease // nil without
	prefix netip.Prefix
}

// asking reports whether what is for the port of DHCP clients is to come here.
func (l *lease) asking() bool { return l != nil && l.open.Load() }

// startDHCP gets the first lease.
func (h *Host) startDHCP(ctx context.Context) error {
	l := &lease{h: h, catcher: &catcher{e: h.endpoint}}
	l.open.Store(true)
	h.opened.lease = l
	lent, err := l.ask(ctx)
	if err == nil {
		err = l.take(lent)
	}
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	keep, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	l.keeper.Go(func() { l.keep(keep) })
	return nil
}

// ask asks all servers, until one lends an address or ctx ends. The program must
// give us the answers.
func (l *lease) ask(ctx context.Context) (*nclient4.Lease, error) {
	conn := l.catcher.listen()
	c, err := nclient4.NewWithConn(nclient4.NewBroadcastUDPConn(conn, &net.UDPAddr{Port: dhcpPort}),
		net.HardwareAddr(l.h.endpoint.mac), nclient4.WithTimeout(firstTry), nclient4.WithRetry(lastTry))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for {
		// The answer is to be broadcast: we have no address yet to send it to.
		lent, err := c.Request(ctx, dhcpv4.WithBroadcast(true))
		switch {
		case err == nil:
			return lent, nil
		case ctx.Err() != nil:
			return nil, timeoutOf(ctx.Err())
		case !errors.Is(err, nclient4.ErrNoResponse):
			if err := sleep(ctx, firstTry); err != nil {
				return nil, err
			}
		}
	}
}

// renew asks the server that has lent the address, from that address.
func (l *lease) renew(ctx context.Context) (*nclient4.Lease, error) {
	c, err := l.unicast()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Renew(ctx, l.lent)
}

// unicast makes a client that talks to the server of the lease.
func (l *lease) unicast() (*nclient4.Client, error) {
	conn, err := l.h.ListenPacket("udp4", netip.AddrPortFrom(l.prefix.Addr(), dhcpPort).String())
	if err != nil {
		return nil, err
	}
	server := &net.UDPAddr{IP: l.lent.ACK.ServerIdentifier(), Port: serverPort}
	c, err := nclient4.NewWithConn(conn, net.HardwareAddr(l.h.endpoint.mac),
		nclient4.WithServerAddr(server), nclient4.WithTimeout(firstTry), nclient4.WithRetry(lastTry))
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// take makes the Host's address what was lent.
func (l *lease) take(lent *nclient4.Lease) error {
	a, ok := netip.AddrFromSlice(lent.ACK.YourIPAddr.To4())
	bits, _ := lent.ACK.SubnetMask().Size()
	prefix := netip.PrefixFrom(a, max(bits, 1))
	if !ok || checkAddress(prefix) != nil {
		return invalid("the server lends the address %v", lent.ACK.YourIPAddr)
	}
	if prefix != l.prefix {
		l.drop()
		if err := l.h.addAddress(prefix); err != nil {
			return fmt.Errorf("add %v: %w", prefix, err)
		}
	}
	l.lent, l.prefix = lent, prefix
	if routers := lent.ACK.Router(); len(routers) > 0 {
		if g, ok := netip.AddrFromSlice(routers[0].To4()); ok {
			if err := l.h.addGateway(g); err != nil {
				return err
			}
		}
	}
	var servers []netip.AddrPort
	for _, ip := range lent.ACK.DNS() {
		if s, ok := netip.AddrFromSlice(ip.To4()); ok {
			servers = append(servers, netip.AddrPortFrom(s, 53))
		}
	}
	l.h.mu.Lock()
	l.h.servers = servers
	l.h.mu.Unlock()
	l.open.Store(false)
	return l.h.opened.update(l.h)
}

// drop takes the address away, if there is one.
func (l *lease) drop() {
	if l.lent != nil {
		_ = l.h.removeAddress(l.prefix)
		l.lent, l.prefix = nil, netip.Prefix{}
	}
}

// times are how long after it was lent an address is to be renewed, then asked for
// anew, and then not to be used any more.
func (l *lease) times() (renew, rebind, end time.Duration) {
	ack := l.lent.ACK
	end = max(ack.IPAddressLeaseTime(byDefault), 2*shortest)
	renew = min(ack.IPAddressRenewalTime(end/2), end/2)
	rebind = min(ack.IPAddressRebindingTime(end*7/8), end*7/8)
	return max(renew, shortest), max(rebind, shortest), end
}

// keep renews the lease in time, and asks for another when that is refused or nobody
// answers. Without one the Host has no address.
func (l *lease) keep(ctx context.Context) {
	for ctx.Err() == nil {
		renew, rebind, end := l.times()
		since := l.lent.CreationTime
		if sleep(ctx, time.Until(since.Add(renew))) != nil {
			return
		}
		var refused *nclient4.ErrNak
		lent, err := l.until(ctx, since.Add(rebind), l.renew)
		if err != nil && !errors.As(err, &refused) {
			lent, err = l.anew(ctx, since.Add(end))
		}
		for err != nil && ctx.Err() == nil {
			l.drop()
			_ = l.h.opened.update(l.h)
			lent, err = l.anew(ctx, time.Now().Add(time.Hour))
		}
		if ctx.Err() == nil {
			for l.take(lent) != nil && sleep(ctx, firstTry) == nil {
			}
		}
	}
}

// anew is ask, with the program set up for it.
func (l *lease) anew(ctx context.Context, end time.Time) (*nclient4.Lease, error) {
	l.open.Store(true)
	if err := l.h.opened.update(l.h); err != nil {
		_ = sleep(ctx, firstTry)
		return nil, err
	}
	return l.until(ctx, end, l.ask)
}

// until calls f until it is through or end has come.
func (l *lease) until(ctx context.Context, end time.Time, f func(context.Context) (*nclient4.Lease, error)) (*nclient4.Lease, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for {
		lent, err := f(ctx)
		var refused *nclient4.ErrNak
		if err == nil || errors.As(err, &refused) {
			return lent, err
		}
		if sleep(ctx, shortest) != nil {
			return nil, err
		}
	}
}

// stop ends keep, and gives the address back.
func (l *lease) stop() {
	if l == nil || l.cancel == nil {
		return
	}
	l.cancel()
	l.keeper.Wait()
	if l.lent == nil {
		return
	}
	if c, err := l.unicast(); err == nil {
		_ = c.Release(l.lent)
		_ = c.Close()
	}
}

// sleep waits for d, or until ctx ends, which is an error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return timeoutOf(ctx.Err())
	}
}
