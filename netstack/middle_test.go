package netstack_test

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A middle host forwards between two ends as a bad network does. The kernel here has
// no netem.
type middle struct {
	loss    float64       // of packets, 0 to 1
	delay   time.Duration // of each
	reorder float64       // of packets that come so much later
	burst   int           // most packets to be lost in a row, once, within blackout
	after   int           // so many

	mu      sync.Mutex
	random  *rand.Rand
	packets int
	lost    int       // of the burst
	until   time.Time // the burst's end
}

// blackout is how long a burst may last: who has less than that in flight would
// spend the rest on retransmissions, each twice as late as the one before.
const blackout = 200 * time.Millisecond

// forward takes what comes on one queue to the other, until it is closed.
func (m *middle) forward(from, to *xsk.Queue) {
	frames := make([]xsk.Frame, 64)
	type packet struct {
		at   time.Time
		data []byte
	}
	line := make(chan packet, 1<<14)
	defer close(line)
	go func() {
		for p := range line {
			time.Sleep(time.Until(p.at))
			m.send(to, p.data)
		}
	}()
	for {
		n, err := from.Receive(frames)
		if err != nil {
			return
		}
		for i := range frames[:n] {
			drop, late := m.fate()
			data := append([]byte(nil), frames[i].Data...)
			switch {
			case drop:
			case late:
				time.AfterFunc(m.delay+2*time.Millisecond, func() { m.send(to, data) })
			case m.delay > 0:
				line <- packet{time.Now().Add(m.delay), data}
			default:
				m.send(to, data)
			}
		}
	}
}

func (m *middle) fate() (drop, late bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.packets++
	if m.lost < m.burst && m.packets > m.after {
		if m.until.IsZero() {
			m.until = time.Now().Add(blackout)
		}
		if time.Now().Before(m.until) {
			m.lost++
			return true, false
		}
	}
	return m.random.Float64() < m.loss, m.random.Float64() < m.reorder
}

func (m *middle) send(to *xsk.Queue, data []byte) {
	var one [1]xsk.Frame
	if n, err := to.Alloc(one[:]); n == 0 || err != nil {
		return
	}
	f := &one[0]
	f.Data = append(f.Data, data...)
	if n, _ := to.Send(one[:]); n == 0 {
		f.Free()
	}
}

// through makes two Hosts with m between them.
func (m *middle) through(t *testing.T) (a, b *netstack.Host) {
	t.Helper()
	near, left := testns.Veth{}.Make(t)
	far, right := testns.Veth{}.Make(t)
	m.join(t, left, right)
	// The ends have MACs of their own; what a switch does is done by asking for all.
	a = open(t, near, &netstack.Config{Addresses: prefixes(ours4, ours6)})
	b = open(t, far, &netstack.Config{Addresses: prefixes(second4, second6)})
	return a, b
}

func TestTransferOverABadNetwork(t *testing.T) {
	testns.Kernel(t)
	for name, m := range map[string]*middle{
		"loss":                    {loss: 0.01},
		"loss, delay and reorder": {loss: 0.003, delay: 2 * time.Millisecond, reorder: 0.01},
		"reorder":                 {reorder: 0.02},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := m.through(t)
			transfer(t, a.Listen, net.JoinHostPort(ours4, "0"), fromHost(t, b), 3<<20, true)
			transfer(t, a.Listen, net.JoinHostPort(ours6, "0"), fromHost(t, b), 1<<20, true)
		})
	}
	t.Run("a burst of 300", func(t *testing.T) {
		m := &middle{burst: 300, after: 2000}
		a, b := m.through(t)
		many(t, a, b, 8, 2<<20)
		m.mu.Lock()
		defer m.mu.Unlock()
		assert.Greater(t, m.lost, 8)
	})
}
