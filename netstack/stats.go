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

	// What the bounds of a Host refused (see Options); of a stack of your own only
	// it knows.
	ConnsRefused   uint64 // connections: there were MaxConnections
	SynDropped     uint64 // segments for a listener that was behind, or had no room for more
	SynCookies     uint64 // SYNs answered by a cookie, as Backlog handshakes were under way
	StrangersUnmet uint64 // packets of neighbours that were not asked for their MAC address
	ClosingEnded   uint64 // closing connections reset: more than MaxClosing, or holding much of TCPMemory
	MemoryShort    uint64 // times that TCPMemory was exceeded, so that connections got less
	UDPUnread      uint64 // datagrams: their socket had no room
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
	if h := e.host.Load(); h != nil {
		h.addTo(&s)
	}
	return s
}

// addTo adds the counts of a Host's bounds.
func (h *Host) addTo(s *Stats) {
	c, up := &h.limits, h.Stack.Stats()
	s.ConnsRefused = c.connections.Load()
	s.SynDropped = c.flooded.Load() + up.TCP.ListenOverflowSynDrop.Value() + up.TCP.ListenOverflowAckDrop.Value()
	s.SynCookies = up.TCP.ListenOverflowSynCookieSent.Value()
	s.StrangersUnmet = c.strangers.Load()
	s.ClosingEnded = c.closed.Load()
	s.MemoryShort = c.memory.Load()
	s.UDPUnread = c.datagrams.Load() + up.UDP.ReceiveBufferErrors.Value()
}

// String prints the counts, a line for each way, and what was dropped or refused.
func (s Stats) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rx: %d packets, joined to %d\n", s.RxPackets, s.RxDelivered)
	fmt.Fprintf(&b, "tx: %d packets, cut from %d", s.TxPackets, s.TxTaken)
	type lost struct {
		n    uint64
		what string
	}
	for _, drop := range []lost{
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
	for _, bound := range []lost{
		{s.ConnsRefused, "connections refused: there were Options.MaxConnections"},
		{s.SynDropped, "segments dropped: their listener was behind, or Options.Backlog waited for Accept"},
		{s.SynCookies, "SYNs answered by a cookie: Options.Backlog handshakes were under way"},
		{s.StrangersUnmet, "packets dropped: Options.MaxStrangers neighbours were being asked for"},
		{s.ClosingEnded, "closing connections reset: they were more than Options.MaxClosing, or held much of TCPMemory"},
		{s.MemoryShort, "times more than Options.TCPMemory was held"},
		{s.UDPUnread, "datagrams dropped: their socket was full, or closed"},
	} {
		if bound.n > 0 {
			fmt.Fprintf(&b, "\n%d %s", bound.n, bound.what)
		}
	}
	return b.String()
}
