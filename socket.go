package xsk

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-xsk/xsk/internal/closed"
)

// SocketConfig describes a Socket. The zero value asks for libxdp's defaults
// (struct xsk_socket_config): both directions, and libxdp's own program in
// native mode.
type SocketConfig struct {
	RxSize    int       // entries of the RX ring, a power of two; default 2048
	TxSize    int       // entries of the TX ring, a power of two; default 2048
	RxOnly    bool      // make no TX ring
	TxOnly    bool      // make no RX ring
	BindFlags BindFlags // default 0: zero copy if the driver has it, else copy
	XDPFlags  XDPFlags  // how libxdp attaches its program; default 0: native mode

	// InhibitProgLoad attaches no program (XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD); see
	// Socket.UpdateXSKMap. With libxdp 1.3.1 every Socket that libxdp's own program
	// serves leaves two file descriptors behind at Close, the map's and the program's,
	// as in C: a process that opens thousands should attach a program itself.
	InhibitProgLoad bool
}

// A Socket is an AF_XDP socket bound to one queue of one interface
// (struct xsk_socket).
//
// One goroutine at a time may use the receiving side (Fill, Rx, RxBurst,
// RxBurstWait, PollRx, WakeRx) and one the sending side (Tx, Completion, TxBurst,
// PollTx, WakeTx); the two run in parallel. Everything else may be called from any goroutine.
type Socket struct {
	// The queue's fill and completion ring, which all sockets of one Umem on
	// that queue share, and the socket's own two. A one-way socket has all
	// four, but the ring it lacks takes and gives nothing.
	Fill       *FillRing
	Completion *CompletionRing
	Rx         *RxRing
	Tx         *TxRing

	name   string // "eth0 queue 3", for errors
	ifname string
	umem   *Umem
	rings  *queueRings
	c      uintptr // struct xskgo_socket
	fd     int
	txSize int    // entries of the TX ring; 0 without one
	about  string // "copy, rx 2048, tx 2048", for String

	mu         sync.Mutex // guards what follows, and the slow calls against Close
	closed     bool
	busyPoll   BusyPoll
	spins      bool // it polls, and its bursts always enter the kernel
	registered registration
	servedBy   []int // ids of the XDP programs that were there when it was registered

	rxWaiter, txWaiter atomic.Pointer[waiter]

	deviceError atomic.Int32 // errno; the kernel tells it once, to one caller
}

// FD is the Socket's file descriptor (xsk_socket__fd), -1 after Close. It is
// close-on-exec and stays the Socket's; do not close it. The first Socket of a
// Umem shares the Umem's.
func (s *Socket) FD() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return -1
	}
	return s.fd
}

// ZeroCopy reports whether the kernel granted zero copy (XDP_OPTIONS). Without
// [BindZeroCopy] or [BindCopy] it chooses by itself, and this is the only way
// to know; [Socket.Mode] says why it did. After Close the error is os.ErrClosed.
func (s *Socket) ZeroCopy() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, s.fail("options", closed.Err)
	}
	zc, err := zeroCopy(s.fd)
	return zc, s.fail("options", err)
}

// Stats are the kernel's counters of a Socket since it was made
// (struct xdp_statistics). They never go back.
type Stats struct {
	// RxDropped counts packets lost because the fill ring was empty (counted
	// in RxFillRingEmpty too), because they were longer than [Umem.MaxPacket]
	// without [BindMultiBuffer], or because the copy failed. A full RX ring and
	// a packet redirected to a socket of another queue do not count here.
	RxDropped uint64
	// RxInvalidDescs hardly ever grows: the kernel counts a bad fill address
	// on the fill ring, and this reads the RX ring.
	RxInvalidDescs uint64
	// TxInvalidDescs counts descriptors refused for their address, length or
	// options, every fragment of a packet of too many. Linux 6.18 returns their
	// frames in the completion ring like those that it has sent, older kernels
	// may not: a program with a list of free frames of its own takes them from
	// there, and must not put them back by itself as well, or it has them twice.
	// A packet that the device dropped does not count.
	TxInvalidDescs uint64
	// RxRingFull counts packets lost because the program did not consume the
	// RX ring fast enough. Their frames stay with the kernel.
	RxRingFull uint64
	// RxFillRingEmpty counts packets that found no frame in the fill ring. All
	// sockets on one queue share it.
	RxFillRingEmpty uint64
	// TxRingEmpty counts how often the kernel found the TX ring drained. It is
	// no error.
	TxRingEmpty uint64
}

