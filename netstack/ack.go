package netstack

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// acks hold acknowledgments back for a moment. The stack acknowledges what it has
// taken from a burst at once, and a moment later the program answers, with a packet
// that acknowledges the same: half of all packets of a program that answers
// requests say nothing. So one waits here while a receiving goroutine is awake,
// which lets it go before it looks for packets again, unless a packet of its
// connection has made it needless by then.
//
// The receiving goroutine may be on another processor by then than the program, and
// does not wait for it. So where answers come quickly, a few in a row, one that is
// for little data is late: it waits for the answer, or for a timer. A connection on
// which the timer was needed has to show again that it answers.
type acks struct {
	awake  atomic.Int32 // receiving goroutines that will let go
	some   atomic.Int32 // acknowledgments that wait for them
	flows  [ackSlots]ackFlow
	armed  atomic.Bool // the timer runs
	closed atomic.Bool // none is late any more

	mu    sync.Mutex // guards the timer
	timer *time.Timer
}

// An ackFlow is what the last connection of a hash that sent has acknowledged.
type ackFlow struct {
	mu       sync.Mutex
	hash     uint32
	acked    uint32    // the last number that went out
	answers  int       // in a row that carried the only acknowledgment, or could have
	alone    int       // acknowledgments that went out since the last data
	lastWent time.Time // when the last of them did
	held     *stack.PacketBuffer
	late     bool // held waits for the timer
}

const (
	ackSlots   = 64
	ackDelay   = 10 * time.Millisecond
	answering  = 3   // answers in a row
	littleData = 536 // bytes, TCP's segment size where nobody has told another
)

// tcpOf is the TCP header of a packet; nil if it has none that is for a cutter.
func tcpOf(pkt *stack.PacketBuffer) header.TCP {
	if pkt.GSOOptions.Type != stack.GSOTCPv4 && pkt.GSOOptions.Type != stack.GSOTCPv6 {
		return nil
	}
	return header.TCP(pkt.TransportHeader().Slice())
}

// plainAck reports whether a packet only acknowledges: without data, and without
// the options that tell of losses.
func plainAck(pkt *stack.PacketBuffer, tcp header.TCP) bool {
	const withTimestamps = header.TCPMinimumSize + 12
	return len(tcp) <= withTimestamps && tcp.Flags() == header.TCPFlagAck && pkt.Data().Size() == 0
}

// hold takes over a packet to be sent later, or reports that it is to be sent now;
// then others may have to be sent before it, which it appends to first. The timer
// calls expired.
func (a *acks) hold(pkt *stack.PacketBuffer, first []*stack.PacketBuffer, expired func()) (bool, []*stack.PacketBuffer) {
	tcp := tcpOf(pkt)
	if tcp == nil || tcp.Flags()&header.TCPFlagAck == 0 {
		return false, first
	}
	plain, acked := plainAck(pkt, tcp), tcp.AckNumber()
	f := &a.flows[pkt.Hash%ackSlots]
	f.mu.Lock()
	defer f.mu.Unlock()
	carries := 0
	if old := f.held; old != nil {
		if needless(old, pkt, tcp, plain) {
			a.drop(f)
			old.DecRef()
			carries = 1
		} else {
			first = append(first, a.release(f))
		}
	}
	if f.hash != pkt.Hash {
		f.hash, f.acked, f.answers, f.alone = pkt.Hash, acked, 0, 0
	}
	if !plain {
		f.answer(acked, carries)
		return false, first
	}
	data := acked - f.acked
	late := f.answers >= answering && data > 0 && data < littleData && pkt.Hash != 0 && !a.closed.Load()
	if late || a.awake.Load() > 0 {
		f.held, f.late = pkt, late
		if late {
			a.arm(expired)
		} else {
			a.some.Add(1)
		}
		if late || a.awake.Load() > 0 { // after that, as take looks the other way round
			pkt.IncRef()
			return true, first
		}
		a.drop(f)
	}
	f.went(acked)
	return false, first
}

// answer notes that data goes out, which carries a held acknowledgment or none.
func (f *ackFlow) answer(acked uint32, carries int) {
	switch n := f.alone + carries; {
	case n == 1 && (carries == 1 || time.Since(f.lastWent) < ackDelay):
		f.answers++
	case n > 0:
		f.answers = 0
	}
	f.acked, f.alone = acked, 0
}

// went notes that an acknowledgment goes out by itself.
func (f *ackFlow) went(acked uint32) {
	if acked == f.acked {
		return
	}
	f.acked, f.lastWent = acked, time.Now()
	if f.alone++; f.alone > 1 {
		f.answers = 0
	}
}

// arm sees to it that late ones are let go.
func (a *acks) arm(expired func()) {
	if a.armed.Swap(true) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer == nil {
		a.timer = time.AfterFunc(ackDelay, expired)
	} else {
		a.timer.Reset(ackDelay)
	}
}

// drop forgets what is held.
func (a *acks) drop(f *ackFlow) {
	if !f.late {
		a.some.Add(-1)
	}
	f.held = nil
}

// release hands it over, to be sent.
func (a *acks) release(f *ackFlow) *stack.PacketBuffer {
	pkt := f.held
	a.drop(f)
	f.went(header.TCP(pkt.TransportHeader().Slice()).AckNumber())
	if f.late {
		f.answers = 0
	}
	return pkt
}

// needless reports whether a held acknowledgment need not be sent, because a packet
// says more: one of the same connection with new data, or with a later
// acknowledgment. That of two equal ones tells of a loss, or of room; and data that is
// sent again may be dropped unread.
func needless(held, pkt *stack.PacketBuffer, tcp header.TCP, plain bool) bool {
	old := header.TCP(held.TransportHeader().Slice())
	if string(old[:4]) != string(tcp[:4]) || string(addressesIn(held)) != string(addressesIn(pkt)) ||
		int32(tcp.SequenceNumber()-old.SequenceNumber()) < 0 {
		return false
	}
	later := int32(tcp.AckNumber() - old.AckNumber())
	return later > 0 || later == 0 && !plain
}

// addressesIn are the IP addresses of a packet of the stack.
func addressesIn(pkt *stack.PacketBuffer) []byte {
	ip := pkt.NetworkHeader().Slice()
	if pkt.NetworkProtocolNumber == header.IPv4ProtocolNumber {
		return ip[12:20]
	}
	return ip[8:40]
}

// take appends those that are held to all, for who is to send them: the late ones,
// or the others.
func (a *acks) take(all []*stack.PacketBuffer, late bool) []*stack.PacketBuffer {
	if late {
		a.armed.Store(false)
	} else if a.some.Load() == 0 {
		return all
	}
	for i := range a.flows {
		f := &a.flows[i]
		f.mu.Lock()
		if f.held != nil && f.late == late {
			all = append(all, a.release(f))
		}
		f.mu.Unlock()
	}
	return all
}

// close drops what is held. Nobody sends any more.
func (a *acks) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
	for i := range a.flows {
		if f := &a.flows[i]; f.held != nil {
			a.release(f).DecRef()
		}
	}
}
