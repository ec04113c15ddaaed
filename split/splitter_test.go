package split_test

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/split"
)

// Every packet goes to the first listener that matches it, the rest to the one
// without a Match, and a copy of each to a Tap: exactly, in order, by their numbers.
func TestEachPacketGoesToOneListener(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets = 12000
		l := newLink(t, mode, 1, xsk.Config{})
		s := l.run(t)
		rest, err := s.Listen(nil) // added first, and yet asked last
		require.NoError(t, err)
		one, err := s.Listen(&split.Options{Match: to(1), Name: "one", Depth: 128})
		require.NoError(t, err)
		two, err := s.Listen(&split.Options{Match: func(b []byte) bool { return b[37] == 1 || b[37] == 2 }, Depth: 128})
		require.NoError(t, err)
		tap, err := s.Tap(&split.Options{Depth: 200})
		require.NoError(t, err)
		listeners := []*listener{l.listen(t, one, true), l.listen(t, two, true), l.listen(t, rest, true), l.listen(t, tap, false)}
		for l.next < packets {
			var flows []flow
			for i := range 40 {
				flows = append(flows, flow{9, uint16((l.next + i) % 4)})
			}
			l.send(t, 0, flows...)
			l.window(t, 160)
			// 200 frames less those of a Receive that has not got new ones yet
			within(t, func() bool { return l.next-int(tap.Stats().RxPackets) <= 80 })
		}
		l.window(t, 0)
		within(t, func() bool { return tap.Stats().RxPackets == packets })
		require.NoError(t, s.Close())
		wanted := []func(int) bool{
			func(n int) bool { return n%4 == 1 },
			func(n int) bool { return n%4 == 2 },
			func(n int) bool { return n%4 == 0 || n%4 == 3 },
			func(int) bool { return true },
		}
		for i, listener := range listeners {
			<-listener.done
			assert.Equal(t, upTo(packets, wanted[i]), listener.numbers, i)
		}
		for _, m := range []*split.Member{one, two, rest, &tap.Member} {
			assert.Zero(t, m.Stats().Dropped)
		}
		assert.Zero(t, s.Unclaimed())
	})
}

func TestWhatNobodyWantsIsCounted(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s := l.run(t)
	one, err := s.Listen(&split.Options{Match: to(1)})
	require.NoError(t, err)
	r := l.listen(t, one, true)
	for range 100 {
		l.send(t, 0, flow{9, 1}, flow{9, 2}, flow{9, 3})
		within(t, func() bool { return int(l.received.Load())+int(s.Unclaimed()) == l.next })
	}
	assert.EqualValues(t, 200, s.Unclaimed())
	require.NoError(t, one.Close())
	<-r.done
	assert.Equal(t, map[flow]int{{9, 1}: 100}, r.flows)
	l.send(t, 0, flow{9, 1})
	within(t, func() bool { return s.Unclaimed() == 201 })
	assert.Contains(t, s.String(), "201 packets unclaimed")
	two, err := s.Listen(nil)
	require.NoError(t, err, "the place is free again")
	l.send(t, 0, flow{9, 1})
	n, err := two.Receive(make([]xsk.Frame, 8))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	_, err = two.TryReceive(nil)
	require.NoError(t, err)
}

// Packets of some hundred flows come in on four queues, each direction of a flow
// where it likes. Every one is seen once, and a flow by one listener only.
func TestFlowsStayTogetherOverFourQueues(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets, flows = 12000, 100
		l := newLink(t, mode, 4, xsk.Config{})
		s := l.run(t)
		members, err := s.FanOut(3, nil)
		require.NoError(t, err)
		listeners := make([]*listener, len(members))
		for i, m := range members {
			listeners[i] = l.listen(t, m, true)
		}
		for queue := 0; l.next < packets; queue++ {
			var burst []flow
			for range 40 {
				f := flow{uint16(rand.IntN(flows)), 200}
				if rand.IntN(2) == 0 {
					f = flow{f.to, f.from}
				}
				burst = append(burst, f)
			}
			l.send(t, queue%4, burst...)
			l.window(t, 160)
		}
		l.window(t, 0)
		if mode == bpf.Native {
			for _, q := range l.near {
				assert.NotZero(t, q.Stats().RxPackets, "%v got nothing", q)
			}
		}
		require.NoError(t, s.Close())
		var all []int
		owner := map[uint16]int{}
		for i, r := range listeners {
			<-r.done
			assert.Greater(t, len(r.numbers), packets/10, "listener %d", i)
			all = append(all, r.numbers...)
			for f := range r.flows {
				station := min(f.from, f.to)
				if before, seen := owner[station]; seen {
					assert.Equal(t, before, i, "flow %v is split", f)
				}
				owner[station] = i
			}
		}
		assert.Len(t, owner, flows)
		slices.Sort(all)
		assert.Equal(t, upTo(packets, func(int) bool { return true }), all)
	})
}

