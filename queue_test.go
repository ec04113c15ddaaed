package xsk_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
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

func TestAClosedUmemStaysForTheProgramsFrames(t *testing.T) {
	a, _ := vethPair(t)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16384})
	require.NoError(t, err)
	before := mapped(t)
	q, err := xsk.Open(a, 0, &xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 2)
	_, err = q.Alloc(frames)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.NoError(t, u.Close())
	for i := range frames {
		f := &frames[i]
		f.Data = append(f.Data, "still there"...)
		assert.EqualValues(t, "still there", f.Data)
	}
	frames[0].Free()
	assert.Greater(t, mapped(t), before-1024, "one is left")
	frames[1].Free()
	assert.Less(t, mapped(t), before-60*1024, "KiB of shared mappings")
}

func TestAQueuesOwnUmemCanBeShared(t *testing.T) {
	a, b := vethPair(t)
	txOnly := xsk.SocketConfig{TxOnly: true}
	owner, err := xsk.Open(a, 0, &xsk.Config{UmemConfig: smallQueue, SocketConfig: txOnly})
	require.NoError(t, err)
	guest, err := xsk.Open(b, 0, &xsk.Config{Umem: owner.Umem(), SocketConfig: txOnly})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 512)
	n, err := owner.Alloc(frames[:256])
	require.NoError(t, err)
	m, err := guest.Alloc(frames[n:])
	require.NoError(t, err)
	require.Equal(t, 512, n+m)
	assert.Equal(t, 512, guest.Stats().Frames.User, "no frame twice")
	assert.ErrorIs(t, owner.Close(), syscall.EBUSY)
	for i := range frames {
		f := &frames[i]
		f.Data = append(f.Data, "still there"...)
	}
	xsk.Free(frames)
	require.NoError(t, guest.Close())
	require.NoError(t, owner.Close())
	require.NoError(t, owner.Close())
}

func TestQueuesMayBeOpenedAtOnceOnAFreshUmem(t *testing.T) {
	a, fromA := vethPair(t)
	b, fromB := vethPair(t)
	programs := []xsk.XSKMap{redirect(t, a, modes[0]), redirect(t, b, modes[0])}
	senders := []*xsk.Queue{
		openQueue(t, fromA, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}}),
		openQueue(t, fromB, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}}),
	}
	for range 5 {
		u, err := xsk.NewUmem(&smallQueue)
		require.NoError(t, err)
		var opened [2]*xsk.Queue
		var both sync.WaitGroup
		for i, ifname := range []string{a, b} {
			both.Add(1)
			go func() {
				defer both.Done()
				var err error
				opened[i], err = xsk.Open(ifname, 0, &xsk.Config{Umem: u, XSKMap: programs[i], RxFrames: 128})
				assert.NoError(t, err)
			}()
		}
		both.Wait()
		frames := make([]xsk.Frame, 8)
		for i, q := range opened {
			require.NotNil(t, q)
			sendPackets(t, senders[i], i, 1, 60)
			require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err := q.Receive(frames)
			require.NoError(t, err)
			assert.Equal(t, i, number(t, frames[0].Data))
			assert.Zero(t, q.Strange())
		}
		for _, q := range opened {
			require.NoError(t, q.Balance())
			require.NoError(t, q.Close())
		}
		require.NoError(t, u.Close())
	}
}

func TestFreedFramesFeedAReceiverInAQuickWait(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		sender := openQueue(t, a, m, xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
		receiver := openQueue(t, b, m, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}, RxFrames: 64})
		frames, kept := make([]xsk.Frame, 8), []xsk.Frame{}
		for len(kept) < 40 {
			sendPackets(t, sender, 0, 8, 60)
			n, err := receiver.Receive(frames)
			require.NoError(t, err)
			for i := range frames[:n] {
				frames[i].Keep()
				kept = append(kept, frames[i])
			}
		}
		done := make(chan error)
		go func() {
			for {
				if _, err := receiver.Receive(frames); err != nil {
					done <- err
					return
				}
			}
		}()
		for range 20 { // packets that come quickly
			sendPackets(t, sender, 0, 1, 60)
			spin(200 * time.Microsecond)
		}
		xsk.Free(kept)
		start := time.Now()
		within(t, 5*time.Second, func() bool { return receiver.Stats().Frames.Rx >= 56 })
		assert.Less(t, time.Since(start), 500*time.Millisecond, "it looks once a second by itself")
		require.NoError(t, receiver.Close())
		assert.ErrorIs(t, <-done, os.ErrClosed)
	})
}

