package netstack

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A dhcpClient is the DHCP client of a Host (RFC 2131), and the goroutine that keeps
// the lease. Each state but INIT and BOUND is a method; acquire goes from INIT to
// BOUND, keep from BOUND to BOUND.
//
//	INIT -> SELECTING -> REQUESTING -> (probe) -> BOUND -> RENEWING -> REBINDING
//
// The messages are the library's, the states our own: the library's client hears one
// place only, and takes what it gets.
type dhcpClient struct {
	h      *Host
	link   *dhcpLink
	mac    net.HardwareAddr
	id     []byte
	second time.Duration // a test's may be shorter

	lease   *dhcpLease // what the Host has; nil without
	began   time.Time  // when it began to ask
	suggest netip.Addr // the address that it had
	reason  error      // why the last answer was no good

	cancel context.CancelFunc
	keeper sync.WaitGroup
}

// dhcpSecond is what a second is to clients that begin from now on.
var dhcpSecond = time.Second

// What is not in the messages, in seconds.
const (
	requests   = 4  // tries for an address that was offered, before it begins again
	slowest    = 64 // between two tries, at most
	afterClash = 10 // before it asks again, when an address was somebody's (RFC 2131, 3.1)
	leastRenew = 60 // between two tries to renew, if there is as much time (RFC 2131, 4.4.5)
)

var (
	errNAK      = errors.New("the server refuses the request")
	errNoAnswer = errors.New("no server answers")

	broadcastMAC = net.HardwareAddr(header.EthernetBroadcastAddress)
	broadcast4   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	nobody4      = netip.IPv4Unspecified()
)

// startDHCP gets the first lease.
func (h *Host) startDHCP(ctx context.Context) error {
	c := h.opened.dhcp
	c.h = h
	opening, done := h.alive(ctx)
	defer done()
	l, err := c.acquire(opening)
	if err == nil {
		err = c.apply(l)
	}
	if gone := h.Err(); gone != nil && err != nil {
		err = gone
	}
	if err != nil {
		return fmt.Errorf("DHCP: %w", err)
	}
	keep, cancel := h.alive(context.Background())
	c.cancel = cancel
	c.keeper.Go(func() { c.keep(keep) })
	return nil
}

func newDHCPClient(e *Endpoint) *dhcpClient {
	mac := net.HardwareAddr(e.mac)
	return &dhcpClient{link: newDHCPLink(e), mac: mac, id: clientID(mac), second: dhcpSecond}
}

// acquire is INIT: it asks all servers until one lends an address that nobody has, or
// ctx ends. The address is not the Host's yet.
func (c *dhcpClient) acquire(ctx context.Context) (*dhcpLease, error) {
	stop, err := c.link.listen()
	if err != nil {
		return nil, err
	}
	defer stop()
	c.began, c.reason = time.Now(), nil
	for try := 0; ; try++ {
		l, err := c.attempt(ctx)
		if err == nil {
			return l, nil
		}
		pause := c.retry(try)
		if errors.Is(err, errClash) {
			pause = afterClash * c.second
		}
		if ctx.Err() == nil {
			c.reason = err
			_ = sleep(ctx, pause)
		}
		if err := ctx.Err(); err != nil {
			if c.reason != nil {
				return nil, fmt.Errorf("%w; %w", timeoutOf(err), c.reason)
			}
			return nil, timeoutOf(err)
		}
	}
}

// attempt goes once from INIT to a lease.
func (c *dhcpClient) attempt(ctx context.Context) (*dhcpLease, error) {
	xid := rand.Uint32()
	offer, err := c.selecting(ctx, xid)
	if err != nil {
		return nil, err
	}
	l, err := c.requesting(ctx, xid, offer)
	if err != nil {
		return nil, err
	}
	if err := c.probe(ctx, l); err != nil {
		if errors.Is(err, errClash) {
			c.decline(l, err)
		}
		return nil, err
	}
	return l, nil
}

