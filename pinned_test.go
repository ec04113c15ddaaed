package xsk_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// pin pins a BPF object until t ends.
func pin(t *testing.T, fd int) string {
	t.Helper()
	path := fmt.Sprintf("/sys/fs/bpf/xsk-%d", fd)
	name, err := unix.BytePtrFromString(path)
	require.NoError(t, err)
	object := struct {
		path unsafe.Pointer
		fd   uint64
	}{unsafe.Pointer(name), uint64(fd)}
	testns.BPF(t, unix.BPF_OBJ_PIN, unsafe.Pointer(&object), unsafe.Sizeof(object))
	t.Cleanup(func() { assert.NoError(t, os.Remove(path)) })
	return path
}

// redirectByKey attaches a program of the user's, known by nothing but its map's
// descriptor, that redirects every packet to one key.
func redirectByKey(t *testing.T, ifname string, m mode, slots xsk.MapFD, key int) {
	t.Helper()
	const pass = 2 // XDP_PASS, for an entry without a socket
	testns.AttachXDP(t, ifname, "by_key", uint32(m.flags),
		0x18|1<<8|1<<12|uint64(slots)<<32, 0, // r1 = the map
		0xb7|2<<8|uint64(key)<<32, 0xb7|3<<8|pass<<32, // r2 = key, r3 = XDP_PASS
		0x85|51<<32, 0x95) // bpf_redirect_map; exit
}

func TestPinnedMapServesSocketsByAnotherKey(t *testing.T) {
	const key = 5
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		path := pin(t, int(newXSKMap(t, 8)))
		slots, err := xsk.OpenXSKMap(path)
		require.NoError(t, err)
		redirectByKey(t, b, m, slots, key)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 64))
		require.NoError(t, rx.UpdateXSKMap(slots), "under its queue number, which nobody asks for")
		tx.send(t, 0, 1, 60)
		rx.quiet(t)
		require.NoError(t, rx.UpdateXSKMapKey(slots, key))
		tx.send(t, 1, 1, 60)
		assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))

		// Another socket takes the entry over, by another descriptor of the map; the
		// first one's move to another entry leaves it alone.
		again, err := xsk.OpenXSKMap(path)
		require.NoError(t, err)
		second := &end{newSocket(t, b, 0, rx.umem, nil), rx.umem}
		require.NoError(t, second.UpdateXSKMapKey(again, key))
		require.NoError(t, again.Close())
		require.NoError(t, rx.UpdateXSKMapKey(slots, 6))
		tx.send(t, 2, 1, 60)
		assert.Equal(t, 2, number(t, rx.umem.Bytes(second.receive(t, 1)[0])))
		rx.quiet(t)

		// Closed, it takes its entry out, and packets go to the kernel.
		kernel := packetSocket(t, b)
		require.NoError(t, second.Socket.Close())
		require.NoError(t, slots.Close(), "the sockets have descriptors of their own")
		tx.send(t, 3, 1, 60)
		got := make([]byte, 100)
		n, _, err := unix.Recvfrom(kernel, got, 0)
		require.NoError(t, err)
		assert.Equal(t, 3, number(t, got[:n]))
	})
}

// Two sockets on one queue that a program tells apart both have their entries,
// and a key beyond the map, or below, is refused with its number.
func TestKeysOfOneQueueAreSeparate(t *testing.T) {
	_, b := vethPair(t)
	slots := newXSKMap(t, 4)
	u := newUmem(t, &small)
	first := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	second := newSocket(t, b, 0, u, nil)
	require.NoError(t, first.UpdateXSKMapKey(slots, 2))
	require.NoError(t, second.UpdateXSKMapKey(slots, 3))
	err := second.UpdateXSKMapKey(slots, 4)
	assert.ErrorIs(t, err, syscall.E2BIG)
	assert.ErrorContains(t, err, "the XSKMAP has no entry 4")
	err = second.UpdateXSKMapKey(slots, -1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "-1 is no key")
}

func TestOpenXSKMapRefusesWhatIsNone(t *testing.T) {
	testns.Kernel(t)
	_, err := xsk.OpenXSKMap("/sys/fs/bpf/nothing")
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "xsk: open pinned XSKMAP /sys/fs/bpf/nothing: ")
	create := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1}
	other := testns.BPF(t, unix.BPF_MAP_CREATE, unsafe.Pointer(&create), unsafe.Sizeof(create))
	defer unix.Close(other)
	before := descriptors(t)
	_, err = xsk.OpenXSKMap(pin(t, other))
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "it is no XSKMAP")
	assert.Equal(t, before, descriptors(t))
}
