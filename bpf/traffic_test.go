package bpf_test

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestUpdateUnderTraffic sends numbered packets to two ports, by AF_XDP, as fast
// as both readers take them. One is the socket's in all of the filters, the other
// is the kernel's; the filters change all the time in everything else. Not one
// packet may take the other way or get lost, and the counters must know them all.
func TestUpdateUnderTraffic(t *testing.T) {
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) { updateUnderTraffic(t, mode) })
	}
}

const (
	oursPort, kernelPort = 4789, 4790
	window               = 64 // packets to each that are on their way: together less than any queue between
)

func updateUnderTraffic(t *testing.T, mode bpf.Mode) {
	a, b := testns.Veth{}.Make(t)
	filters := []bpf.Filter{
		{UDPPorts: []uint16{oursPort}},
		{UDPPorts: bpf.Ports(4000, 4789), Ping: true, KeepManagement: true},
		{All: true, Except: &bpf.Filter{UDPPorts: []uint16{kernelPort}}},
		{Protocols: []uint8{udp}, Except: &bpf.Filter{UDPPorts: []uint16{kernelPort}, TCPPorts: []uint16{1}}},
	}
	p := attach(t, a, bpf.Options{Filter: filters[0], Mode: mode})
	require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
	kernel, wire := newTapReader(t, a), newSender(t, b)
	umem, socket := open(t, a, 0)
	require.NoError(t, socket.UpdateXSKMap(p))

	var updates, stop atomic.Int32
	updater := make(chan error)
	go func() {
		var err error
		for err == nil && stop.Load() == 0 {
			err = p.Update(filters[updates.Add(1)%int32(len(filters))])
		}
		updater <- err
	}()

	var sent, ours, theirs uint32
	descs, addrs := make([]xsk.Desc, window), make([]xsk.Addr, 0, window)
	receive := func() { // all that is there
		_, n, err := socket.RxBurst(nil, descs)
		require.NoError(t, err)
		addrs = addrs[:0]
		for _, d := range descs[:n] {
			requireNumber(t, umem.Bytes(d), oursPort, ours)
			addrs = append(addrs, d.Addr)
			ours++
		}
		require.Equal(t, n, socket.Fill.Produce(addrs)) // before more is sent
		for _, packet := range kernel.read(t) {
			requireNumber(t, packet, kernelPort, theirs)
			theirs++
		}
	}
	begin := time.Now()
	for time.Since(begin) < time.Second || updates.Load() < 20 && time.Since(begin) < 10*time.Second {
		if room := window - max(sent-ours, sent-theirs); room >= window/2 {
			wire.send(t, sent, room)
			sent += room
		}
		receive()
	}
	for end := time.Now().Add(5 * time.Second); (ours < sent || theirs < sent) && time.Now().Before(end); {
		receive()
	}
	took := time.Since(begin)
	stop.Store(1)
	require.NoError(t, <-updater)
	t.Logf("%d packets, %.0f a second, %d updates", 2*sent, 2*float64(sent)/took.Seconds(), updates.Load())
	assert.Equal(t, sent, ours, "packets for the socket")
	assert.Equal(t, sent, theirs, "packets for the kernel")
	c, err := p.Counters()
	require.NoError(t, err)
	assert.EqualValues(t, sent, c.Matched, c)
	assert.EqualValues(t, sent, c.Passed+c.Excepted, c)
	assert.Zero(t, c.NoSocket, c)
}

// blank has room for port and number where requireNumber looks.
var blank = packetOf("10.0.0.1", "10.0.0.2", udp, append(be16(9, 0, 26, 0), make([]byte, 18)...))

func requireNumber(t *testing.T, packet []byte, port uint16, number uint32) {
	if len(packet) < 46 || binary.BigEndian.Uint16(packet[36:]) != port || binary.BigEndian.Uint32(packet[42:]) != number {
		require.Fail(t, "a packet took the wrong way, or one is missing", "not number %d to port %d:\n% x", number, port, packet)
	}
}

// A sender is an AF_XDP socket whose frames hold packets.
type sender struct {
	umem   *xsk.Umem
	socket *xsk.Socket
	idle   []xsk.Addr // in the order in which they were sent
	descs  []xsk.Desc
}

func newSender(t *testing.T, ifname string) *sender {
	t.Helper()
	umem, socket := open(t, ifname, 0)
	s := &sender{umem: umem, socket: socket}
	for i := range 64 { // that they are on the fill ring as well does not matter: nothing is received
		s.idle = append(s.idle, xsk.Addr(i*umem.FrameSize()))
		copy(umem.Bytes(xsk.Desc{Addr: s.idle[i], Len: uint32(len(blank))}), blank)
	}
	return s
}

// send sends n packets to each port, and numbers them.
func (s *sender) send(t *testing.T, number, n uint32) {
	done := make([]xsk.Addr, 64)
	for n > 0 || len(s.idle) < 64 {
		s.descs = s.descs[:0]
		for ; n > 0 && len(s.idle) > 1; number, n = number+1, n-1 {
			for i, port := range []uint16{oursPort, kernelPort} {
				d := xsk.Desc{Addr: s.idle[i], Len: uint32(len(blank))}
				packet := s.umem.Bytes(d)
				binary.BigEndian.PutUint16(packet[36:], port)
				binary.BigEndian.PutUint32(packet[42:], number)
				s.descs = append(s.descs, d)
			}
			s.idle = s.idle[2:]
		}
		queued, completed, err := s.socket.TxBurst(s.descs, done)
		require.NoError(t, err)
		require.Equal(t, len(s.descs), queued)
		s.idle = append(s.idle, done[:completed]...)
	}
}

// A tapReader reads many packets at once from a tap, that they do not hold up the
// others.
type tapReader struct {
	tap      tap
	messages [2 * window]message
	vectors  [2 * window]unix.Iovec
	buffers  [2 * window][256]byte
}

// message is struct mmsghdr.
type message struct {
	header unix.Msghdr
	len    uint32
	_      uint32
}

func newTapReader(t *testing.T, ifname string) *tapReader {
	t.Helper()
	r := &tapReader{tap: openTap(t, ifname)}
	require.NoError(t, unix.SetsockoptInt(int(r.tap), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	for i := range r.messages {
		r.vectors[i] = unix.Iovec{Base: &r.buffers[i][0], Len: uint64(len(r.buffers[i]))}
		r.messages[i].header.Iov, r.messages[i].header.Iovlen = &r.vectors[i], 1
	}
	return r
}

// read returns the packets that are there, until the next read.
func (r *tapReader) read(t *testing.T) (packets [][]byte) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(r.tap), uintptr(unsafe.Pointer(&r.messages)), uintptr(len(r.messages)), unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return nil
	}
	require.Zero(t, errno, fmt.Sprint("recvmmsg: ", errno))
	for i := range int(n) {
		packets = append(packets, r.buffers[i][:r.messages[i].len])
	}
	return packets
}
