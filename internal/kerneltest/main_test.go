package kerneltest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/aquasecurity/libbpfgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) {
	_ = xsk.SetLibbpfLogger(func(xsk.LogLevel, string) {}) // libxdp tries what fails here
	libbpfgo.SetLoggerCbs(libbpfgo.Callbacks{Log: func(int, string) {}})
	if os.Getenv(helperTask) != "" {
		helper(os.Getenv(helperTask), strings.Split(os.Getenv(helperInterfaces), ","), os.Getenv(helperMode))
	}
	testns.Main(m)
}

// A mode is a place where the kernel runs XDP programs.
type mode struct {
	name string
	bpf  bpf.Mode
	xdp  xsk.XDPFlags // for libxdp, and bpf(2) takes the same
}

var modes = []mode{{"generic", bpf.Generic, xsk.XDPSKBMode}, {"native", bpf.Native, xsk.XDPDrvMode}}

// inEachMode runs f in generic and in native mode.
func inEachMode(t *testing.T, f func(t *testing.T, m mode)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			testns.Kernel(t)
			f(t, m)
		})
	}
}

// inBothModes is inEachMode at the same time.
func inBothModes(t *testing.T, f func(t *testing.T, m mode)) {
	inEachMode(t, func(t *testing.T, m mode) {
		t.Parallel()
		f(t, m)
	})
}

// attach puts a program that redirects everything on the interface, until t
// ends.
func attach(t testing.TB, ifname string, m mode) *bpf.Program {
	t.Helper()
	p, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}, Mode: m.bpf})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

var small = xsk.UmemConfig{Frames: 512, FrameSize: 2048}

// config describes a small Queue that receives by p; nil p for one that only
// sends.
func config(p *bpf.Program) xsk.Config {
	c := xsk.Config{UmemConfig: small}
	if c.SocketConfig.TxOnly = p == nil; p != nil {
		c.XSKMap = p
	}
	return c
}

func open(t testing.TB, ifname string, queue int, c xsk.Config) *xsk.Queue {
	t.Helper()
	q, err := xsk.Open(ifname, queue, &c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	return q
}

// pair opens a Queue on each end of a veth pair, with c's sizes and flags.
func pair(t testing.TB, m mode, c xsk.Config) (a, b *xsk.Queue) {
	t.Helper()
	nameA, nameB := testns.Veth{}.Make(t)
	if c.UmemConfig.Frames == 0 {
		c.UmemConfig = small
	}
	c.XSKMap = attach(t, nameA, m)
	a = open(t, nameA, 0, c)
	c.XSKMap = attach(t, nameB, m)
	return a, open(t, nameB, 0, c)
}

// name is the interface of q.
func name(q *xsk.Queue) string {
	n, _, _ := strings.Cut(q.String(), " ")
	return n
}

// settled ends the loans, waits until everything is sent, and asserts that no
// frame is lost: all are free, with the kernel to receive into, or one of the
// user's that the caller has.
func settled(t testing.TB, users int, queues ...*xsk.Queue) {
	t.Helper()
	busy := queues[0]
	within(t, 5*time.Second, func() bool {
		for _, q := range queues {
			_, _ = q.TrySend(nil) // reaps
			if q.Stats().Frames.Loan > 0 {
				if _, err := q.TryReceive(nil); err != nil && !errors.Is(err, syscall.EINVAL) {
					require.ErrorIs(t, err, syscall.ENODEV)
				}
			}
		}
		for _, q := range queues {
			if f := q.Stats().Frames; f.Tx > 0 || f.Loan > 0 {
				busy = q
				return false
			}
		}
		return true
	}, "%v", busy)
	for _, q := range queues {
		conserved(t, q)
		assert.Equal(t, users, q.Stats().Frames.User, "%v: %v", q, q.Stats())
	}
}

// conserved asserts that every frame has an owner.
func conserved(t testing.TB, q *xsk.Queue) {
	t.Helper()
	assert.Equal(t, q.Umem().Frames(), q.Stats().Frames.Total(), "%v: %v", q, q.Stats())
}

// within calls done until it is true, and fails t after limit.
func within(t testing.TB, limit time.Duration, done func() bool, about ...any) {
	t.Helper()
	for start := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > limit {
			require.FailNow(t, "not done in time", about...)
		}
	}
}

// patience is more than a loaded machine needs for anything.
var patience = testns.Patience(10 * time.Second)

// soon fails t if f has not returned in a while, instead of hanging.
func soon(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, what+" hangs")
	}
}

// fill makes b a broadcast packet that carries number in every byte.
func fill(b []byte, number int) {
	for i := range b {
		b[i] = byte(number + i)
	}
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	binary.BigEndian.PutUint32(b[14:], uint32(number))
}

// number is the number in a packet made by fill, -1 if any byte is wrong.
func number(b []byte) int {
	if len(b) < 18 {
		return -1
	}
	n := int(binary.BigEndian.Uint32(b[14:]))
	if string(b[:14]) != "\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x88\xb5" {
		return -1
	}
	for i := 18; i < len(b); i++ {
		if b[i] != byte(n+i) {
			return -1
		}
	}
	return n
}

