package xsk

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config describes a Queue. Only XSKMap, or LibxdpProgram in its place, must be
// set, unless the Queue only sends.
type Config struct {
	Umem          *Umem         // share this memory; nil maps a new one per queue
	UmemConfig    UmemConfig    // of the new memory; ignored when Umem is set
	SocketConfig  SocketConfig  // BindNeedWakeup is always added
	XSKMap        XSKMap        // where the queue registers: bpf.Attach's Program, or a map of your own
	LibxdpProgram bool          // let libxdp attach its own program instead, as C programs do
	RxFrames      int           // most frames the kernel has to receive into; default half the Umem's, FillSize at most
	Linger        time.Duration // gather packets for so long, up to 1 ms, once the first has come; default 0
	LingerBurst   int           // but only while bursts have so many packets on average; default 0: always
	Queues        []int         // OpenAll: these only; default all
}

// Open binds a Queue to a queue of the interface. It never attaches a program
// by itself: without XSKMap it is an error, unless the Queue only sends
// (SocketConfig.TxOnly) or LibxdpProgram is set. The map stays the caller's.
//
// A nil Umem maps memory for this Queue alone, 16 MiB by default, which Close
// returns. A queue that was closed a moment ago is waited for; see NewSocket,
// whose errors are returned too.
//
// Queues on a Umem of the caller's share its frames. RxFrames is the most that
// one takes to receive into; what is over is for sending and for frames that are
// kept. So a Umem needs for each Queue its RxFrames, what it sends at a time
// (TxSize at most), and a burst; one that must not be held up by others has a
// Umem of its own.
//
// On the queue of a Umem's first socket there may be two Queues: one that only
// receives (SocketConfig.RxOnly) and one that only sends (TxOnly). In copy mode that
// is faster where one goroutine sends while another waits for packets, who would have
// to wait for each other on one socket.
//
// The queue that a Umem's first socket was on cannot be opened again for what a
// closed Queue did there as long as the Umem lives, and no queue at all once the
// last one on it was closed: make a new Umem then.
func Open(ifname string, queue int, cfg *Config) (*Queue, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	q, err := open(ifname, queue, &c)
	if err != nil {
		return nil, failed(fmt.Sprintf("open %s queue %d", ifname, queue), err)
	}
	return q, nil
}

func open(ifname string, queue int, c *Config) (*Queue, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	q := &Queue{
		name:     fmt.Sprintf("%s queue %d", ifname, queue),
		ifname:   ifname,
		queue:    queue,
		rxFrames: c.RxFrames,
		linger:   c.Linger,
		lingerAt: c.LingerBurst,
		multi:    c.SocketConfig.BindFlags&BindMultiBuffer != 0,
		rxOnly:   c.SocketConfig.RxOnly,
		txOnly:   c.SocketConfig.TxOnly,
	}
	if err := q.useMemory(c); err != nil {
		return nil, err
	}
	if err := q.bind(c); err != nil {
		q.dropMemory()
		return nil, err
	}
	q.ready.Store(true)
	return q, nil
}

