package xsk_test

import (
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// newXSKMap makes an XSKMAP that no program uses.
func newXSKMap(t *testing.T, entries uint32) xsk.MapFD {
	t.Helper()
	fd := mapOf(t, entries)
	t.Cleanup(func() { assert.NoError(t, unix.Close(fd)) })
	return xsk.MapFD(fd)
}

// mapOf makes an XSKMAP, which is the caller's to close.
func mapOf(t testing.TB, entries uint32) int {
	t.Helper()
	create := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_XSKMAP, 4, 4, entries}
	return sysBPF(t, unix.BPF_MAP_CREATE, &create)
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
