package xsk

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
)

// queueCounters count, once per burst.
type queueCounters struct {
	rxPackets, rxBytes, rxBursts, rxWakeups atomic.Uint64
	rxIncomplete                            atomic.Uint64
	txPackets, txBytes, txBursts            atomic.Uint64
	txLongest                               atomic.Uint64 // bytes
}

// QueueStats are the counts of a Queue since it was opened.
type QueueStats struct {
	RxPackets uint64 // packets received, and their bytes
	RxBytes   uint64
	RxBursts  uint64 // calls that received any
	RxWakeups uint64 // times Receive waited and was woken
	// RxIncomplete counts packets that were dropped because a fragment of them was
	// missing: no frame was left for it, or the kernel returned one that it did not
	// have. What comes late of such a packet counts again. It should stay 0.
	RxIncomplete uint64
	TxPackets    uint64 // packets queued to be sent, and their bytes
	TxBytes      uint64
	TxBursts     uint64      // crossings that queued any
	KickStats                // kicks, and packets that the device dropped
	Frames       FrameCounts // whose the frames of the Umem are
	Kernel       Stats       // the kernel's own counters

	mtu, maxPacket, frameSize int
	txLongest                 int // the longest packet that was queued, in bytes
	receives, sends, multi    bool
}

// FrameCounts say how many frames of a Umem are whose. They are counts of the Umem, and
// every Queue on it has the same: to add them up over Queues, as for metrics, count those
// of each Umem once ([Queue.Umem] tells which). Queues.Stats does.
type FrameCounts struct {
	Free    int // in the pool
	Rx      int // with the kernel to receive into
	Loan    int // lent by Receive, or by a Loan
	User    int // the program's: kept, or from Alloc
	Tx      int // with the kernel to be sent
	Retired int // of closed Queues, until the same queue is opened again, its interface is gone, or the Umem closed
}

// Total is the sum: all frames of the Umem.
func (c FrameCounts) Total() int { return c.Free + c.Rx + c.Loan + c.User + c.Tx + c.Retired }

func (p *pool) counts() FrameCounts {
	p.lockAll()
	defer p.unlockAll()
	c := p.sum()
	return FrameCounts{c[ownerFree], c[ownerRx], c[ownerLoan] + c[ownerLent], c[ownerUser], c[ownerTx], c[ownerRetired]}
}

// sum counts the frames of all shards. They are locked.
func (p *pool) sum() (count [owners]int) {
	for _, s := range p.all() {
		for o, n := range s.count {
			count[o] += n
		}
	}
	return count
}

// Stats returns the counts. On a closed Queue they are those at Close. It does not
// block, but asks the kernel: once a second is fine, once a packet is not.
func (q *Queue) Stats() QueueStats {
	if q.closed.Load() {
		q.closing.Lock()
		defer q.closing.Unlock()
		return q.last
	}
	c := &q.stats
	s := QueueStats{
		RxPackets:    c.rxPackets.Load(),
		RxBytes:      c.rxBytes.Load(),
		RxBursts:     c.rxBursts.Load(),
		RxWakeups:    c.rxWakeups.Load(),
		RxIncomplete: c.rxIncomplete.Load(),
		TxPackets:    c.txPackets.Load(),
		TxBytes:      c.txBytes.Load(),
		TxBursts:     c.txBursts.Load(),
		KickStats:    q.sock.KickStats(),
		Frames:       q.pool.counts(),
		maxPacket:    q.umem.MaxPacket(),
		frameSize:    q.umem.FrameSize(),
		receives:     !q.txOnly,
		sends:        !q.rxOnly,
		multi:        q.multi,
		txLongest:    int(c.txLongest.Load()),
	}
	s.Kernel, _ = q.sock.Stats()
	if i, err := net.InterfaceByIndex(q.shard.key.ifindex); err == nil {
		s.mtu = i.MTU
	}
	return s
}

