package kerneltest

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
)

// SEND_RECEIVE_UNALIGNED: packets anywhere, every other one across two pages, into
// frames that begin anywhere, on memory of small and of huge pages, where there are some.
func sendReceiveUnaligned(t *testing.T, m mode) {
	for _, size := range []int{2048, 2050, 3000, 4001, 4096} {
		shifts := []int{0, 77} // of what is posted
		if size == 4001 {
			shifts = []int{0, 1, 77, 2000}
		}
		for _, shift := range shifts {
			exchangeUnaligned(t, m, unaligned(size), shift)
		}
	}
	for _, size := range []int{3000, 4096} {
		c := unaligned(size)
		c.HugePages = true // of those that are set aside, as in the kernel's suite
		exchangeUnaligned(t, m, c, 77)
		c = unaligned(size)
		c.Area = transparent(t, c.Frames*size)
		exchangeUnaligned(t, m, c, 77)
	}
}

func exchangeUnaligned(t *testing.T, m mode, c xsk.UmemConfig, shift int) {
	t.Helper()
	w := wire{umem: c, shift: xsk.Addr(shift)}
	if c.Area != nil { // the sender has memory of its own
		w.umem.Area = nil
	}
	tx, rx := w.layOn(t, m, c)
	if c.HugePages {
		t.Logf("huge pages that are set aside: %t", rx.umem.HugePages())
	}
	var all []parcel
	for i := range 512 {
		page := xsk.Addr(4096 * (1 + i%250))
		if i%2 == 0 {
			all = append(all, one(page-32, 64))
		} else {
			all = append(all, one(page+33, 64))
		}
	}
	exchange(t, tx, rx, 64, all)

	// What is received goes out again by the address that it came with, offset and
	// all, and comes back by it.
	require.NoError(t, tx.UpdateXSKMap(w.attach(t, w.from, m)))
	tx.post(t)
	tx.write(7, all[0])
	tx.transmit(t, all[:1])
	descs := make([]xsk.Desc, 1)
	within(t, patience, func() bool { return rx.Rx.Consume(descs) == 1 })
	require.NotZero(t, descs[0].Addr.Offset())
	rx.transmit(t, []parcel{{descs: descs}})
	require.Equal(t, 7, number(tx.receive(t, 1)[0]))
}

// transparent maps memory that the kernel is asked to make of huge pages, and says of
// how many bytes it did. Where it never does, that is nothing.
func transparent(t *testing.T, size int) []byte {
	t.Helper()
	const huge = 2 << 20
	all, err := unix.Mmap(-1, 0, size+2*huge, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Munmap(all)) })
	start := int(-uintptrOf(all) % huge)
	area := all[start : start+(size+huge-1)/huge*huge]
	if err := unix.Madvise(area, unix.MADV_HUGEPAGE); err != nil {
		t.Logf("transparent huge pages: %v", err)
	}
	clear(area)
	t.Logf("transparent huge pages: %d bytes of %d", hugeBytes(t, uintptrOf(area)), size)
	return area[:size:size]
}

// hugeBytes is what of the mapping with that address is huge pages.
func hugeBytes(t *testing.T, address uintptr) int {
	t.Helper()
	content, err := os.ReadFile("/proc/self/smaps")
	require.NoError(t, err)
	inside := false
	for line := range strings.Lines(string(content)) {
		var first, last uintptr
		var kib int
		if n, _ := fmt.Sscanf(line, "%x-%x ", &first, &last); n == 2 {
			inside = first <= address && address < last
		} else if n, _ := fmt.Sscanf(line, "AnonHugePages: %d kB", &kib); n == 1 && inside {
			return kib << 10
		}
	}
	return 0
}

// queueUnaligned is SEND_RECEIVE_UNALIGNED through Queues: frames of many sizes,
// with and without headroom, received, kept, prepended to, and sent on.
func queueUnaligned(t *testing.T, m mode) {
	for _, u := range []xsk.UmemConfig{unaligned(2048), unaligned(2050), unaligned(3000), unaligned(4001), unaligned(4096)} {
		u.Frames, u.Headroom = 300, u.FrameSize%100
		a, b := pair(t, m, xsk.Config{UmemConfig: u})
		length := min(1500, b.Umem().MaxPacket())
		queueExchange(t, a, b, 1024, 64, length)
		frames := make([]xsk.Frame, 16)
		for round := range 40 { // every frame several times
			send(t, a, round, 16, length)
			each(t, b, 16, func(i int, f *xsk.Frame) {
				f.Keep()
				require.Equal(t, round+i, number(f.Data))
				require.Equal(t, u.FrameSize-256-u.Headroom, cap(f.Data))
				require.False(t, f.Prepend(256+u.Headroom+1))
				require.True(t, f.Prepend(256+u.Headroom))
				require.Equal(t, u.FrameSize, cap(f.Data))
				f.Data = f.Data[:length-100] // from the frame's first byte
				fill(f.Data, 1000+round+i)
				frames[i] = *f
			})
			n, err := b.Send(frames)
			require.NoError(t, err)
			require.Equal(t, 16, n)
			expect(t, a, 1000+round, 16)
			_, err = b.Send(frames[:1])
			require.ErrorContains(t, err, "is stale")
		}
		settled(t, 0, a, b)
		assert.EqualValues(t, 1024+40*16, b.Stats().RxPackets)
	}
}

// queueUnalignedInvalid is UNALIGNED_INV_DESC through Queues: Send knows where a
// frame ends, which the kernel does not.
func queueUnalignedInvalid(size int) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{UmemConfig: unaligned(size)})
		good := write(t, a, 5, 1, 60)[0]
		room := cap(good.Data)
		for about, data := range map[string][]byte{
			"into the next frame":   wider(good.Data, room+1),
			"before the frame":      before(good.Data, 256+1),
			"of the next frame":     wider(good.Data, room+100)[room+1:],
			"not of any frame":      make([]byte, 60),
			"the frame after a lot": wider(good.Data, 10*size)[9*size:],
		} {
			wrong := good
			wrong.Data = data
			n, err := a.Send([]xsk.Frame{wrong})
			assert.Zero(t, n, about)
			assert.ErrorContains(t, err, "lies outside of it", about)
		}
		n, err := a.Send([]xsk.Frame{good})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		expect(t, b, 5, 1)
		settled(t, 0, a, b)
		assert.Zero(t, must(a.Socket().Stats()).TxInvalidDescs)
	}
}
