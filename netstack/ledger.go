package netstack

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// A ledger knows the TCP connections of a Host, and what their buffers hold. While
// that is more than Options.TCPMemory, each connection may hold only what it does by
// then, or its share if that is more; what its program reads and the other side
// acknowledges makes room again.
//
// It looks when as many bytes have come and gone as could have made a difference, and
// not by a clock.
type ledger struct {
	most        int // bytes, Options.TCPMemory
	closers     int // Options.MaxClosing
	connections int // Options.MaxConnections
	counts      *limitCounters

	moved atomic.Int64 // bytes since it looked last
	share atomic.Int64 // of each connection, while there is too much; 0 otherwise

	mu      sync.Mutex
	open    map[*TCPConn]struct{}
	closing []tcpip.Endpoint // in the order in which they began
	enough  int              // of them, to look which have ended
	timer   *time.Timer

	looking sync.Mutex
	all     []tcpip.Endpoint // for look
}

func (l *ledger) init(o *Options, counts *limitCounters) {
	l.most, l.closers, l.counts = o.TCPMemory, o.MaxClosing, counts
	l.connections = o.MaxConnections
	l.open = map[*TCPConn]struct{}{}
}

// begin enters a connection.
func (l *ledger) begin(c *TCPConn) {
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	if share := l.share.Load(); share > 0 {
		limit(c.ep, share)
	}
}

// end is for one that its program has closed: TCP may have work with it yet.
func (l *ledger) end(c *TCPConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
	if ended(c.ep) {
		return
	}
	l.closing = append(l.closing, c.ep)
	if len(l.closing) >= l.enough {
		l.sweep()
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(sweepAfter, l.tick)
	}
}

// full reports whether there are as many connections as may be.
func (l *ledger) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) < l.connections {
		return false
	}
	for c := range l.open { // that the other side has ended, and nobody closed here
		if ended(c.ep) {
			delete(l.open, c)
		}
	}
	return len(l.open) >= l.connections
}

// full reports whether there are as many connections as may be, also those that
// nobody has accepted and those that close.
func (h *Host) full() bool {
	return h.Stack.Stats().TCP.CurrentConnected.Value() >= uint64(h.ledger.connections)
}

// sweepAfter is a second more than TIME-WAIT takes.
const sweepAfter = tcp.DefaultTCPTimeWaitTimeout + time.Second

func (l *ledger) tick() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sweep()
	if len(l.closing) > 0 && l.timer != nil {
		l.timer.Reset(sweepAfter)
	} else {
		l.timer = nil
	}
}

// sweep drops those that have ended, and ends some if there are too many: first those
// in TIME-WAIT, which have nothing to lose. The ledger is locked.
func (l *ledger) sweep() {
	live := l.closing[:0]
	for _, ep := range l.closing {
		if !ended(ep) {
			live = append(live, ep)
		}
	}
	clear(l.closing[len(live):])
	l.closing = live
	for _, which := range []func(tcpip.Endpoint) bool{timeWait, anyOf} {
		if n := len(l.closing) - l.closers; n > 0 {
			l.abort(n, which)
		}
	}
	l.enough = min(max(64, 2*len(l.closing)), l.closers+1)
}

func timeWait(ep tcpip.Endpoint) bool { return tcp.EndpointState(ep.State()) == tcp.StateTimeWait }

func anyOf(tcpip.Endpoint) bool { return true }

// abort ends n of those that close, the oldest that are so.
func (l *ledger) abort(n int, so func(tcpip.Endpoint) bool) {
	left := l.closing[:0]
	for _, ep := range l.closing {
		if n == 0 || !so(ep) {
			left = append(left, ep)
			continue
		}
		n--
		ep.Abort()
		l.counts.closed.Add(1)
	}
	clear(l.closing[len(left):])
	l.closing = left
}

// stop is for Host.Close, which resets all.
func (l *ledger) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
	l.closing = nil
}