func (s *QueueStats) add(o QueueStats) {
	s.RxPackets += o.RxPackets
	s.RxBytes += o.RxBytes
	s.RxBursts += o.RxBursts
	s.RxWakeups += o.RxWakeups
	s.RxIncomplete += o.RxIncomplete
	s.TxPackets += o.TxPackets
	s.TxBytes += o.TxBytes
	s.TxBursts += o.TxBursts
	s.Kicks += o.Kicks
	s.Dropped += o.Dropped
	s.Frames.Free += o.Frames.Free
	s.Frames.Rx += o.Frames.Rx
	s.Frames.Loan += o.Frames.Loan
	s.Frames.User += o.Frames.User
	s.Frames.Tx += o.Frames.Tx
	s.Frames.Retired += o.Frames.Retired
	s.Kernel.RxDropped += o.Kernel.RxDropped
	s.Kernel.RxInvalidDescs += o.Kernel.RxInvalidDescs
	s.Kernel.TxInvalidDescs += o.Kernel.TxInvalidDescs
	s.Kernel.RxRingFull += o.Kernel.RxRingFull
	s.Kernel.RxFillRingEmpty += o.Kernel.RxFillRingEmpty
	s.Kernel.TxRingEmpty += o.Kernel.TxRingEmpty
	s.mtu, s.maxPacket, s.frameSize = o.mtu, o.maxPacket, o.frameSize
	s.txLongest = max(s.txLongest, o.txLongest)
	s.receives, s.sends, s.multi = s.receives || o.receives, s.sends || o.sends, s.multi || o.multi
}

// String prints the counts, a line for each way the Queue has and one for the
// frames, and beside every drop its likely cause.
func (s QueueStats) String() string {
	var b strings.Builder
	if s.receives || !s.sends {
		fmt.Fprintf(&b, "rx: %d packets, %d bytes, %d bursts, %d wake-ups\n", s.RxPackets, s.RxBytes, s.RxBursts, s.RxWakeups)
	}
	if s.sends || !s.receives {
		fmt.Fprintf(&b, "tx: %d packets, %d bytes, %d bursts, %d kicks\n", s.TxPackets, s.TxBytes, s.TxBursts, s.Kicks)
	}
	f := s.Frames
	fmt.Fprintf(&b, "frames: %d free, %d rx, %d lent, %d the program's, %d tx, %d retired", f.Free, f.Rx, f.Loan, f.User, f.Tx, f.Retired)
	drop := func(n uint64, what, cause string) {
		if n > 0 {
			fmt.Fprintf(&b, "\ndropped %d %s: %s", n, what, cause)
		}
	}
	k := s.Kernel
	drop(k.RxFillRingEmpty, "for want of a frame", "the fill ring ran dry; receive more often (Send may wait meanwhile), keep fewer frames, or raise RxFrames and FillSize")
	drop(s.tooLong())
	drop(s.RxIncomplete, "as incomplete", "no frame was left for a fragment; keep fewer frames, or raise RxFrames")
	drop(k.RxRingFull, "at the full RX ring", "the program receives too slowly; receive more often, or raise RxSize")
	drop(k.TxInvalidDescs, "as bad TX descriptors", "a fault in the program or in this library")
	drop(s.Dropped, "by the device in sending", s.notSent())
	return b.String()
}

// notSent is why the device dropped packets, as it seems.
func (s *QueueStats) notSent() string {
	// 4 bytes more than MTU and Ethernet header are a VLAN tag.
	if most := s.mtu + ethernetHeader; s.mtu > 0 && s.txLongest > most+4 {
		return fmt.Sprintf("the longest packet to be sent had %d bytes, and with MTU %d the interface takes %d", s.txLongest, s.mtu, most)
	}
	return "the link, or the receiver behind it, takes no more (on veth a full peer queue)"
}

// tooLong is how many packets the kernel dropped for their length, as it seems, and why.
func (s *QueueStats) tooLong() (n uint64, what, cause string) {
	n = s.Kernel.RxDropped - min(s.Kernel.RxDropped, s.Kernel.RxFillRingEmpty)
	switch {
	case s.multi:
		most := (1<<16 + s.maxPacket - 1) / max(s.maxPacket, 1)
		return n, "as too long", fmt.Sprintf("it takes all of a packet's frames at once, %d for 64 KiB, and the fill ring had fewer; receive more often, or raise RxFrames and FillSize", most)
	case s.mtu+18 <= s.maxPacket:
		return n, "by the kernel", fmt.Sprintf("longer than the %d bytes a frame holds?", s.maxPacket)
	case s.frameSize >= os.Getpagesize(): // a frame is a page at most
		return n, "as too long", fmt.Sprintf("MTU %d, a frame holds %d; BindMultiBuffer takes them", s.mtu, s.maxPacket)
	}
	return n, "as too long", fmt.Sprintf("MTU %d, a frame holds %d; larger frames or BindMultiBuffer take them", s.mtu, s.maxPacket)
}
