package split_test

import (
	"net"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/split"
)

// Members on four queues with a Umem each send back what they got, and packets of
// their own, keep some, and lose no frame.
func TestMembersSendWhatTheyReceive(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		const packets = 4000
		l := newLink(t, mode, 4, xsk.Config{})
		s := l.run(t)
		members, err := s.FanOut(2, &split.Options{Depth: 128})
		require.NoError(t, err)
		for _, m := range members {
			go func() {
				frames := make([]xsk.Frame, 32)
				var kept []xsk.Frame
				for {
					n, err := m.Receive(frames)
					if err != nil {
						xsk.Free(kept)
						return
					}
					for i := range frames[:n] {
						f := &frames[i]
						if _, number := parse(t, f.Data); number%4 == 0 { // an answer in another frame
							fresh := make([]xsk.Frame, 1)
							if _, err := m.Alloc(fresh); !assert.NoError(t, err) {
								return
							}
							fresh[0].Data = append(fresh[0].Data, f.Data...)
							if f.Keep(); len(kept) < 20 {
								kept = append(kept, *f)
							} else {
								f.Free()
							}
							*f = fresh[0]
						}
					}
					sent, err := m.Send(frames[:n])
					assert.NoError(t, err)
					assert.Equal(t, n, sent)
				}
			}()
		}
		got := make([]bool, packets)
		back := 0
		frames := make([]xsk.Frame, 64)
		for queue := 0; back < packets; queue++ {
			if l.next < packets {
				l.send(t, queue%4, flow{1, 2}, flow{3, 4}, flow{5, 6}, flow{7, 8}, flow{9, 10})
			}
			within(t, func() bool {
				for _, q := range l.far {
					n, err := q.TryReceive(frames)
					require.NoError(t, err)
					for i := range frames[:n] {
						_, number := parse(t, frames[i].Data)
						require.False(t, got[number], "twice")
						got[number] = true
					}
					back += n
				}
				return l.next-back < 100 && l.next < packets || back == packets
			})
		}
		within(t, func() bool { return members[0].Stats().TxPackets+members[1].Stats().TxPackets == packets })
	})
}

func TestAMemberHonoursDeadlinesAndClose(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s := l.run(t)
	m, err := s.Listen(nil)
	require.NoError(t, err)
	frames := make([]xsk.Frame, 8)
	n, err := m.TryReceive(frames)
	require.NoError(t, err)
	require.Zero(t, n)
	require.NoError(t, m.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	_, err = m.Receive(frames)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	l.send(t, 0, flow{1, 2})
	within(t, func() bool { return m.Stats().Waiting == 1 })
	n, err = m.Receive(frames)
	require.NoError(t, err, "it counts only when there is nothing")
	require.Equal(t, 1, n)
	require.NoError(t, m.SetReadDeadline(time.Time{}))
	time.AfterFunc(10*time.Millisecond, func() { _ = m.SetDeadline(time.Now()) })
	_, err = m.Receive(frames)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded, "set while it waits")

	var all []xsk.Frame
	for {
		k, err := m.Alloc(frames)
		if err != nil {
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
			break
		}
		all = append(all, frames[:k]...)
	}
	require.NoError(t, m.SetDeadline(time.Time{}))
	time.AfterFunc(10*time.Millisecond, func() { _ = m.Close() })
	_, err = m.Alloc(frames)
	require.ErrorIs(t, err, net.ErrClosed, "closed while it waits")
	xsk.Free(all)
	require.NoError(t, m.Close())
	_, err = m.Receive(frames)
	require.EqualError(t, err, "split: receive listener 0 of "+l.name+" queue 0: already closed")
}

// Whoever waits for a frame hears that the interface is gone, on every Queue.
func TestAMemberDoesNotWaitForFramesOfAnInterfaceThatIsGone(t *testing.T) {
	l := newLink(t, bpf.Native, 2, xsk.Config{})
	s, err := split.New(l.near...)
	require.NoError(t, err)
	defer s.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	members, err := s.FanOut(2, nil)
	require.NoError(t, err)
	frames := make([]xsk.Frame, 64)
	for _, m := range members {
		for {
			n, err := m.TryAlloc(frames)
			require.NoError(t, err)
			if n == 0 {
				break
			}
			all := slices.Clone(frames[:n])
			defer xsk.Free(all)
		}
	}
	testns.IP(t, "link", "del", l.name)
	require.ErrorIs(t, <-ended, syscall.ENODEV)
	for _, m := range members {
		require.NoError(t, m.SetWriteDeadline(time.Now().Add(5*time.Second)))
		_, err = m.Alloc(frames)
		assert.ErrorIs(t, err, syscall.ENODEV)
	}
}