func TestAllocTakesBackWhatAnotherQueueHasSent(t *testing.T) {
	a, b := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 64, FrameSize: 2048})
	txOnly := xsk.SocketConfig{TxOnly: true}
	idle := openQueue(t, a, modes[0], xsk.Config{Umem: u, SocketConfig: txOnly})
	sender := openQueue(t, b, modes[0], xsk.Config{Umem: u, SocketConfig: txOnly})
	for range 50 {
		require.NoError(t, idle.SetWriteDeadline(time.Now().Add(5*time.Second)))
		sent, err := sender.Send(write(t, idle, 0, 64, 60))
		require.NoError(t, err)
		require.Equal(t, 64, sent)
	}
}

func TestTheSocketOfAOneWayQueueRefusesTheOther(t *testing.T) {
	a, _ := vethPair(t)
	q := openQueue(t, a, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	_, err := q.Socket().PollRx(time.Millisecond)
	assert.ErrorIs(t, err, syscall.EINVAL)
}

func TestOpenFillsInWhatFitsTheMemory(t *testing.T) {
	a, b := vethPair(t)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 8192, FrameSize: 2048})
	require.NoError(t, err)
	q := openQueue(t, a, modes[0], xsk.Config{Umem: u})
	assert.Equal(t, 2048, q.Stats().Frames.Rx, "what the fill ring holds")
	require.NoError(t, q.Close())
	require.NoError(t, u.Close())

	closed := redirect(t, b, modes[0])
	require.NoError(t, closed.(io.Closer).Close())
	for _, c := range []struct {
		config xsk.Config
		says   string
	}{
		{xsk.Config{XSKMap: closed}, "the XSKMap is closed"},
		{xsk.Config{XSKMap: (*bpf.Program)(nil)}, "the XSKMap is closed"},
		{xsk.Config{Linger: time.Second}, "Linger 1s is not between 0 and 1ms"},
		{xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4 << 20}, RxFrames: 2 << 20}, "RxFrames 2097152 is more than the fill ring's 1048576 entries"},
	} {
		if c.config.XSKMap == nil {
			c.config.XSKMap = newXSKMap(t, 1)
		}
		_, err := xsk.Open(a, 0, &c.config)
		assert.ErrorContains(t, err, c.says)
	}
	_, err = xsk.OpenAll(a, &xsk.Config{Queues: []int{0, 0}})
	assert.ErrorContains(t, err, "Queues names queue 0 twice")
	all, err := xsk.OpenAll(a, &xsk.Config{Queues: []int{}, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	assert.Len(t, all, 1)
	require.NoError(t, all.Close())
	assert.Equal(t, 1, strings.Count(all[0].SetDeadline(time.Now()).Error(), "set deadline"))
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

func TestReceiveLingersForWhatFollows(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		together := map[time.Duration]int{}
		for _, linger := range []time.Duration{0, time.Millisecond} {
			a, b := queuePair(t, m, xsk.Config{Linger: linger})
			frames := make([]xsk.Frame, 8)
			for range 20 {
				first, second := write(t, a, 0, 1, 60), write(t, a, 1, 1, 60)
				sent := make(chan error, 2)
				go func() {
					time.Sleep(time.Millisecond)
					_, err := a.Send(first)
					sent <- err
					spin(400 * time.Microsecond)
					_, err = a.Send(second)
					sent <- err
				}()
				for got := 0; got < 2; {
					n, err := b.Receive(frames)
					require.NoError(t, err)
					if got += n; n == 2 {
						together[linger]++
					}
				}
				require.NoError(t, errors.Join(<-sent, <-sent))
			}
		}
		assert.Greater(t, together[time.Millisecond], together[0], "of 20 pairs")
	})
}

func TestReceiveHonoursDeadlinesAndClose(t *testing.T) {
	q, _ := queuePair(t, modes[0], xsk.Config{})
	frames := make([]xsk.Frame, 8)
	n, err := q.TryReceive(frames)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = q.Receive(frames)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	_, err = q.Receive(frames)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, q.SetReadDeadline(time.Time{}))
	time.AfterFunc(20*time.Millisecond, func() { _ = q.SetReadDeadline(time.Now()) })
	_, err = q.Receive(frames)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "set while parked")
	require.NoError(t, q.SetDeadline(time.Time{}))
	time.AfterFunc(20*time.Millisecond, func() { _ = q.Close() })
	_, err = q.Receive(frames)
	require.ErrorIs(t, err, os.ErrClosed)
	for _, call := range []func([]xsk.Frame) (int, error){q.Receive, q.TryReceive, q.Send, q.TrySend, q.Alloc, q.TryAlloc} {
		n, err := call(frames)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, os.ErrClosed)
	}
	assert.ErrorIs(t, q.SetDeadline(time.Now()), os.ErrClosed)
	require.NoError(t, q.Close())
}

