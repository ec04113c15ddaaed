package xsk_test

import (
	"net"
	"os"
	"syscall"
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

// redirect attaches a program that redirects every packet through its map.
func redirect(t testing.TB, ifname string, m mode) xsk.XSKMap {
	t.Helper()
	p, err := bpf.Attach(ifname, bpf.Options{
		Filter: bpf.Filter{All: true},
		Mode:   map[string]bpf.Mode{"generic": bpf.Generic, "native": bpf.Native}[m.name],
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// newXSKMap makes an XSKMAP that no program uses.
func newXSKMap(t *testing.T, entries uint32) xsk.MapFD {
	t.Helper()
	create := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_XSKMAP, 4, 4, entries}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&create)), unsafe.Sizeof(create))
	require.Zero(t, errno)
	t.Cleanup(func() { assert.NoError(t, unix.Close(int(fd))) })
	return xsk.MapFD(fd)
}

func TestRegisteredSocketTakesTheSlotAndGivesItBack(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		slot := redirect(t, b, m)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 16))
		tx.send(t, 0, 1, 60)
		rx.quiet(t)
		require.NoError(t, rx.UpdateXSKMap(slot))
		require.NoError(t, rx.UpdateXSKMap(slot), "again is no harm")
		tx.send(t, 1, 1, 60)
		assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))

		// A second socket takes the slot over; the first one's Close leaves it.
		second := &end{newSocket(t, b, 0, rx.umem, nil), rx.umem}
		require.NoError(t, second.UpdateXSKMap(slot))
		tx.send(t, 2, 1, 60)
		assert.Equal(t, 2, number(t, rx.umem.Bytes(second.receive(t, 1)[0])))
		require.NoError(t, rx.Socket.Close())
		tx.send(t, 3, 1, 60)
		assert.Equal(t, 3, number(t, rx.umem.Bytes(second.receive(t, 1)[0])))

		_, err := unix.FcntlInt(uintptr(slot.FileDescriptor()), unix.F_GETFD, 0)
		assert.NoError(t, err, "the map's descriptor stays the caller's")
	})
}

// The first socket's descriptor is the Umem's, so the kernel does not take its
// entry out before that closes.
func TestClosedSocketLeavesItsPacketsToTheKernel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		slot := redirect(t, b, m)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 16))
		require.NoError(t, rx.UpdateXSKMap(slot))
		kernel := packetSocket(t, b)
		tx.send(t, 1, 1, 60)
		rx.receive(t, 1)
		require.NoError(t, rx.Socket.Close())
		tx.send(t, 2, 1, 60)
		got := make([]byte, 100)
		n, _, err := unix.Recvfrom(kernel, got, 0)
		require.NoError(t, err)
		assert.Equal(t, 2, number(t, got[:n]), "and not 1")
	})
}

// packetSocket receives what the kernel's own stack gets on ifname.
func packetSocket(t *testing.T, ifname string) int {
	t.Helper()
	i, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: all}))
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return fd
}

func TestAMapServesOneInterface(t *testing.T) {
	a, b := vethPair(t)
	program := redirect(t, a, modes[0])
	receiver := openQueue(t, a, modes[0], xsk.Config{XSKMap: program})
	_, err := xsk.Open(b, 0, &xsk.Config{XSKMap: program})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the XDP program of the XSKMap is on another interface: "+a+": generic")
	_, err = xsk.Open(b, 0, &xsk.Config{XSKMap: xsk.MapFD(program.FileDescriptor())})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "entry 0 of the XSKMAP is the socket's of "+a+" queue 0")

	sender := openQueue(t, b, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	sendPackets(t, sender, 7, 1, 60)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = receiver.Receive(frames)
	require.NoError(t, err, "the first one still receives")
	assert.Equal(t, 7, number(t, frames[0].Data))
}

func TestUpdateXSKMapRefusesWhatCannotWork(t *testing.T) {
	a, b := testns.Veth{Queues: 2}.Make(t)
	slot := newXSKMap(t, 1)
	served := newEnd(t, a, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	err := served.UpdateXSKMap(slot)
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "xsk: update XSKMAP for "+a+" queue 0: libxdp's own program serves this socket")

	u := newUmem(t, &small)
	s := newSocket(t, b, 1, u, &xsk.SocketConfig{InhibitProgLoad: true})
	assert.ErrorIs(t, s.UpdateXSKMap(nil), syscall.EINVAL)
	assert.ErrorIs(t, s.UpdateXSKMap(xsk.MapFD(-1)), syscall.EBADF)
	null, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer null.Close()
	err = s.UpdateXSKMap(xsk.MapFD(null.Fd()))
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "is not an XSKMAP")
	err = s.UpdateXSKMap(slot)
	require.ErrorIs(t, err, syscall.E2BIG)
	assert.ErrorContains(t, err, "the XSKMAP has no entry 1")
}
