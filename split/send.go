package split

import (
	"os"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/closed"
)

// Send queues frames to be sent, waits for room if it must, but not after Run has ended,
// and returns how many it took, by the rules of Queue.Send: fewer than all only with
// an error. A received frame goes out of the Queue it came from, or of one on the same Umem; what Alloc
// gave goes out of the Member's own Queue.
func (m *Member) Send(frames []xsk.Frame) (int, error) {
	for total, nap := 0, shortNap; ; nap = min(2*nap, longNap) {
		n, err := m.trySend(frames[total:])
		total += n
		if total == len(frames) || err != nil {
			return total, m.fail("send", err)
		}
		if n > 0 {
			nap = shortNap
		}
		if err := m.nap(nap); err != nil {
			return total, m.fail("send", err)
		}
	}
}

// TrySend is Send without waiting: a full ring is no error. Without frames it takes
// back what was sent before.
func (m *Member) TrySend(frames []xsk.Frame) (int, error) {
	n, err := m.trySend(frames)
	return n, m.fail("send", err)
}

func (m *Member) trySend(frames []xsk.Frame) (int, error) {
	if m.closed.Load() {
		return 0, closed.Err
	}
	if len(frames) == 0 {
		for _, q := range m.queues {
			if _, err := q.TrySend(nil); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}
	for total := 0; ; {
		u, n := frames[total].Umem(), 1
		for total+n < len(frames) && frames[total+n].Umem() == u {
			n++
		}
		q := m.queueOf(u)
		if q == nil {
			q = m.queues[0] // which says what is wrong
		}
		k, err := q.TrySend(frames[total : total+n])
		m.sent.Add(uint64(k))
		if total += k; total == len(frames) || k < n || err != nil {
			return total, err
		}
	}
}

// queueOf is the Queue to send frames of u on.
func (m *Member) queueOf(u *xsk.Umem) *xsk.Queue {
	for _, q := range m.queues {
		if q.Umem() == u {
			return q
		}
	}
	return nil
}

// Alloc takes empty frames of the Member's own Queue and returns how many: at least
// one, for it waits for one until the write deadline, or the end of Run, whose error it
// answers. They are the program's until it sends or frees them.
func (m *Member) Alloc(frames []xsk.Frame) (int, error) {
	for nap := shortNap; ; nap = min(2*nap, longNap) {
		n, err := m.tryAlloc(frames)
		if n > 0 || err != nil || len(frames) == 0 {
			return n, m.fail("alloc", err)
		}
		if err := m.nap(nap); err != nil {
			return 0, m.fail("alloc", err)
		}
	}
}

// TryAlloc is Alloc without waiting: no frame is no error.
func (m *Member) TryAlloc(frames []xsk.Frame) (int, error) {
	n, err := m.tryAlloc(frames)
	return n, m.fail("alloc", err)
}

func (m *Member) tryAlloc(frames []xsk.Frame) (int, error) {
	if m.closed.Load() {
		return 0, closed.Err
	}
	return m.queues[0].TryAlloc(frames)
}

// SetWriteDeadline sets when Send and Alloc give up waiting, also those that wait
// now; the zero Time means never.
func (m *Member) SetWriteDeadline(t time.Time) error {
	if m.closed.Load() {
		return m.fail("set deadline of", closed.Err)
	}
	m.writeDeadline.Store(&t)
	return nil
}

// A Member must not wait in its Queue, which others use: Close of the one would not
// wake it. So it naps, as Queue.Alloc does.
const (
	shortNap = 20 * time.Microsecond
	longNap  = time.Millisecond
)

func (m *Member) nap(d time.Duration) error {
	if until := m.writeDeadline.Load(); until != nil && !until.IsZero() && !time.Now().Before(*until) {
		return os.ErrDeadlineExceeded
	}
	m.in.mu.Lock()
	err := m.in.err // of Run, perhaps: a Queue that nobody receives from does not notice that it is gone
	m.in.mu.Unlock()
	if err == nil {
		time.Sleep(d)
	}
	return err
}
