package kerneltest

import (
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestPeerThatDropsEverythingCostsNoFrame(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := testns.Veth{}.Make(t)
		foreign(t, nameB, "drop_all", xdpDrop, m)
		a := open(t, nameA, 0, config(attach(t, nameA, m)))
		send(t, a, 0, 20000, 60)
		settled(t, 0, a)
		assert.EqualValues(t, 20000, a.Stats().TxPackets)
		// A peer that is down has the device drop them.
		testns.IP(t, "link", "set", nameB, "down")
		soon(t, "send", func() { send(t, a, 0, 300, 60) })
		settled(t, 0, a)
		assert.EqualValues(t, 20300, a.Stats().TxPackets)
		assert.NotZero(t, a.Stats().Dropped, "%v", a.Stats())
	})
}

// keepAll receives and keeps until the kernel has no frame left.
func keepAll(t *testing.T, q *xsk.Queue) (kept []xsk.Frame, err error) {
	t.Helper()
	frames := make([]xsk.Frame, 16)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(patience)))
	defer func() { require.NoError(t, q.SetReadDeadline(time.Time{})) }()
	for {
		n, err := q.Receive(frames)
		if err != nil {
			return kept, err
		}
		for i := range frames[:n] {
			frames[i].Keep()
		}
		kept = append(kept, frames[:n]...)
	}
}

func TestEveryFrameKeptIsENOBUFSWithTheCount(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		for round := range 3 {
			traffic := startFlood(a, 60)
			kept, err := keepAll(t, b)
			require.ErrorIs(t, err, syscall.ENOBUFS)
			assert.ErrorContains(t, err, "of 512 the program keeps 512")
			require.Len(t, kept, 512)
			sent := traffic.end(t)
			assert.Positive(t, sent)

			// Starved: what comes now is lost, and counted.
			settled(t, 0, a)
			before := b.Stats().Kernel.RxFillRingEmpty
			send(t, a, 0, 10, 60)
			within(t, patience, func() bool { return b.Stats().Kernel.RxFillRingEmpty == before+10 }, "%v", b.Stats())
			assert.Contains(t, b.Stats().String(), "the fill ring ran dry")

			// Fed: from then on everything arrives.
			for i := range kept {
				require.GreaterOrEqual(t, number(kept[i].Data), 0, "kept frames are not written to")
			}
			xsk.Free(kept)
			n, err := b.TryReceive(make([]xsk.Frame, 1))
			require.NoError(t, err)
			require.Zero(t, n)
			send(t, a, round, 200, 60)
			expect(t, b, round, 200)
			settled(t, 0, a, b)
		}
	})
}

// The frames that a program forwards come back when they are sent. They are in
// flight, so a receiver without others waits for them.
func TestReceiveWaitsForFramesThatAreBeingSent(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		first, from := testns.Veth{}.Make(t)
		to, last := testns.Veth{}.Make(t)
		source, sink := open(t, first, 0, config(nil)), open(t, last, 0, config(attach(t, last, m)))
		u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 64, FrameSize: 2048})
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, u.Close()) })
		in := open(t, from, 0, xsk.Config{Umem: u, XSKMap: attach(t, from, m), RxFrames: 64})
		out := open(t, to, 0, xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
		testns.IP(t, "link", "set", to, "down")
		frames := make([]xsk.Frame, 64)
		require.NoError(t, in.SetReadDeadline(time.Now().Add(patience)))
		for sent := 0; sent < 64; {
			send(t, source, sent, 1, 60)
			n, err := in.Receive(frames)
			require.NoError(t, err)
			n, err = out.Send(frames[:n])
			require.NoError(t, err)
			sent += n
		}
		require.Equal(t, 64, in.Stats().Frames.Tx, "%v", in.Stats())
		require.NoError(t, in.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
		_, err = in.Receive(frames)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		require.NoError(t, in.SetReadDeadline(time.Now().Add(patience)))
		received := make(chan error)
		go func() {
			_, err := in.Receive(frames)
			received <- err
		}()
		testns.IP(t, "link", "set", to, "up")
		stop := time.After(patience)
		for waiting := true; waiting; {
			send(t, source, 0, 1, 60)
			select {
			case err := <-received:
				require.NoError(t, err)
				waiting = false
			case <-time.After(10 * time.Millisecond):
			case <-stop:
				require.FailNow(t, "receive hangs", "%v", in.Stats())
			}
		}
		drain(t, sink)
		settled(t, 0, source, sink, in, out)
	})
}

func TestReceiverThatStopsForASecondLosesNoFrame(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		traffic := startFlood(a, 100)
		received, frames := 0, make([]xsk.Frame, 64)
		take := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				n, err := b.TryReceive(frames)
				require.NoError(t, err)
				for i := range frames[:n] {
					require.GreaterOrEqual(t, number(frames[i].Data), 0)
				}
				received += n
			}
		}
		take(200 * time.Millisecond)
		before := received
		time.Sleep(time.Second)
		take(200 * time.Millisecond)
		require.Greater(t, received, before)
		sent := traffic.end(t)
		received += drain(t, b)
		settled(t, 0, a, b)
		ours, theirs := a.Stats(), b.Stats()
		assert.EqualValues(t, sent, ours.TxPackets)
		assert.EqualValues(t, received, theirs.RxPackets)
		lost := ours.Dropped + theirs.Kernel.RxDropped + theirs.Kernel.RxRingFull
		// A poll sends too, and drops of what Go's poller sends nobody can count.
		assert.LessOrEqual(t, uint64(received)+lost, uint64(sent), "%v\n%v", ours, theirs)
		assert.NotZero(t, lost)
	})
}

// Free from other goroutines wakes a receiver that starves.
func TestStarvedReceiverIsFedByWorkers(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}})
		const packets = 2000
		work := make(chan xsk.Frame, 64)
		var workers sync.WaitGroup
		for range 4 {
			workers.Add(1)
			go func() {
				defer workers.Done()
				for f := range work {
					time.Sleep(100 * time.Microsecond)
					assert.GreaterOrEqual(t, number(f.Data), 0)
					f.Free()
				}
			}()
		}
		traffic := startFlood(a, 60)
		frames := make([]xsk.Frame, 32)
		require.NoError(t, b.SetReadDeadline(time.Now().Add(patience)))
		for got := 0; got < packets; {
			n, err := b.Receive(frames)
			if err != nil {
				require.ErrorIs(t, err, syscall.ENOBUFS)
				time.Sleep(time.Millisecond)
				continue
			}
			for i := range frames[:n] {
				f := &frames[i]
				f.Keep()
				work <- *f
			}
			got += n
		}
		traffic.end(t)
		close(work)
		workers.Wait()
		require.NoError(t, b.SetReadDeadline(time.Time{}))
		drain(t, b)
		settled(t, 0, a, b)
	})
}