// When one of a FanOut ends, its flows go to the others, whose own stay.
func TestFlowsOfAClosedMemberMoveAndNoOthers(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s := l.run(t)
	members, err := s.FanOut(4, &split.Options{Depth: 64})
	require.NoError(t, err)
	listeners := make([]*listener, len(members))
	for i, m := range members {
		listeners[i] = l.listen(t, m, true)
	}
	round := func() (owners [200]int) {
		before := make([]split.Stats, 4)
		for i := range owners {
			for k, m := range members {
				before[k] = m.Stats()
			}
			l.send(t, 0, flow{uint16(i), 200})
			l.window(t, 0)
			for k, m := range members {
				if m.Stats().RxPackets > before[k].RxPackets {
					owners[i] = k
				}
			}
		}
		return owners
	}
	first := round()
	assert.Equal(t, first, round())
	require.NoError(t, members[2].Close())
	<-listeners[2].done
	took := map[int]int{}
	for i, owner := range round() {
		if first[i] == 2 {
			took[owner]++
		} else {
			assert.Equal(t, first[i], owner, "flow %d", i)
		}
	}
	assert.Len(t, took, 3, "the others share them")
	assert.NotContains(t, took, 2)
}

// A listener that never receives loses its own packets, and no others'.
func TestASlowListenerHoldsNobodyUp(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets, depth = 8000, 32
		l := newLink(t, mode, 1, xsk.Config{})
		s := l.run(t)
		slow, err := s.Listen(&split.Options{Match: to(1), Depth: depth})
		require.NoError(t, err)
		quick, err := s.Listen(nil)
		require.NoError(t, err)
		r := l.listen(t, quick, true)
		for l.next < packets {
			var flows []flow
			for i := range 40 {
				flows = append(flows, flow{9, uint16((l.next + i) % 2)})
			}
			l.send(t, 0, flows...)
			within(t, func() bool { return l.next/2-int(l.received.Load()) <= 40 })
		}
		within(t, func() bool { return l.received.Load() == packets/2 })
		within(t, func() bool { return slow.Stats().Dropped+depth == packets/2 })
		assert.Equal(t, depth, slow.Stats().Waiting)
		frames := make([]xsk.Frame, 100)
		n, err := slow.Receive(frames)
		require.NoError(t, err)
		assert.Equal(t, depth, n)
		for i := range frames[:n] {
			_, number := parse(t, frames[i].Data)
			assert.Equal(t, 2*i+1, number, "the first ones, for they came first")
		}
		l.send(t, 0, flow{9, 1})
		n, err = slow.Receive(frames)
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		require.NoError(t, s.Close())
		_, err = slow.Receive(frames)
		require.ErrorIs(t, err, net.ErrClosed)
		<-r.done
		assert.Equal(t, upTo(packets, func(n int) bool { return n%2 == 0 }), r.numbers)
	})
}

