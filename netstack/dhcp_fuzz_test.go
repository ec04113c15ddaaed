package netstack

import (
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ackFor is a good answer to a client.
func ackFor(c *dhcpClient, with ...dhcpv4.Modifier) []byte {
	m := c.message(dhcpv4.MessageTypeRequest, 1, 0)
	m, _ = dhcpv4.NewReplyFromRequest(m, append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(dhcpv4.MessageTypeAck), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 2)),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 2))), dhcpv4.WithDNS(net.IPv4(192, 0, 2, 2)),
		dhcpv4.WithLeaseTime(3600)}, with...)...)
	return m.ToBytes()
}

func fuzzClient() *dhcpClient {
	e := &Endpoint{mac: "\x02\x00\x00\x00\x00\x01"}
	copy(e.filter[:], e.mac)
	e.mtu.Store(defaultMTU)
	return newDHCPClient(e)
}

// FuzzDHCPAnswer reads anything as a server's message. What is taken for a lease can be
// one.
func FuzzDHCPAnswer(f *testing.F) {
	c := fuzzClient()
	f.Add(ackFor(c))
	f.Add(ackFor(c, dhcpv4.WithGeneric(dhcpv4.OptionClasslessStaticRoute, []byte{0, 192, 0, 2, 9, 24, 198, 51, 100, 0, 0, 0, 0})))
	f.Add(ackFor(c, dhcpv4.WithGeneric(dhcpv4.OptionRenewTimeValue, []byte{0, 0, 0, 9}), dhcpv4.WithGeneric(dhcpv4.OptionRebindingTimeValue, []byte{0, 0, 1, 9})))
	overloaded := ackFor(c, dhcpv4.WithGeneric(dhcpv4.OptionOptionOverload, []byte{3}))
	copy(overloaded[dhcpSName:], []byte{1, 4, 255, 255, 0, 0, 255})
	copy(overloaded[dhcpFile:], []byte{3, 8, 192, 0, 2, 1, 192, 0, 2, 50})
	f.Add(overloaded)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		c.isOurs(m, 1)
		_, _, _ = kindOf(m), serverOf(m), messageText(m)
		l, err := c.leaseOf(m, nil)
		if err != nil {
			return
		}
		require.NoError(t, checkAddress(l.prefix))
		require.Positive(t, l.renew)
		require.LessOrEqual(t, l.renew, l.rebind)
		require.LessOrEqual(t, l.rebind, l.end)
		if l.end != forever {
			require.Less(t, l.renew, l.rebind)
			require.Less(t, l.rebind, l.end)
		}
		if l.gateway.IsValid() {
			require.True(t, isHost4(l.gateway))
		}
		for _, r := range l.routes {
			require.True(t, r.to.IsValid() && r.to == r.to.Masked())
			r.stackRoute()
		}
		again, err := c.leaseOf(m, l)
		require.NoError(t, err)
		require.Equal(t, l, again)
	})
}

// FuzzDHCPFrame hears anything that a packet socket can.
func FuzzDHCPFrame(f *testing.F) {
	c := fuzzClient()
	good := c.frame(net.HardwareAddr(c.link.e.mac), nobody4, broadcast4, c.message(dhcpv4.MessageTypeRequest, 1, 0))
	good[ethernet+20+3] = dhcpPort // to a client's port
	f.Add(good, true)
	f.Add(good[:60], false)
	f.Add(c.link.arpRequest(nobody4, broadcast4), false)
	f.Fuzz(func(t *testing.T, frame []byte, unfinished bool) {
		c.link.listening.Store(true)
		c.link.xid.Store(1)
		c.link.candidate.Store(0xc0000232)
		c.link.hearFrame(frame, unfinished)
		neighbourTarget(frame)
		select {
		case b := <-c.link.heard:
			require.GreaterOrEqual(t, len(b), dhcpEnd)
		case <-c.link.conflicts:
		default:
		}
	})
}

func TestDHCPHearsItsTransactionOnly(t *testing.T) {
	c := fuzzClient()
	c.link.listening.Store(true)
	c.link.xid.Store(1)
	m, err := dhcpv4.FromBytes(ackFor(c))
	require.NoError(t, err)
	frame := c.frame(net.HardwareAddr(c.link.e.mac), nobody4, broadcast4, m)
	frame[ethernet+20+3], frame[ethernet+20+6], frame[ethernet+20+7] = dhcpPort, 0, 0 // to a client, without a checksum
	hears := func(change func([]byte)) bool {
		b := append([]byte(nil), frame...)
		change(b)
		c.link.hearFrame(b, false)
		select {
		case <-c.link.heard:
			return true
		default:
			return false
		}
	}
	assert.True(t, hears(func([]byte) {}))
	assert.False(t, hears(func(b []byte) { b[ethernet+28+dhcpXID]++ }), "another transaction")
	assert.False(t, hears(func(b []byte) { b[5]++ }), "another machine's MAC")
	assert.True(t, hears(func(b []byte) { copy(b, broadcastMAC) }), "broadcast")
	assert.False(t, hears(func(b []byte) { b[ethernet+20+7] = 1 }), "a wrong UDP checksum")
	assert.False(t, hears(func(b []byte) { b[ethernet+8]++ }), "a wrong IP checksum")
	assert.False(t, hears(func(b []byte) { b[ethernet+6] |= 0x20 }), "a fragment")
	c.link.listening.Store(false)
	assert.False(t, hears(func([]byte) {}), "while nobody asks")
}