// complete fills in the defaults and checks what a Queue adds to NewUmem's and
// NewSocket's rules.
func (c *Config) complete() error {
	s := &c.SocketConfig
	switch {
	case c.XSKMap != nil && c.LibxdpProgram:
		return invalid("XSKMap and LibxdpProgram exclude each other")
	case c.XSKMap == nil && !c.LibxdpProgram && !s.TxOnly:
		return invalid("nothing would reach the queue: set XSKMap to a bpf.Attach program or a map of your own, or LibxdpProgram")
	case c.LibxdpProgram && s.TxOnly:
		return invalid("LibxdpProgram is for receiving, and the queue only sends")
	case c.XSKMap != nil && c.XSKMap.FileDescriptor() < 0:
		return explained(unix.EBADF, "the XSKMap is closed, its descriptor is %d", c.XSKMap.FileDescriptor())
	case c.Linger < 0 || c.Linger > maxLinger:
		return invalid("Linger %v is not between 0 and %v", c.Linger, maxLinger)
	case c.LingerBurst < 0 || c.LingerBurst > maxBurst:
		return invalid("LingerBurst %d is not between 0 and %d", c.LingerBurst, maxBurst)
	case c.RxFrames < 0:
		return invalid("RxFrames %d is negative", c.RxFrames)
	}
	if err := s.complete(); err != nil {
		return err
	}
	if s.BindFlags&BindMultiBuffer != 0 && s.TxSize < 64 {
		return invalid("TxSize %d is too small for BindMultiBuffer: a packet may take %d entries; 64 will do", s.TxSize, mostFrags)
	}
	s.InhibitProgLoad = !c.LibxdpProgram
	s.BindFlags |= BindNeedWakeup
	if c.Umem != nil {
		return c.completeFor(c.Umem.Config())
	}
	u := &c.UmemConfig
	if u.Area != nil {
		return invalid("UmemConfig.Area: make the Umem with NewUmem and set Umem")
	}
	fill, completion := u.FillSize, u.CompletionSize
	if err := u.complete(); err != nil {
		return err
	}
	if fill != 0 {
		c.defaultRxFrames(u.Frames, u.FillSize)
	} else {
		c.defaultRxFrames(u.Frames, maxRingSize)
		u.FillSize = max(u.FillSize, ceilPower2(min(c.RxFrames, maxRingSize)))
	}
	if completion == 0 {
		u.CompletionSize = max(u.CompletionSize, s.TxSize)
	}
	return c.completeFor(*u)
}

// defaultRxFrames is half the frames, if the fill ring holds so many.
func (c *Config) defaultRxFrames(frames, fillSize int) {
	switch {
	case c.SocketConfig.TxOnly:
		c.RxFrames = 0
	case c.RxFrames == 0:
		c.RxFrames = max(min(frames/2, fillSize), 1)
	}
}

// completeFor holds c against the memory it is to use.
func (c *Config) completeFor(u UmemConfig) error {
	c.defaultRxFrames(u.Frames, u.FillSize)
	switch {
	case c.SocketConfig.BindFlags&BindMultiBuffer != 0 && u.FrameSize%2 != 0:
		// See sentFrame: a fragment may be a single byte.
		return invalid("FrameSize %d is odd: with BindMultiBuffer the kernel's completions would not tell such frames apart", u.FrameSize)
	case c.RxFrames > u.Frames:
		return invalid("RxFrames %d is more than the Umem's %d frames", c.RxFrames, u.Frames)
	case c.RxFrames > u.FillSize:
		return invalid("RxFrames %d is more than the fill ring's %d entries", c.RxFrames, u.FillSize)
	case !c.SocketConfig.RxOnly && u.CompletionSize < c.SocketConfig.TxSize:
		return invalid("the completion ring's %d entries are fewer than the TX ring's %d: sending would stall",
			u.CompletionSize, c.SocketConfig.TxSize)
	}
	return nil
}

// ceilPower2 is the smallest power of two that is at least n.
func ceilPower2(n int) int { return 1 << bits.Len(uint(max(n, 1)-1)) }

// useMemory takes the caller's Umem, or maps one.
func (q *Queue) useMemory(c *Config) error {
	if c.Umem != nil {
		q.umem, q.pool = c.Umem, poolOf(c.Umem)
		return nil
	}
	u, err := NewUmem(&c.UmemConfig)
	if err != nil {
		err = errors.Unwrap(err)
		if c.LibxdpProgram && errors.Is(err, syscall.EPERM) {
			err = fmt.Errorf("%w%s", err, alsoForProgram()) // or they would come one a try
		}
		return err
	}
	q.umem, q.pool, q.ownUmem = u, poolOf(u), true
	return nil
}

// pools are those of the Umems that Queues are on.
var pools = struct {
	sync.Mutex
	of map[*Umem]*pool
}{of: map[*Umem]*pool{}}

// poolOf returns the pool of a Umem. It lasts as long as the Umem is open, for
// frames of closed Queues stay out of use until then, and inherits the memory.
func poolOf(u *Umem) *pool {
	pools.Lock()
	defer pools.Unlock()
	for each := range pools.of {
		if each.FD() < 0 {
			delete(pools.of, each)
		}
	}
	p := pools.of[u]
	if p == nil {
		p = newPool(u)
		pools.of[u] = p
		u.mu.Lock()
		u.heir = p.close
		u.mu.Unlock()
	}
	return p
}

