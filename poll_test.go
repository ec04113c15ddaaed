package xsk_test

import (
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestPollRxWaitsForAPacket(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		rx.Fill.Produce(rx.frames(0, 100))
		start := time.Now()
		ready, err := rx.PollRx(30 * time.Millisecond)
		require.NoError(t, err)
		assert.False(t, ready)
		assert.GreaterOrEqual(t, time.Since(start), 30*time.Millisecond)
		ready, err = rx.PollRx(0)
		require.NoError(t, err)
		assert.False(t, ready)
		for i := range 50 {
			go func() {
				time.Sleep(time.Duration(i%3) * time.Millisecond)
				tx.send(t, i, 1, 60)
			}()
			ready, err = rx.PollRx(-1)
			require.NoError(t, err)
			require.True(t, ready)
			require.Equal(t, i, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))
			within(t, time.Second, func() bool { return tx.Tx.Free() == 2048 })
			time.Sleep(time.Millisecond)
		}
	})
}

func TestRxBurstWaitReceivesWhatComesSlowlyAndQuickly(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		_, n, err := rx.RxBurstWait(rx.frames(0, 64), make([]xsk.Desc, 8), 10*time.Millisecond, 0)
		require.NoError(t, err)
		require.Zero(t, n)
		assert.Equal(t, 256-64, rx.Fill.Free(), "posted all the same")
		const packets = 600
		var received atomic.Int64
		go func() {
			for i := range packets {
				if i%100 == 0 {
					time.Sleep(30 * time.Millisecond) // longer than a quick wait
				}
				time.Sleep(50 * time.Microsecond)
				for int64(i)-received.Load() >= 64 { // frames are posted
					time.Sleep(50 * time.Microsecond)
				}
				tx.send(t, i, 1, 60)
			}
		}()
		descs, back := make([]xsk.Desc, 8), []xsk.Addr{}
		for next := 0; next < packets; {
			linger := time.Duration(next/200) * 100 * time.Microsecond
			filled, n, err := rx.RxBurstWait(back, descs, 5*time.Second, linger)
			require.NoError(t, err)
			require.Equal(t, len(back), filled)
			require.NotZero(t, n)
			back = back[:0]
			for _, d := range descs[:n] {
				require.Equal(t, next, number(t, rx.umem.Bytes(d)))
				back = append(back, d.Addr)
				next++
			}
			received.Store(int64(next - n)) // these are not posted again yet
		}
		failed := make(chan error)
		go func() {
			_, _, err := rx.RxBurstWait(nil, descs, -1, 0)
			failed <- err
		}()
		time.Sleep(5 * time.Millisecond) // in poll(2), for packets came quickly
		require.NoError(t, rx.Socket.Close())
		select {
		case err := <-failed:
			assert.ErrorIs(t, err, net.ErrClosed)
		case <-time.After(5 * time.Second):
			assert.Fail(t, "still waiting")
		}
	})
}

func TestRxBurstWaitLingersForWhatFollows(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		for _, linger := range []time.Duration{-1, time.Millisecond + 1} {
			_, _, err := rx.RxBurstWait(nil, make([]xsk.Desc, 1), 0, linger)
			assert.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, linger.String()+" is not between 0 and 1ms")
		}

		const pairs = 40
		rx.Fill.Produce(rx.frames(0, 2*pairs))
		descs := make([]xsk.Desc, 2)
		gathered := func(linger time.Duration) (together int) {
			for range pairs / 2 {
				sent := make(chan struct{})
				go func() {
					time.Sleep(time.Millisecond)
					tx.send(t, 0, 1, 60)
					spin(400 * time.Microsecond)
					tx.send(t, 1, 1, 60)
					close(sent)
				}()
				_, n, err := rx.RxBurstWait(nil, descs, 5*time.Second, linger)
				require.NoError(t, err)
				if n == 2 {
					together++
				} else {
					rx.receive(t, 1)
				}
				<-sent
			}
			return together
		}
		without, with := gathered(0), gathered(time.Millisecond)
		if without < pairs/4 { // else this machine is so slow that they gather anyway
			assert.Greater(t, with, without, "of %d pairs", pairs/2)
		}
	})
}

func TestPollTxWaitsForHalfTheRing(t *testing.T) {
	a, _ := vethPair(t)
	uc := small
	uc.CompletionSize = 16
	tx := newEnd(t, a, &uc, &xsk.SocketConfig{TxSize: 64, InhibitProgLoad: true})
	ready, err := tx.PollTx(0)
	require.NoError(t, err)
	assert.True(t, ready, "an empty ring has room")
	descs := make([]xsk.Desc, 64+16)
	for i := range descs {
		descs[i] = xsk.Desc{Addr: tx.frame(i), Len: 60}
		fillPacket(tx.umem.Bytes(descs[i]), i)
	}
	queued, _, err := tx.TxBurst(descs, nil)
	require.NoError(t, err)
	queued2, _, err := tx.TxBurst(descs[queued:], nil)
	require.NoError(t, err)
	total := queued + queued2
	if kernel.AtLeast("6.17 the TX ring's consumer index is published with each kick") {
		require.Equal(t, 80, total, "16 completed, 64 in the ring")
	} else { // the ring's look is that of 16 packets ago
		require.Contains(t, []int{64, 80}, total)
	}
	ready, err = tx.PollTx(30 * time.Millisecond)
	require.NoError(t, err)
	assert.False(t, ready, "nobody reaps, so nothing moves")
	done := make(chan bool, 1)
	go func() {
		ready, _ := tx.PollTx(5 * time.Second)
		done <- ready
	}()
	reaped := 0
	within(t, 5*time.Second, func() bool {
		reaped += tx.Completion.Consume(make([]xsk.Addr, 16))
		_ = tx.WakeTx()
		return reaped == total
	})
	assert.True(t, <-done)
}

func TestBothDirectionsParkAtOnceAndCloseWakesThem(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, _ := vethPair(t)
		uc := small
		uc.CompletionSize = 1
		e := newEnd(t, a, &uc, &xsk.SocketConfig{TxSize: 4, XDPFlags: m.flags})
		for range 5 { // one completes, and fills the completion ring
			_, _, _ = e.TxBurst([]xsk.Desc{{Len: 60}}, nil)
		}
		require.Zero(t, e.Tx.Free())
		failed := make(chan error, 2)
		go func() { _, err := e.PollRx(-1); failed <- err }()
		go func() { _, err := e.PollTx(-1); failed <- err }()
		select {
		case err := <-failed:
			require.Fail(t, "not parked", "%v", err)
		case <-time.After(1200 * time.Millisecond): // and past a tick
		}
		require.NoError(t, e.Socket.Close())
		for range 2 {
			assert.ErrorIs(t, <-failed, net.ErrClosed)
		}
	})
}

func TestPollHoldsNoThread(t *testing.T) {
	const queues = 20
	a, b := testns.Veth{Queues: queues}.Make(t)
	u := newUmem(t, &small)
	var sockets []*xsk.Socket
	for i := range 2 * queues {
		name := []string{a, b}[i%2]
		sockets = append(sockets, newSocket(t, name, i/2, u, &xsk.SocketConfig{InhibitProgLoad: true}))
	}
	before := threads(t)
	done := make(chan struct{})
	for _, s := range sockets {
		go func() {
			_, _ = s.PollRx(-1)
			done <- struct{}{}
		}()
	}
	time.Sleep(100 * time.Millisecond)
	assert.Less(t, threads(t)-before, 10)
	for _, s := range sockets {
		require.NoError(t, s.Close())
		<-done
	}
}

func threads(t *testing.T) int {
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(tasks)
}