func TestDHCPTimes(t *testing.T) {
	const s = time.Second
	for _, try := range []struct {
		lease, t1, t2 uint32
		want          dhcpTimes
	}{
		{3600, 0, 0, dhcpTimes{1800 * s, 3150 * s, 3600 * s}},
		{3600, 600, 900, dhcpTimes{600 * s, 900 * s, 3600 * s}},
		{3600, 600, 0, dhcpTimes{600 * s, 3150 * s, 3600 * s}},
		{3600, 0, 3000, dhcpTimes{1800 * s, 3000 * s, 3600 * s}},
		{3600, 0, 1000, dhcpTimes{500 * s, 1000 * s, 3600 * s}},
		{3600, 3600, 3600, dhcpTimes{1800 * s, 3150 * s, 3600 * s}},
		{3600, 5000, 4000, dhcpTimes{1800 * s, 3150 * s, 3600 * s}},
		{3600, 3300, 0, dhcpTimes{1575 * s, 3150 * s, 3600 * s}},
		{3600, 900, 600, dhcpTimes{300 * s, 600 * s, 3600 * s}},
		{3600, infinite, infinite, dhcpTimes{1800 * s, 3150 * s, 3600 * s}},
		{1, 0, 0, dhcpTimes{s / 2, 875 * s / 1000, s}},
		{infinite, 0, 0, dhcpTimes{forever, forever, forever}},
		{infinite, 3600, 0, dhcpTimes{3600 * s, forever, forever}},
		{infinite, 3600, 7200, dhcpTimes{3600 * s, 7200 * s, forever}},
		{infinite, infinite, 7200, dhcpTimes{3600 * s, 7200 * s, forever}},
		{infinite - 1, 0, 0, dhcpTimes{(infinite - 1) * s / 2, (infinite-1)*s - (infinite-1)*s/8, (infinite - 1) * s}},
		{infinite - 1, infinite - 3, infinite - 2, dhcpTimes{(infinite - 3) * s, (infinite - 2) * s, (infinite - 1) * s}},
	} {
		assert.Equal(t, try.want, timesOf(try.lease, try.t1, try.t2, s), "%+v", try)
	}
}

func TestDHCPMaskOfTheClass(t *testing.T) {
	c := fuzzClient()
	for address, want := range map[string]string{
		"10.99.0.50": "10.99.0.50/8", "172.16.0.50": "172.16.0.50/16", "192.0.2.50": "192.0.2.50/24", "223.255.255.1": "223.255.255.1/24",
	} {
		m, err := dhcpv4.FromBytes(ackFor(c, dhcpv4.WithYourIP(net.ParseIP(address))))
		require.NoError(t, err)
		delete(m.Options, 1)
		l, err := c.leaseOf(m, nil)
		require.NoError(t, err)
		assert.Equal(t, want, l.prefix.String())
	}
}

func TestDHCPLeasesThatCannotBe(t *testing.T) {
	c := fuzzClient()
	for _, try := range []struct {
		why     string
		address string
		mask    []byte
	}{
		{"with a mask of 2 bytes", "192.0.2.50", []byte{255, 255}},
		{"with the mask 255.0.255.0", "192.0.2.50", []byte{255, 0, 255, 0}},
		{"with the mask 0.0.0.0", "192.0.2.50", []byte{0, 0, 0, 0}},
		{"with the mask 0.255.255.255", "192.0.2.50", []byte{0, 255, 255, 255}},
		{"lends the address 0.0.0.0", "0.0.0.0", nil},
		{"lends the address 0.1.2.3", "0.1.2.3", nil},
		{"lends the address 224.0.0.1", "224.0.0.1", nil},
		{"lends the address 240.0.0.1", "240.0.0.1", nil},
		{"lends the address 255.255.255.255", "255.255.255.255", nil},
		{"lends the address 127.0.0.1", "127.0.0.1", nil},
		{"192.0.2.0/24 is the address of the network itself", "192.0.2.0", nil},
		{"192.0.2.255/24 is the broadcast address", "192.0.2.255", nil},
		{"192.0.2.63/26 is the broadcast address", "192.0.2.63", []byte{255, 255, 255, 192}},
	} {
		with := []dhcpv4.Modifier{dhcpv4.WithYourIP(net.ParseIP(try.address))}
		if try.mask != nil {
			with = append(with, dhcpv4.WithGeneric(dhcpv4.OptionSubnetMask, try.mask))
		}
		m, err := parseMessage(ackFor(c, with...))
		require.NoError(t, err)
		_, err = c.leaseOf(m, nil)
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, try.why)
	}
}

// Without an end the pause is a minute; with one, half of what is left.
func TestDHCPPauseBetweenRenewals(t *testing.T) {
	c := fuzzClient()
	c.second = time.Second
	now := time.Now()
	assert.Equal(t, time.Minute, c.pause(now, time.Time{}))
	near := func(want, got time.Duration) { t.Helper(); assert.InDelta(t, want.Seconds(), got.Seconds(), 1) }
	near(5000*time.Second, c.pause(now, now.Add(10_000*time.Second)))
	near(time.Minute, c.pause(now.Add(-9900*time.Second), now.Add(100*time.Second)))
	near(30*time.Second, c.pause(now.Add(-9900*time.Second), now.Add(30*time.Second)))
	near(3*time.Second, c.pause(now, now.Add(6*time.Second)))
}