// Members, Taps and at last the Splitter are closed while packets come: every
// packet is accounted for, and so is every frame.
func TestListenersComeAndGoUnderTraffic(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		l := newLink(t, mode, 4, xsk.Config{})
		s, err := split.New(l.near...)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- s.Run() }()
		var stop atomic.Bool
		var senders, listeners sync.WaitGroup
		for i := range l.far {
			senders.Add(1)
			go func() {
				defer senders.Done()
				sender := &link{far: l.far}
				for !stop.Load() {
					sender.send(t, i, flow{1, 2}, flow{3, 4}, flow{5, 6}, flow{7, 8})
				}
			}()
		}
		read := func(m receiver, echo func([]xsk.Frame) (int, error)) {
			defer listeners.Done()
			frames := make([]xsk.Frame, 16)
			for round := 0; ; round++ {
				n, err := m.Receive(frames)
				if err != nil {
					assert.ErrorIs(t, err, net.ErrClosed)
					return
				}
				switch round % 4 {
				case 0:
					sent, err := echo(frames[:n])
					if err == nil {
						assert.Equal(t, n, sent)
					}
				case 1:
					xsk.Keep(frames[:n])
					xsk.Free(frames[:n])
				case 2:
					xsk.Free(frames[:n])
				}
			}
		}
		var members []*split.Member
		var taps []*split.Tap
		for round := range 40 {
			some, err := s.FanOut(1+round%3, &split.Options{Depth: 32, Match: to(2)})
			require.NoError(t, err)
			other, err := s.Listen(&split.Options{Depth: 32, Match: to(4)})
			require.NoError(t, err)
			some = append(some, other)
			members = append(members, some...)
			tap, err := s.Tap(&split.Options{Depth: 32})
			require.NoError(t, err)
			for _, m := range some {
				listeners.Add(1)
				go read(m, m.Send)
			}
			listeners.Add(1)
			go read(tap, tap.Send)
			time.Sleep(5 * time.Millisecond)
			for _, m := range some {
				require.NoError(t, m.Close())
			}
			if taps = append(taps, tap); round%2 == 0 { // the last ones are the Splitter's to close
				for _, tap := range taps {
					require.NoError(t, tap.Close())
				}
				listeners.Wait()
				taps = nil
			}
		}
		stop.Store(true)
		senders.Wait()
		var taken uint64
		within(t, func() bool {
			sum := s.Unclaimed()
			taken = 0
			for _, m := range members {
				st := m.Stats()
				assert.Zero(t, st.Waiting)
				taken += st.RxPackets
				sum += st.RxPackets + st.Dropped
			}
			return sum == received(l.near)
		})
		assert.NotZero(t, taken)
		require.NoError(t, s.Close())
		require.ErrorIs(t, <-ended, net.ErrClosed)
		listeners.Wait()
		l.settled(t)
	})
}

// received is what Queues have received.
func received(queues []*xsk.Queue) uint64 { return xsk.Queues(queues).Stats().RxPackets }

func TestSplitterSaysWhichRuleIsBroken(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 512, FrameSize: 2048}})
	_, err := split.New()
	assert.ErrorIs(t, err, syscall.EINVAL)
	_, err = split.New(l.near[0], l.near[0])
	assert.ErrorContains(t, err, "is there twice")
	s := l.run(t)
	_, err = s.Listen(nil) // 512 frames
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "split: listen on "+l.name+" queue 0: twice the Depth of all listeners is 512 frames, and of the 512 of the Umem")
	_, err = s.Listen(&split.Options{Depth: -1})
	assert.ErrorContains(t, err, "Depth -1 is less than 1")
	_, err = s.FanOut(0, nil)
	assert.ErrorContains(t, err, "0 listeners are none")
	m, err := s.FanOut(2, &split.Options{Depth: 32, Name: "stack"})
	require.NoError(t, err)
	assert.Equal(t, "stack/1", m[1].String())
	_, err = s.Listen(&split.Options{Depth: 32})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.EqualError(t, err, "split: listen on "+l.name+` queue 0: "stack" has what no Match takes: device or resource busy`)
	_, err = s.Tap(&split.Options{Depth: 65})
	assert.ErrorContains(t, err, "split: tap "+l.name+" queue 0: twice the Depth of all listeners is 258 frames")
	_, err = split.NewTap(l.near[0], nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	l.send(t, 0, flow{1, 2})
	within(t, func() bool { return m[0].Stats().Waiting+m[1].Stats().Waiting == 1 }) // Run is under way
	err = s.Run()
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "Run was called before")
}
