package xsk_test

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

var smallQueue = xsk.UmemConfig{Frames: 512, FrameSize: 2048}

// openQueue opens queue 0, with a program of its own in mode m unless cfg has
// one, and asserts at the end that every frame has one owner.
func openQueue(t testing.TB, ifname string, m mode, cfg xsk.Config) *xsk.Queue {
	t.Helper()
	if cfg.XSKMap == nil && !cfg.SocketConfig.TxOnly && !cfg.LibxdpProgram {
		cfg.XSKMap = redirect(t, ifname, m)
	}
	if cfg.Umem == nil && cfg.UmemConfig.Frames == 0 {
		cfg.UmemConfig = smallQueue
	}
	q, err := xsk.Open(ifname, 0, &cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, q.Balance())
		assert.Zero(t, q.Strange())
		assert.NoError(t, q.Close())
		assert.NoError(t, q.Balance())
	})
	return q
}

// queuePair opens a Queue on each end of a veth pair.
func queuePair(t testing.TB, m mode, cfg xsk.Config) (a, b *xsk.Queue) {
	t.Helper()
	nameA, nameB := vethPair(t)
	return openQueue(t, nameA, m, cfg), openQueue(t, nameB, m, cfg)
}

// write allocates n frames and makes packets number first, first+1, ... of them.
func write(t testing.TB, q *xsk.Queue, first, n, length int) []xsk.Frame {
	t.Helper()
	frames, got := make([]xsk.Frame, n), 0
	for got < n {
		k, err := q.Alloc(frames[got:])
		require.NoError(t, err)
		got += k
	}
	for i := range frames {
		f := &frames[i]
		f.Data = f.Data[:length]
		fillPacket(f.Data, first+i)
	}
	return frames
}

func sendPackets(t testing.TB, q *xsk.Queue, first, n, length int) {
	t.Helper()
	sent, err := q.Send(write(t, q, first, n, length))
	require.NoError(t, err)
	require.Equal(t, n, sent)
}

func TestQueueEchoesEveryByte(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		client, server := queuePair(t, m, xsk.Config{})
		const rounds, burst = 50, 64
		done := make(chan struct{})
		go func() {
			defer close(done)
			frames := make([]xsk.Frame, burst)
			for total := 0; total < rounds*burst; {
				n, err := server.Receive(frames)
				if !assert.NoError(t, err) {
					return
				}
				total += n
				sent, err := server.Send(frames[:n])
				if !assert.NoError(t, err) || !assert.Equal(t, n, sent) {
					return
				}
			}
		}()
		frames := make([]xsk.Frame, burst)
		for round := range rounds {
			sendPackets(t, client, round*burst, burst, 60+round*20)
			for got := 0; got < burst; {
				n, err := client.Receive(frames)
				require.NoError(t, err)
				for i := range frames[:n] {
					f := &frames[i]
					require.Equal(t, round*burst+got+i, number(t, f.Data))
					require.Equal(t, 60+round*20, f.Len())
				}
				got += n
			}
		}
		<-done
		s := server.Stats()
		assert.EqualValues(t, rounds*burst, s.RxPackets)
		assert.EqualValues(t, rounds*burst, s.TxPackets)
		assert.Equal(t, 512, s.Frames.Total())
		assert.NotContains(t, s.String(), "dropped")
	})
}

