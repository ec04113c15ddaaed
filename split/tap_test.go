package split_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/split"
)

// A Tap that nobody reads drops and counts; the main path loses nothing. Once it is
// read it goes on.
func TestASlowTapDropsAndTheMainPathLosesNothing(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets, depth = 8000, 48
		l := newLink(t, mode, 1, xsk.Config{})
		s := l.run(t)
		main, err := s.Listen(nil)
		require.NoError(t, err)
		tap, err := s.Tap(&split.Options{Depth: depth})
		require.NoError(t, err)
		r := l.listen(t, main, true)
		for l.next < packets {
			l.send(t, 0, make([]flow, 40)...)
			l.window(t, 120)
		}
		l.window(t, 0)
		st := tap.Stats()
		assert.Equal(t, depth, st.Waiting)
		assert.EqualValues(t, packets-depth, st.Dropped)
		frames := make([]xsk.Frame, 100)
		n, err := tap.Receive(frames)
		require.NoError(t, err)
		require.Equal(t, depth, n)
		for i := range frames[:n] {
			_, number := parse(t, frames[i].Data)
			assert.Equal(t, i, number)
			clear(frames[i].Data) // a copy: nobody minds
		}
		n, err = tap.TryReceive(frames) // ends the loan, for new frames
		require.NoError(t, err)
		require.Zero(t, n)
		l.send(t, 0, make([]flow, 10)...)
		l.window(t, 0)
		n, err = tap.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:n] {
			_, number := parse(t, frames[i].Data)
			assert.Equal(t, packets+i, number)
		}
		require.NoError(t, s.Close())
		_, err = tap.Receive(frames)
		require.ErrorIs(t, err, net.ErrClosed)
		<-r.done
		assert.Equal(t, upTo(packets+10, func(int) bool { return true }), r.numbers)
	})
}

// A program that receives by itself calls Copy, for what it receives and what it
// sends, and answers from the frames themselves.
func TestATapBesideAProgramsOwnLoop(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets = 4000
		l := newLink(t, mode, 1, xsk.Config{})
		q := l.near[0]
		tap, err := split.NewTap(q, &split.Options{Match: func(b []byte) bool { return b[37] != 3 }})
		require.NoError(t, err)
		r := l.listen(t, tap, false)
		frames := make([]xsk.Frame, 64)
		back := make([]xsk.Frame, 64)
		for l.next < packets {
			l.send(t, 0, flow{9, 2}, flow{9, 3})
			for got := 0; got < 2; {
				n, err := q.Receive(frames)
				require.NoError(t, err)
				tap.Copy(frames[:n])
				got += n
				sent, err := q.Send(frames[:n])
				require.NoError(t, err)
				require.Equal(t, n, sent)
			}
			for got := 0; got < 2; {
				n, err := l.far[0].Receive(back)
				require.NoError(t, err)
				got += n
			}
			within(t, func() bool { return l.next/2-int(tap.Stats().RxPackets) < 100 })
		}
		within(t, func() bool { return tap.Stats().RxPackets == packets/2 })
		require.NoError(t, tap.Close())
		<-r.done
		assert.Equal(t, upTo(packets, func(n int) bool { return n%2 == 0 }), r.numbers)
		tap.Copy(frames[:1]) // does nothing
		l.settled(t)
	})
}

// The copies of a Tap on one Queue of what another one receives go out of the one.
func TestATapMirrorsToAnotherInterface(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		watched, mirror := newLink(t, mode, 1, xsk.Config{}), newLink(t, mode, 1, xsk.Config{})
		tap, err := split.NewTap(mirror.near[0], nil)
		require.NoError(t, err)
		frames, copies, seen := make([]xsk.Frame, 64), make([]xsk.Frame, 64), make([]xsk.Frame, 64)
		for round := range 50 {
			watched.send(t, 0, make([]flow, 20)...)
			for got := 0; got < 20; {
				n, err := watched.near[0].Receive(frames)
				require.NoError(t, err)
				tap.Copy(frames[:n])
				k, err := tap.Receive(copies)
				require.NoError(t, err)
				require.Equal(t, n, k)
				_, err = tap.Send(copies[:k])
				require.NoError(t, err)
				for k > 0 {
					m, err := mirror.far[0].Receive(seen)
					require.NoError(t, err)
					for i := range seen[:m] {
						_, number := parse(t, seen[i].Data)
						require.Equal(t, 20*round+got+i, number)
					}
					got += m
					k -= m
				}
			}
		}
		require.NoError(t, tap.Close())
		watched.settled(t)
		mirror.settled(t)
	})
}

