package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// start serves on what o says, until the test ends.
func start(t *testing.T, n network, o *options) {
	t.Helper()
	l, err := n.Listen(netip.AddrPortFrom(o.address.Addr(), 5201))
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- (&server{network: n}).serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		assert.NoError(t, <-ended)
	})
}

func work(t *testing.T, c *client) *result {
	t.Helper()
	r, err := c.work(t.Context(), 100*time.Millisecond)
	require.NoError(t, err)
	return r
}

func TestEveryStackCarriesStreamsAndReplies(t *testing.T) {
	for name, open := range stacks {
		for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
			if mode == bpf.Generic && name != "xsk" {
				continue // no program, or not ours
			}
			t.Run(fmt.Sprintf("%s/%v", name, mode), func(t *testing.T) {
				own, far := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.2/24")
				var p *testns.Peer
				if name == "kernel" {
					p = testns.MakePeer(t)
				} else {
					p = nobodysPeer(t)
				}
				servers := &options{stack: name, device: "eth0", address: far, mode: mode}
				require.NoError(t, p.Do(func() error {
					there, err := open(t.Context(), servers)
					if err != nil {
						return err
					}
					t.Cleanup(func() { assert.NoError(t, there.Close()) })
					start(t, there, servers)
					return nil
				}))
				here, err := open(t.Context(), &options{stack: name, device: p.Near, address: own, mode: mode})
				require.NoError(t, err)
				t.Cleanup(func() { assert.NoError(t, here.Close()) })

				c := &client{network: here, server: netip.AddrPortFrom(far.Addr(), 5201), load: load{streams: 3, size: 64 << 10}}
				r := work(t, c)
				assert.NoError(t, r.wrong())
				assert.Positive(t, r.client.cpu())
				assert.Positive(t, r.gbit())
				t.Log(r.sentence(&options{stack: name, load: c.load}))

				c.load = load{streams: 1, trips: true}
				r = work(t, c)
				assert.NoError(t, r.wrong())
				assert.NotEmpty(t, r.trips)
				assert.EqualValues(t, 2*tripSize*len(r.trips), r.bytes)
				t.Log(r.sentence(&options{stack: name, load: c.load}))
			})
		}
	}
}

// nobodysPeer is a peer whose addresses the kernel does not have.
func nobodysPeer(t *testing.T) *testns.Peer {
	t.Helper()
	testns.Kernel(t)
	p, err := testns.NewPeer("iperf0", "", "")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// A liar is a connection on which one byte changes on its way.
type liar struct {
	net.Conn
	network
	at int // which byte is to change; counts down
}

func (l *liar) Dial(ctx context.Context, server netip.AddrPort) (net.Conn, error) {
	conn, err := l.network.Dial(ctx, server)
	return &liar{Conn: conn, at: l.at}, err
}

func (l *liar) Close() error      { return l.Conn.Close() }
func (l *liar) CloseWrite() error { return l.Conn.(*net.TCPConn).CloseWrite() }

func (l *liar) Write(p []byte) (int, error) {
	if l.at >= 0 && l.at < len(p) {
		p = bytes.Clone(p)
		p[l.at] ^= 1
	}
	l.at -= len(p)
	return l.Conn.Write(p)
}

func TestAChangedByteIsFound(t *testing.T) {
	n := kernelNetwork{}
	own := &options{address: netip.MustParsePrefix("127.0.0.1/8")}
	start(t, n, own)
	c := &client{network: n, server: netip.MustParseAddrPort("127.0.0.1:5201"), load: load{streams: 2, size: 1000}}
	assert.NoError(t, work(t, c).wrong())
	c.network = &liar{network: n, at: 500} // of the first write, which is hashed
	assert.ErrorContains(t, work(t, c).wrong(), "WRONG")
	c.network = &liar{network: n, at: 30} // of the first request
	c.load = load{streams: 1, trips: true}
	r := work(t, c)
	assert.Equal(t, 1, r.bad)
	assert.Error(t, r.wrong())
}

func TestASampleNoticesWhatIsMissing(t *testing.T) {
	whole, rest := newSample(), newSample()
	p := newPattern(1, 1000)
	for range 20_000 { // of 20 MB, a thousand bytes get lost
		whole.add(p.next(1000))
		if whole.bytes != 10_000_000 {
			rest.add(p.next(1000))
		}
		p.skip(1000)
	}
	rest.add(p.next(1000)) // and so many come that are not of it
	assert.Equal(t, whole.bytes, rest.bytes)
	assert.NotEqual(t, whole.hash.Sum(nil), rest.hash.Sum(nil))

	pieces, once := newSample(), newSample()
	all := bytes.Repeat([]byte("0123456789"), 1<<20)
	once.add(all)
	for n := 1; len(all) > 0; n = n*3%100_003 + 1 {
		n = min(n, len(all))
		pieces.add(all[:n])
		all = all[n:]
	}
	assert.Equal(t, once.hash.Sum(nil), pieces.hash.Sum(nil), "how a stream is cut changes nothing")
}

func TestTurnsAreOfTheBenchmark(t *testing.T) {
	n := kernelNetwork{}
	start(t, n, &options{address: netip.MustParsePrefix("127.0.0.1/8")})
	c := &client{network: n, server: netip.MustParseAddrPort("127.0.0.1:5201"), load: load{streams: 1, size: 1000}}
	in, orders := io.Pipe()
	var said bytes.Buffer
	ended := make(chan error)
	go func() { ended <- c.takeTurns(t.Context(), in, &said) }()
	for range 2 {
		_, _ = io.WriteString(orders, "start\n")
		time.Sleep(50 * time.Millisecond)
		_, _ = io.WriteString(orders, "stop\n")
	}
	require.NoError(t, orders.Close())
	require.NoError(t, <-ended)
	lines := strings.Split(strings.TrimSpace(said.String()), "\n")
	require.Len(t, lines, 3)
	assert.Equal(t, "ready", lines[0])
	for _, line := range lines[1:] {
		assert.Regexp(t, `^bytes=[1-9]\d* seconds=\S+ .* retransmits=\d+ drops=\d+ .* bad=0$`, line)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for line, want := range map[string]string{
		"-s":                     "no interface",
		"-d eth0 -s":             "no address",
		"-stack tcp -s":          "-stack tcp",
		"-stack kernel":          "one of -s and -c",
		"-stack kernel -s -p 0":  "-p 0",
		"-stack kernel -s -P 0":  "-P and -l",
		"-stack kernel -s extra": "extra",
	} {
		_, err := parse(strings.Fields(line))
		assert.ErrorContains(t, err, want, line)
	}
	_, err := parse(strings.Fields("-stack kernel -c 192.0.2.2 -rr"))
	assert.NoError(t, errors.Join(err))
}