func TestAMemberRefusesForeignAndEmptyFrames(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s := l.run(t)
	m, err := s.Listen(nil)
	require.NoError(t, err)
	_, err = m.Send(make([]xsk.Frame, 1))
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the Frame is empty")
	frames := make([]xsk.Frame, 1)
	_, err = l.far[0].Alloc(frames)
	require.NoError(t, err)
	frames[0].Data = frames[0].Data[:60]
	_, err = m.Send(frames)
	assert.ErrorContains(t, err, "belongs to another Umem")
	xsk.Free(frames)
}

// While the listeners keep all frames there are the kernel drops packets; when they
// free them it goes on.
func TestListenersThatKeepEveryFrameAreWaitedFor(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 256, FrameSize: 2048}, RxFrames: 64})
	s := l.run(t)
	m, err := s.Listen(&split.Options{Depth: 64})
	require.NoError(t, err)
	var kept []xsk.Frame
	frames := make([]xsk.Frame, 64)
	for len(kept) < 256 {
		l.send(t, 0, flow{1, 2})
		n, err := m.Receive(frames)
		require.NoError(t, err)
		xsk.Keep(frames[:n])
		kept = append(kept, frames[:n]...)
	}
	l.send(t, 0, flow{1, 2})
	within(t, func() bool { return l.near[0].Stats().Kernel.RxFillRingEmpty > 0 })
	xsk.Free(kept)
	defer func() { _, _ = m.TryReceive(nil) }()
	within(t, func() bool {
		l.send(t, 0, flow{1, 2})
		n, err := m.TryReceive(frames)
		require.NoError(t, err)
		return n > 0
	})
}

// Listeners that keep every frame hear all the same that the interface is gone.
func TestListenersThatKeepEveryFrameHearThatTheQueueFailed(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 256, FrameSize: 2048}, RxFrames: 64})
	s, err := split.New(l.near...)
	require.NoError(t, err)
	defer s.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	m, err := s.Listen(&split.Options{Depth: 64})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 64)
	for kept := 0; kept < 256; {
		l.send(t, 0, flow{1, 2})
		n, err := m.Receive(frames)
		require.NoError(t, err)
		xsk.Keep(frames[:n])
		defer xsk.Free(slices.Clone(frames[:n]))
		kept += n
	}
	testns.IP(t, "link", "del", l.name)
	require.NoError(t, m.SetReadDeadline(time.Now().Add(10*time.Second)))
	_, err = m.Receive(frames)
	require.ErrorIs(t, err, syscall.ENODEV)
	require.ErrorIs(t, <-ended, syscall.ENODEV)
}

// Neither the pump nor a Member nor a Tap allocates for a packet or a burst.
func TestSplittingDoesNotAllocate(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s := l.run(t)
	m, err := s.FanOut(2, &split.Options{Match: to(2), Depth: 128})
	require.NoError(t, err)
	tap, err := s.Tap(&split.Options{Depth: 128, Match: to(2)})
	require.NoError(t, err)
	packets, frames := make([]xsk.Frame, 32), make([]xsk.Frame, 32)
	listeners := []tryer{m[0], m[1], tap}
	for _, m := range listeners {
		defer func() { _, _ = m.TryReceive(nil) }()
	}
	round := func() {
		n, err := l.far[0].Alloc(packets)
		require.NoError(t, err)
		for i := range packets[:n] {
			f := &packets[i]
			f.Data = append(f.Data, template...)
			f.Data[35] = byte(i)
		}
		_, err = l.far[0].Send(packets[:n])
		require.NoError(t, err)
		for got := 0; got < 2*n; {
			for _, m := range listeners {
				k, err := m.TryReceive(frames)
				require.NoError(t, err)
				got += k
			}
		}
	}
	for range 10 {
		round()
	}
	assert.Less(t, testing.AllocsPerRun(50, round), 1.0, "a burst of 32 packets and as many copies")
}

var template = udp(nil, flow{9, 2}, 7)

// A tryer receives without waiting.
type tryer interface {
	TryReceive([]xsk.Frame) (int, error)
}