func TestKeptFramesOutliveLoanAndQueue(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	sendPackets(t, a, 0, 10, 60)
	frames, kept := make([]xsk.Frame, 10), []xsk.Frame{}
	for len(kept) < 5 {
		n, err := b.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:n] {
			if f := &frames[i]; number(t, f.Data)%2 == 0 {
				f.Keep()
				kept = append(kept, *f)
			}
		}
	}
	_, err := b.TryReceive(frames)
	require.NoError(t, err)
	assert.Equal(t, 5, b.Stats().Frames.User)
	require.NoError(t, b.Close())
	for i := range kept {
		assert.Equal(t, 2*i, number(t, kept[i].Data))
		kept[i].Data[0] = 1
	}
	xsk.Free(kept)
	assert.Panics(t, func() { xsk.Free(kept[:1]) })
}

func TestStaleAndForeignFramesAreRefusedByAddress(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{})
	refused := func(why string, f xsk.Frame) {
		t.Helper()
		n, err := a.Send([]xsk.Frame{f})
		assert.Zero(t, n)
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, why)
		assert.ErrorContains(t, err, "xsk: send "+"va")
	}
	f := write(t, a, 0, 1, 60)[0]
	empty, short, long, outside := f, f, f, f
	empty.Data = f.Data[:0]
	short.Data = f.Data[:13]
	outside.Data = make([]byte, 60)
	refused("was Data set on a copy?", empty)
	refused("13 bytes, less than an Ethernet header", short)
	refused("lies outside of it", outside)
	long.Data = write(t, a, 1, 1, 60)[0].Data
	refused("lies outside of it", long)
	refused("came from neither Receive nor Alloc", xsk.Frame{Data: make([]byte, 60)})
	refused("belongs to another Umem", write(t, b, 0, 1, 60)[0])
	n, err := a.Send([]xsk.Frame{f, f})
	assert.Equal(t, 1, n)
	assert.ErrorContains(t, err, "is with the kernel to be sent")
	refused("stale", f)
	g := write(t, a, 2, 1, 60)[0]
	g.Free()
	refused("stale", g)
}

func TestEveryFrameKeptIsENOBUFS(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}})
	empty := make([]xsk.Frame, 64)
	n, err := b.Alloc(empty)
	require.NoError(t, err)
	require.Equal(t, 32, n, "half is for receiving")
	sendPackets(t, a, 0, 32, 60)
	frames, kept := make([]xsk.Frame, 8), []xsk.Frame{}
	for len(kept) < 32 {
		k, err := b.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:k] {
			frames[i].Keep()
		}
		kept = append(kept, frames[:k]...)
	}
	_, err = b.Receive(frames)
	require.ErrorIs(t, err, syscall.ENOBUFS)
	assert.ErrorContains(t, err, "of 64 the program keeps 64")
	xsk.Free(empty[:n])
	sendPackets(t, a, 32, 1, 60) // lost: nobody has posted a frame yet
	n, err = b.TryReceive(frames)
	require.NoError(t, err)
	assert.Zero(t, n)
	sendPackets(t, a, 33, 1, 60)
	n, err = b.Receive(frames)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	assert.Equal(t, 33, number(t, frames[0].Data))
	xsk.Free(kept)
}

// A receiver that waits with too few frames posts what others free meanwhile.
func TestFreeFeedsAStarvingReceiver(t *testing.T) {
	a, b := queuePair(t, modes[0], xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}})
	spare := make([]xsk.Frame, 32)
	_, err := b.Alloc(spare)
	require.NoError(t, err)
	sendPackets(t, a, 0, 31, 60)
	frames, kept := make([]xsk.Frame, 32), []xsk.Frame{}
	for len(kept) < 31 {
		k, err := b.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:k] {
			frames[i].Keep()
		}
		kept = append(kept, frames[:k]...)
	}
	received := make(chan int)
	go func() {
		for total := 0; total < 20; {
			k, err := b.Receive(frames) // one frame is left to receive into
			if !assert.NoError(t, err) {
				return
			}
			total += k
			received <- total
		}
	}()
	time.Sleep(50 * time.Millisecond)
	xsk.Free(kept)
	time.Sleep(200 * time.Millisecond) // less than a tick
	sendPackets(t, a, 31, 20, 60)
	for total := 0; total < 20; {
		select {
		case total = <-received:
		case <-time.After(3 * time.Second):
			require.FailNow(t, "packets lost", "%v", b.Stats())
		}
	}
	xsk.Free(spare)
}