// Stats reads the kernel's counters (XDP_STATISTICS), in a system call that does not
// block. After Close the error is os.ErrClosed; a Queue keeps its last.
func (s *Socket) Stats() (Stats, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return Stats{}, s.fail("statistics", closed.Err)
	}
	stats, err := socketStats(s.fd)
	return stats, s.fail("statistics", err)
}

// KickStats count what a Socket's own kicks did, which the kernel does not. In
// copy mode Go's poller makes the kernel send too, if packets are left in the TX
// ring while somebody polls the Socket; what the device drops then, nobody tells.
type KickStats struct {
	Kicks   uint64 // calls of sendto
	Dropped uint64 // packets that the kernel took and the device dropped: EBUSY, one each
}

// KickStats returns the counts since the Socket was made; zero on a Socket
// without TX and after Close. It is no system call.
func (s *Socket) KickStats() KickStats {
	if !s.Tx.gate.enter() {
		return KickStats{}
	}
	defer s.Tx.gate.leave()
	if s.Tx.c == 0 {
		return KickStats{}
	}
	return kickStats(s.Tx.c)
}

// SetTxBudget sets how many packets the kernel sends a kick in copy mode
// (XDP_MAX_TX_SKB_BUDGET): from 32, the default, to the entries of the TX ring. A
// burst takes fewer kicks then, and each keeps the CPU for longer. A Queue sets
// all of its TX ring by itself. In zero copy it has no effect.
//
// Errors wrap EINVAL for a number outside of that and for a Socket without TX,
// errors.ErrUnsupported before Linux 6.17, and os.ErrClosed.
func (s *Socket) SetTxBudget(packets int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail("set tx budget", s.setTxBudget(packets))
}