func TestTheSocketOfAOneWayQueueRefusesTheOther(t *testing.T) {
	a, _ := vethPair(t)
	q := openQueue(t, a, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	_, err := q.Socket().PollRx(time.Millisecond)
	assert.ErrorIs(t, err, syscall.EINVAL)
}

func TestStatsOfAOneWayQueueShowThatWay(t *testing.T) {
	a, b := vethPair(t)
	sender := openQueue(t, a, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	receiver := openQueue(t, b, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{RxOnly: true}})
	assert.NotContains(t, sender.Stats().String(), "rx: ")
	assert.Contains(t, sender.Stats().String(), "tx: 0 packets")
	assert.NotContains(t, receiver.Stats().String(), "tx: ")
	assert.Contains(t, receiver.Stats().String(), "rx: 0 packets")
	both := xsk.Queues{sender, receiver}.Stats().String()
	assert.Contains(t, both, "rx: 0 packets")
	assert.Contains(t, both, "tx: 0 packets")
}

// A Umem may be closed as soon as the sockets are, while a burst is still at work on
// its frames.
func TestMemoryStaysUntilTheLastBurstOfAClosingQueue(t *testing.T) {
	a, _ := vethPair(t)
	u, err := xsk.NewUmem(&smallQueue)
	require.NoError(t, err)
	q := openQueue(t, a, modes[0], xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	leave := q.InSend()
	closed := make(chan error, 1)
	go func() { closed <- q.Close() }()
	within(t, 5*time.Second, func() bool { return u.Close() == nil })
	assert.True(t, q.Mapped(), "a Send is under way")
	leave()
	require.NoError(t, <-closed)
	assert.False(t, q.Mapped())
}

func TestRemovalEndsBothDirectionsAtOnceAndForAll(t *testing.T) {
	nameA, nameB := vethPair(t)
	q := openQueue(t, nameA, modes[0], xsk.Config{})
	failed := make(chan error, 1)
	go func() {
		_, err := q.Receive(make([]xsk.Frame, 8))
		failed <- err
	}()
	time.Sleep(20 * time.Millisecond)
	testns.IP(t, "link", "del", nameB)
	assert.ErrorIs(t, <-failed, syscall.ENODEV)
	start := time.Now()
	_, err := q.Receive(make([]xsk.Frame, 8))
	assert.ErrorIs(t, err, syscall.ENODEV)
	frames := make([]xsk.Frame, 1)
	_, err = q.Alloc(frames)
	require.NoError(t, err)
	frames[0].Data = frames[0].Data[:60]
	_, err = q.Send(frames)
	assert.ErrorIs(t, err, syscall.ENODEV)
	assert.ErrorContains(t, err, nameA+" queue 0")
	assert.Less(t, time.Since(start), 500*time.Millisecond)
	xsk.Free(frames)
}

// Packets go both ways through two queues that forward to each other, between
// two that make and count them, while others allocate, keep and free: all on
// one Umem, and no frame is lost.
func TestQueuesOnOneUmemWorkInParallel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		firstEnd, left := vethPair(t)
		right, lastEnd := vethPair(t)
		u := newUmem(t, &xsk.UmemConfig{Frames: 1024, FrameSize: 2048})
		all := openShared(t, m, u, 128, firstEnd, left, right, lastEnd)
		var stop atomic.Bool
		var users, receivers sync.WaitGroup
		kept := make(chan xsk.Frame, 64)
		for i, out := range []*xsk.Queue{nil, all[2], all[1], nil} {
			receivers.Add(1)
			go func() {
				defer receivers.Done()
				frames := make([]xsk.Frame, 32)
				for {
					n, err := all[i].Receive(frames)
					if errors.Is(err, os.ErrDeadlineExceeded) {
						return
					}
					if !assert.NoError(t, err) {
						return
					}
					if out != nil {
						sent, err := out.TrySend(frames[:n])
						assert.NoError(t, err)
						xsk.Free(frames[sent:n])
						continue
					}
					frames[0].Keep()
					kept <- frames[0]
				}
			}()
		}
		for i, q := range all {
			users.Add(1)
			go func() {
				defer users.Done()
				frames := make([]xsk.Frame, 1+i*10)
				for !stop.Load() {
					n, err := q.TryAlloc(frames)
					assert.NoError(t, err)
					for k := range frames[:n] {
						f := &frames[k]
						f.Data = f.Data[:60]
						fillPacket(f.Data, k)
					}
					sent := 0
					if i == 0 || i == 3 {
						sent, err = q.TrySend(frames[:n])
						assert.NoError(t, err)
					}
					xsk.Free(frames[sent:n])
				}
			}()
		}
		users.Add(1)
		go func() {
			defer users.Done()
			for f := range kept {
				f.Free()
			}
		}()
		time.Sleep(time.Second)
		within(t, 10*time.Second, func() bool {
			return all[1].Stats().TxPackets+all[2].Stats().TxPackets > 1000
		})
		stop.Store(true)
		for _, q := range all {
			require.NoError(t, q.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		}
		receivers.Wait()
		close(kept)
		users.Wait()
		within(t, 5*time.Second, func() bool {
			for _, q := range all {
				_, err := q.TryReceive(nil) // ends the loan
				require.NoError(t, err)
				_, err = q.TrySend(nil)
				require.NoError(t, err)
			}
			f := all[0].Stats().Frames
			return f.Free+f.Rx == 1024
		})
	})
}

// In the steady state a Queue takes no lock but its own shard's.
func TestQueueNeedsNoCommonLock(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := vethPair(t)
		nameC, _ := vethPair(t)
		source := openQueue(t, nameA, m, xsk.Config{})
		u := newUmem(t, &xsk.UmemConfig{Frames: 512, FrameSize: 2048})
		all := openShared(t, m, u, 128, nameB, nameC)
		q, frames := all[0], make([]xsk.Frame, 32)
		round := func(i int) {
			sendPackets(t, source, 32*i, 32, 60)
			for got := 0; got < 32; {
				n, err := q.Receive(frames)
				require.NoError(t, err)
				got += n
				sent, err := q.Send(frames[:n])
				require.NoError(t, err)
				require.Equal(t, n, sent)
			}
			for got := 0; got < 32; {
				n, err := source.Receive(frames)
				require.NoError(t, err)
				got += n
			}
			n, err := q.Alloc(frames[:8])
			require.NoError(t, err)
			xsk.Free(frames[:n])
		}
		for i := range 10 {
			round(i) // takes what it needs from the common frames
		}
		unlock := q.LockOthers()
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range 100 {
				round(i)
			}
		}()
		select {
		case <-done:
			unlock()
		case <-time.After(10 * time.Second):
			unlock()
			assert.Fail(t, "a burst waits for a lock of others")
			<-done
		}
	})
}
