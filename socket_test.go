package xsk_test

import (
	"net"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestEveryByteArrivesOnceAndInOrder(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		for _, headroom := range []int{0, 128, 512} {
			uc := small
			uc.Headroom = headroom
			tx, rx := newPair(t, m, uc)
			owned := rx.frames(0, 128)
			filled, received, err := rx.RxBurst(owned, nil)
			require.NoError(t, err)
			require.Equal(t, 128, filled)
			require.Zero(t, received)
			longest := min(rx.umem.MaxPacket(), 1514)
			for first := 0; first < 2000; first += 100 {
				tx.send(t, first, 100, minPacket+42+first%(longest-minPacket-42))
				seen := map[xsk.Addr]bool{}
				descs := rx.receive(t, 100)
				addrs := owned[:0]
				for i, d := range descs {
					require.Equal(t, first+i, number(t, rx.umem.Bytes(d)))
					// The packet lies past both headrooms, in a frame of its own.
					start := d.Addr - d.Addr%2048
					require.Equal(t, xsk.Addr(headroom+256), d.Addr-start)
					require.False(t, seen[start], "frame %#x delivered twice", start)
					seen[start] = true
					addrs = append(addrs, start)
				}
				require.Equal(t, 100, rx.Fill.Produce(addrs))
			}
			assert.Equal(t, xsk.Stats{}, withoutTxEmpty(rx.stats(t)))
			rx.quiet(t)
			require.NoError(t, rx.Socket.Close())
		}
	})
}

// withoutTxEmpty clears the one counter that grows in normal use.
func withoutTxEmpty(s xsk.Stats) xsk.Stats {
	s.TxRingEmpty = 0
	return s
}

func TestBurstsLargerThanTheRing(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		uc := xsk.UmemConfig{Frames: 1024, FrameSize: 2048, FillSize: 1024, CompletionSize: 16}
		rx := newEnd(t, b, &uc, &xsk.SocketConfig{RxSize: 1024, XDPFlags: m.flags})
		tx := newEnd(t, a, &uc, &xsk.SocketConfig{TxSize: 32, InhibitProgLoad: true})
		require.Equal(t, 1000, rx.Fill.Produce(rx.frames(0, 1000)))
		// 200 packets through a TX ring of 32 and a completion ring of 16: only a
		// burst that reaps between its kicks gets them all through.
		tx.send(t, 0, 200, 100)
		for i, d := range rx.receive(t, 200) {
			require.Equal(t, i, number(t, rx.umem.Bytes(d)))
		}
		filled, received, err := rx.RxBurst(rx.frames(0, 1024), make([]xsk.Desc, 5000))
		require.NoError(t, err)
		assert.Equal(t, 224, filled, "1024 entries, 800 still in use")
		assert.Zero(t, received)
	})
}

func TestOneTxBurstSendsMoreThanOneKick(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		rx.Fill.Produce(rx.frames(0, 256))
		descs := make([]xsk.Desc, 200)
		for i := range descs {
			descs[i] = xsk.Desc{Addr: tx.frame(i), Len: 60}
			fillPacket(tx.umem.Bytes(descs[i]), i)
		}
		queued, _, err := tx.TxBurst(descs, make([]xsk.Addr, 200))
		require.NoError(t, err)
		assert.Equal(t, 200, queued)
		assert.Equal(t, 2048, tx.Tx.Free(), "copy mode takes 32 a kick, so 7 kicks")
		rx.receive(t, 200)
	})
}

