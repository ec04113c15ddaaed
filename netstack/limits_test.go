package netstack_test

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// limited opens a Host with bounds.
func limited(t *testing.T, p *testns.Peer, o netstack.Options) *netstack.Host {
	t.Helper()
	return open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4, ours6), Mode: bpf.Native, Options: o})
}

// accepted is a connection of n that is accepted.
func accepted(t *testing.T, l net.Listener, n int) (conns []net.Conn) {
	t.Helper()
	for range n {
		conn, err := l.Accept()
		require.NoError(t, err)
		conns = append(conns, conn)
	}
	return conns
}

func closeAll(conns []net.Conn) {
	for _, c := range conns {
		c.Close()
	}
}

func TestBoundsBelowZeroAreRefused(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	for name, o := range map[string]netstack.Options{
		"MaxConnections": {MaxConnections: -1}, "MaxClosing": {MaxClosing: -1}, "Backlog": {Backlog: -1},
		"TCPMemory": {TCPMemory: -1}, "MaxStrangers": {MaxStrangers: -1}, "UDPBuffer": {UDPBuffer: -1},
	} {
		_, err := netstack.Open(soon(t), p.Near, &netstack.Config{Addresses: prefixes(ours4), Options: o})
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, name)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	testns.Kernel(t)
	const most = 20
	p := makePeer(t)
	h := limited(t, p, netstack.Options{MaxConnections: most})
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	dial := fromPeer(p)
	var far []net.Conn
	for range most {
		conn, err := dial("tcp", ours4+":80")
		require.NoError(t, err)
		far = append(far, conn)
	}
	near := accepted(t, l, most)
	require.Zero(t, h.Endpoint().Stats().ConnsRefused)
	one := make(chan net.Conn, 1)
	go func() {
		conn, err := dial("tcp", ours4+":80")
		assert.NoError(t, err)
		one <- conn
	}()
	assert.Eventually(t, func() bool { return h.Endpoint().Stats().ConnsRefused > 0 }, 10*time.Second, time.Millisecond)
	assert.Contains(t, h.Endpoint().Stats().String(), "connections refused: there were Options.MaxConnections")
	select {
	case <-one:
		require.Fail(t, "one more got in")
	case <-time.After(300 * time.Millisecond):
	}
	far[0].Close()
	_, err = io.Copy(io.Discard, near[0])
	require.NoError(t, err)
	near[0].Close()
	far[0] = <-one // by the SYN that is sent again
	closeAll(append(far, near...))
}

func TestClosingConnectionsAreBounded(t *testing.T) {
	testns.Kernel(t)
	const most = 100
	p := makePeer(t)
	h := limited(t, p, netstack.Options{MaxClosing: most})
	slow, err := h.Listen("tcp", ":81")
	require.NoError(t, err)
	defer slow.Close()
	waits, err := fromPeer(p)("tcp", ours4+":81")
	require.NoError(t, err)
	defer waits.Close()
	last := accepted(t, slow, 1)[0]
	const size = 1 << 20 // more than the peer takes before it reads
	_, err = last.Write(make([]byte, size))
	require.NoError(t, err)
	require.NoError(t, last.Close())
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Close() // first: TIME-WAIT is here
		}
	}()
	dial := fromPeer(p)
	for range 4 * most {
		conn, err := dial("tcp", ours4+":80")
		require.NoError(t, err)
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	left := h.Stack.Stats().TCP.CurrentConnected.Value()
	assert.LessOrEqual(t, left, uint64(2*most))
	assert.GreaterOrEqual(t, left, uint64(most/2), "the youngest stay")
	assert.NotZero(t, h.Endpoint().Stats().ClosingEnded)
	assert.Contains(t, h.Endpoint().Stats().String(), "Options.MaxClosing")
	n, err := io.Copy(io.Discard, waits)
	assert.NoError(t, err)
	assert.Equal(t, int64(size), n, "who has something to lose stays longer")
}

// Half-open connections are as many as the backlog; for more there are cookies, by
// which a real peer gets in. Who waits for Accept beyond it does not.
func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	testns.Kernel(t)
	const backlog = 50
	p := makePeer(t)
	h := limited(t, p, netstack.Options{Backlog: backlog})
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	r.arp(host(0))
	for i := range 4 * backlog {
		r.send(&segment{src: host(0), sport: uint16(1024 + i), dport: 80, seq: 1, flags: header.TCPFlagSyn, window: 1000})
	}
	stats := h.Endpoint().Stats
	require.Eventually(t, func() bool { return stats().SynCookies >= 2*backlog }, 10*time.Second, 10*time.Millisecond)
	r.connect(backlog+1, 80)
	assert.Eventually(t, func() bool {
		r.send(&segment{src: host(0), sport: 9000, dport: 80, seq: 1, flags: header.TCPFlagSyn, window: 1000})
		return stats().SynDropped > 0
	}, 10*time.Second, 10*time.Millisecond, "no room for the next")
	closeAll(accepted(t, l, backlog))
}

// A connection that nobody has accepted holds less than one that was.
func TestConnectionsThatWaitHoldLittle(t *testing.T) {
	testns.Kernel(t)
	const conns = 10
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	all := r.connect(conns, 80)
	fill := func() {
		for i := range all {
			for range 300 {
				all[i].payload = make([]byte, 1460)
				r.send(&all[i])
				all[i].seq += 1460
			}
			time.Sleep(5 * time.Millisecond)
		}
		time.Sleep(50 * time.Millisecond)
	}
	charged := func(near []net.Conn) (n int) {
		for _, c := range near {
			received, _ := netstack.Charged(c)
			n += received
		}
		return n / conns
	}
	fill()
	near := accepted(t, l, conns)
	defer closeAll(near)
	n := charged(near)
	assert.Less(t, n, 2*(64<<10))
	assert.Greater(t, n, 16<<10)

	all = r.connect(conns, 80)
	more := accepted(t, l, conns)
	defer closeAll(more)
	fill()
	assert.Greater(t, charged(more), 256<<10, "they have the window of one that was dialed")
}

// What waits for a listener that is behind is bounded, though it has no data, and who
// sends a SYN again gets in when there is room.
func TestSegmentsForAListenerAreBounded(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := limited(t, p, netstack.Options{})
	l := serve(t, h, ":80")
	r := newRaw(t, p)
	r.arp(host(0))
	release := netstack.Hold(l)
	send := func(n int, flags header.TCPFlags) {
		was := h.Endpoint().Stats()
		for i := range n {
			r.send(&segment{src: host(0), sport: uint16(1024 + i), dport: 80, seq: 1, ack: 1, flags: flags, window: 1000})
			if i%500 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
		come(t, h, was, n)
	}
	send(6000, header.TCPFlagSyn)
	waiting := netstack.Queued(l)
	assert.InDelta(t, 1<<20, waiting, 1<<18, "SYNs")
	if s := h.Endpoint().Stats(); s.RxLost == 0 {
		assert.Greater(t, s.SynDropped, uint64(3000))
	}
	dropped := h.Endpoint().Stats().SynDropped
	send(1000, header.TCPFlagAck)
	assert.Equal(t, dropped, h.Endpoint().Stats().SynDropped, "others have room yet")
	send(12_000, header.TCPFlagRst)
	waiting = netstack.Queued(l)
	assert.InDelta(t, 4<<20, waiting, 1<<20, "all")
	assert.Contains(t, h.Endpoint().Stats().String(), "their listener was behind")
	release()
	assert.Less(t, connects(t, p, ours4+":80"), floodConnect)
}
