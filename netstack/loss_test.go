package netstack_test

import (
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// join has m forward between two interfaces.
func (m *middle) join(t testing.TB, left, right string) {
	t.Helper()
	m.random = rand.New(rand.NewPCG(3, 4))
	var queues []*xsk.Queue
	for _, ifname := range []string{left, right} {
		program, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}})
		require.NoError(t, err)
		q, err := xsk.Open(ifname, 0, &xsk.Config{XSKMap: program})
		require.NoError(t, err)
		queues = append(queues, q)
		t.Cleanup(func() { assert.NoError(t, q.Close()); assert.NoError(t, program.Close()) })
	}
	go m.forward(queues[0], queues[1])
	go m.forward(queues[1], queues[0])
}

// toPeer makes a Host and a kernel with m between them.
func (m *middle) toPeer(t testing.TB) (*netstack.Host, *testns.Peer) {
	t.Helper()
	near, left := testns.Veth{}.Make(t)
	p := testns.MakePeer(t)
	m.join(t, left, p.Near)
	return open(t, near, &netstack.Config{Addresses: prefixes(ours4)}), p
}

// A dialTo connects to an address by some stack.
type dialTo func(address string) (net.Conn, error)

func byHost(t testing.TB, h *netstack.Host) dialTo {
	return func(address string) (net.Conn, error) { return h.Dial(soon(t), "tcp", address) }
}

// send sends zeros to a reader that reads to the end, and returns how long that took.
func send(t testing.TB, dial dialTo, l net.Listener, size int) time.Duration {
	t.Helper()
	got := make(chan int64, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			got <- -1
			return
		}
		defer conn.Close()
		n, _ := io.Copy(io.Discard, conn)
		got <- n
	}()
	conn, err := dial(l.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	begin := time.Now()
	for b := make([]byte, 64<<10); size > 0; size -= len(b) {
		_, err = conn.Write(b)
		require.NoError(t, err)
	}
	require.NoError(t, conn.(interface{ CloseWrite() error }).CloseWrite())
	require.Positive(t, <-got)
	return time.Since(begin)
}

func TestOnePercentLossIsNoTimeout(t *testing.T) {
	testns.Kernel(t)
	m := &middle{loss: 0.01}
	h, p := m.toPeer(t)
	l, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	defer l.Close()
	var total time.Duration
	const runs = 10
	for range runs {
		total += send(t, byHost(t, h), l, 4<<20)
	}
	stats := h.Stack.Stats().TCP
	t.Logf("%v a transfer, %d packets sent again, %d timeouts", total/runs, stats.Retransmits.Value(), stats.Timeouts.Value())
	assert.NotZero(t, stats.Retransmits.Value())
	// None is the aim, and two in 90 transfers are what there are: a packet that is lost,
	// and again when it is sent again, is a timeout with RACK, too. More of them on a busy
	// machine; without the pace there were 49 to 84.
	assert.LessOrEqual(t, stats.Timeouts.Value(), uint64(10))
	assert.Less(t, total/runs, testns.Patience(2*time.Second))
}

func TestReorderingHoldsNothingUp(t *testing.T) {
	testns.Kernel(t)
	m := &middle{reorder: 0.02}
	h, p := m.toPeer(t)
	l, err := onPeer(p)("tcp", peer4+":0")
	require.NoError(t, err)
	defer l.Close()
	var most time.Duration
	for range 6 {
		most = max(most, send(t, byHost(t, h), l, 4<<20))
	}
	t.Logf("%d packets sent again, %d timeouts", h.Stack.Stats().TCP.Retransmits.Value(), h.Stack.Stats().TCP.Timeouts.Value())
	assert.Less(t, most, testns.Patience(10*time.Second), "who stands still does so for good")
}

func TestThePaceOfAConnectionIsFound(t *testing.T) {
	assert.True(t, netstack.PaceKnown(), "gVisor keeps what pace sets elsewhere, or has another type for it")
}
