package split_test

import (
	"encoding/binary"
	"flag"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/split"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if !testns.Inside() {
		// An Example cannot skip itself, and eth0 here would be the machine's own.
		skip := flag.Lookup("test.skip").Value
		_ = skip.Set(strings.TrimSuffix("^Example|"+skip.String(), "|"))
	}
	testns.Main(m, plug)
}

// inEachMode runs f in generic and in native mode.
func inEachMode(t *testing.T, f func(t *testing.T, mode bpf.Mode)) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			testns.Kernel(t)
			f(t, mode)
		})
	}
}

// A link is a veth pair: Queues to receive on one end, and Queues that send to them.
type link struct {
	splitter  *split.Splitter // of run
	near, far []*xsk.Queue
	name      string // of the near end
	next      int    // number of the next packet
	received  atomic.Int64
}

// newLink opens so many queues on both ends of a veth pair, and asserts at the end
// that every frame has come back.
func newLink(t testing.TB, mode bpf.Mode, queues int, cfg xsk.Config) *link {
	t.Helper()
	a, b := testns.Veth{Queues: queues}.Make(t)
	l := &link{name: a}
	program, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	back, err := bpf.Attach(b, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, back.Close()) })
	if cfg.UmemConfig.Frames == 0 {
		cfg.UmemConfig = xsk.UmemConfig{Frames: 2048, FrameSize: 2048}
		cfg.RxFrames = 512
	}
	open := func(name string, program xsk.XSKMap) []*xsk.Queue {
		c := cfg
		c.XSKMap = program
		all, err := xsk.OpenAll(name, &c)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, all.Close()) })
		return all
	}
	l.near, l.far = open(a, program), open(b, back)
	return l
}

// settled asserts that every frame of the near Queues has come back.
func (l *link) settled(t testing.TB) {
	t.Helper()
	within(t, func() bool {
		for _, q := range l.near {
			_, err := q.TryReceive(nil) // ends the loan
			require.NoError(t, err)
			_, err = q.TrySend(nil)
			require.NoError(t, err)
			if f := q.Stats().Frames; f.Free+f.Rx != q.Umem().Frames() {
				return false
			}
		}
		return true
	})
}

// run makes a Splitter of the near Queues that runs until t ends.
func (l *link) run(t testing.TB) *split.Splitter {
	t.Helper()
	s, err := split.New(l.near...)
	require.NoError(t, err)
	l.splitter = s
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		assert.ErrorIs(t, <-ended, net.ErrClosed)
		l.settled(t)
	})
	return s
}

// A flow is what the packets of one have in common.
type flow struct{ from, to uint16 }

const numberAt = 14 + 20 + 8

// udp makes a numbered packet of a flow: from port to port, and address 10.0.0.<port>.
func udp(b []byte, f flow, number int) []byte {
	b = append(b[:0], 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0)
	b = append(b, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, byte(f.from), 10, 0, 0, byte(f.to))
	b = binary.BigEndian.AppendUint16(b, f.from)
	b = binary.BigEndian.AppendUint16(b, f.to)
	b = append(b, 0, 26, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(number))
	return append(b, make([]byte, 60-len(b))...)
}

// parse is what udp was given.
func parse(t testing.TB, b []byte) (flow, int) {
	f := flow{binary.BigEndian.Uint16(b[34:]), binary.BigEndian.Uint16(b[36:])}
	n := int(binary.BigEndian.Uint64(b[numberAt:]))
	assert.Equal(t, udp(nil, f, n), b)
	return f, n
}

// to matches packets to a port.
func to(port uint16) func([]byte) bool {
	return func(b []byte) bool { return binary.BigEndian.Uint16(b[36:]) == port }
}

// send sends a packet of each flow, the next numbers, from one of the far Queues.
func (l *link) send(t testing.TB, queue int, flows ...flow) {
	t.Helper()
	q := l.far[queue]
	frames, got := make([]xsk.Frame, len(flows)), 0
	for got < len(frames) {
		n, err := q.Alloc(frames[got:])
		require.NoError(t, err)
		got += n
	}
	for i := range frames {
		f := &frames[i]
		f.Data = udp(f.Data, flows[i], l.next)
		l.next++
	}
	_, err := q.Send(frames)
	require.NoError(t, err)
}

// window waits until all packets but so many have been received.
func (l *link) window(t testing.TB, open int) {
	t.Helper()
	done := func() bool {
		if l.next-int(l.received.Load()) <= open {
			return true
		}
		for _, q := range l.far { // what the kernel had no memory for is in the ring until the next kick
			_, _ = q.TrySend(nil)
		}
		return false
	}
	if waited(done) {
		return
	}
	for _, q := range slices.Concat(l.far, l.near) { // who lost them?
		t.Logf("%v: %v", q, q.Stats())
	}
	t.Log(l.splitter)
	require.FailNow(t, "packets are missing", "%d were sent, %d came, and %d may be missing", l.next, l.received.Load(), open)
}

// A listener is what a reader of a Member saw.
type listener struct {
	numbers []int
	flows   map[flow]int
	done    chan struct{}
}

// receiver is what Member and Tap have in common.
type receiver interface {
	Receive([]xsk.Frame) (int, error)
}

// listen reads a Member until it is closed.
func (l *link) listen(t testing.TB, m receiver, counts bool) *listener {
	r := &listener{flows: map[flow]int{}, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		frames := make([]xsk.Frame, 64)
		for {
			n, err := m.Receive(frames)
			for i := range frames[:n] {
				f, number := parse(t, frames[i].Data)
				r.numbers = append(r.numbers, number)
				r.flows[f]++
			}
			if counts {
				l.received.Add(int64(n))
			}
			if err != nil {
				assert.ErrorIs(t, err, net.ErrClosed)
				return
			}
		}
	}()
	return r
}

// within calls done until it is true, and fails t when it takes too long.
func within(t testing.TB, done func() bool) {
	t.Helper()
	if !waited(done) {
		require.FailNow(t, "not done in time")
	}
}

// waited calls done until it is true, and reports whether that was soon enough.
func waited(done func() bool) bool {
	limit := testns.Patience(20 * time.Second)
	for start := time.Now(); !done(); time.Sleep(100 * time.Microsecond) {
		if time.Since(start) > limit {
			return false
		}
	}
	return true
}

// upTo are the numbers below n that pass.
func upTo(n int, pass func(int) bool) (all []int) {
	for i := range n {
		if pass(i) {
			all = append(all, i)
		}
	}
	return all
}