// write allocates packets number first, first+1, ...
func write(t testing.TB, q *xsk.Queue, first, n, length int) []xsk.Frame {
	t.Helper()
	frames := make([]xsk.Frame, n)
	require.NoError(t, q.SetWriteDeadline(time.Now().Add(patience)))
	for got := 0; got < n; {
		k, err := q.Alloc(frames[got:])
		require.NoError(t, err)
		got += k
	}
	require.NoError(t, q.SetWriteDeadline(time.Time{}))
	for i := range frames {
		f := &frames[i]
		f.Data = f.Data[:length]
		fill(f.Data, first+i)
	}
	return frames
}

func send(t testing.TB, q *xsk.Queue, first, n, length int) {
	t.Helper()
	for n > 0 {
		burst := min(n, 64)
		sent, err := q.Send(write(t, q, first, burst, length))
		require.NoError(t, err)
		require.Equal(t, burst, sent)
		first, n = first+burst, n-burst
	}
}

// expect receives packets number first, first+1, ...
func expect(t testing.TB, q *xsk.Queue, first, n int) {
	t.Helper()
	each(t, q, n, func(i int, f *xsk.Frame) { require.Equal(t, first+i, number(f.Data)) })
}

// each receives n packets and hands them to f.
func each(t testing.TB, q *xsk.Queue, n int, f func(i int, f *xsk.Frame)) {
	t.Helper()
	frames := make([]xsk.Frame, 64)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(patience)))
	for got := 0; got < n; {
		k, err := q.Receive(frames[:min(n-got, len(frames))])
		require.NoError(t, err, "%v", q.Stats())
		for i := range frames[:k] {
			f(got+i, &frames[i])
		}
		got += k
	}
	require.NoError(t, q.SetReadDeadline(time.Time{}))
}

// drain receives until nothing has come for a while, and returns how many.
func drain(t testing.TB, q *xsk.Queue) int {
	t.Helper()
	frames, total := make([]xsk.Frame, 64), 0
	for {
		require.NoError(t, q.SetReadDeadline(time.Now().Add(200*time.Millisecond)))
		n, err := q.Receive(frames)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			require.NoError(t, q.SetReadDeadline(time.Time{}))
			return total
		}
		require.NoError(t, err)
		for i := range frames[:n] {
			require.GreaterOrEqual(t, number(frames[i].Data), 0)
		}
		total += n
	}
}

// attached is what ip(8) says of the interface's XDP program, "" if it has
// none.
func attached(t testing.TB, ifname string) string {
	t.Helper()
	out, err := exec.Command("ip", "-d", "link", "show", "dev", ifname).CombinedOutput()
	require.NoError(t, err, "%s", out)
	if _, program, ok := strings.Cut(string(out), "prog/xdp"); ok {
		line, _, _ := strings.Cut(program, "\n")
		return line
	}
	return ""
}

// The environment that makes the test binary a helper, in the same namespaces.
const (
	helperTask       = "XSK_KERNELTEST_HELPER"
	helperInterfaces = "XSK_KERNELTEST_INTERFACES"
	helperMode       = "XSK_KERNELTEST_MODE"
)

// start starts a helper and returns when it is ready.
func start(t testing.TB, task string, m mode, interfaces ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperTask+"="+task, helperMode+"="+m.name, helperInterfaces+"="+strings.Join(interfaces, ","))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return cmd
}

// kill kills the helper and returns when it is no more.
func kill(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
}

// helper does a task for ever.
func helper(task string, interfaces []string, modeName string) {
	m := modes[0]
	if modeName == modes[1].name {
		m = modes[1]
	}
	var err error
	switch task {
	case "forward":
		err = forwardForever(interfaces[0], interfaces[1], m)
	case "libxdp":
		c := xsk.Config{UmemConfig: small, LibxdpProgram: true}
		c.SocketConfig.XDPFlags = m.xdp
		if _, err = xsk.Open(interfaces[0], 0, &c); err == nil {
			fmt.Println("ready")
			select {}
		}
	default:
		err = errors.New("no such task: " + task)
	}
	fmt.Println(err)
	os.Exit(1)
}

// fromKernel sends n packets of a length that no frame of a small Umem holds.
func fromKernel(t testing.TB, ifname string, length, n int) {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	packet := make([]byte, length)
	for i := range n {
		fill(packet, i)
		require.NoError(t, unix.Sendto(fd, packet, 0, &unix.SockaddrLinklayer{Ifindex: device.Index}))
	}
}

func uintptrOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// wider is b with length n, whatever its capacity.
func wider(b []byte, n int) []byte { return unsafe.Slice(unsafe.SliceData(b), n) }

// before is b and n bytes in front of it.
func before(b []byte, n int) []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(unsafe.SliceData(b)), -n)), len(b)+n)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