func (q *Queue) dropMemory() {
	if q.ownUmem {
		_ = q.umem.Close()
	}
}

// bind gives the Queue its frames and its socket.
func (q *Queue) bind(c *Config) (err error) {
	key, err := q.find(c)
	if err != nil {
		return err
	}
	if c.XSKMap != nil { // a failed bind would spend the Umem
		if _, err = usable(c.XSKMap, key.ifindex); err != nil {
			return err
		}
	}
	q.pool.opening.Lock() // for the fill ring of the first socket
	defer q.pool.opening.Unlock()
	q.pool.reclaimGone()
	if q.shard, err = q.pool.enter(q, key); err != nil {
		return err
	}
	r := &q.rx
	most := maxBurst
	if q.multi { // and a packet of 64 KiB that an earlier burst ended in; they grow for longer ones
		most += (1<<16)/q.umem.MaxPacket() + 2
		r.frags = make([]Frame, 0, most)
	}
	r.descs = make([]Desc, most)
	r.loan = make([]uint32, 0, most)
	r.post = make([]Addr, 0, max(q.rxFrames, most))
	q.tx.descs, q.tx.done = make([]Desc, 0, maxBurst), make([]Addr, 2*maxBurst)
	if q.pool.requests != nil {
		q.tx.stamps.ring = make([]TxTimestamp, len(q.pool.requests))
	}

	// Some drivers want frames at bind.
	first := q.umem.unbound()
	if first {
		r.held = q.pool.adopt(q.shard)
		q.firstStock()
		r.post = r.post[:copy(r.post, r.post[q.umem.Fill.Produce(r.post):])]
	}
	if q.sock, err = NewSocket(q.ifname, q.queue, q.umem, &c.SocketConfig); err != nil {
		if first {
			q.pool.abandon(q.shard)
		} else {
			q.pool.leave(q.shard, false)
		}
		return errors.Unwrap(err)
	}
	q.shard.ways = q.ways()
	if zc, err := q.sock.ZeroCopy(); err == nil && !zc {
		q.pool.mu.Lock()
		q.shard.copied = true
		q.pool.mu.Unlock()
	}
	if q.sock.rings.queueKey == key {
		q.pool.reclaim(key)
		err = q.start(c)
	} else {
		err = explained(syscall.ENODEV, "%s became another interface's name meanwhile", q.ifname)
	}
	if err != nil {
		_ = q.sock.Close()
		q.pool.leave(q.shard, false)
	}
	return err
}

// find says which queue the name and number mean now.
func (q *Queue) find(c *Config) (queueKey, error) {
	ifindex, err := lookupInterface(q.ifname)
	if err != nil {
		return queueKey{}, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return queueKey{}, explainBind(err, ifindex, &c.SocketConfig)
	}
	defer unix.Close(fd)
	return queueKey{netns(fd), ifindex, q.queue}, nil
}

// start makes a bound Queue ready to receive.
func (q *Queue) start(c *Config) (err error) {
	if q.rxWait, err = q.sock.receiveWaiter(); err != nil {
		return err
	}
	if q.txWait, err = q.sock.sendWaiter(); err != nil {
		return err
	}
	if !q.rxOnly {
		// Linux 6.17; without it a kick sends 32 packets, and TxBurst kicks on.
		_ = q.sock.SetTxBudget(c.SocketConfig.TxSize)
	}
	if q.txOnly {
		return nil
	}
	q.firstStock()
	r := &q.rx
	r.post = r.post[:copy(r.post, r.post[q.sock.Fill.Produce(r.post):])]
	if err = q.sock.WakeRx(); err != nil && !errors.Is(err, unix.ENETDOWN) {
		return errors.Unwrap(err)
	}
	if c.XSKMap != nil {
		if err = q.sock.UpdateXSKMap(c.XSKMap); err != nil {
			return errors.Unwrap(err)
		}
	}
	return nil
}

// firstStock is stockUp for a Queue that is being opened.
func (q *Queue) firstStock() {
	q.shard.mu.Lock()
	defer q.shard.mu.Unlock()
	q.stockUp()
}
