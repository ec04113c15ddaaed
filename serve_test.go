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
	"github.com/go-xsk/xsk/internal/testns"
)

var pass = []uint64{0xb7 | 2<<32, 0x95} // return XDP_PASS

func requireNotServed(t *testing.T, q *xsk.Queue, why string) {
	t.Helper()
	err := q.Check()
	require.ErrorIs(t, err, xsk.ErrNotServed)
	assert.ErrorContains(t, err, "xsk: check va")
	assert.ErrorContains(t, err, why)
}

// off takes the program off the interface, as somebody else may.
func off(t *testing.T, ifname string, m mode) {
	t.Helper()
	word := "xdpgeneric"
	if m.flags == xsk.XDPDrvMode {
		word = "xdpdrv"
	}
	testns.IP(t, "link", "set", "dev", ifname, word, "off")
}

// libxdp's program is attached without a link, so anybody with CAP_NET_ADMIN takes
// it off, and Receive waits.
func TestCheckSaysThatLibxdpsProgramIsGone(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, _ := vethPair(t)
		q, err := xsk.Open(a, 0, &xsk.Config{LibxdpProgram: true, UmemConfig: smallQueue, SocketConfig: xsk.SocketConfig{XDPFlags: m.flags}})
		require.NoError(t, err)
		defer q.Close()
		require.NoError(t, q.Check())
		without(t, func() { assert.NoError(t, q.Check()) }, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_NET_ADMIN)

		off(t, a, m)
		requireNotServed(t, q, "no XDP program is on the interface")
		without(t, func() { requireNotServed(t, q, "no XDP program") }, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_NET_ADMIN)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		_, err = q.Receive(make([]xsk.Frame, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, "it waits")

		testns.AttachXDP(t, a, "somebody_else", uint32(m.flags), pass...)
		requireNotServed(t, q, `"somebody_else", which does not have the queue's XSKMAP, is on the interface`)
		without(t, func() { assert.NoError(t, q.Check(), "it cannot look") }, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_NET_ADMIN)
	})
}

func TestCheckOfAMapOfOnesOwn(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		xsks := newXSKMap(t, 1)
		q, err := xsk.Open(a, 0, &xsk.Config{XSKMap: xsks, UmemConfig: smallQueue})
		require.NoError(t, err)
		defer q.Close()
		requireNotServed(t, q, "no XDP program")
		attachOwn(t, a, m, xsks)
		require.NoError(t, q.Check(), "the program came later")
		elsewhere(t, func() { assert.NoError(t, q.Check()) })

		// Another process, which knows nothing of this one's sockets, deletes the entry.
		key := uint32(0)
		entry := struct {
			fd         uint64
			key, value unsafe.Pointer
			flags      uint64
		}{fd: uint64(xsks.FileDescriptor()), key: unsafe.Pointer(&key)}
		change := func(command int) {
			t.Helper()
			testns.BPF(t, command, unsafe.Pointer(&entry), unsafe.Sizeof(entry))
		}
		change(unix.BPF_MAP_DELETE_ELEM)
		send := rawSender(t, b)
		frames := make([]xsk.Frame, 1)
		send(1)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = q.Receive(frames)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, q.Check(), "which puts it back")
		send(1)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(5*time.Second))))
		_, err = q.Receive(frames)
		require.NoError(t, err)

		// It puts a socket of its own there.
		fd := uint32(newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true}).FD())
		entry.value = unsafe.Pointer(&fd)
		change(unix.BPF_MAP_UPDATE_ELEM)
		requireNotServed(t, q, "another socket has entry 0 of the XSKMAP")
	})
}

func TestCheckNamesTheSocketThatHasTheEntry(t *testing.T) {
	a, _ := vethPair(t)
	slot := redirect(t, a, modes[0])
	first := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, first.Check(), "it is in no map")
	require.NoError(t, first.UpdateXSKMap(slot))
	require.NoError(t, first.Check())
	second := newSocket(t, a, 0, first.umem, nil)
	require.NoError(t, second.UpdateXSKMap(slot))
	err := first.Check()
	require.ErrorIs(t, err, xsk.ErrNotServed)
	assert.ErrorContains(t, err, "another socket ("+a+" queue 0) has entry 0")
	require.NoError(t, second.Close())
	require.NoError(t, first.Check(), "the entry is empty, and its own again")
}

func TestCheckOfAnInterfaceThatIsGone(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		for _, only := range []xsk.SocketConfig{{}, {TxOnly: true}, {RxOnly: true}} {
			a, _ := vethPair(t)
			cfg := xsk.Config{UmemConfig: smallQueue, SocketConfig: only}
			if !only.TxOnly {
				cfg.XSKMap = redirect(t, a, m)
			}
			q, err := xsk.Open(a, 0, &cfg)
			require.NoError(t, err)
			require.NoError(t, q.Check())
			testns.IP(t, "link", "del", a)
			for range 2 {
				err = q.Check()
				require.ErrorIs(t, err, syscall.ENODEV)
				assert.ErrorContains(t, err, "the interface is gone")
			}
			require.NoError(t, q.Close())
			require.ErrorIs(t, q.Check(), net.ErrClosed)
		}
	})
}
