package kerneltest

import (
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
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

// A victim is a Queue that is read, written and worked for until somebody
// closes it.
type victim struct {
	*xsk.Queue
	work   chan xsk.Frame
	kept   atomic.Int64
	handed atomic.Int64
	group  sync.WaitGroup
}

// closed fails t unless err is what a closing Queue may answer.
func closed(t *testing.T, err error) {
	if !errors.Is(err, os.ErrClosed) && !errors.Is(err, syscall.ENOBUFS) {
		assert.NoError(t, err)
	}
}

// read echoes, frees, keeps and hands to workers, and looks at every byte of
// what it was lent until the very next Receive.
func (v *victim) read(t *testing.T) {
	defer v.group.Done()
	defer close(v.work)
	frames, n := make([]xsk.Frame, 16), 0
	for {
		for i := range frames[:n] { // the loan, perhaps of a closed Queue
			if f := &frames[i]; len(f.Data) > 0 {
				f.Data[len(f.Data)-1]++
			}
		}
		var err error
		if n, err = v.Receive(frames); err != nil {
			closed(t, err)
			if errors.Is(err, os.ErrClosed) {
				return
			}
			n = 0
			continue
		}
		for i := range frames[:n] {
			f := &frames[i]
			if number(f.Data) < 0 {
				assert.Fail(t, "a corrupt packet")
			}
			switch rand.IntN(4) {
			case 0:
				f.Keep()
				v.kept.Add(1)
				v.work <- *f
				*f = xsk.Frame{}
			case 1:
				f.Free()
				*f = xsk.Frame{}
			case 2:
				sent, err := v.Send(frames[i : i+1])
				closed(t, err)
				if sent == 1 {
					*f = xsk.Frame{}
				}
			}
		}
	}
}

// worker writes into the frames it has, long after the Queue is closed.
func (v *victim) worker(t *testing.T) {
	defer v.group.Done()
	for f := range v.work {
		for i := range f.Data {
			f.Data[i]++
		}
		if rand.IntN(2) == 0 {
			time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
		for i := range f.Data {
			f.Data[i]--
		}
		frames := []xsk.Frame{f}
		if rand.IntN(2) == 0 {
			n, err := v.Send(frames)
			closed(t, err)
			frames = frames[n:]
		}
		xsk.Free(frames)
		v.handed.Add(1)
	}
}

// write sends packets of its own.
func (v *victim) write(t *testing.T) {
	defer v.group.Done()
	frames := make([]xsk.Frame, 8)
	for {
		n, err := v.Alloc(frames)
		if err != nil {
			closed(t, err)
			return
		}
		for i := range frames[:n] {
			f := &frames[i]
			f.Data = f.Data[:60]
			fill(f.Data, i)
		}
		sent, err := v.Send(frames[:n])
		closed(t, err)
		xsk.Free(frames[sent:n])
	}
}

// end opens, works for and closes a Queue once.
func end(t *testing.T, ifname string, c xsk.Config) bool {
	q, err := xsk.Open(ifname, 0, &c)
	if !assert.NoError(t, err) {
		return false
	}
	v := &victim{Queue: q, work: make(chan xsk.Frame, 8)}
	v.group.Add(4)
	go v.read(t)
	go v.worker(t)
	go v.worker(t)
	go v.write(t)
	for range 1 + rand.IntN(3) {
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
		_ = q.Stats()
	}
	ok := assert.NoError(t, q.Close())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.group.Wait()
	}()
	select {
	case <-done:
	case <-time.After(patience):
		assert.Fail(t, "a goroutine hangs in a closed queue")
		return false
	}
	total := q.Stats().Frames.Total()
	return ok && assert.Equal(t, c.UmemConfig.Frames, total) && assert.Equal(t, v.kept.Load(), v.handed.Load())
}

func TestCloseWhileTheQueueIsReadWrittenAndWorkedFor(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		rounds := 200
		if testing.Short() {
			rounds = 32
		} else if os.Getenv("XSK_TEST_ALL") != "" {
			rounds = 1000
		}
		// Many pairs share the wait for the kernel to let go of a queue.
		const pairs = 16
		var left atomic.Int64
		left.Store(int64(rounds))
		var group sync.WaitGroup
		for range pairs {
			nameA, nameB := testns.Veth{}.Make(t)
			c := xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 2048}, XSKMap: attach(t, nameB, m)}
			a := open(t, nameA, 0, config(attach(t, nameA, m)))
			group.Add(1)
			go func() {
				defer group.Done()
				traffic := startTraffic(a, 60, 2*time.Millisecond)
				for left.Add(-1) >= 0 && end(t, nameB, c) {
				}
				close(traffic.stop)
				traffic.group.Wait()
				assert.NoError(t, traffic.err)
			}()
		}
		group.Wait()
	})
}