func TestCountersGrowWhenAndOnlyWhenTheyShould(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		count := func(name string, want xsk.Stats, provoke func(tx, rx *end) *end) {
			t.Run(name, func(t *testing.T) {
				a, b := testns.Veth{MTU: 3000}.Make(t)
				rx := newEnd(t, b, &small, &xsk.SocketConfig{RxSize: 16, XDPFlags: m.flags})
				tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
				e := provoke(tx, rx)
				assert.Equal(t, want, withoutTxEmpty(e.stats(t)))
			})
		}
		count("nothing wrong", xsk.Stats{}, func(tx, rx *end) *end {
			rx.Fill.Produce(rx.frames(0, 10))
			tx.send(t, 0, 10, 60)
			rx.receive(t, 10)
			return rx
		})
		count("fill ring empty", xsk.Stats{RxDropped: 6, RxFillRingEmpty: 6}, func(tx, rx *end) *end {
			rx.Fill.Produce(rx.frames(0, 4))
			tx.send(t, 0, 10, 60)
			rx.receive(t, 4)
			return rx
		})
		count("rx ring full", xsk.Stats{RxRingFull: 5}, func(tx, rx *end) *end {
			rx.Fill.Produce(rx.frames(0, 100))
			tx.send(t, 0, 21, 60)
			rx.receive(t, 16)
			return rx
		})
		count("packet longer than a frame holds", xsk.Stats{RxDropped: 1}, func(tx, rx *end) *end {
			rx.Fill.Produce(rx.frames(0, 10))
			tx.send(t, 0, 1, rx.umem.MaxPacket())
			rx.receive(t, 1)
			tx.send(t, 1, 1, rx.umem.MaxPacket()+1)
			rx.quiet(t)
			return rx
		})
		count("bad descriptors", xsk.Stats{TxInvalidDescs: 3}, func(tx, _ *end) *end {
			_, _, err := tx.TxBurst([]xsk.Desc{
				{Addr: 512 * 2048, Len: 60},             // beyond the Umem
				{Addr: 2000, Len: 60},                   // across two frames
				{Addr: 0, Len: 60, Options: 0x80000000}, // unknown option
			}, make([]xsk.Addr, 8))
			require.NoError(t, err)
			return tx
		})
		count("bad fill address", xsk.Stats{RxDropped: 1, RxFillRingEmpty: 1}, func(tx, rx *end) *end {
			rx.Fill.Produce([]xsk.Addr{1 << 40}) // the kernel drops it without a count
			tx.send(t, 0, 1, 60)
			rx.quiet(t)
			return rx
		})
	})
}

func TestTxRingEmptyCountsDrains(t *testing.T) {
	tx, _ := newPair(t, modes[0], small)
	before := tx.stats(t).TxRingEmpty
	tx.send(t, 0, 1, 60)
	assert.Greater(t, tx.stats(t).TxRingEmpty, before)
}

func TestTxBurstReportsADroppingDevice(t *testing.T) {
	tx, _ := newPair(t, modes[0], small)
	// The kernel takes a packet shorter than an Ethernet header, and drops it.
	queued, completed, err := tx.TxBurst([]xsk.Desc{{Len: 10}, {Addr: 2048, Len: 10}}, make([]xsk.Addr, 2))
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "queue 0: the device dropped a packet")
	assert.Equal(t, 2, queued)
	assert.Equal(t, 2, completed, "the frames come back all the same")
	kicks := uint64(2)
	if !kernel.AtLeast("6.17 the TX ring's consumer index is published with each kick") {
		kicks++ // to hear of the second packet
	}
	assert.Equal(t, xsk.KickStats{Kicks: kicks, Dropped: 2}, tx.KickStats())
	tx.send(t, 0, 100, 60)
	assert.Equal(t, xsk.KickStats{Kicks: kicks + 4, Dropped: 2}, tx.KickStats(), "32 a kick")
	require.NoError(t, tx.Socket.Close())
	assert.Zero(t, tx.KickStats())
}

func TestLinkDownAndUp(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		rx := newEnd(t, b, &small, &xsk.SocketConfig{XDPFlags: m.flags})
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 100))
		testns.IP(t, "link", "set", a, "down")
		desc := []xsk.Desc{{Addr: 0, Len: 60}}
		fillPacket(tx.umem.Bytes(desc[0]), 7)
		queued, completed, err := tx.TxBurst(desc, make([]xsk.Addr, 1))
		require.ErrorIs(t, err, syscall.ENETDOWN)
		assert.Equal(t, 1, queued, "queued all the same")
		assert.Zero(t, completed)
		ready, err := tx.PollRx(10 * time.Millisecond)
		assert.NoError(t, err, "a link that is down is no error for a receiver")
		assert.False(t, ready)
		testns.IP(t, "link", "set", a, "up")
		tx.transmit(t, nil)
		within(t, 5*time.Second, func() bool {
			_, c, _ := tx.TxBurst(nil, make([]xsk.Addr, 1))
			completed += c
			return completed == 1
		})
		assert.Equal(t, 7, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))
	})
}

