package netstack_test

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

func TestMain(m *testing.M) {
	netstack.SetDHCPSecond(dhcpSecond)
	flag.Parse()
	if os.Getenv(refusedFamily) != "" {
		os.Exit(m.Run()) // in its parent's namespaces
	}
	_ = flag.Set("test.parallel", "4") // of DHCP servers, whose tests mostly wait
	testns.Main(m, plug)
}

var modes = []bpf.Mode{bpf.Generic, bpf.Native}

// inEachMode runs f in generic and in native mode.
func inEachMode(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			testns.Kernel(t)
			f(t, mode)
		})
	}
}

// The addresses of tests. The kernel has 192.0.2.1 on the near end of a peer's
// link, beside ours.
const (
	ours4, ours6     = "192.0.2.10", "2001:db8::10"
	second4, second6 = "192.0.2.11", "2001:db8::11"
	peer4, peer6     = "192.0.2.2", "2001:db8::2"
)

func prefixes(addresses ...string) (all []netip.Prefix) {
	for _, a := range addresses {
		addr := netip.MustParseAddr(a)
		all = append(all, netip.PrefixFrom(addr, map[bool]int{true: 24, false: 64}[addr.Is4()]))
	}
	return all
}

func soon(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// makePeer makes a kernel at the far end of a link, which has IPv6 too.
func makePeer(t testing.TB) *testns.Peer {
	t.Helper()
	p := testns.MakePeer(t)
	require.NoError(t, p.Do(func() error {
		if err := testns.IPv6("eth0"); err != nil {
			return err
		}
		testns.IP(t, "address", "add", peer6+"/64", "dev", "eth0", "nodad")
		return nil
	}))
	return p
}

// open opens a Host on an interface, and closes it when t ends: no frame is then
// left anywhere but where it belongs.
func open(t testing.TB, ifname string, cfg *netstack.Config) *netstack.Host {
	t.Helper()
	h, err := netstack.Open(soon(t), ifname, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	return h
}

func openOurs(t testing.TB, ifname string, mode bpf.Mode) *netstack.Host {
	t.Helper()
	return open(t, ifname, &netstack.Config{Addresses: prefixes(ours4, ours6), Mode: mode})
}

// full says that the normal run of a test is to be the whole one.
func full() bool { return os.Getenv("XSK_TEST_ALL") != "" }

// A dialer connects, from a Host or from the peer's kernel.
type dialer func(network, address string) (net.Conn, error)

func fromHost(t testing.TB, h *netstack.Host) dialer {
	return func(network, address string) (net.Conn, error) { return h.Dial(soon(t), network, address) }
}

func fromPeer(p *testns.Peer) dialer {
	return func(network, address string) (conn net.Conn, err error) {
		err = p.Do(func() error {
			conn, err = net.DialTimeout(network, address, 10*time.Second)
			return err
		})
		return conn, err
	}
}

// A listen listens there.
type listen func(network, address string) (net.Listener, error)

func onPeer(p *testns.Peer) listen {
	return func(network, address string) (l net.Listener, err error) {
		err = p.Do(func() error {
			l, err = net.Listen(network, address)
			return err
		})
		return l, err
	}
}

// transfer sends size random bytes over a connection to a listener, both ways at
// once if both is set, and asserts that their SHA-256 arrives.
func transfer(t testing.TB, at listen, address string, dial dialer, size int64, both bool) {
	t.Helper()
	l, err := at("tcp", address)
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = exchange(conn, size, both, 1)
			conn.Close()
		}
		done <- err
	}()
	conn, err := dial("tcp", l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	if both {
		require.NoError(t, exchange(conn, size, true, 2))
	} else {
		require.NoError(t, sendRandom(conn, size, 2))
	}
	require.NoError(t, <-done)
}

// exchange receives what sendRandom sends, and sends likewise if both is set.
func exchange(conn net.Conn, size int64, both bool, seed uint64) error {
	sent := make(chan error, 1)
	if both {
		go func() { sent <- sendRandom(conn, size, seed) }()
	} else {
		sent <- nil
	}
	if err := receiveRandom(conn, size); err != nil {
		return err
	}
	return <-sent
}

// sendRandom sends size bytes and their SHA-256.
func sendRandom(conn net.Conn, size int64, seed uint64) error {
	random := rand.NewChaCha8([32]byte{byte(seed)})
	hash := sha256.New()
	if _, err := io.CopyBuffer(onlyWriter{conn, hash}, io.LimitReader(onlyReader{random}, size), make([]byte, 100_000)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	_, err := conn.Write(hash.Sum(nil))
	return err
}

// receiveRandom receives size bytes and compares their SHA-256 with what follows.
func receiveRandom(conn net.Conn, size int64) error {
	hash := sha256.New()
	if n, err := io.CopyBuffer(hash, io.LimitReader(onlyReader{conn}, size), make([]byte, 100_000)); err != nil || n != size {
		return fmt.Errorf("receive: %d of %d bytes: %v", n, size, err)
	}
	want := make([]byte, sha256.Size)
	if _, err := io.ReadFull(conn, want); err != nil {
		return fmt.Errorf("receive the sum: %w", err)
	}
	if got := hash.Sum(nil); string(got) != string(want) {
		return fmt.Errorf("received %x, sent %x", got, want)
	}
	return nil
}

type onlyReader struct{ io.Reader }

// onlyWriter writes to both, in pieces as they come.
type onlyWriter struct{ a, b io.Writer }

func (w onlyWriter) Write(p []byte) (int, error) {
	_, _ = w.b.Write(p)
	return w.a.Write(p)
}

func addrs(all ...string) (parsed []netip.Addr) {
	for _, a := range all {
		parsed = append(parsed, netip.MustParseAddr(a))
	}
	return parsed
}