// selecting is SELECTING: it returns the first offer that is any good.
func (c *dhcpClient) selecting(ctx context.Context, xid uint32) (offer *dhcpLease, err error) {
	m := c.message(dhcpv4.MessageTypeDiscover, xid, c.secs())
	m.SetBroadcast()
	withAddress(m, dhcpv4.OptionRequestedIPAddress, c.suggest)
	err = c.exchange(ctx, xid, func(try int) (time.Duration, bool) {
		m.NumSeconds = c.secs()
		_ = c.link.send(c.frame(broadcastMAC, nobody4, broadcast4, m))
		return c.retry(try), true
	}, func(answer *dhcpv4.DHCPv4) bool {
		if kindOf(answer) != dhcpv4.MessageTypeOffer || !serverOf(answer).IsValid() {
			return false
		}
		l, err := c.leaseOf(answer, nil)
		if err == nil {
			err = c.usable(l)
		}
		if err != nil {
			c.reason = fmt.Errorf("the offer of server %v: %w", serverOf(answer), err)
			return false
		}
		offer = l
		return true
	})
	return offer, err
}

// requesting is REQUESTING: it asks for what was offered, at the server that did.
func (c *dhcpClient) requesting(ctx context.Context, xid uint32, offer *dhcpLease) (l *dhcpLease, err error) {
	m := c.message(dhcpv4.MessageTypeRequest, xid, c.secs())
	m.SetBroadcast()
	withAddress(m, dhcpv4.OptionRequestedIPAddress, offer.prefix.Addr())
	withAddress(m, dhcpv4.OptionServerIdentifier, offer.server)
	var refused error
	var asked time.Time
	err = c.exchange(ctx, xid, func(try int) (time.Duration, bool) {
		if try == requests {
			return 0, false
		}
		asked = time.Now()
		_ = c.link.send(c.frame(broadcastMAC, nobody4, broadcast4, m))
		return c.retry(try), true
	}, func(answer *dhcpv4.DHCPv4) bool {
		if s := serverOf(answer); s.IsValid() && s != offer.server {
			return false // another server does not speak for this one
		}
		switch kindOf(answer) {
		case dhcpv4.MessageTypeNak:
			refused = fmt.Errorf("server %v: %w%s", offer.server, errNAK, messageText(answer))
			c.suggest = netip.Addr{}
			return true
		case dhcpv4.MessageTypeAck:
			if l, refused = c.leaseOf(answer, nil); refused == nil {
				refused = c.usable(l)
			}
			if refused != nil {
				refused = fmt.Errorf("the answer of server %v: %w", offer.server, refused)
				return true
			}
			l.asked, l.server = asked, offer.server
			return true
		}
		return false
	})
	if err == nil {
		err = refused
	}
	if err != nil {
		return nil, err
	}
	return l, nil
}

// keep is BOUND and what follows: it renews the lease in time, and asks for another
// when that is refused or nobody answers. Without one the Host has no address.
func (c *dhcpClient) keep(ctx context.Context) {
	for ctx.Err() == nil {
		if sleepUntil(ctx, c.lease.at(c.lease.renew)) != nil {
			return
		}
		l, err := c.renewing(ctx)
		if errors.Is(err, errNoAnswer) {
			l, err = c.rebinding(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if c.apply(l) == nil {
				continue
			}
			c.drop()
		case errors.Is(err, errNAK):
			c.suggest = netip.Addr{}
			c.drop()
		case errors.Is(err, errNoAnswer):
			c.drop()
		}
		c.another(ctx)
	}
}

// another gets another lease, for as long as it takes. What the Host has it keeps until
// then, or until it ends.
func (c *dhcpClient) another(ctx context.Context) {
	for ctx.Err() == nil {
		until, cancel := context.WithCancel(ctx)
		if c.lease != nil && c.lease.end != forever {
			until, cancel = context.WithDeadline(ctx, c.lease.at(c.lease.end))
		}
		l, err := c.acquire(until)
		ended := until.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			if c.apply(l) == nil {
				return
			}
			c.drop()
		case ended:
			c.drop()
			continue
		}
		_ = sleep(ctx, c.second) // the program could not be set up
	}
}

