package xsk

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A Queue receives and sends packets on one queue of one interface. It owns the
// steps between (fill, poll, receive, recycle, send, kick, complete), and knows
// the owner of every frame, so that a frame can be neither lost nor used by two.
//
// Receive belongs to one goroutine at a time. Send, Alloc, Free and everything
// else may be called from any; they take turns per burst. Waiting holds no
// thread.
type Queue struct {
	name     string // "eth0 queue 3", for errors
	ifname   string
	queue    int
	sock     *Socket
	umem     *Umem
	pool     *pool
	rxWait   *waiter
	txWait   *waiter
	shard    *shard
	rxFrames int
	linger   time.Duration
	lingerAt int
	ownUmem  bool
	multi    bool
	rxOnly   bool
	txOnly   bool

	ready   atomic.Bool // open is through
	closing sync.Mutex
	closed  atomic.Bool

	rx receiver
	tx sender

	stats queueCounters
	last  QueueStats // the counts at Close
}

// SetDeadline sets the read and the write deadline. The error of this and of the two
// below is os.ErrClosed after Close.
func (q *Queue) SetDeadline(t time.Time) error {
	if err := q.SetReadDeadline(t); err != nil {
		return err
	}
	return q.SetWriteDeadline(t)
}

// SetReadDeadline sets when Receive gives up waiting, also one that waits now;
// the zero Time means never. While packets come quickly it may take 20 ms to
// notice that the deadline was changed. Under load Receive does not wait: a loop that is to
// end looks for that itself, or another goroutine closes the Queue.
func (q *Queue) SetReadDeadline(t time.Time) error {
	return q.fail("set deadline of", q.rxWait.setDeadline(t))
}

// SetWriteDeadline sets when Send and Alloc give up waiting, also those that
// wait now; the zero Time means never.
func (q *Queue) SetWriteDeadline(t time.Time) error {
	return q.fail("set deadline of", q.txWait.setDeadline(t))
}

// Socket is the Queue's socket, to look at; its rings and bursts belong to the
// Queue.
func (q *Queue) Socket() *Socket { return q.sock }

// RxFrames is the most frames that the kernel has at a time to receive into
// (Config.RxFrames): the others of the Umem are for sending and for those that the
// program keeps.
func (q *Queue) RxFrames() int { return q.rxFrames }

// Umem is the memory that the Queue's frames are in.
func (q *Queue) Umem() *Umem { return q.umem }

// Interface is the name of the interface that the Queue was opened on, as in "eth0".
func (q *Queue) Interface() string { return q.ifname }

// QueueID is the number of the interface's queue, counted from 0.
func (q *Queue) QueueID() int { return q.queue }

// String says what was bound, as in
// "eth0 queue 3: zero copy, rx 2048, tx 2048, 4096 frames of 4096 bytes".
func (q *Queue) String() string { return q.sock.String() }

// feed makes the receiving goroutine look for free frames to post.
func (q *Queue) feed() {
	if q.ready.Load() {
		q.rxWait.nudge()
	}
}

// Close ends the kernel's use of the frames at once, and wakes every goroutine
// that waits in the Queue; they and all later calls get os.ErrClosed. Frames
// that the program has stay readable and writable until it frees them; lent
// ones until the next Receive, which answers os.ErrClosed. The memory goes when
// the last frame has come back, that of a caller's Umem when it is closed too.
// What is in the TX ring is not sent any more. Close may be called again, and
// then does nothing. It fails with EBUSY, and is to be called again, while the
// program has a Socket or Queue of its own on the memory of this one.
func (q *Queue) Close() error {
	q.closing.Lock()
	defer q.closing.Unlock()
	if q.closed.Load() {
		if q.ownUmem { // unless a Socket of the program's was in the way
			return q.umem.Close()
		}
		return nil
	}
	q.last = q.Stats()
	q.closed.Store(true)
	letGo := q.sock.offQueue()
	err := q.sock.Close() // returns when nobody waits or is in a burst
	q.rx.mu.Lock()
	defer q.rx.mu.Unlock()
	q.tx.mu.Lock()
	defer q.tx.mu.Unlock()
	if q.pool.leave(q.shard, letGo); letGo {
		q.pool.reclaim(q.shard.key) // of those before on the same queue, too
		q.pool.cameBack(false)
	}
	if q.ownUmem {
		err = errors.Join(err, q.umem.Close())
	}
	return err
}

// fail wraps err as "xsk: <verb> eth0 queue 3: <cause>".
func (q *Queue) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	return failed(verb+" "+q.name, err)
}