// A Tap on several Queues takes copies from all of them at once.
func TestATapCopiesOfFourQueues(t *testing.T) {
	l := newLink(t, bpf.Native, 4, xsk.Config{})
	s := l.run(t)
	rest, err := s.Listen(nil)
	require.NoError(t, err)
	tap, err := s.Tap(&split.Options{Depth: 200})
	require.NoError(t, err)
	main, copied := l.listen(t, rest, true), l.listen(t, tap, false)
	for queue := 0; l.next < 8000; queue++ {
		l.send(t, queue%4, make([]flow, 40)...)
		l.window(t, 120)
	}
	l.window(t, 0)
	within(t, func() bool { st := tap.Stats(); return st.Waiting == 0 && st.RxPackets+st.Dropped == 8000 })
	require.NoError(t, s.Close())
	<-main.done
	<-copied.done
	assert.Len(t, main.numbers, 8000)
	seen := map[int]bool{}
	for _, n := range copied.numbers {
		assert.False(t, seen[n], "packet %d was copied twice", n)
		seen[n] = true
	}
	assert.EqualValues(t, len(seen), tap.Stats().RxPackets)
}

// A Tap whose listener waits while there is no empty frame for it goes on when there
// are some again.
func TestATapGoesOnWhenThereAreFramesAgain(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	q := l.near[0]
	tap, err := split.NewTap(q, &split.Options{Depth: 8})
	require.NoError(t, err)
	var all []xsk.Frame
	frames := make([]xsk.Frame, 64)
	for {
		n, err := q.TryAlloc(frames)
		require.NoError(t, err)
		if n == 0 {
			break
		}
		all = append(all, frames[:n]...)
	}
	relay := func(packets int) {
		l.send(t, 0, make([]flow, packets)...)
		for packets > 0 {
			n, err := q.Receive(frames)
			require.NoError(t, err)
			tap.Copy(frames[:n])
			packets -= n
		}
	}
	relay(8)
	copies := make([]xsk.Frame, 8)
	n, err := tap.Receive(copies)
	require.NoError(t, err)
	require.Equal(t, 8, n)
	xsk.Keep(copies)
	done := make(chan int)
	go func() {
		n, err := tap.Receive(make([]xsk.Frame, 8))
		assert.NoError(t, err)
		_, err = tap.TryReceive(nil)
		assert.NoError(t, err)
		done <- n
	}()
	relay(8)
	assert.EqualValues(t, 8, tap.Stats().Dropped)
	time.Sleep(20 * time.Millisecond) // it waits by now
	xsk.Free(all)
	xsk.Free(copies)
	within(t, func() bool {
		relay(1)
		select {
		case n := <-done:
			return assert.NotZero(t, n)
		default:
			return false
		}
	})
	require.NoError(t, tap.Close())
	l.settled(t)
}

// Packets that span frames are given away, and copied, whole.
func TestJumboPacketsAreSplitWhole(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		a, b := testns.Veth{MTU: 9000}.Make(t)
		open := func(name string) *xsk.Queue {
			p, err := bpf.Attach(name, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, p.Close()) })
			q, err := xsk.Open(name, 0, &xsk.Config{
				UmemConfig:   xsk.UmemConfig{Frames: 512},
				SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
				XSKMap:       p,
				RxFrames:     128,
			})
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, q.Close()) })
			return q
		}
		l := &link{near: []*xsk.Queue{open(a)}, far: []*xsk.Queue{open(b)}}
		s := l.run(t)
		m, err := s.Listen(&split.Options{Depth: 8})
		require.NoError(t, err)
		tap, err := s.Tap(&split.Options{Depth: 16})
		require.NoError(t, err)
		const length = 9014
		want := make([]byte, length)
		got := make([]byte, length+1)
		frames := make([]xsk.Frame, 4)
		for round := range 20 {
			for i := range want {
				want[i] = byte(i*7 + round)
			}
			copy(want, udp(nil, flow{1, 2}, round))
			parts := make([]xsk.Frame, 3)
			_, err := l.far[0].Alloc(parts)
			require.NoError(t, err)
			rest := want
			for i := range parts {
				k := min(len(rest), cap(parts[i].Data))
				parts[i].Data = append(parts[i].Data, rest[:k]...)
				rest = rest[k:]
			}
			packet := parts[0]
			packet.Frags = parts[1:]
			_, err = l.far[0].Send([]xsk.Frame{packet})
			require.NoError(t, err)
			for _, from := range []receiver{m, tap} {
				n, err := from.Receive(frames)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, length, frames[0].CopyTo(got))
				require.Equal(t, want, got[:length])
			}
			if round%2 == 0 {
				_, err = tap.Send(frames[:1])
				require.NoError(t, err)
				_, err = l.far[0].Receive(frames)
				require.NoError(t, err)
				require.Equal(t, length, frames[0].CopyTo(got))
				require.Equal(t, want, got[:length])
			}
		}
		for range 4 { // eight frames of waiting packets are two of three frames each
			f := make([]xsk.Frame, 3)
			_, err := l.far[0].Alloc(f)
			require.NoError(t, err)
			for i := range f {
				f[i].Data = f[i].Data[:3000]
			}
			copy(f[0].Data, udp(nil, flow{1, 2}, 0))
			f[0].Frags = f[1:]
			_, err = l.far[0].Send(f[:1])
			require.NoError(t, err)
		}
		within(t, func() bool { st := m.Stats(); return st.Waiting == 2 && st.Dropped == 2 })
		assert.Equal(t, 4, tap.Stats().Waiting)
		for _, m := range []tryer{m, tap} {
			_, err = m.TryReceive(nil)
			require.NoError(t, err)
		}
	})
}
