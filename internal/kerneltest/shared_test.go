package kerneltest

import (
	"fmt"
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

func shared(t *testing.T, frames int) *xsk.Umem {
	t.Helper()
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: frames, FrameSize: 2048})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, u.Close()) })
	return u
}

func TestReceivedFrameIsForwardedOutOfAnotherInterfaceUncopied(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		first, from := testns.Veth{}.Make(t)
		to, last := testns.Veth{}.Make(t)
		source, sink := open(t, first, 0, config(attach(t, first, m))), open(t, last, 0, config(attach(t, last, m)))
		u := shared(t, 256)
		in := open(t, from, 0, xsk.Config{Umem: u, XSKMap: attach(t, from, m), RxFrames: 64})
		out := open(t, to, 0, xsk.Config{Umem: u, XSKMap: attach(t, to, m), RxFrames: 64})
		require.Same(t, in.Umem(), out.Umem())
		// Both ways at once.
		var group sync.WaitGroup
		for _, way := range [][2]*xsk.Queue{{in, out}, {out, in}} {
			group.Add(1)
			go func() {
				defer group.Done()
				frames := make([]xsk.Frame, 32)
				for {
					n, err := way[0].Receive(frames)
					if err != nil {
						assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
						return
					}
					for i := range frames[:n] { // Only the NIC and we touch the bytes.
						number := number(frames[i].Data)
						fill(frames[i].Data, number+1)
					}
					if _, err = way[1].Send(frames[:n]); !assert.NoError(t, err) {
						return
					}
				}
			}()
		}
		for round := range 50 {
			send(t, source, 100*round, 32, 60+round)
			send(t, sink, 100*round+50, 32, 60+round)
			expect(t, sink, 100*round+1, 32)
			expect(t, source, 100*round+51, 32)
		}
		require.NoError(t, in.SetReadDeadline(time.Now()))
		require.NoError(t, out.SetReadDeadline(time.Now()))
		group.Wait()
		settled(t, 0, in, out, source, sink)
		f := in.Stats().Frames
		assert.Equal(t, xsk.FrameCounts{Free: 128, Rx: 128}, f)
		assert.EqualValues(t, 1600, out.Stats().TxPackets)
	})
}

// What another Queue's full ring refuses stays lent, and goes back with the
// loan.
func TestFrameThatAnotherQueueRefusedIsNotLost(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		first, from := testns.Veth{}.Make(t)
		to, last := testns.Veth{}.Make(t)
		source, sink := open(t, first, 0, config(nil)), open(t, last, 0, config(attach(t, last, m)))
		u := shared(t, 256)
		in := open(t, from, 0, xsk.Config{Umem: u, XSKMap: attach(t, from, m), RxFrames: 128})
		out := open(t, to, 0, xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 64}})
		testns.IP(t, "link", "set", to, "down")
		frames := make([]xsk.Frame, 64)
		refused := 0
		require.NoError(t, in.SetReadDeadline(time.Now().Add(patience)))
		for refused < 500 {
			send(t, source, 0, 32, 60)
			n, err := in.Receive(frames)
			require.NoError(t, err, "%v", in.Stats())
			sent, err := out.TrySend(frames[:n])
			require.NoError(t, err)
			refused += n - sent // dropped, as a forwarder does
		}
		assert.Equal(t, 64, in.Stats().Frames.Tx, "%v", in.Stats())
		testns.IP(t, "link", "set", to, "up")
		require.NoError(t, in.SetReadDeadline(time.Time{}))
		_, err := in.TryReceive(nil)
		require.NoError(t, err)
		settled(t, 0, in, out, source)
		drain(t, sink)
	})
}

