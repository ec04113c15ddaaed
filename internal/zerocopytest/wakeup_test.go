package zerocopytest

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// A driver in zero copy fills the NIC's ring out of the fill ring. When that is
// empty it goes to sleep, and asks to be woken; on a veth pair that never happens.
func TestEmptyFillRingAsksToBeWoken(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to string) {
		xsks := attach(t, to)
		c := xsk.SocketConfig{BindFlags: xsk.BindZeroCopy | xsk.BindNeedWakeup}
		rx := newEnd(t, to, newUmem(t, small), c, 0, small.Frames)
		tx := newEnd(t, from, newUmem(t, small), c, 0, small.Frames)
		require.NoError(t, rx.UpdateXSKMap(xsks))
		for round := range 5 {
			within(t, "the request to be woken", rx.Fill.NeedsWakeup)
			starve(t, tx, rx, round*1000, round%2 == 0)
		}
	})
}

// starve sends ten packets to a receiver without a frame, gives it 64, and sends
// packets until they are used up.
func starve(t *testing.T, tx, rx *end, number int, call bool) {
	t.Helper()
	const early, posted = 10, 64
	descs := make([]xsk.Desc, early)
	for i := range descs {
		descs[i] = xsk.Desc{Addr: tx.send[i], Len: shortest}
		fill(tx.umem.Bytes(descs[i]), number+i)
	}
	tx.put(t, descs)
	require.Zero(t, rx.Rx.Consume(make([]xsk.Desc, 1)), "received without a frame")

	require.Equal(t, posted, rx.Fill.Produce(rx.fill[:posted]))
	rest := rx.fill[posted:]
	rx.fill = nil
	require.True(t, rx.Fill.NeedsWakeup(), "nobody has woken it")
	if call {
		require.NoError(t, rx.WakeRx())
	} // else RxBurst does it
	first := rx.receive(t, 1)[0]
	tx.reap(t, early)

	// A NIC loses what comes when it has no frame; an emulated one makes it wait, and
	// may overtake it with what comes then.
	seen := map[int]bool{}
	take := func(d xsk.Desc) {
		b := rx.umem.Bytes(d)
		n := int(binary.BigEndian.Uint32(b[14:]))
		check(t, b, n, shortest)
		require.False(t, seen[n], "twice")
		seen[n] = true
		rest = append(rest, d.Addr-d.Addr%xsk.Addr(small.FrameSize))
	}
	take(first)
	for next := number + early; len(seen) < posted; next++ {
		tx.transmit(t, next, []int{shortest})
		for !seen[next] {
			take(rx.receive(t, 1)[0])
		}
	}
	rx.fill = rest
}
