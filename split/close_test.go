package split_test

import (
	"net"
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

// A program closes in whatever order it likes.
func TestCloseInAnyOrder(t *testing.T) {
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for _, order := range orders {
		l := newLink(t, bpf.Native, 2, xsk.Config{})
		s, err := split.New(l.near...)
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- s.Run() }()
		m, err := s.Listen(nil)
		require.NoError(t, err)
		tap, err := s.Tap(nil)
		require.NoError(t, err)
		l.send(t, 0, make([]flow, 40)...)
		l.send(t, 1, make([]flow, 40)...)
		frames := make([]xsk.Frame, 8)
		_, err = m.Receive(frames)
		require.NoError(t, err)
		frames[0].Keep()
		failed := make(chan error, 1)
		copied := make([]xsk.Frame, 8)
		_, err = tap.Receive(copied)
		require.NoError(t, err)
		within(t, func() bool { return m.Stats().Waiting+int(m.Stats().RxPackets) == 80 })
		go func() {
			frames := make([]xsk.Frame, 64)
			for {
				if _, err := m.Receive(frames); err != nil {
					failed <- err
					return
				}
			}
		}()
		for _, what := range order {
			switch what {
			case 0:
				assert.NoError(t, xsk.Queues(l.near).Close())
			case 1:
				assert.NoError(t, s.Close())
			case 2:
				assert.NoError(t, m.Close())
				assert.NoError(t, tap.Close())
			}
		}
		assert.ErrorIs(t, <-ended, net.ErrClosed)
		assert.ErrorIs(t, <-failed, net.ErrClosed)
		_, err = tap.Receive(copied)
		assert.ErrorIs(t, err, net.ErrClosed)
		parse(t, frames[0].Data) // the memory is there
		frames[0].Free()
		for _, call := range []func([]xsk.Frame) (int, error){m.Receive, m.TryReceive, m.Send, m.TrySend, m.Alloc, m.TryAlloc} {
			n, err := call(frames)
			assert.Zero(t, n)
			assert.ErrorIs(t, err, net.ErrClosed)
		}
		assert.ErrorIs(t, m.SetDeadline(time.Now()), net.ErrClosed)
		_, err = s.Listen(nil)
		assert.ErrorIs(t, err, net.ErrClosed)
		assert.ErrorIs(t, s.Run(), net.ErrClosed)
	}
}

func TestTheQueuesAreTheCallersAgainAfterClose(t *testing.T) {
	l := newLink(t, bpf.Native, 2, xsk.Config{})
	for range 2 {
		s := l.run(t)
		m, err := s.Listen(nil)
		require.NoError(t, err)
		l.send(t, 1, flow{1, 2})
		_, err = m.Receive(make([]xsk.Frame, 1))
		require.NoError(t, err)
		require.NoError(t, s.Close())
		_, err = m.TryReceive(nil)
		require.ErrorIs(t, err, net.ErrClosed)
		l.send(t, 1, flow{3, 4})
		frames := make([]xsk.Frame, 2)
		n, err := l.near[1].Receive(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		f, _ := parse(t, frames[0].Data)
		assert.Equal(t, flow{3, 4}, f)
	}
}

// Run has ended by itself when the Splitter is closed: a Queue that is still open can
// be received from all the same.
func TestTheQueuesAreTheCallersAgainWhenOneHasFailed(t *testing.T) {
	l := newLink(t, bpf.Native, 2, xsk.Config{})
	s := l.run(t)
	m, err := s.Listen(nil)
	require.NoError(t, err)
	require.NoError(t, l.near[0].Close())
	_, err = m.Receive(make([]xsk.Frame, 1))
	require.ErrorIs(t, err, net.ErrClosed) // Run has ended
	require.NoError(t, s.Close())
	l.near = l.near[1:]
	received := make(chan error)
	go func() {
		_, err := l.near[0].Receive(make([]xsk.Frame, 1))
		received <- err
	}()
	time.Sleep(20 * time.Millisecond) // it waits by now
	l.send(t, 1, flow{1, 2})
	assert.NoError(t, <-received)
}

// What ends Run is what the Members answer, once they have read what came before.
func TestListenersHearWhyTheQueueFailed(t *testing.T) {
	l := newLink(t, bpf.Native, 2, xsk.Config{})
	s, err := split.New(l.near...)
	require.NoError(t, err)
	m, err := s.Listen(&split.Options{Name: "all"})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	l.send(t, 0, flow{1, 2})
	within(t, func() bool { return m.Stats().Waiting == 1 })
	testns.IP(t, "link", "del", l.name)
	require.ErrorIs(t, <-ended, syscall.ENODEV)
	frames := make([]xsk.Frame, 4)
	n, err := m.Receive(frames)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	_, err = m.Receive(frames)
	assert.ErrorIs(t, err, syscall.ENODEV)
	assert.ErrorContains(t, err, "split: receive all of "+l.name+" queue 0 and 1 more: xsk: receive "+l.name)
	_, err = s.Listen(nil)
	assert.ErrorIs(t, err, syscall.ENODEV)
	require.NoError(t, s.Close())
}
