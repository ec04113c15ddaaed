package netstack_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A raw is somebody at the peer's end who writes all headers by hand, from addresses
// that nobody has.
type raw struct {
	*wire
	in   int // what arrives there
	ours [4]byte
	next int // connection of connect
}

func newRaw(t *testing.T, p *testns.Peer) *raw {
	t.Helper()
	r := &raw{wire: newWire(t, p), in: -1, ours: netip.MustParseAddr(ours4).As4()}
	const large = 4 << 20
	require.NoError(t, unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, large))
	require.NoError(t, p.Do(func() (err error) {
		r.in, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_IP)))
		return err
	}))
	t.Cleanup(func() { unix.Close(r.in) })
	require.NoError(t, unix.SetsockoptInt(r.in, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, large))
	require.NoError(t, unix.SetsockoptTimeval(r.in, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 200_000}))
	return r
}

func (w *wire) writeFrame(frame []byte) (int, error) { return unix.Write(w.fd, frame) }

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// A segment is what TCP says in one packet.
type segment struct {
	src          [4]byte
	sport, dport uint16
	seq, ack     uint32
	flags        header.TCPFlags
	window       uint16
	scale        bool // a SYN's window scale option, of 7
	stamp        bool // the timestamp option
	payload      []byte
	bad          bool // the checksum is wrong
}

// frame makes a packet of it, in b's place.
func (r *raw) frame(b []byte, s *segment) []byte {
	b = append(b[:0], r.head...)
	b = append(b, 8, 0)
	var options []byte
	if s.scale {
		options = append(options, 3, 3, 7, 1)
	}
	if s.stamp {
		options = append(options, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0)
	}
	length := header.IPv4MinimumSize + header.TCPMinimumSize + len(options) + len(s.payload)
	ip := header.IPv4(append(b, make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize+len(options))...)[len(b):])
	src, dst := tcpip.AddrFrom4(s.src), tcpip.AddrFrom4(r.ours)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(length), ID: uint16(s.seq), TTL: 64, Protocol: protoTCP, SrcAddr: src, DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(ip[header.IPv4MinimumSize:])
	tcp.Encode(&header.TCPFields{
		SrcPort: s.sport, DstPort: s.dport, SeqNum: s.seq, AckNum: s.ack, Flags: s.flags, WindowSize: s.window,
		DataOffset: uint8(header.TCPMinimumSize + len(options)),
	})
	copy(tcp[header.TCPMinimumSize:], options)
	sum := header.PseudoHeaderChecksum(protoTCP, src, dst, uint16(len(tcp)+len(s.payload)))
	sum = checksum.Checksum(s.payload, checksum.Checksum(tcp, sum))
	tcp.SetChecksum(^sum)
	if s.bad {
		tcp.SetChecksum(sum)
	}
	return append(append(b, ip...), s.payload...)
}

const protoTCP, protoICMPv6 = 6, 58

// ip makes an IPv4 packet of payload.
func (r *raw) ip(b []byte, src [4]byte, protocol uint8, offset uint16, more bool, payload []byte) []byte {
	b = append(append(b[:0], r.head...), 8, 0)
	ip := header.IPv4(append(b, make([]byte, header.IPv4MinimumSize)...)[len(b):])
	flags := uint8(0)
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + len(payload)), ID: uint16(rand.Uint32()), TTL: 64, Protocol: protocol,
		Flags: flags, FragmentOffset: offset, SrcAddr: tcpip.AddrFrom4(src), DstAddr: tcpip.AddrFrom4(r.ours),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return append(append(b, ip...), payload...)
}

// frame6 makes an IPv6 packet from somebody in our network, with the checksum of TCP
// or ICMPv6.
func (r *raw) frame6(b []byte, protocol tcpip.TransportProtocolNumber, payload []byte) []byte {
	var src [16]byte
	copy(src[:], net.ParseIP(peer6))
	binary.BigEndian.PutUint64(src[8:], rand.Uint64())
	from, to := tcpip.AddrFrom16(src), tcpip.AddrFrom16([16]byte(net.ParseIP(ours6)))
	b = append(append(b[:0], r.head...), 0x86, 0xdd)
	ip := header.IPv6(append(b, make([]byte, header.IPv6MinimumSize)...)[len(b):])
	ip.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: protocol, HopLimit: 255, SrcAddr: from, DstAddr: to,
	})
	b = append(append(b, ip...), payload...)
	l4 := b[len(b)-len(payload):]
	at, ok := map[tcpip.TransportProtocolNumber]int{protoTCP: header.TCPChecksumOffset, protoICMPv6: 2}[protocol]
	if ok && len(l4) >= at+2 {
		sum := checksum.Checksum(l4, header.PseudoHeaderChecksum(protocol, from, to, uint16(len(l4))))
		binary.BigEndian.PutUint16(l4[at:], ^sum)
	}
	return b
}

func (r *raw) send(s *segment) {
	r.t.Helper()
	_, err := unix.Write(r.fd, r.frame(nil, s))
	require.NoError(r.t, err)
}

// arp asks for our MAC address, so that src is known from then on.
func (r *raw) arp(src [4]byte) {
	r.t.Helper()
	_, err := unix.Write(r.fd, r.arpFrame(nil, src))
	require.NoError(r.t, err)
}

