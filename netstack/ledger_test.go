package netstack_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// What a connection holds is what it is charged for, twice at most, also if every
// second segment is bad.
func TestBadSegmentsHoldWhatTheyAreChargedFor(t *testing.T) {
	testns.Kernel(t)
	require.True(t, netstack.ChargedKnown(), "gVisor keeps its numbers elsewhere: see ledger.go")
	conns := 20
	if full() {
		conns = 100
	}
	const segments, size = 320, 1460
	p := makePeer(t)
	h := limited(t, p, netstack.Options{TCPMemory: 1 << 30})
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	all := r.connect(conns, 80)
	near := accepted(t, l, conns)
	defer closeAll(near)
	before, was := held(), h.Endpoint().Stats()
	payload := make([]byte, size)
	for i := range all {
		c := all[i]
		c.payload, c.window = payload, 1000
		for n := range segments {
			c.bad = n%2 == 1
			r.send(&c)
			c.seq += size
		}
		time.Sleep(5 * time.Millisecond)
	}
	charged := func() (n int) {
		for _, c := range near {
			received, _ := netstack.Charged(c)
			n += received
		}
		return n
	}
	come(t, h, was, conns*segments)
	// The first is in order, the others wait for what is bad.
	require.Greater(t, charged(), conns*segments/2*size/4)
	grown := held() - before
	t.Logf("charged %d KiB, held %d KiB: %.2f", charged()>>10, grown>>10, float64(grown)/float64(charged()))
	assert.Less(t, grown, 2*charged())
	assert.NotZero(t, h.Endpoint().Stats().RxBad)
}

// However many connections hold what nobody reads, in order or not, or have sent what
// nobody acknowledges: together it is not much more than TCPMemory, and a real
// connection gets through.
func TestMemoryOfConnectionsIsBounded(t *testing.T) {
	testns.Kernel(t)
	const conns, memory = 100, 4 << 20
	payload := make([]byte, 1460)
	for name, fill := range map[string]func(r *raw, all []segment, near []net.Conn){
		"unread": func(r *raw, all []segment, near []net.Conn) {
			for i := range all {
				for range 200 {
					all[i].payload = payload
					r.send(&all[i])
					all[i].seq += uint32(len(payload))
				}
				time.Sleep(3 * time.Millisecond)
			}
		},
		"out of order": func(r *raw, all []segment, near []net.Conn) {
			for i := range all {
				for range 200 {
					all[i].payload = payload
					all[i].seq += uint32(len(payload))
					r.send(&all[i])
				}
				time.Sleep(3 * time.Millisecond)
			}
		},
		"single bytes": func(r *raw, all []segment, near []net.Conn) {
			for i := range all {
				for range 200 {
					all[i].payload = payload[:1]
					all[i].seq += 2
					r.send(&all[i])
				}
				time.Sleep(3 * time.Millisecond)
			}
		},
		"not acknowledged": func(r *raw, all []segment, near []net.Conn) {
			for _, c := range near {
				require.NoError(r.t, c.SetWriteDeadline(time.Now().Add(3*time.Millisecond)))
				_, _ = c.Write(make([]byte, 1<<20))
			}
		},
		"closed and not acknowledged": func(r *raw, all []segment, near []net.Conn) {
			for _, c := range near {
				require.NoError(r.t, c.SetWriteDeadline(time.Now().Add(3*time.Millisecond)))
				_, _ = c.Write(make([]byte, 256<<10))
				c.Close()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			if netstack.RaceDetector && (name == "not acknowledged" || name == "closed and not acknowledged") {
				return // what is sent is not known under it
			}
			p := makePeer(t)
			h := limited(t, p, netstack.Options{TCPMemory: memory})
			l, err := h.Listen("tcp", ":80")
			require.NoError(t, err)
			defer l.Close()
			r := newRaw(t, p)
			all := r.connect(conns, 80)
			near := accepted(t, l, conns)
			defer closeAll(near)
			before := held()
			fill(r, all, near)
			time.Sleep(100 * time.Millisecond)
			total := 0
			for _, c := range near {
				received, sent := netstack.Charged(c)
				total += received + sent
			}
			grown := held() - before
			t.Logf("%d connections are charged %d KiB, the heap grew by %d KiB; %v", conns, total>>10, grown>>10, h.Endpoint().Stats())
			assert.NotZero(t, h.Endpoint().Stats().MemoryShort)
			assert.Less(t, total, 2*memory)
			assert.Less(t, grown, 4*memory)
			if name == "closed and not acknowledged" {
				assert.NotZero(t, h.Endpoint().Stats().ClosingEnded, "so that others get more")
			}
			transfer(t, h.Listen, ours4+":81", fromPeer(p), 1<<20, true)
		})
	}
}

// The longest there is of what a peer can make a Host hold without saying anything:
// connections up to the bound, and then TIME-WAIT. It measures; only the whole run has
// the time for all of them.
func TestSilentConnectionsAndThoseThatClose(t *testing.T) {
	testns.Kernel(t)
	o := netstack.Options{MaxConnections: 500, MaxClosing: 250}
	requests := 1000
	if full() {
		o, requests = netstack.Options{}, 20_000
	}
	p := makePeer(t)
	h := limited(t, p, o)
	if full() {
		o.MaxConnections, o.MaxClosing = 8192, 4096
	}
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	took := make(chan []net.Conn)
	go func() {
		var conns []net.Conn
		for range o.MaxConnections {
			conn, err := l.Accept()
			if err != nil {
				break
			}
			conns = append(conns, conn)
		}
		took <- conns
	}()
	r := newRaw(t, p)
	before := held()
	r.connect(o.MaxConnections, 80)
	conns := <-took
	grown := held() - before
	t.Logf("%d silent connections take %d bytes each, %d MiB; %d MiB are resident", len(conns), grown/len(conns), grown>>20, resident()>>20)
	assert.Less(t, grown/len(conns), 3*(12<<10))
	closeAll(conns)
	assert.LessOrEqual(t, h.Stack.Stats().TCP.CurrentConnected.Value(), uint64(o.MaxClosing))

	serve(t, h, ":81")
	dial := fromPeer(p)
	for range requests {
		conn, err := dial("tcp", ours4+":81")
		require.NoError(t, err)
		_, err = conn.Read(make([]byte, 1))
		require.NoError(t, err)
		conn.Close()
	}
	left := int(h.Stack.Stats().TCP.CurrentConnected.Value())
	grown = held() - before
	t.Logf("%d of %d connections are closing, and take %d bytes each; %d MiB are resident", left, requests, grown/left, resident()>>20)
	assert.LessOrEqual(t, left, 2*o.MaxClosing)
	assert.Less(t, grown/left, 3*(12<<10))
	assert.NotZero(t, h.Endpoint().Stats().ClosingEnded)
}