func TestFramesOfAClosedQueueComeBackWhenItIsOpenedAgain(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		peerA, nameA := testns.Veth{}.Make(t)
		peerB, nameB := testns.Veth{}.Make(t)
		u := shared(t, 256)
		programA := attach(t, nameA, m)
		a := open(t, nameA, 0, xsk.Config{Umem: u, XSKMap: programA, RxFrames: 64})
		program := attach(t, nameB, m)
		source, other := open(t, peerB, 0, config(attach(t, peerB, m))), open(t, peerA, 0, config(nil))
		for round := range 5 {
			b := open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: program, RxFrames: 100})
			require.Equal(t, xsk.FrameCounts{Free: 92, Rx: 164}, a.Stats().Frames, "round %d", round)
			send(t, source, 0, 50, 60)
			frames := make([]xsk.Frame, 50)
			got := 0
			require.NoError(t, b.SetReadDeadline(time.Now().Add(patience)))
			for got < 50 {
				n, err := b.Receive(frames[got:])
				require.NoError(t, err)
				for i := range frames[got : got+n] {
					frames[got+i].Keep()
				}
				got += n
			}
			_, err := b.Send(frames[:10])
			require.NoError(t, err)
			_, err = b.TryReceive(nil)
			require.NoError(t, err)
			require.NoError(t, b.Close())
			f := a.Stats().Frames
			require.Equal(t, 256, f.Total())
			require.GreaterOrEqual(t, f.Retired, 100, "%v", f)
			require.Equal(t, 40, f.User, "kept frames stay the program's")
			for i := range frames[10:] {
				require.Equal(t, 10+i, number(frames[10+i].Data))
			}
			// They can leave by the other queue.
			n, err := a.Send(frames[10:30])
			require.NoError(t, err)
			require.Equal(t, 20, n)
			xsk.Free(frames[30:])
			require.Equal(t, 10, drain(t, source))
			settled(t, 0, a)
			send(t, other, round, 10, 60)
			expect(t, a, round, 10)
			settled(t, 0, a)
		}
		// The queue of the first socket cannot come back, and says so.
		require.NoError(t, open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: program, RxFrames: 100}).Close())
		b := open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: program, RxFrames: 100})
		require.NoError(t, a.Close())
		_, err := xsk.Open(nameA, 0, &xsk.Config{Umem: u, XSKMap: programA, RxFrames: 1})
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "free again once its Umem is closed")
		settled(t, 0, b)
	})
}

func TestQueuesThatShareMemoryMustFitIt(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		_, nameA := testns.Veth{}.Make(t)
		_, nameB := testns.Veth{}.Make(t)
		u := shared(t, 256)
		pa, pb := attach(t, nameA, m), attach(t, nameB, m)
		a := open(t, nameA, 0, xsk.Config{Umem: u, XSKMap: pa, RxFrames: 200})
		_, err := xsk.Open(nameB, 0, &xsk.Config{Umem: u, XSKMap: pb, RxFrames: 57})
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, fmt.Sprintf("xsk: open %s queue 0: RxFrames of all queues on this Umem add up to 257, and it has 256 frames", nameB))
		_, err = xsk.Open(nameA, 0, &xsk.Config{Umem: u, XSKMap: pa, RxFrames: 1})
		require.ErrorIs(t, err, syscall.EBUSY)
		assert.ErrorContains(t, err, "a Queue of this Umem is open on it")
		b := open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: pb, RxFrames: 56})
		assert.Equal(t, xsk.FrameCounts{Rx: 256}, b.Stats().Frames)
		require.NoError(t, b.Close())
		b = open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: pb, RxFrames: 10})
		settled(t, 0, a, b)
	})
}

// Several queues of an interface on one memory; generic mode has one only.
func TestAllQueuesOfAnInterfaceOnOneUmem(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		const n = 4
		nameA, nameB := testns.Veth{Queues: n}.Make(t)
		c := xsk.Config{Umem: shared(t, 512), XSKMap: attach(t, nameB, m)}
		all, err := xsk.OpenAll(nameB, &c)
		require.NoError(t, err)
		defer all.Close()
		require.Len(t, all, n)
		assert.Equal(t, xsk.FrameCounts{Free: 256, Rx: 256}, all.Stats().Frames)
		pa := attach(t, nameA, m)
		for i := range n {
			a := open(t, nameA, i, config(pa))
			// In generic mode the kernel, not the wire, says which queue it is.
			send(t, a, i, 20, 60)
			frames := make([]xsk.Frame, 20)
			for got := 0; got < 20; {
				within(t, patience, func() bool {
					for k, q := range all {
						n, err := q.TryReceive(frames[:20-got])
						require.NoError(t, err)
						require.False(t, n > 0 && m.name == "native" && k != i, "on queue %d", k)
						for j := range frames[:n] {
							require.Equal(t, i+got+j, number(frames[j].Data))
						}
						if got += n; n > 0 {
							return true
						}
					}
					return false
				})
			}
			// Back by each of them.
			send(t, all[i], 100+i, 20, 60)
			if m.name == "native" || i == 0 {
				expect(t, a, 100+i, 20)
			}
			settled(t, 0, append(all, a)...)
			require.NoError(t, a.Close())
		}
		assert.Equal(t, 512, all.Stats().Frames.Total())
	})
}