func TestRemovedInterfaceIsAnErrorForBothDirections(t *testing.T) {
	a, b := vethPair(t)
	rx := newEnd(t, a, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	testns.IP(t, "link", "del", b)
	for range 3 {
		_, err := rx.PollRx(5 * time.Second)
		require.ErrorIs(t, err, syscall.ENODEV)
		assert.ErrorContains(t, err, "xsk: poll "+a+" queue 0: the interface is gone")
	}
	_, _, err := rx.TxBurst([]xsk.Desc{{Len: 60}}, nil)
	require.ErrorIs(t, err, syscall.ENODEV)
	assert.NotErrorIs(t, err, syscall.ENETDOWN, "that would pass")
}

func TestRemovalWakesAParkedReader(t *testing.T) {
	a, b := vethPair(t)
	rx := newEnd(t, a, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	failed := make(chan error, 1)
	go func() {
		_, err := rx.PollRx(-1)
		failed <- err
	}()
	time.Sleep(20 * time.Millisecond)
	testns.IP(t, "link", "del", b)
	select {
	case err := <-failed:
		assert.ErrorIs(t, err, syscall.ENODEV)
	case <-time.After(5 * time.Second):
		assert.Fail(t, "still parked")
	}
}

func TestAfterCloseEverythingAnswersErrClosedOrZero(t *testing.T) {
	a, _ := vethPair(t)
	for _, polled := range []bool{false, true} {
		u := newUmem(t, &small)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		require.NoError(t, err)
		if polled {
			_, _ = s.PollRx(0)
		}
		require.NoError(t, s.Close())
		require.NoError(t, s.Close())
		_, err = s.Stats()
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = s.ZeroCopy()
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = s.PollRx(-1)
		assert.ErrorIs(t, err, net.ErrClosed)
		_, err = s.PollTx(0)
		assert.ErrorIs(t, err, net.ErrClosed)
		_, _, err = s.RxBurst([]xsk.Addr{0}, make([]xsk.Desc, 1))
		assert.ErrorIs(t, err, net.ErrClosed)
		_, _, err = s.TxBurst(make([]xsk.Desc, 1), make([]xsk.Addr, 1))
		assert.ErrorIs(t, err, net.ErrClosed)
		assert.ErrorIs(t, s.WakeRx(), net.ErrClosed)
		assert.ErrorIs(t, s.WakeTx(), net.ErrClosed)
		assert.ErrorIs(t, s.UpdateXSKMap(xsk.MapFD(0)), net.ErrClosed)
		assert.Equal(t, -1, s.FD())
		assert.Zero(t, s.Fill.Produce([]xsk.Addr{0}), "the Umem's rings went with its last socket")
		assert.Zero(t, s.Rx.Consume(make([]xsk.Desc, 1)))
		assert.Zero(t, s.Tx.Produce(make([]xsk.Desc, 1)))
		assert.Zero(t, s.Tx.Free())
		assert.Zero(t, s.Completion.Consume(make([]xsk.Addr, 1)))
		assert.Contains(t, s.String(), a+" queue 0: copy, rx 2048, tx 2048")
		_, err = xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "last socket is closed")
		require.NoError(t, u.Close())
	}
}

func TestRebindFiftyTimesInARow(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		for i := range 50 {
			u, err := xsk.NewUmem(&small)
			require.NoError(t, err)
			rx, err := xsk.NewSocket(b, 0, u, &xsk.SocketConfig{XDPFlags: m.flags})
			require.NoError(t, err, "round %d", i)
			e := &end{rx, u}
			e.Fill.Produce(e.frames(0, 4))
			tx.send(t, i, 1, 60)
			require.Equal(t, i, number(t, u.Bytes(e.receive(t, 1)[0])))
			require.NoError(t, rx.Close())
			require.NoError(t, u.Close())
		}
	})
}

func TestQueueThatSomebodyHoldsIsBusy(t *testing.T) {
	a, _ := vethPair(t)
	first := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	u := newUmem(t, &small)
	_, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.EqualError(t, err, "xsk: bind "+a+" queue 0: another Socket or Queue of this program holds the queue; waited 1s for it: device or resource busy")
	require.NoError(t, first.Close())
	_, err = xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "a Umem of this program holds the queue, whose first Socket was on it; close the Umem;")
	// The Umem is still good for another queue.
	_, b := vethPair(t)
	_, err = xsk.NewSocket(b, 0, u, &xsk.SocketConfig{RxSize: 64, InhibitProgLoad: true})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "has made that ring with 2048 entries")
	newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
}

func TestAChildProcessDoesNotHoldTheQueue(t *testing.T) {
	a, _ := vethPair(t)
	u, err := xsk.NewUmem(&small)
	require.NoError(t, err)
	s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, err)
	_, _ = s.PollRx(0)
	child := exec.Command("sleep", "60")
	require.NoError(t, child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	require.NoError(t, s.Close())
	require.NoError(t, u.Close())
	newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
}

func TestZeroCopyIsTruthful(t *testing.T) {
	a, _ := vethPair(t)
	e := newEnd(t, a, &small, &xsk.SocketConfig{BindFlags: xsk.BindNeedWakeup, InhibitProgLoad: true})
	zc, err := e.ZeroCopy()
	require.NoError(t, err)
	assert.False(t, zc, "veth has none")
	assert.Equal(t, a+" queue 0: copy, rx 2048, tx 2048, 512 frames of 2048 bytes", e.String())
}
