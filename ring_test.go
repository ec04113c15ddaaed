package xsk_test

import (
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

func TestProduceTakesWhatFits(t *testing.T) {
	u := newUmem(t, &xsk.UmemConfig{Frames: 16, FillSize: 8})
	addrs := make([]xsk.Addr, 16)
	assert.Equal(t, 8, u.Fill.Free())
	assert.Equal(t, 0, u.Fill.Produce(nil))
	assert.Equal(t, 5, u.Fill.Produce(addrs[:5]))
	assert.Equal(t, 3, u.Fill.Free())
	assert.Equal(t, 3, u.Fill.Produce(addrs[:5]))
	assert.Equal(t, 0, u.Fill.Produce(addrs))
	assert.Equal(t, 0, u.Fill.Free())
	assert.Equal(t, 0, u.Completion.Consume(addrs))
}

func TestRingsWrapAndCarryEveryByte(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		uc := xsk.UmemConfig{Frames: 64, FrameSize: 2048, FillSize: 16, CompletionSize: 16}
		sc := xsk.SocketConfig{RxSize: 16, TxSize: 16, XDPFlags: m.flags}
		a, b := vethPair(t)
		rx := newEnd(t, b, &uc, &sc)
		sc.InhibitProgLoad = true
		tx := newEnd(t, a, &uc, &sc)
		require.Equal(t, 16, rx.Fill.Produce(rx.frames(0, 16)))
		done, descs := make([]xsk.Addr, 16), make([]xsk.Desc, 16)
		// 7 does not divide 16, so the runs begin at every place in the ring.
		for round := range 100 {
			for i := range 7 {
				descs[i] = xsk.Desc{Addr: tx.frame(round+i).Base() % (64 * 2048), Len: uint32(minPacket + 60 + i)}
				fillPacket(tx.umem.Bytes(descs[i]), round*7+i)
			}
			require.Equal(t, 7, tx.Tx.Produce(descs[:7]))
			require.Equal(t, 9, tx.Tx.Free())
			want := append([]xsk.Desc(nil), descs[:7]...)
			require.NoError(t, tx.WakeTx())
			require.Equal(t, 16, tx.Tx.Free())
			n := 0
			within(t, time.Second, func() bool { n += tx.Completion.Consume(done[n:]); return n == 7 })
			for i := range want {
				assert.Equal(t, want[i].Addr, done[i])
			}
			n = 0
			within(t, time.Second, func() bool { n += rx.Rx.Consume(descs[n:]); return n == 7 })
			for i, d := range descs[:7] {
				require.Equal(t, want[i].Len, d.Len)
				require.Equal(t, round*7+i, number(t, rx.umem.Bytes(d)))
				done[i] = d.Addr
			}
			require.Equal(t, 7, rx.Fill.Produce(done[:7]))
			assert.False(t, rx.Fill.NeedsWakeup(), "copy mode never asks")
			assert.True(t, tx.Tx.NeedsWakeup(), "copy mode always asks")
		}
	})
}

func TestOneWaySocketsLackTheOtherRing(t *testing.T) {
	a, b := vethPair(t)
	rx := newEnd(t, a, &small, &xsk.SocketConfig{RxOnly: true, InhibitProgLoad: true})
	assert.Zero(t, rx.Tx.Produce(make([]xsk.Desc, 1)))
	assert.Zero(t, rx.Tx.Free())
	assert.False(t, rx.Tx.NeedsWakeup())
	assert.NoError(t, rx.WakeTx())
	queued, completed, err := rx.TxBurst(make([]xsk.Desc, 1), make([]xsk.Addr, 1))
	assert.Zero(t, queued+completed)
	assert.NoError(t, err)
	_, err = rx.PollTx(-1)
	assert.ErrorIs(t, err, syscall.EINVAL)

	tx := newEnd(t, b, &small, &xsk.SocketConfig{TxOnly: true, InhibitProgLoad: true})
	assert.Zero(t, tx.Rx.Consume(make([]xsk.Desc, 1)))
	assert.NoError(t, tx.WakeRx())
	filled, received, err := tx.RxBurst(nil, make([]xsk.Desc, 1))
	assert.Zero(t, filled+received)
	assert.NoError(t, err)
	_, err = tx.PollRx(-1)
	assert.ErrorIs(t, err, syscall.EINVAL)
	require.NoError(t, tx.Socket.Close())
	_, err = tx.PollRx(-1)
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestCloseWaitsForRingCallsInFlight(t *testing.T) {
	a, _ := vethPair(t)
	for range 50 {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		require.NoError(t, err)
		stop := make(chan struct{})
		var users sync.WaitGroup
		for _, use := range []func(){
			func() {
				s.RxBurst([]xsk.Addr{0}, make([]xsk.Desc, 8))
				_, _ = s.PollRx(time.Millisecond)
			},
			func() { s.TxBurst([]xsk.Desc{{Addr: 2048, Len: 60}}, make([]xsk.Addr, 8)) },
			func() { s.Fill.Free(); s.Tx.NeedsWakeup(); _, _ = s.Stats() },
		} {
			users.Add(1)
			go func() {
				defer users.Done()
				for {
					select {
					case <-stop:
						return
					default:
						use()
					}
				}
			}()
		}
		time.Sleep(time.Millisecond)
		require.NoError(t, s.Close())
		require.NoError(t, u.Close())
		close(stop)
		users.Wait()
	}
}

func TestHotPathsAllocateNothing(t *testing.T) {
	tx, rx := newPair(t, modes[0], small)
	rx.Fill.Produce(rx.frames(0, 256))
	var (
		addrs = tx.frames(0, 64)
		descs = make([]xsk.Desc, 64)
		got   = make([]xsk.Desc, 64)
		done  = make([]xsk.Addr, 64)
	)
	for i := range descs {
		descs[i] = xsk.Desc{Addr: addrs[i], Len: 64}
		fillPacket(tx.umem.Bytes(descs[i]), i)
	}
	received := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		_, _, _ = tx.TxBurst(descs, done)
		_, n, _ := rx.RxBurst(nil, got)
		for i, d := range got[:n] {
			done[i] = d.Addr
			received += len(rx.umem.Bytes(d)) / 64
		}
		_, _, _ = rx.RxBurst(done[:n], nil)
	}), "bursts")
	assert.NotZero(t, received)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		n := tx.Completion.Consume(done)
		n = tx.Tx.Produce(descs[:n])
		_ = tx.WakeTx()
		n = rx.Rx.Consume(got[:n])
		for i, d := range got[:n] {
			done[i] = d.Addr
		}
		rx.Fill.Produce(done[:n])
		_ = rx.WakeRx()
	}), "rings")
	_, _ = rx.PollRx(0)
	for {
		if _, n, _ := rx.RxBurst(nil, got); n == 0 {
			break
		}
	}
	assert.Zero(t, testing.AllocsPerRun(20, func() { _, _ = rx.PollRx(time.Microsecond) }), "poll")
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		var local [16]xsk.Desc // stays on the stack
		rx.Rx.Consume(local[:])
	}), "a local buffer")
}