// Setting deadlines races with the ticks of those who wait, and with Close.
func TestDeadlinesRaceWithTicksAndClose(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		for range 4 {
			a, b := pair(t, m, xsk.Config{})
			stop := make(chan struct{})
			var group sync.WaitGroup
			run := func(f func()) {
				group.Add(1)
				go func() {
					defer group.Done()
					for {
						select {
						case <-stop:
							return
						default:
							f()
						}
					}
				}()
			}
			soft := func(err error) {
				if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
					closed(t, err)
				}
			}
			frames := make([]xsk.Frame, 16)
			var received, late atomic.Int64
			run(func() {
				n, err := b.Receive(frames)
				soft(err)
				received.Add(int64(n))
				if errors.Is(err, os.ErrDeadlineExceeded) {
					late.Add(1)
					time.Sleep(10 * time.Microsecond)
				}
			})
			for range 2 {
				run(func() {
					soft(b.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(200)-100) * time.Microsecond)))
					time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
					soft(b.SetDeadline(time.Time{}))
					soft(b.SetWriteDeadline(time.Now().Add(time.Hour)))
					time.Sleep(20 * time.Microsecond)
				})
			}
			run(func() {
				one := make([]xsk.Frame, 1)
				n, err := b.Alloc(one)
				soft(err)
				xsk.Free(one[:n])
			})
			send(t, a, 0, 2000, 60)
			within(t, patience, func() bool { return received.Load() > 0 })
			within(t, patience, func() bool { return late.Load() > 100 })

			// A deadline set last wins, whatever raced before it.
			require.NoError(t, b.Close())
			time.Sleep(time.Millisecond)
			close(stop)
			soon(t, "somebody", group.Wait)

			assert.ErrorIs(t, b.SetDeadline(time.Now()), net.ErrClosed)
			assert.Equal(t, 512, b.Stats().Frames.Total())
			settled(t, 0, a)
		}
	})
}

// A packet that comes between the look at the ring and the park would wake
// nobody before the next tick, a second later. Each is sent the moment when the
// receiver is about to park.
func TestNoWakeUpIsLost(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		const packets = 5000
		var received atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			frames := make([]xsk.Frame, 4)
			for received.Load() < packets {
				n, err := b.Receive(frames)
				if !assert.NoError(t, err) {
					return
				}
				received.Add(int64(n))
			}
		}()
		soon(t, "a receiver", func() {
			for k := range packets {
				frames := write(t, a, k, 1, 60)
				for received.Load() < int64(k) {
					runtime.Gosched()
				}
				for start, d := time.Now(), time.Duration(rand.IntN(20000)); time.Since(start) < d; {
				}
				_, err := a.Send(frames)
				assert.NoError(t, err)
			}
			<-done
		})
		settled(t, 0, a, b)
	})
}

// A tick that ends a park leaves the user's deadline as it was, and a deadline
// beyond the tick holds.
func TestDeadlineBeyondATickHolds(t *testing.T) {
	inBothModes(t, func(t *testing.T, m mode) {
		_, b := pair(t, m, xsk.Config{})
		start := time.Now()
		require.NoError(t, b.SetReadDeadline(start.Add(1500*time.Millisecond)))
		_, err := b.Receive(make([]xsk.Frame, 1))
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.GreaterOrEqual(t, time.Since(start), 1500*time.Millisecond)
		settled(t, 0, b)
	})
}

func threads(t *testing.T) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	return len(tasks)
}

func TestIdleQueuesHoldNoThread(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		const n = 200
		_, nameB := testns.Veth{Queues: n}.Make(t)
		all, err := xsk.OpenAll(nameB, &xsk.Config{
			UmemConfig:   xsk.UmemConfig{Frames: 64, FrameSize: 2048, FillSize: 64, CompletionSize: 64},
			SocketConfig: xsk.SocketConfig{RxSize: 64, TxSize: 64},
			XSKMap:       attach(t, nameB, m),
		})
		require.NoError(t, err)
		defer all.Close()
		require.Len(t, all, n)
		before := threads(t)
		var group sync.WaitGroup
		for _, q := range all {
			group.Add(2)
			go func() {
				defer group.Done()
				_, err := q.Receive(make([]xsk.Frame, 8))
				assert.ErrorIs(t, err, net.ErrClosed)
			}()
			frames := make([]xsk.Frame, 64)
			go func() { // nor do those that wait for frames
				defer group.Done()
				k, _ := q.Alloc(frames)
				assert.Equal(t, 32, k)
				_, err := q.Alloc(frames[k:])
				assert.ErrorIs(t, err, net.ErrClosed)
				xsk.Free(frames[:k])
			}()
		}
		time.Sleep(2500 * time.Millisecond) // ticks and naps come by
		assert.Less(t, threads(t), before+20, "%d queues, %d threads before", n, before)
		assert.Equal(t, n*64, all.Stats().Frames.Total())
		require.NoError(t, all.Close())
		soon(t, "a waiter", group.Wait)
	})
}
