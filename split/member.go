package split

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-xsk/xsk"
)

// A Member is one listener of a Splitter. Its methods are those of xsk.Queue, with
// the same rules: Receive lends packets until the next Receive, Keep and Free end a
// loan, Alloc gives empty frames, Send takes frames away.
//
// Receive belongs to one goroutine at a time; everything else may be called from
// any. A Member that keeps frames for long keeps them from all: see
// Queue.Receive on ENOBUFS, and Splitter.Run.
type Member struct {
	s       *Splitter // nil for a Tap of its own
	name    string
	in      inbox
	queues  []*xsk.Queue // to send on, its own first
	closing sync.Once
	closed  atomic.Bool

	rx     sync.Mutex // held by who receives
	loan   xsk.Loan
	refill func() // of a Tap

	writeDeadline atomic.Pointer[time.Time]
	sent          atomic.Uint64
}

// newMember makes listener i, which allocates from and sends on another Queue than
// the listeners beside it, where there are several.
func newMember(s *Splitter, name string, i, depth int) *Member {
	m := new(Member)
	m.init(s, name, s.queues[i%len(s.queues)], depth)
	return m
}

func (m *Member) init(s *Splitter, name string, own *xsk.Queue, depth int) {
	m.s, m.name = s, name
	m.queues = []*xsk.Queue{own}
	if s != nil {
		for _, q := range s.queues { // one for each Umem
			if m.queueOf(q.Umem()) == nil {
				m.queues = append(m.queues, q)
			}
		}
	}
	m.in.init(depth)
}

// Receive takes packets into frames and returns how many: at least one, for it waits
// until there is one, or the read deadline passes (os.ErrDeadlineExceeded), or the
// Member is closed (os.ErrClosed), or Run has ended and nothing is left: then it
// answers what Run did. The frames, Depth at most, are lent until the next Receive;
// they may be of any of the Splitter's Queues.
func (m *Member) Receive(frames []xsk.Frame) (int, error) {
	m.rx.Lock()
	defer m.rx.Unlock()
	for {
		n, err := m.receive(frames)
		if n > 0 || err != nil || len(frames) == 0 {
			return n, m.fail("receive", err)
		}
		if err := m.in.wait(); err != nil {
			return 0, m.fail("receive", err)
		}
	}
}

// TryReceive is Receive without waiting: no packet is no error.
func (m *Member) TryReceive(frames []xsk.Frame) (int, error) {
	m.rx.Lock()
	defer m.rx.Unlock()
	n, err := m.receive(frames)
	return n, m.fail("receive", err)
}

func (m *Member) receive(frames []xsk.Frame) (int, error) {
	n, err := m.in.take(frames)
	m.loan.Lend(frames[:n])
	if m.refill != nil {
		m.refill()
	}
	return n, err
}

// SetDeadline sets the read and the write deadline.
func (m *Member) SetDeadline(t time.Time) error {
	if err := m.SetReadDeadline(t); err != nil {
		return err
	}
	return m.SetWriteDeadline(t)
}

// SetReadDeadline sets when Receive gives up waiting, also one that waits now; the
// zero Time means never. It counts only when there is nothing to receive.
func (m *Member) SetReadDeadline(t time.Time) error {
	return m.fail("set deadline of", m.in.setDeadline(t))
}

// Close ends the Member: what waits for it is dropped, and counted, and whoever
// waits in it gets os.ErrClosed, as do all later calls. Packets that would have been
// its are given to others from then on: those of a FanOut to its other Members,
// those of a Listen to the next that they match. Lent frames stay the program's until
// the next Receive, kept ones until they are freed. Close may be called again. The
// Splitter and its Queues stay open.
func (m *Member) Close() error {
	m.closing.Do(func() {
		m.closed.Store(true)
		if m.s != nil {
			m.s.remove(m)
		}
		m.in.close()
	})
	return nil
}

// Stats are the counts of a Member since it was made.
type Stats struct {
	RxPackets uint64 // received, and their bytes
	RxBytes   uint64
	Dropped   uint64 // found the inbox full, or were in it at Close
	Waiting   int    // in the inbox now
	TxPackets uint64 // queued to be sent
}

// Stats returns the counts. Dropped, RxPackets and Waiting add up to the packets
// that were for the Member.
func (m *Member) Stats() Stats {
	m.in.mu.Lock()
	defer m.in.mu.Unlock()
	return Stats{m.in.packets, m.in.bytes, m.in.dropped, m.in.n, m.sent.Load()}
}

// String prints the counts on a line.
func (s Stats) String() string {
	text := fmt.Sprintf("rx %d packets, %d bytes, %d waiting; tx %d packets", s.RxPackets, s.RxBytes, s.Waiting, s.TxPackets)
	if s.Dropped > 0 {
		text += fmt.Sprintf("; dropped %d: receive more often, or raise Depth", s.Dropped)
	}
	return text
}

// String is the Member's name.
func (m *Member) String() string { return m.name }

// fail wraps err as "split: <verb> dns of eth0 queue 3: <cause>".
func (m *Member) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	if m.s != nil {
		return fmt.Errorf("split: %s %s of %s: %w", verb, m.name, m.s.name, err)
	}
	return fmt.Errorf("split: %s %s: %w", verb, m.name, err)
}
