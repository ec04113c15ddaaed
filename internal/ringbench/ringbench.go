// Package ringbench is the other side of the ring benchmarks: rings over plain
// memory, a stand-in for the kernel, and the loops of a C program on the same
// rings. It measures what the program's side of a ring costs and proves nothing
// about the kernel.
package ringbench

/*
#cgo CFLAGS: -O2 -Wall
#cgo pkg-config: libxdp

#include "ringbench.h"

// As the root package's ring calls have it.
#cgo noescape ringbench_nothing
#cgo nocallback ringbench_nothing
*/
import "C"

import "unsafe"

// Rings are the four rings of a socket. The first four fields are the addresses
// of libxdp's ring structs; need-wakeup is never set, so nothing makes a system
// call.
type Rings struct {
	Fill, Completion, Rx, Tx uintptr

	c                  *C.struct_ringbench
	fill, comp, rx, tx indices
}

// indices are the words that a ring shares with the kernel.
type indices struct{ producer, consumer *uint32 }

// New makes rings of size entries, a power of two.
func New(size int) *Rings {
	c := (*C.struct_ringbench)(C.calloc(1, C.sizeof_struct_ringbench))
	if C.ringbench_init(c, C.uint32_t(size)) != 0 {
		panic("ringbench: out of memory")
	}
	word := func(p *C.__u32) *uint32 { return (*uint32)(unsafe.Pointer(p)) }
	return &Rings{
		Fill:       uintptr(unsafe.Pointer(&c.fill)),
		Completion: uintptr(unsafe.Pointer(&c.comp)),
		Rx:         uintptr(unsafe.Pointer(&c.rx)),
		Tx:         uintptr(unsafe.Pointer(&c.tx)),
		c:          c,
		fill:       indices{word(c.fill.producer), word(c.fill.consumer)},
		comp:       indices{word(c.comp.producer), word(c.comp.consumer)},
		rx:         indices{word(c.rx.producer), word(c.rx.consumer)},
		tx:         indices{word(c.tx.producer), word(c.tx.consumer)},
	}
}

// Free frees the rings.
func (r *Rings) Free() {
	C.ringbench_free(r.c)
	C.free(unsafe.Pointer(r.c))
}

// Receive is the kernel receiving n packets: it takes all frames from the fill
// ring and delivers n descriptors on the RX ring.
func (r *Rings) Receive(n int) {
	*r.fill.consumer = *r.fill.producer
	*r.rx.producer = *r.rx.consumer + uint32(n)
}

// Deliver is the kernel receiving n packets of 60 bytes, each into the frame that
// was posted first, behind its headroom.
func (r *Rings) Deliver(n int) {
	mask := uint32(r.c.fill.mask)
	fill := unsafe.Slice((*uint64)(r.c.fill.ring), mask+1)
	rx := unsafe.Slice((*C.struct_xdp_desc)(r.c.rx.ring), mask+1)
	from, to := *r.fill.consumer, *r.rx.producer
	for i := range uint32(n) {
		d := &rx[(to+i)&mask]
		d.addr, d.len, d.options = C.__u64(fill[(from+i)&mask]+256), 60, 0
	}
	*r.fill.consumer, *r.rx.producer = from+uint32(n), to+uint32(n)
}

// Send is the kernel sending: it takes all descriptors from the TX ring and
// gives n frames back on the completion ring.
func (r *Rings) Send(n int) {
	*r.tx.consumer = *r.tx.producer
	*r.comp.producer = *r.comp.consumer + uint32(n)
}

// Transmit is the kernel sending up to n packets: each frame that was queued
// comes back on the completion ring.
func (r *Rings) Transmit(n int) {
	mask := uint32(r.c.tx.mask)
	tx := unsafe.Slice((*C.struct_xdp_desc)(r.c.tx.ring), mask+1)
	comp := unsafe.Slice((*C.__u64)(r.c.comp.ring), mask+1)
	from, to := *r.tx.consumer, *r.comp.producer
	queued := min(uint32(n), *r.tx.producer-from)
	for i := range queued {
		comp[(to+i)&mask] = tx[(from+i)&mask].addr
	}
	*r.tx.consumer, *r.comp.producer = from+queued, to+queued
}

// ReceiveInC receives a number of bursts of n packets each, kernel included, in
// one loop in C. It returns how many packets came.
func (r *Rings) ReceiveInC(bursts, n int) int {
	return int(C.ringbench_receive(r.c, C.uint32_t(bursts), C.uint32_t(n)))
}

// SendInC sends a number of bursts of n packets each likewise.
func (r *Rings) SendInC(bursts, n int) int {
	return int(C.ringbench_send(r.c, C.uint32_t(bursts), C.uint32_t(n)))
}

// Cross calls a C function that does nothing: the least that a ring call costs.
func Cross() { C.ringbench_nothing() }
