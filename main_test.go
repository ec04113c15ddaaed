package xsk_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv(unprivilegedHalf) != "" || os.Getenv(refusedFamily) != "" {
		os.Exit(m.Run()) // in its parent's namespaces
	}
	if testns.Inside() && !kernel.AtLeast("6.3 programs bound to a device") { // an Example cannot skip itself
		leaveOut("^ExampleFrame_RxMetadata$")
	}
	testns.Main(m, plug)
}

// leaveOut has the tests that match not run.
func leaveOut(names string) {
	skip := flag.Lookup("test.skip").Value
	_ = skip.Set(strings.TrimSuffix(names+"|"+skip.String(), "|"))
}

// A mode is a way for the receiving end's program to be attached.
type mode struct {
	name  string
	flags xsk.XDPFlags
}

var modes = []mode{{"generic", xsk.XDPSKBMode}, {"native", xsk.XDPDrvMode}}

// inEachMode runs f in generic and in native mode.
func inEachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			testns.Kernel(t)
			f(t, m)
		})
	}
}

// An end is a socket with a Umem of its own.
type end struct {
	*xsk.Socket
	umem *xsk.Umem
}

// frame is the address of frame i.
func (e *end) frame(i int) xsk.Addr { return xsk.Addr(i * e.umem.FrameSize()) }

// frames are the addresses of n frames from frame first.
func (e *end) frames(first, n int) []xsk.Addr {
	addrs := make([]xsk.Addr, n)
	for i := range addrs {
		addrs[i] = e.frame(first + i)
	}
	return addrs
}

func newUmem(t testing.TB, cfg *xsk.UmemConfig) *xsk.Umem {
	t.Helper()
	testns.Kernel(t)
	u, err := xsk.NewUmem(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, u.Close()) })
	return u
}

func newSocket(t testing.TB, ifname string, queue int, u *xsk.Umem, cfg *xsk.SocketConfig) *xsk.Socket {
	t.Helper()
	s, err := xsk.NewSocket(ifname, queue, u, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return s
}

func newEnd(t testing.TB, ifname string, uc *xsk.UmemConfig, sc *xsk.SocketConfig) *end {
	t.Helper()
	u := newUmem(t, uc)
	return &end{newSocket(t, ifname, 0, u, sc), u}
}

// small is a Umem that tests can look at whole.
var small = xsk.UmemConfig{Frames: 512, FrameSize: 2048, FillSize: 256, CompletionSize: 256}

// vethPair makes a veth pair of one queue a side.
func vethPair(t testing.TB) (a, b string) {
	t.Helper()
	return testns.Veth{}.Make(t)
}

// newPair makes a veth pair with a sender on one end and a receiver, served by
// libxdp's program in mode m, on the other.
func newPair(t testing.TB, m mode, uc xsk.UmemConfig) (tx, rx *end) {
	t.Helper()
	a, b := vethPair(t)
	rx = newEnd(t, b, &uc, &xsk.SocketConfig{XDPFlags: m.flags})
	tx = newEnd(t, a, &uc, &xsk.SocketConfig{InhibitProgLoad: true})
	return tx, rx
}

// minPacket is the shortest packet that carries fill's number.
const minPacket = 18

// fillPacket makes b a broadcast frame that carries number in every byte.
func fillPacket(b []byte, number int) {
	for i := range b {
		b[i] = byte(number + i)
	}
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	binary.BigEndian.PutUint32(b[14:], uint32(number))
}

// number is the number in a packet made by fillPacket; it checks every byte.
func number(t testing.TB, b []byte) int {
	t.Helper()
	require.GreaterOrEqual(t, len(b), minPacket)
	n := int(binary.BigEndian.Uint32(b[14:]))
	want := make([]byte, len(b))
	fillPacket(want, n)
	require.Equal(t, want, b)
	return n
}

// send queues packets number first, first+1, ... of the given length in frames
// of the end, and waits until all are completed.
func (e *end) send(t testing.TB, first, n, length int) {
	t.Helper()
	descs := make([]xsk.Desc, n)
	for i := range descs {
		descs[i] = xsk.Desc{Addr: e.frame(i), Len: uint32(length)}
		fillPacket(e.umem.Bytes(descs[i]), first+i)
	}
	e.transmit(t, descs)
}

// transmit sends descs and reaps as many completions.
func (e *end) transmit(t testing.TB, descs []xsk.Desc) {
	t.Helper()
	done := make([]xsk.Addr, len(descs))
	queued, completed := 0, 0
	within(t, 5*time.Second, func() bool {
		q, c, err := e.TxBurst(descs[queued:], done[completed:])
		if !errors.Is(err, syscall.EBUSY) {
			require.NoError(t, err)
		}
		queued, completed = queued+q, completed+c
		return completed == len(descs)
	})
}

// receive takes n packets, in order of arrival.
func (e *end) receive(t testing.TB, n int) []xsk.Desc {
	t.Helper()
	descs, got := make([]xsk.Desc, n), 0
	within(t, 5*time.Second, func() bool {
		_, r, err := e.RxBurst(nil, descs[got:])
		require.NoError(t, err)
		got += r
		return got == n
	})
	return descs
}

// spin waits for d, exactly: time.Sleep takes a millisecond at least.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

// quiet asserts that no packet comes.
func (e *end) quiet(t testing.TB) {
	t.Helper()
	ready, err := e.PollRx(50 * time.Millisecond)
	require.NoError(t, err)
	assert.False(t, ready, "an unexpected packet")
}

func (e *end) stats(t testing.TB) xsk.Stats {
	t.Helper()
	s, err := e.Stats()
	require.NoError(t, err)
	return s
}

// within calls done until it is true, and fails t after limit.
func within(t testing.TB, limit time.Duration, done func() bool) {
	t.Helper()
	limit = testns.Patience(limit)
	for start := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > limit {
			require.FailNow(t, "not done in time")
		}
	}
}

// without runs f on a thread that lacks the capabilities.
func without(t testing.TB, f func(), capabilities ...int) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if !assert.NoError(t, unix.Capget(&header, &data[0])) {
			return
		}
		for _, c := range capabilities {
			data[c/32].Effective &^= 1 << (c % 32)
		}
		if assert.NoError(t, unix.Capset(&header, &data[0])) {
			f()
		}
	}()
	<-done
}
