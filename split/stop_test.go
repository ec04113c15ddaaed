package split_test

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/split"
)

// Receive of a Queue minds its deadline only when there is nothing to receive: a
// Splitter whose packets come faster than it gives them away ends all the same.
func TestRunEndsWhilePacketsComeFasterThanTheyAreTaken(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{})
	s, err := split.New(l.near...)
	require.NoError(t, err)
	var matched atomic.Int64
	_, err = s.Listen(&split.Options{Match: func([]byte) bool {
		time.Sleep(50 * time.Microsecond) // slower than they come
		matched.Add(1)
		return false
	}})
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()

	stop := make(chan struct{})
	var sender sync.WaitGroup
	sender.Add(1)
	go func() {
		defer sender.Done()
		for {
			select {
			case <-stop:
				return
			default:
				l.send(t, 0, make([]flow, 64)...)
			}
		}
	}()
	halt := sync.OnceFunc(func() { close(stop); sender.Wait() })
	defer halt()
	within(t, func() bool { return l.near[0].Stats().Kernel.RxFillRingEmpty > 0 || matched.Load() > 2000 })

	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		assert.NoError(t, err)
	case <-time.After(8 * time.Second):
		assert.Fail(t, "Close waits for the packets to end")
		halt()
		<-closed
	}
	assert.ErrorIs(t, <-ended, net.ErrClosed)
	halt()
	l.settled(t)
}

// A Tap may be closed while others copy for it: the copies that it does not take any
// more are frames, and come back.
func TestATapThatIsClosedWhileItCopiesLosesNoFrame(t *testing.T) {
	l := newLink(t, bpf.Native, 1, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4096, FrameSize: 4096}, RxFrames: 512})
	q := l.near[0]
	packets := make([]xsk.Frame, 32)
	n, err := q.Alloc(packets)
	require.NoError(t, err)
	require.Len(t, packets, n)
	for i := range packets {
		packets[i].Data = packets[i].Data[:3500]
	}
	mine := len(packets)
	for round := range 100 {
		tap, err := split.NewTap(q, &split.Options{Depth: 512})
		require.NoError(t, err)
		begun := make(chan struct{})
		var copier sync.WaitGroup
		copier.Add(1)
		go func() {
			defer copier.Done()
			close(begun)
			for range 16 {
				tap.Copy(packets)
			}
		}()
		<-begun
		for range round % 50 {
			_ = tap.Stats() // a while
		}
		require.NoError(t, tap.Close())
		copier.Wait()
		f := q.Stats().Frames
		require.Equal(t, mine, f.User, "round %d: %v", round, f)
		require.Equal(t, q.Umem().Frames(), f.Total())
	}
	xsk.Free(packets)
	l.settled(t)
}
