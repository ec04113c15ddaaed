package xsk

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"
)

// A ring is one of libxdp's ring structs, in C memory. The four exported ring
// types differ only in what they carry and which way.
type ring struct {
	_     cpu.CacheLinePad // the two directions run on different cores
	c     uintptr          // struct xsk_ring_prod or xsk_ring_cons; 0: the socket lacks it
	gate  gate
	spin  int     // sockets that busy poll by it; guarded by the Umem's mu
	flags uintptr // the ring's own need-wakeup flags, while there are any

	uses int // bumped by every use, so that -race finds two goroutines on one ring
	_    cpu.CacheLinePad
}

// A gate lets any number of calls in until close, which waits for the last of
// them to leave: libxdp unmaps a ring at delete, and a call may be in it.
type gate struct{ calls atomic.Int64 }

// gateClosed is added by close; it leaves calls negative for ever.
const gateClosed = -1 << 62

func (g *gate) enter() bool {
	if g.calls.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() { g.calls.Add(-1) }

// close is called once. No call stays in for longer than a burst, or a quick wait
// and two lingers.
func (g *gate) close() {
	for n := g.calls.Add(gateClosed); n != gateClosed; n = g.calls.Load() {
		runtime.Gosched()
		time.Sleep(time.Microsecond)
	}
}

// spinOn makes every burst enter the kernel, whether the ring asks for it or not,
// until there were as many calls of spinOff. Called with the Umem's mu held.
func (r *ring) spinOn() {
	if r.c == 0 {
		return
	}
	if r.spin++; r.spin == 1 {
		r.flags = swapFlags(r.c, 0)
	}
}

func (r *ring) spinOff() {
	if r.c == 0 {
		return
	}
	if r.spin--; r.spin == 0 {
		swapFlags(r.c, r.flags)
	}
}

// free reports how many entries a producer ring has room for.
func (r *ring) free() int {
	if !r.gate.enter() {
		return 0
	}
	defer r.gate.leave()
	return free(r.c)
}

func (r *ring) needsWakeup() bool {
	if !r.gate.enter() {
		return false
	}
	defer r.gate.leave()
	return needsWakeup(r.c)
}

// A burst is what one crossing did: in went to the kernel, out came back. The
// compiler keeps it in registers; with five words it would not, for 20 ns.
type burst struct {
	in, out int
	err     error
}

// A FillRing gives empty frames to the kernel to receive into
// (struct xsk_ring_prod of the fill queue). Use it from one goroutine at a
// time; sockets on the same queue share one.
type FillRing struct{ ring }

// Produce posts as many of addrs as there is room for and returns how many,
// without blocking or waking the kernel (xsk_ring_prod__reserve, __fill_addr,
// __submit). The frames of addrs[:n] belong to the kernel until they come back
// on an RX ring; addrs[n:] stay the caller's. An address may point anywhere
// into a frame, and in aligned mode means the frame it falls in. The kernel drops an
// address outside the Umem and counts it nowhere. It returns 0 once the queue
// is closed.
func (r *FillRing) Produce(addrs []Addr) int {
	r.uses++
	if !r.gate.enter() {
		return 0
	}
	n := fill(r.c, addrs)
	r.gate.leave()
	return n
}

// Free reports how many addresses Produce would take (xsk_prod_nb_free). Any
// goroutine may ask.
func (r *FillRing) Free() int { return r.free() }

// NeedsWakeup reports whether the kernel waits for [Socket.WakeRx]
// (xsk_ring_prod__needs_wakeup). In copy mode it never does.
func (r *FillRing) NeedsWakeup() bool { return r.needsWakeup() }

// A CompletionRing gives sent frames back (struct xsk_ring_cons of the
// completion queue). Use it from one goroutine at a time; sockets on the same
// queue share one.
type CompletionRing struct{ ring }

// Consume takes up to len(addrs) sent frames into addrs and returns how many,
// without blocking (xsk_ring_cons__peek, __comp_addr, __release). The frames
// are the caller's again. An address is the one that was sent, so it may point
// past its frame's start, but Linux 6.18 clears the lowest bit in copy mode: in
// unaligned mode frames should begin at even addresses, and so should a packet
// whose timestamp is asked for. It returns 0 once the queue is closed.
func (r *CompletionRing) Consume(addrs []Addr) int {
	r.uses++
	if !r.gate.enter() {
		return 0
	}
	n := complete(r.c, addrs)
	r.gate.leave()
	return n
}

// An RxRing delivers received packets (struct xsk_ring_cons of a socket). Use
// it from one goroutine at a time.
type RxRing struct{ ring }

// Consume takes up to len(descs) received packets into descs and returns how
// many, without blocking (xsk_ring_cons__peek, __rx_desc, __release). Their
// frames are the caller's. Desc.Addr points at the packet, past the headroom,
// not at the frame's start; post the frame back with [FillRing.Produce]. It
// returns 0 on a socket without RX and after Close.
func (r *RxRing) Consume(descs []Desc) int {
	r.uses++
	if !r.gate.enter() {
		return 0
	}
	n := receive(r.c, descs)
	r.gate.leave()
	return n
}

// A TxRing takes packets to send (struct xsk_ring_prod of a socket). Use it
// from one goroutine at a time.
type TxRing struct {
	ring
	checked *Umem // has TX metadata, which the kernel may refuse
}

// Produce queues as many of descs as there is room for and returns how many,
// without blocking or waking the kernel (xsk_ring_prod__reserve, __tx_desc,
// __submit). The frames of descs[:n] belong to the kernel until they come back
// on the completion ring; descs[n:] stay the caller's. A packet of several
// descriptors must be queued whole: the kernel holds it until its last one
// comes. 18 are the most in copy mode; a packet of more, or with one that is
// invalid, is dropped, and each of its descriptors counts in
// Stats.TxInvalidDescs (before Linux 6.18 what follows the invalid one is sent as
// a packet of its own). Produce returns 0 on a socket without TX and after Close,
// and stops before a packet with metadata that the kernel would not take; see
// [Umem.SetTxMetadata].
func (r *TxRing) Produce(descs []Desc) int {
	r.uses++
	if !r.gate.enter() {
		return 0
	}
	if r.checked != nil {
		descs, _ = r.checked.acceptable(descs)
	}
	n := transmit(r.c, descs)
	r.gate.leave()
	return n
}

// Free reports how many descriptors Produce would take (xsk_prod_nb_free). Any
// goroutine may ask.
func (r *TxRing) Free() int { return r.free() }

// NeedsWakeup reports whether the kernel waits for [Socket.WakeTx]
// (xsk_ring_prod__needs_wakeup). In copy mode it always does.
func (r *TxRing) NeedsWakeup() bool { return r.needsWakeup() }