func TestSendersAndReceiverInParallel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := queuePair(t, m, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4096, FrameSize: 2048}})
		const senders, each = 4, 300
		var group sync.WaitGroup
		for s := range senders {
			group.Add(1)
			go func() {
				defer group.Done()
				for i := range each {
					frames := make([]xsk.Frame, 1)
					if _, err := a.Alloc(frames); !assert.NoError(t, err) {
						return
					}
					f := &frames[0]
					f.Data = f.Data[:60]
					fillPacket(f.Data, s*each+i)
					if _, err := a.Send(frames); !assert.NoError(t, err) {
						return
					}
				}
			}()
		}
		seen := map[int]bool{}
		frames := make([]xsk.Frame, 32)
		require.NoError(t, b.SetReadDeadline(time.Now().Add(10*time.Second)))
		for len(seen) < senders*each {
			n, err := b.Receive(frames)
			require.NoError(t, err, "%d so far: %v / %v", len(seen), a.Stats(), b.Stats())
			for i := range frames[:n] {
				k := number(t, frames[i].Data)
				require.False(t, seen[k])
				seen[k] = true
			}
		}
		group.Wait()
	})
}

func TestJumboPacketIsOneFrame(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		nameA, nameB := testns.Veth{MTU: 9000}.Make(t)
		cfg := xsk.Config{
			UmemConfig:   xsk.UmemConfig{Frames: 256},
			SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
		}
		a, b := openQueue(t, nameA, m, cfg), openQueue(t, nameB, m, cfg)
		const length = 9014
		want := make([]byte, length)
		for round := range 30 {
			fillPacket(want, round)
			parts := make([]xsk.Frame, 3)
			n, err := a.Alloc(parts)
			require.NoError(t, err)
			require.Equal(t, 3, n)
			rest := want
			for i := range parts {
				k := min(len(rest), cap(parts[i].Data))
				parts[i].Data = append(parts[i].Data, rest[:k]...)
				rest = rest[k:]
			}
			require.Empty(t, rest)
			packet := parts[0]
			packet.Frags = parts[1:]
			sent, err := a.Send([]xsk.Frame{packet})
			require.NoError(t, err)
			require.Equal(t, 1, sent)
			got := make([]xsk.Frame, 1) // every burst ends inside the packet
			n, err = b.Receive(got)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Len(t, got[0].Frags, 2)
			all := make([]byte, length+1)
			require.Equal(t, length, got[0].CopyTo(all))
			require.Equal(t, want, all[:length])
			n, err = b.Send(got) // back as it is
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = a.Receive(got)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, length, got[0].Len())
		}
	})
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

// openShared opens Queues on ends of veth pairs, all on one Umem.
func openShared(t testing.TB, m mode, u *xsk.Umem, rxFrames int, ends ...string) []*xsk.Queue {
	t.Helper()
	var all []*xsk.Queue
	for _, ifname := range ends {
		all = append(all, openQueue(t, ifname, m, xsk.Config{Umem: u, RxFrames: rxFrames}))
	}
	return all
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
		stop.Store(true)
		for _, q := range all {
			require.NoError(t, q.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		}
		receivers.Wait()
		close(kept)
		users.Wait()
		forwarded := all[1].Stats().TxPackets + all[2].Stats().TxPackets
		assert.Greater(t, forwarded, uint64(1000))
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

// A queue is the same whatever its interface is called, and not that of
// another interface that has the name now.
func TestQueueIsKnownByItsInterfaceNotByItsName(t *testing.T) {
	rename := func(from, to string) {
		t.Helper()
		testns.IP(t, "link", "set", from, "down")
		testns.IP(t, "link", "set", from, "name", to)
		testns.IP(t, "link", "set", to, "up")
	}
	first, _ := vethPair(t)
	a, _ := vethPair(t)
	b, _ := vethPair(t)
	t.Cleanup(func() { testns.IP(t, "link", "del", "renamed") })
	u := newUmem(t, &xsk.UmemConfig{Frames: 512, FrameSize: 2048})
	openShared(t, modes[0], u, 64, first)
	program := redirect(t, a, modes[0])
	cfg := xsk.Config{Umem: u, RxFrames: 64, XSKMap: program}
	q := openQueue(t, a, modes[0], cfg)
	rename(a, "renamed")
	_, err := xsk.Open("renamed", 0, &cfg)
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "a Queue of this Umem is open on it")

	rename(b, a)
	t.Cleanup(func() { testns.IP(t, "link", "del", a) })
	require.NoError(t, q.Close())
	other := openQueue(t, a, modes[0], xsk.Config{Umem: u, RxFrames: 64})
	assert.Equal(t, 64, other.Stats().Frames.Retired, "of another interface")
	again := openQueue(t, "renamed", modes[0], cfg)
	assert.Zero(t, again.Stats().Frames.Retired)
}