func (r *raw) arpFrame(b []byte, src [4]byte) []byte {
	b = append(b[:0], r.head...)
	b = append(b, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
	b = append(b, r.head[6:12]...)
	b = append(b, src[:]...)
	b = append(b, make([]byte, 6)...)
	return append(b, r.ours[:]...)
}

// read returns the next segment that arrives at the peer's end, nil if none comes.
func (r *raw) read(b []byte) *segment {
	for {
		n, err := unix.Read(r.in, b)
		if err != nil {
			return nil
		}
		if n < 54 || b[12] != 8 || b[13] != 0 || b[23] != protoTCP || [4]byte(b[26:30]) != r.ours {
			continue
		}
		tcp := header.TCP(b[34:n])
		return &segment{
			src: [4]byte(b[30:34]), sport: tcp.DestinationPort(), dport: tcp.SourcePort(), // as seen from here
			seq: tcp.SequenceNumber(), ack: tcp.AckNumber(), flags: tcp.Flags(), window: tcp.WindowSize(),
		}
	}
}

// host is the i-th address of our network that nobody has.
func host(i int) [4]byte { return [4]byte{192, 0, 2, byte(20 + i%230)} }

// connect makes n connections from known addresses to a port, and returns what they say
// next.
func (r *raw) connect(n int, port uint16) []segment {
	r.t.Helper()
	first := r.next
	r.next += n
	for i := range min(n, 230) {
		r.arp(host(first + i))
	}
	const apart = 50
	conns, done := make([]segment, n), 0
	at := map[[6]byte]int{}
	key := func(s *segment) (k [6]byte) {
		copy(k[:], s.src[:])
		binary.BigEndian.PutUint16(k[4:], s.sport)
		return k
	}
	b := make([]byte, 2048)
	begun := time.Now()
	for i := 0; done < n && time.Since(begun) < 20*time.Second; {
		for range apart {
			if i == n {
				break
			}
			s := segment{src: host(first + i), sport: uint16(1024 + (first+i)/230), dport: port, seq: 1000, flags: header.TCPFlagSyn, window: 65535, scale: true}
			r.send(&s)
			at[key(&s)] = i
			conns[i] = s
			i++
		}
		for done < i {
			s := r.read(b)
			if s == nil { // one was lost
				for k := range i {
					if conns[k].flags == header.TCPFlagSyn {
						r.send(&conns[k])
					}
				}
				break
			}
			if s.flags != header.TCPFlagSyn|header.TCPFlagAck {
				continue
			}
			c := &conns[at[key(s)]]
			if c.flags == header.TCPFlagSyn {
				done++
				c.flags, c.seq, c.ack, c.scale = header.TCPFlagAck, 1001, s.seq+1, false
			}
			r.send(c)
		}
	}
	require.Equal(r.t, n, done, "connections")
	return conns
}

// flood sends what make makes, a rate a second at most, for some time; it returns how
// many. make writes frame i in b's place.
func (r *raw) flood(rate int, d time.Duration, make1 func(i int, b []byte) []byte) int {
	const burst = 64
	type message struct {
		unix.Msghdr
		n uint32
		_ uint32
	}
	frames, vectors, messages := make([][]byte, burst), make([]unix.Iovec, burst), make([]message, burst)
	begun, sent := time.Now(), 0
	for {
		passed := time.Since(begun)
		if passed > d {
			return sent
		}
		if ahead := time.Duration(sent)*time.Second/time.Duration(rate) - passed; ahead > time.Millisecond {
			time.Sleep(ahead)
		}
		for i := range frames {
			frames[i] = make1(sent+i, frames[i])
			vectors[i].Base = &frames[i][0]
			vectors[i].SetLen(len(frames[i]))
			messages[i].Iov = &vectors[i]
			messages[i].Iovlen = 1
		}
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&messages[0])), burst, 0, 0, 0)
		if errno != 0 && errno != unix.ENOBUFS && errno != unix.EAGAIN {
			r.t.Errorf("flood: %v", errno)
			return sent
		}
		if errno == 0 {
			sent += int(n)
		}
	}
}

// A gauge watches what the process and a listener hold, and keeps the most of it.
type gauge struct {
	resident, goroutines, queued atomic.Int64
	before                       int64 // resident
	stop, done                   chan struct{}
}

func watch(l net.Listener) *gauge {
	debug.FreeOSMemory()
	g := &gauge{stop: make(chan struct{}), done: make(chan struct{}), before: resident()}
	go func() {
		defer close(g.done)
		for {
			most(&g.queued, int64(netstack.Queued(l)))
			most(&g.resident, resident()-g.before)
			most(&g.goroutines, int64(runtime.NumGoroutine()))
			select {
			case <-g.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return g
}

func most(v *atomic.Int64, n int64) {
	if n > v.Load() {
		v.Store(n)
	}
}

// end returns the most that was resident beyond what was before, in MiB, of
// goroutines, and of bytes that waited for the listener.
func (g *gauge) end() (mib, goroutines, queued int) {
	close(g.stop)
	<-g.done
	return int(g.resident.Load() >> 20), int(g.goroutines.Load()), int(g.queued.Load())
}

// held is what lives on the heap.
func held() int {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// resident is how much memory the process has, in bytes.
func resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int64
	_, _ = fmt.Sscan(string(b), &size, &pages)
	return pages * int64(os.Getpagesize())
}