func (s *Socket) setTxBudget(packets int) error {
	switch {
	case s.closed:
		return closed.Err
	case s.txSize == 0:
		return invalid("the socket has no TX ring")
	case packets < leastTxBudget || packets > s.txSize:
		return invalid("%d is not between %d and the %d entries of the TX ring", packets, leastTxBudget, s.txSize)
	}
	err := setTxBudget(s.fd, packets)
	if err == syscall.ENOPROTOOPT {
		return fmt.Errorf("XDP_MAX_TX_SKB_BUDGET needs Linux 6.17: %w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// leastTxBudget is the kernel's TX_BATCH_SIZE.
const leastTxBudget = 32

// RxBurst does one round of receiving in one crossing: it posts fill to the
// fill ring, wakes the kernel if that ring asks for it, and takes up to len(rx)
// received packets into rx. It never blocks and never allocates. With nothing to do
// it does not cross either: a look costs some nanoseconds.
//
// The frames of fill[:filled] are the kernel's now, those of rx[:received] the
// caller's. Both counts are valid whatever err is; err concerns the wake-up
// only. In copy mode there is none, so that only PollRx notices that the
// interface is gone. After Close RxBurst answers os.ErrClosed.
func (s *Socket) RxBurst(fill []Addr, rx []Desc) (filled, received int, err error) {
	b := s.receive(fill, rx)
	return b.in, b.out, s.burstError("wake rx", b.err)
}

// receive is RxBurst with the bare errno.
func (s *Socket) receive(fill []Addr, rx []Desc) burst {
	s.Fill.uses++
	s.Rx.uses++
	if !s.Rx.gate.enter() {
		return burst{err: closed.Err}
	}
	var b burst
	if len(fill) > 0 || !rxIdle(s.Fill.c, s.Rx.c) {
		b = rxBurst(s.Fill.c, s.Rx.c, s.fd, fill, rx)
	}
	s.Rx.gate.leave()
	return b
}

// RxBurstWait is RxBurst that waits for a packet if there is none, as PollRx
// does and with its errors too, for timeout at most: less than 0 waits without
// limit (ocaml-xsk's Rx_queue.poll_and_consume). While packets come quickly it
// posts, waits and receives in one crossing. With an empty rx it posts and does not wait,
// for it could not receive; PollRx waits without receiving.
//
// Unless rx can be filled at once, it then lets packets gather for linger, 1 ms at
// most: a wake-up costs as much as many packets, and this saves most of them, for
// a packet that may wait so long. It holds a thread meanwhile. 0 does not linger.
func (s *Socket) RxBurstWait(fill []Addr, rx []Desc, timeout, linger time.Duration) (filled, received int, err error) {
	if linger < 0 || linger > maxLinger {
		return 0, 0, s.fail("receive", invalid("linger %v is not between 0 and %v", linger, maxLinger))
	}
	if w := s.rxWaiter.Load(); w != nil && timeout != 0 && len(rx) > 0 && w.startQuick(linger) {
		limit := quickWait
		if timeout > 0 { // it may linger, wait, and linger again
			limit, linger = min(limit, timeout/3), min(linger, timeout/3)
			timeout -= limit + linger
		}
		b, _ := s.receiveWait(w, fill, rx, limit, linger)
		if b.out > 0 || b.err != nil {
			return b.in, b.out, s.fail("receive", kickError(b.err))
		}
		filled = b.in
	}
	n, received, err := s.RxBurst(fill[filled:], rx)
	filled += n
	if received > 0 || err != nil || timeout == 0 || len(rx) == 0 {
		return filled, received, err
	}
	if ready, err := s.PollRx(timeout); err != nil || !ready {
		return filled, 0, err
	}
	if linger > 0 {
		sleep(linger)
	}
	n, received, err = s.RxBurst(fill[filled:], rx)
	return filled + n, received, err
}

// receiveWait is RxBurstWait in one crossing, with the bare errno; startQuick has
// allowed it. It tells whether it waited.
func (s *Socket) receiveWait(w *waiter, fill []Addr, rx []Desc, limit, linger time.Duration) (b burst, waited bool) {
	s.Fill.uses++
	s.Rx.uses++
	b.err = closed.Err
	if s.Rx.gate.enter() {
		b, waited = rxBurstWait(s.Fill.c, s.Rx.c, s.fd, fill, rx, limit, linger, w.gather)
		s.Rx.gate.leave()
	}
	w.endQuick(b.out > 0, b.out > 1)
	return b, waited
}

// TxBurst does one round of sending in one crossing: it takes sent frames back
// into done, queues tx, and kicks the kernel for as long as that makes
// progress, reaping and queueing more as room appears. Copy mode takes 32
// packets a kick. It never blocks and never allocates; its work is bounded by
// the two lengths. With nothing to do it does not cross.
//
// tx[:queued] are the kernel's now, also when the kick failed, and
// done[:completed] the caller's; what the kernel has not taken yet, the next
// TxBurst kicks again. Both counts are valid whatever err is. err concerns the
// kick only, so a caller goes on with both counts first: EBUSY when the device dropped at
// least one packet, one longer than the MTU for example (it counts in queued, its frame
// still comes back as completed; see KickStats), ENETDOWN while the interface is down, ENOBUFS when
// the kernel was out of memory, ENODEV when the interface is gone. After Close
// TxBurst answers os.ErrClosed.
//
// A packet whose metadata the kernel would not take is not queued, nor what follows
// it, and the error says why; see [Umem.SetTxMetadata]. If metadata is set by hand
// in a Umem without, or changed later, the kernel refuses the packet: then it goes
// without, the error is EINVAL, and its frame may be completed twice.
//
// Give it a done of at least len(tx): with a full completion ring nothing is
// sent.
func (s *Socket) TxBurst(tx []Desc, done []Addr) (queued, completed int, err error) {
	if s.Tx.checked != nil {
		return s.txBurstChecked(tx, done)
	}
	b := s.transmit(tx, done)
	return b.in, b.out, s.burstError("kick", b.err)
}

// transmit is TxBurst with the bare errno.
func (s *Socket) transmit(tx []Desc, done []Addr) burst {
	s.Tx.uses++
	s.Completion.uses++
	if !s.Tx.gate.enter() {
		return burst{err: closed.Err}
	}
	var b burst
	if len(tx) > 0 || !txIdle(s.Tx.c, s.Completion.c) {
		b = txBurst(s.Tx.c, s.Completion.c, s.fd, tx, done)
	}
	s.Tx.gate.leave()
	if b.err == syscall.ENXIO {
		s.deviceError.Store(int32(syscall.ENXIO))
	}
	return b
}

// burstError explains what a burst's wake-up met. A loop may go on calling
// after Close, so that answer allocates nothing.
func (s *Socket) burstError(verb string, err error) error {
	if err == nil || err == closed.Err {
		return err
	}
	return s.fail(verb, kickError(err))
}

// WakeRx wakes the kernel if the fill ring asks for it
// (recvfrom with MSG_DONTWAIT). It does not block. Errors are those of
// [Socket.RxBurst], and wrap ENODEV in zero copy when the interface is gone.
func (s *Socket) WakeRx() error {
	if !s.Rx.gate.enter() {
		return s.fail("wake rx", closed.Err)
	}
	defer s.Rx.gate.leave()
	if s.Rx.c == 0 {
		return nil
	}
	return s.fail("wake rx", kickError(wakeRx(s.Fill.c, s.fd)))
}

// WakeTx kicks the kernel, if the TX ring asks for it, until it has taken the
// whole ring or makes no more progress (sendto with MSG_DONTWAIT). It does not
// block. Errors are those of [Socket.TxBurst].
func (s *Socket) WakeTx() error {
	if !s.Tx.gate.enter() {
		return s.fail("kick", closed.Err)
	}
	defer s.Tx.gate.leave()
	return s.fail("kick", kickError(wakeTx(s.Tx.c, s.fd)))
}

// goneError names the removal of an interface, which the kernel reports as
// ENETDOWN on SO_ERROR and as ENXIO on a kick.
func goneError() error {
	return fmt.Errorf("the interface is gone: %w", syscall.ENODEV)
}

// kickError explains what the kernel answered to a wake-up.
func kickError(err error) error {
	switch err {
	case syscall.ENXIO:
		return goneError()
	case syscall.EBUSY:
		return explained(syscall.EBUSY, "the device dropped a packet")
	case syscall.EINVAL:
		return explained(syscall.EINVAL, "the kernel refused the metadata of a packet, which went without")
	}
	return err
}

// Close unregisters the Socket, ends its use of the rings and deletes it
// (xsk_socket__delete). It waits for calls in flight, which takes no longer than
// a burst or 20 ms, and wakes goroutines in PollRx and PollTx. It may be called
// again, and then does nothing. Frames in its rings and in the kernel come back
// only by closing the Umem, which also frees the queue of the Umem's first
// Socket.
func (s *Socket) Close() error {
	defer holdLog()()
	s.umem.mu.Lock()
	defer s.umem.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.rxWaiter.Load().close()
	s.txWaiter.Load().close()
	s.Rx.gate.close()
	s.Tx.gate.close()
	s.spin(false)
	err := s.registered.leave(s)
	s.umem.remove(s)
	return s.fail("unregister", err)
}

// Interface is the name of the interface that the Socket was bound to, as in "eth0".
func (s *Socket) Interface() string { return s.ifname }

// QueueID is the number of the interface's queue, counted from 0.
func (s *Socket) QueueID() int { return s.rings.queue }

// String says what was bound, as in
// "eth0 queue 3: zero copy, rx 2048, tx 2048, 4096 frames of 4096 bytes".
func (s *Socket) String() string { return fmt.Sprintf("%s: %s, %v", s.name, s.about, s.umem) }

// fail wraps err as "xsk: <verb> eth0 queue 3: <cause>".
func (s *Socket) fail(verb string, err error) error {
	if err == nil {
		return nil
	}
	return failed(verb+" "+s.name, err)
}
