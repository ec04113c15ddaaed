package xsk_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

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
		assert.ErrorIs(t, <-done, net.ErrClosed)
	})
}

func TestReceiveLingersForWhatFollows(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		together := map[time.Duration]int{}
		for _, linger := range []time.Duration{0, time.Millisecond} {
			a, b := queuePair(t, m, xsk.Config{Linger: linger})
			for range 20 {
				together[linger] += pairTogether(t, a, b)
			}
		}
		if together[0] < 10 { // else this machine is so slow that they gather anyway
			assert.Greater(t, together[time.Millisecond], together[0], "of 20 pairs")
		}
	})
}

func TestReceiveLingersOnlyWhileBurstsAreLong(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		config := xsk.Config{Linger: 100 * time.Microsecond, LingerBurst: 4}
		a, b := queuePair(t, m, config)
		frames := make([]xsk.Frame, 16)
		bursts := func(length int) {
			for range 40 {
				sendPackets(t, a, 0, length, 60)
				for left := length; left > 0; {
					n, err := b.Receive(frames)
					require.NoError(t, err)
					left -= n
				}
			}
		}
		bursts(1)
		assert.Zero(t, b.Lingers(), "single packets")
		bursts(16)
		assert.Equal(t, config.Linger, b.Lingers())
		bursts(1)
		assert.Zero(t, b.Lingers(), "single packets again")
		bursts(16)
		late, sent := write(t, a, 0, 1, 60), make(chan error)
		go func() {
			time.Sleep(100 * time.Millisecond)
			_, err := a.Send(late)
			sent <- err
		}()
		_, err := b.Receive(frames)
		require.NoError(t, errors.Join(err, <-sent))
		assert.Zero(t, b.Lingers(), "after a pause")
	})
}

// pairTogether sends two packets, one 700 us after the other, and returns 1 if they
// are received at once.
func pairTogether(t *testing.T, a, b *xsk.Queue) (together int) {
	t.Helper()
	frames := make([]xsk.Frame, 8)
	first, second := write(t, a, 0, 1, 60), write(t, a, 1, 1, 60)
	sent := make(chan error, 2)
	go func() {
		time.Sleep(time.Millisecond)
		_, err := a.Send(first)
		sent <- err
		spin(700 * time.Microsecond)
		_, err = a.Send(second)
		sent <- err
	}()
	for got := 0; got < 2; {
		n, err := b.Receive(frames)
		require.NoError(t, err)
		if got += n; n == 2 {
			together = 1
		}
	}
	require.NoError(t, errors.Join(<-sent, <-sent))
	return together
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
	require.ErrorIs(t, err, net.ErrClosed)
	for _, call := range []func([]xsk.Frame) (int, error){q.Receive, q.TryReceive, q.Send, q.TrySend, q.Alloc, q.TryAlloc} {
		n, err := call(frames)
		assert.Zero(t, n)
		assert.ErrorIs(t, err, net.ErrClosed)
	}
	assert.ErrorIs(t, q.SetDeadline(time.Now()), net.ErrClosed)
	require.NoError(t, q.Close())
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

func TestJumboPacketIsOneFrame(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		nameA, nameB := testns.Veth{MTU: 9000}.Make(t)
		cfg := xsk.Config{
			UmemConfig:   xsk.UmemConfig{Frames: 256},
			SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
			Linger:       100 * time.Microsecond, LingerBurst: 2,
		}
		a, b := openQueue(t, nameA, m, cfg), openQueue(t, nameB, m, cfg)
		const length = 9014
		want := make([]byte, length)
		send := func(round int) {
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
		}
		var loan xsk.Loan
		for round := range 30 {
			send(round)
			got := make([]xsk.Frame, 1) // every burst ends inside the packet
			n, err := b.Receive(got)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Len(t, got[0].Frags, 2)
			all := make([]byte, length+1)
			require.Equal(t, length, got[0].CopyTo(all))
			require.Equal(t, want, all[:length])
			if round%2 == 1 { // by way of somebody else
				xsk.Keep(got)
				n, err = b.TryReceive(nil)
				require.NoError(t, err)
				require.Zero(t, n)
				loan.Lend(got)
				assert.Equal(t, 3, b.Stats().Frames.Loan)
				require.Equal(t, length, got[0].CopyTo(all))
				require.Equal(t, want, all[:length])
			}
			n, err = b.Send(got) // back as it is
			require.NoError(t, err)
			require.Equal(t, 1, n)
			n, err = a.Receive(got)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, length, got[0].Len())
		}
		for round := range 40 {
			send(round)
			n, err := b.Receive(make([]xsk.Frame, 8))
			require.NoError(t, err)
			require.Equal(t, 1, n)
		}
		assert.Zero(t, b.Lingers(), "single packets, of three frames each")
	})
}