// ended reports whether TCP is through with a connection.
func ended(ep tcpip.Endpoint) bool {
	s := tcp.EndpointState(ep.State())
	return s == tcp.StateClose || s == tcp.StateError
}

// segmentOverhead is what a segment takes beside its data, at least.
const segmentOverhead = 512

// note counts bytes that went into a buffer.
func (l *ledger) note(n int) {
	if l.moved.Add(int64(n)) > int64(l.most/16) {
		l.look()
	}
}

// look adds up what is held, unless somebody else does.
func (l *ledger) look() {
	if !l.looking.TryLock() {
		return
	}
	defer l.looking.Unlock()
	l.moved.Store(0)
	l.mu.Lock()
	l.all = append(l.all[:0], l.closing...)
	closing := len(l.all)
	for c := range l.open {
		l.all = append(l.all, c.ep)
	}
	l.mu.Unlock()
	defer func() { clear(l.all) }()
	total, orphaned, orphans := 0, 0, 0
	for i, ep := range l.all {
		received, sent := charged(ep)
		total += received + sent
		if i < closing && sent > 0 {
			orphaned += sent
			orphans++
		}
	}
	if total <= l.most {
		l.share.Store(0)
		return
	}
	l.counts.memory.Add(1)
	share := int64(max(l.most/2/len(l.all), leastBuffer))
	l.share.Store(share)
	for _, ep := range l.all[closing:] {
		limit(ep, share)
	}
	if orphaned > l.most/4 { // that nobody waits for here any more
		l.mu.Lock()
		l.abort((orphans+1)/2, func(ep tcpip.Endpoint) bool {
			_, sent := charged(ep)
			return sent > 0
		})
		l.mu.Unlock()
	}
}

// limit makes a connection's buffers hold a share, or what they hold. A receive buffer
// must not be full of what came out of order: what is missing would not get in.
func limit(ep tcpip.Endpoint, share int64) {
	received, sent := charged(ep)
	o := ep.SocketOptions()
	if most := max(share, int64(received+received/8)); o.GetReceiveBufferSize() > most {
		o.SetReceiveBufferSize(most, false)
	}
	if most := max(share, int64(sent)); o.GetSendBufferSize() > most {
		o.SetSendBufferSize(most, false)
	}
}

// charged is what the stack charges a connection, or a listener, for what its buffers
// hold. It tells nobody, so this looks where it keeps the numbers.
func charged(ep tcpip.Endpoint) (received, sent int) {
	e, ok := ep.(*tcp.Endpoint)
	if !ok || !chargedKnown {
		return 0, 0
	}
	base := unsafe.Pointer(e)
	received = int(atomic.LoadInt32((*int32)(unsafe.Add(base, receivedAt))))
	if !raceDetector { // it takes the stack's lock, which is not ours to take
		sent = int(atomic.LoadInt64((*int64)(unsafe.Add(base, sentAt))))
	}
	return max(received, 0), max(sent, 0)
}

// Where in a tcp.Endpoint the numbers are, if they are.
var receivedAt, sentAt, chargedKnown = func() (received, sent uintptr, known bool) {
	received, ok := fieldAt(reflect.TypeFor[tcp.Endpoint](), reflect.Int32, "rcvMemUsed", "value")
	sent, also := fieldAt(reflect.TypeFor[tcp.Endpoint](), reflect.Int, "sndQueueInfo", "SndBufUsed")
	return received, sent, ok && also && unsafe.Sizeof(int(0)) == 8
}()

func fieldAt(t reflect.Type, kind reflect.Kind, path ...string) (at uintptr, ok bool) {
	for _, name := range path {
		f, ok := t.FieldByName(name)
		if !ok {
			return 0, false
		}
		for _, i := range f.Index { // embedded ones between
			at += t.Field(i).Offset
			t = t.Field(i).Type
		}
	}
	return at, t.Kind() == kind
}
