package zerocopytest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// An end is a socket in zero copy on one of the NICs, worked by its rings.
type end struct {
	*xsk.Socket
	umem *xsk.Umem
	fill []xsk.Addr // its frames to receive into, as far as the kernel has none of them
	send []xsk.Addr // its frames to send from, likewise
}

var (
	small = xsk.UmemConfig{Frames: 256, FrameSize: 2048}
	// In zero copy no frame may cross from a page to one that is elsewhere in memory;
	// within a huge page there is no such.
	odd = xsk.UmemConfig{Frames: 256, FrameSize: 2100, Headroom: 100, Flags: xsk.UmemUnalignedChunk, HugePages: true}
)

func newUmem(t *testing.T, c xsk.UmemConfig) *xsk.Umem {
	t.Helper()
	u, err := xsk.NewUmem(&c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, u.Close()) })
	require.Equal(t, c.HugePages, u.HugePages(), "echo 64 >/proc/sys/vm/nr_hugepages makes some")
	return u
}

// newEnd binds queue 0 of the NIC on frames first to first+n of u, three quarters of
// them to receive into.
func newEnd(t *testing.T, nic string, u *xsk.Umem, c xsk.SocketConfig, first, n int) *end {
	t.Helper()
	c.InhibitProgLoad = true
	s, err := xsk.NewSocket(nic, 0, u, &c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	granted(t, s)
	e := &end{Socket: s, umem: u}
	for i := range n {
		a := xsk.Addr((first + i) * u.FrameSize())
		if i < n/4*3 {
			e.fill = append(e.fill, a)
		} else {
			e.send = append(e.send, a)
		}
	}
	return e
}

// transmit sends packets number first, first+1 ... of these lengths and returns
// when all have been sent.
func (e *end) transmit(t *testing.T, first int, lengths []int) {
	t.Helper()
	descs := make([]xsk.Desc, len(lengths))
	for i, n := range lengths {
		descs[i] = xsk.Desc{Addr: e.send[i], Len: uint32(n)}
		fill(e.umem.Bytes(descs[i]), first+i)
	}
	e.put(t, descs)
	require.ElementsMatch(t, e.send[:len(lengths)], e.reap(t, len(lengths)))
}

// put queues descs and has them sent.
func (e *end) put(t *testing.T, descs []xsk.Desc) {
	t.Helper()
	queued, completed, err := e.TxBurst(descs, nil)
	require.NoError(t, err)
	require.Equal(t, len(descs), queued)
	require.Zero(t, completed)
}

// reap returns the addresses of n packets that were sent.
func (e *end) reap(t *testing.T, n int) []xsk.Addr {
	t.Helper()
	done, got := make([]xsk.Addr, n), 0
	within(t, "sending", func() bool {
		_, k, err := e.TxBurst(nil, done[got:])
		require.NoError(t, err)
		got += k
		return got == n
	})
	return done
}

// receive gives the kernel all frames there are and takes n packets, in order.
func (e *end) receive(t *testing.T, n int) []xsk.Desc {
	t.Helper()
	descs, got := make([]xsk.Desc, n), 0
	within(t, "receiving", func() bool {
		filled, k, err := e.RxBurst(e.fill, descs[got:])
		require.NoError(t, err)
		e.fill = e.fill[filled:]
		got += k
		return got == n
	})
	return descs
}

// expect takes the packets that transmit has sent, compares every byte, and asserts
// that each is where the kernel puts one.
func (e *end) expect(t *testing.T, first int, lengths []int) {
	t.Helper()
	c := e.umem.Config()
	room := uint64(256 + c.Headroom)
	for i, d := range e.receive(t, len(lengths)) {
		check(t, e.umem.Bytes(d), first+i, lengths[i])
		base := uint64(d.Addr.Base())
		if c.Flags&xsk.UmemUnalignedChunk != 0 {
			require.Equal(t, room, d.Addr.Offset())
		} else {
			require.Equal(t, room, base%uint64(c.FrameSize))
			base -= room
		}
		e.fill = append(e.fill, xsk.Addr(base))
	}
}

// prime gives the receiver frames and has it receive a packet: from then on the
// driver has as many as it takes.
func prime(t *testing.T, tx, rx *end) (next int) {
	t.Helper()
	rx.receive(t, 0)
	fill(tx.umem.Bytes(xsk.Desc{Addr: tx.send[0], Len: shortest}), 0)
	tx.put(t, []xsk.Desc{{Addr: tx.send[0], Len: shortest}})
	rx.expect(t, 0, []int{shortest})
	tx.reap(t, 1)
	rx.receive(t, 0)
	return 1
}

// everyLength are the lengths of Ethernet, in bursts.
func everyLength(burst int) (bursts [][]int) {
	var now []int
	for n := shortest; n <= longest; n++ {
		if now = append(now, n); len(now) == burst || n == longest {
			bursts = append(bursts, now)
			now = nil
		}
	}
	return bursts
}

func TestEveryByteOfEveryLengthArrives(t *testing.T) {
	wakeup := xsk.SocketConfig{BindFlags: xsk.BindZeroCopy | xsk.BindNeedWakeup}
	for _, c := range []struct {
		name   string
		umem   xsk.UmemConfig
		socket xsk.SocketConfig
		poll   xsk.BusyPoll
	}{
		{"frames of 2048", small, wakeup, xsk.BusyPoll{}},
		{"frames of 4096", xsk.UmemConfig{Frames: 256, FrameSize: 4096}, wakeup, xsk.BusyPoll{}},
		{"headroom", xsk.UmemConfig{Frames: 256, FrameSize: 2048, Headroom: 128}, wakeup, xsk.BusyPoll{}},
		{"huge pages", xsk.UmemConfig{Frames: 256, FrameSize: 2048, HugePages: true}, wakeup, xsk.BusyPoll{}},
		{"unaligned, frames of 3000", xsk.UmemConfig{Frames: 256, FrameSize: 3000, Flags: xsk.UmemUnalignedChunk, HugePages: true}, wakeup, xsk.BusyPoll{}},
		{"unaligned, headroom", odd, wakeup, xsk.BusyPoll{}},
		{"without need-wakeup", small, xsk.SocketConfig{BindFlags: xsk.BindZeroCopy}, xsk.BusyPoll{}},
		{"busy polling", small, wakeup, xsk.BusyPoll{Time: 50 * time.Microsecond, Budget: 64}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, from, to string) {
				xsks := attach(t, to)
				rx := newEnd(t, to, newUmem(t, c.umem), c.socket, 0, c.umem.Frames)
				tx := newEnd(t, from, newUmem(t, c.umem), c.socket, 0, c.umem.Frames)
				require.NoError(t, rx.UpdateXSKMap(xsks))
				if c.poll.Time > 0 {
					require.NoError(t, rx.SetBusyPoll(c.poll))
					require.NoError(t, tx.SetBusyPoll(c.poll))
				}
				first := prime(t, tx, rx)
				for _, lengths := range everyLength(64) {
					tx.transmit(t, first, lengths)
					rx.expect(t, first, lengths)
					first += len(lengths)
				}
			})
		})
	}
}

func TestOneWaySockets(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to string) {
		xsks := attach(t, to)
		flags := xsk.BindZeroCopy | xsk.BindNeedWakeup
		rx := newEnd(t, to, newUmem(t, small), xsk.SocketConfig{BindFlags: flags, RxOnly: true}, 0, small.Frames)
		tx := newEnd(t, from, newUmem(t, small), xsk.SocketConfig{BindFlags: flags, TxOnly: true}, 0, small.Frames)
		require.NoError(t, rx.UpdateXSKMap(xsks))
		first := prime(t, tx, rx)
		for _, lengths := range everyLength(32)[:8] {
			tx.transmit(t, first, lengths)
			rx.expect(t, first, lengths)
			first += len(lengths)
		}
	})
}
