package netstack

import (
	"math"
	"reflect"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A pace is how a TCP connection sends. gVisor's TCP knows two ways, and each is right
// for one kind of path only:
//
//   - Fast: segments of 64 KB that are cut below (GSO), SACK without RACK, and cubic,
//     which finds out without a loss how much the path takes (HyStart). Where nothing is
//     lost that is three times as fast. But a small window is one segment, nothing behind
//     it tells that a packet of it was lost, and every third loss is seen by a timeout.
//   - Careful: segments of one packet, RACK, and reno. A loss is hardly ever a timeout.
//     But each acknowledgment walks over all segments.
//
// They do not mix: with RACK, segments of 64 KB that were lost in a burst can hold a
// connection up for many seconds; and where losses follow one another gVisor's cubic
// makes the window 0 packets, from which nothing wakes it.
//
// So a connection begins carefully. It goes fast when cleanBytes have gone out without a
// retransmission: at 1 % loss one mebibyte in 1400 does. It stays so while it overruns
// a queue now and then; when manyLosses follow one another it is careful again, but
// RACK waits until the long segments are out.
//
// gVisor fixes most of this when a connection begins, in private fields that it reads
// and writes while it holds the connection's lock. They are found by name and type, and
// set under that lock. Where they are not found all connections have long segments, SACK
// and reno, and a test fails.
type pace struct {
	fast    bool
	clean   int    // bytes since the last retransmission
	resends uint64 // retransmissions that were seen
	losses  int    // writes that met some, since cleanBytes went out
	long    int64  // bytes to be written until no segment of 64 KB is in flight, after it was fast
}

const (
	cleanBytes = 1 << 20 // that must have gone out without a loss before a connection goes fast
	manyLosses = 64      // writes that meet retransmissions: it is the path then, and no burst of ours
	firstFlood = 256     // packets at most in flight before a careful connection grows by one a round trip
)

// step is told of n bytes written; who writes calls it.
func (p *pace) step(ep *tcp.Endpoint, n int) {
	stats, ok := ep.Stats().(*tcp.Stats)
	if !ok {
		return
	}
	if p.long > 0 {
		if p.long -= int64(n); p.long <= 0 {
			p.set(ep, true, false)
		}
	}
	resends := stats.SendErrors.Retransmits.Value()
	if resends != p.resends {
		p.resends, p.clean = resends, 0
		if p.losses++; p.fast && p.losses >= manyLosses {
			p.fast = false
			p.long = ep.SocketOptions().GetSendBufferSize()
			p.set(ep, false, false)
			p.control(ep, "reno")
		}
		return
	}
	// What was written may lie in the send buffer still.
	if p.clean += n; int64(p.clean) < cleanBytes+ep.SocketOptions().GetSendBufferSize() {
		return
	}
	p.clean, p.losses = 0, 0
	if !p.fast {
		p.fast, p.long = true, 0
		p.set(ep, false, true)
		p.control(ep, "cubic")
	}
}

// start makes a new connection, which must be established, go carefully.
func (p *pace) start(ep *tcp.Endpoint) {
	p.set(ep, true, false)
	p.window(ep, func(s *tcp.TCPSenderState) { s.Ssthresh = firstFlood })
}

// set says whether a connection has RACK, and segments of 64 KB.
func (p *pace) set(ep *tcp.Endpoint, rack, long bool) {
	f := &paceFields
	if !f.known {
		return
	}
	ep.LockUser()
	defer ep.UnlockUser()
	recovery := (*tcpip.TCPRecovery)(unsafe.Add(unsafe.Pointer(ep), f.recovery))
	gso := (*stack.GSO)(unsafe.Add(unsafe.Pointer(ep), f.gso))
	*recovery = 0
	if rack {
		*recovery = tcpip.TCPRACKLossDetection
	}
	size := uint32(gso.MSS) + header.TCPTotalHeaderMaximumSize + 1 // room that gVisor takes off
	if long {
		size = longestIP
	}
	if gso.Type != stack.GSONone && gso.MSS != 0 {
		gso.MaxSize = size
	}
}

// control gives a connection another congestion control, which begins anew: reno at half
// of the window that there was, and cubic with a slow start, which HyStart ends.
func (p *pace) control(ep *tcp.Endpoint, name tcpip.CongestionControlOption) {
	if !paceFields.known {
		return
	}
	var half int
	p.window(ep, func(s *tcp.TCPSenderState) { half = max(s.SndCwnd/2, 2) })
	_ = ep.SetSockOpt(&name)
	p.window(ep, func(s *tcp.TCPSenderState) {
		if s.Ssthresh = math.MaxInt; name == "reno" {
			s.SndCwnd, s.Ssthresh = half, half
		}
	})
}

// window lets f at what a connection knows of its window.
func (p *pace) window(ep *tcp.Endpoint, f func(*tcp.TCPSenderState)) {
	if !paceFields.known {
		return
	}
	ep.LockUser()
	defer ep.UnlockUser()
	if sender := *(*unsafe.Pointer)(unsafe.Add(unsafe.Pointer(ep), paceFields.sender)); sender != nil {
		f((*tcp.TCPSenderState)(unsafe.Add(sender, paceFields.state)))
	}
}

// paceFields are where the fields are in a tcp.Endpoint: of state in what sender points
// to.
var paceFields = func() (f struct {
	recovery, gso, sender, state uintptr
	known                        bool
}) {
	of := reflect.TypeFor[tcp.Endpoint]()
	recovery, ok1 := of.FieldByName("tcpRecovery")
	gso, ok2 := of.FieldByName("gso")
	sender, ok3 := of.FieldByName("snd")
	if !ok1 || !ok2 || !ok3 || recovery.Type != reflect.TypeFor[tcpip.TCPRecovery]() || gso.Type != reflect.TypeFor[stack.GSO]() ||
		sender.Type.Kind() != reflect.Pointer || sender.Type.Elem().Kind() != reflect.Struct {
		return f
	}
	state, ok := sender.Type.Elem().FieldByName("TCPSenderState")
	f.known = ok && state.Type == reflect.TypeFor[tcp.TCPSenderState]() &&
		len(recovery.Index)+len(gso.Index)+len(sender.Index)+len(state.Index) == 4
	f.recovery, f.gso, f.sender, f.state = recovery.Offset, gso.Offset, sender.Offset, state.Offset
	return f
}()