// renewing is RENEWING: it asks the server that has lent the address, until it is time
// to ask others.
func (c *dhcpClient) renewing(ctx context.Context) (*dhcpLease, error) {
	return c.extend(ctx, c.lease.rebind, func(m *dhcpv4.DHCPv4) {
		a, server := c.lease.prefix.Addr(), c.lease.server
		if !server.IsValid() {
			return
		}
		if mac, err := c.nextHop(ctx, a, server); err == nil {
			_ = c.link.send(c.frame(mac, a, server, m))
		}
	})
}

// rebinding is REBINDING: it asks all servers, until the lease ends.
func (c *dhcpClient) rebinding(ctx context.Context) (*dhcpLease, error) {
	return c.extend(ctx, c.lease.end, func(m *dhcpv4.DHCPv4) {
		_ = c.link.send(c.frame(broadcastMAC, c.lease.prefix.Addr(), broadcast4, m))
	})
}

// extend asks for more time until the lease has lasted so long. It fails with
// errNoAnswer, errNAK, or for an answer that cannot be.
func (c *dhcpClient) extend(ctx context.Context, until time.Duration, send func(*dhcpv4.DHCPv4)) (next *dhcpLease, err error) {
	stop, err := c.link.listen()
	if err != nil {
		return nil, err
	}
	defer stop()
	c.began = time.Now()
	xid := rand.Uint32()
	m := c.message(dhcpv4.MessageTypeRequest, xid, 0)
	m.ClientIPAddr = c.lease.prefix.Addr().AsSlice()
	end := c.lease.at(until)
	begin := time.Now()
	var refused error
	var asked time.Time
	err = c.exchange(ctx, xid, func(int) (time.Duration, bool) {
		asked = time.Now()
		if !end.IsZero() && !asked.Before(end) {
			return 0, false
		}
		m.NumSeconds = c.secs()
		send(m)
		return c.pause(begin, end), true
	}, func(answer *dhcpv4.DHCPv4) bool {
		switch kindOf(answer) {
		case dhcpv4.MessageTypeNak:
			refused = fmt.Errorf("server %v: %w%s", serverOf(answer), errNAK, messageText(answer))
			return true
		case dhcpv4.MessageTypeAck:
			if next, refused = c.leaseOf(answer, c.lease); refused == nil && next.prefix.Addr() != c.lease.prefix.Addr() {
				refused = invalid("it lends %v instead of %v", next.prefix.Addr(), c.lease.prefix.Addr())
			}
			if refused != nil {
				refused = fmt.Errorf("the answer of server %v: %w", serverOf(answer), refused)
				return true
			}
			next.asked = asked
			if !next.server.IsValid() {
				next.server = c.lease.server
			}
			return true
		}
		return false
	})
	if err == nil {
		err = refused
	}
	return next, err
}

// exchange sends and waits for an answer to the transaction that accept is content
// with. send sends once, and returns how long to wait before the next time; false ends
// it with errNoAnswer.
func (c *dhcpClient) exchange(ctx context.Context, xid uint32, send func(try int) (time.Duration, bool), accept func(*dhcpv4.DHCPv4) bool) error {
	c.link.xid.Store(xid)
	for try := 0; ; try++ {
		wait, ok := send(try)
		if !ok {
			return errNoAnswer
		}
		timer := time.NewTimer(wait)
		for waiting := true; waiting; {
			select {
			case b := <-c.link.heard:
				if m, err := parseMessage(b); err == nil && c.isOurs(m, xid) && accept(m) {
					timer.Stop()
					return nil
				}
			case <-timer.C:
				waiting = false
			case <-ctx.Done():
				timer.Stop()
				return timeoutOf(ctx.Err())
			}
		}
	}
}
