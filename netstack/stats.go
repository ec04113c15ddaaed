package netstack

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/go-xsk/xsk"
)

// Stats are the counts of an Endpoint since it was made.
type Stats struct {
	RxPackets   uint64 // taken from the Ports
	RxDelivered uint64 // given to the stack, after joining
	RxBad       uint64 // dropped: a wrong checksum, a header that cannot be, or a source route
	RxUnwanted  uint64 // dropped: for another host, no IP or ARP, or no stack is attached
	TxTaken     uint64 // taken from the stack
	TxPackets   uint64 // given to the Ports, after cutting
	TxNoFrame   uint64 // dropped: no frame was free, or the TX ring was full
	TxRefused   uint64 // dropped: the Port would not have them, or was closed

	// What was lost below, if the Ports are Queues: see xsk.Stats and xsk.KickStats.
	RxLost uint64 // by the kernel, for want of a frame or of room in the RX ring
	TxLost uint64 // by the device
}

type counters struct {
	rxPackets, rxDelivered, rxBad, rxUnwanted atomic.Uint64
	_                                         [64]byte
	txTaken, txPackets, txNoFrame, txRefused  atomic.Uint64
}

// Stats returns the counts. It may be called from any goroutine, also after Close.
func (e *Endpoint) Stats() Stats {
	c := &e.counts
	s := Stats{
		RxPackets:   c.rxPackets.Load(),
		RxDelivered: c.rxDelivered.Load(),
		RxBad:       c.rxBad.Load(),
		RxUnwanted:  c.rxUnwanted.Load(),
		TxTaken:     c.txTaken.Load(),
		TxPackets:   c.txPackets.Load(),
		TxNoFrame:   c.txNoFrame.Load(),
		TxRefused:   c.txRefused.Load(),
	}
	for _, port := range e.ports {
		if q, ok := port.(interface{ Stats() xsk.QueueStats }); ok {
			below := q.Stats()
			s.RxLost += below.Kernel.RxDropped + below.Kernel.RxRingFull
			s.TxLost += below.Dropped
		}
	}
	return s
}

// String prints the counts, a line for each way, and what was dropped.
func (s Stats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rx: %d packets, joined to %d\n", s.RxPackets, s.RxDelivered)
	fmt.Fprintf(&b, "tx: %d packets, cut from %d", s.TxPackets, s.TxTaken)
	for _, drop := range []struct {
		n    uint64
		what string
	}{
		{s.RxBad, "received with a wrong checksum or header (a veth or bridge peer leaves them to the device: ethtool -K PEER tx off)"},
		{s.RxUnwanted, "received for somebody else"},
		{s.TxNoFrame, "to be sent: no frame was free, or the TX ring was full"},
		{s.TxRefused, "to be sent: the queue would not have them"},
		{s.RxLost, "by the kernel: no frame was free, or the RX ring was full"},
		{s.TxLost, "by the device in sending (on veth a full peer queue)"},
	} {
		if drop.n > 0 {
			fmt.Fprintf(&b, "\ndropped %d %s", drop.n, drop.what)
		}
	}
	return b.String()
}
