package kerneltest

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
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

// fewSlots is a Queue whose TX ring is full after 64 packets.
var fewSlots = xsk.Config{SocketConfig: xsk.SocketConfig{TxSize: 64}}

// parked is a Queue with a goroutine waiting in Receive, and one in Send on a
// full ring because the link is down.
type parked struct {
	rx, tx  chan error
	refused []xsk.Frame // what Send did not take, once tx has its error
}

func park(t *testing.T, q *xsk.Queue) *parked {
	t.Helper()
	testns.IP(t, "link", "set", name(q), "down")
	p := &parked{rx: make(chan error, 1), tx: make(chan error, 1)}
	go func() {
		_, err := q.Receive(make([]xsk.Frame, 8))
		p.rx <- err
	}()
	frames := write(t, q, 0, 100, 60)
	go func() {
		n, err := q.Send(frames)
		p.refused = frames[n:]
		p.tx <- err
	}()
	within(t, patience, func() bool { return q.Stats().TxPackets == 64 })
	time.Sleep(50 * time.Millisecond)
	select {
	case err := <-p.rx:
		require.FailNow(t, "receive did not wait", "%v", err)
	case err := <-p.tx:
		require.FailNow(t, "send did not wait", "%v", err)
	default:
	}
	return p
}

// gone asserts that the parked and all later calls tell that the interface is
// no more.
func (p *parked) gone(t *testing.T, q *xsk.Queue) {
	t.Helper()
	ended := func(what string, err error) {
		t.Helper()
		assert.ErrorIs(t, err, syscall.ENODEV, what)
		assert.ErrorContains(t, err, name(q)+" queue 0", what)
	}
	soon(t, "a parked call", func() {
		ended("receive", <-p.rx)
		ended("send", <-p.tx)
	})
	start := time.Now()
	for range 3 {
		_, err := q.Receive(make([]xsk.Frame, 8))
		ended("receive again", err)
		_, err = q.TryReceive(make([]xsk.Frame, 8))
		ended("try receive", err)
		_, err = q.Send(p.refused)
		ended("send again", err)
		_, err = q.TrySend(p.refused)
		ended("try send", err)
	}
	assert.Less(t, time.Since(start), 2*time.Second, "at once")
	xsk.Free(p.refused)
	conserved(t, q)
	f := q.Stats().Frames
	assert.Zero(t, f.Loan+f.User, "%v", q.Stats())
	// All frames in hand, Alloc has nothing to wait for.
	soon(t, "alloc", func() {
		for {
			frames := make([]xsk.Frame, 64)
			n, err := q.Alloc(frames)
			if err != nil {
				ended("alloc", err)
				break
			}
			defer xsk.Free(frames[:n])
		}
	})
	require.NoError(t, q.Close())
}

func TestRemovedInterfaceEndsBothDirections(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		q, peer := pair(t, m, fewSlots)
		p := park(t, q)
		testns.IP(t, "link", "del", name(peer))
		p.gone(t, q)
		_, err := peer.Receive(make([]xsk.Frame, 8))
		require.ErrorIs(t, err, syscall.ENODEV)
	})
}

// A program that spins never parks, where removal is noticed otherwise.
func TestSpinningReceiverLearnsThatTheInterfaceIsGone(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		q, peer := pair(t, m, xsk.Config{})
		testns.IP(t, "link", "del", name(peer))
		var err error
		within(t, patience, func() bool {
			_, err = q.TryReceive(make([]xsk.Frame, 8))
			return err != nil
		})
		require.ErrorIs(t, err, syscall.ENODEV)
		settled(t, 0, q)
	})
}

// Alloc waits for frames, not for the interface, and has nothing to park on.
func TestAllocLearnsThatTheInterfaceIsGone(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		q, peer := pair(t, m, xsk.Config{})
		all := make([]xsk.Frame, 512)
		n, err := q.Alloc(all)
		require.NoError(t, err)
		testns.IP(t, "link", "del", name(peer))
		soon(t, "alloc", func() { _, err = q.Alloc(make([]xsk.Frame, 1)) })
		require.ErrorIs(t, err, syscall.ENODEV)
		_, err = q.TryAlloc(make([]xsk.Frame, 1))
		require.ErrorIs(t, err, syscall.ENODEV)
		xsk.Free(all[:n])
		settled(t, 0, q)
	})
}

func TestInterfaceMovedToAnotherNamespaceEndsBothDirections(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		elsewhere := exec.Command("sleep", "60")
		elsewhere.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		require.NoError(t, elsewhere.Start())
		defer func() {
			_ = elsewhere.Process.Kill()
			_ = elsewhere.Wait()
		}()
		q, peer := pair(t, m, fewSlots)
		p := park(t, q)
		testns.IP(t, "link", "set", name(q), "netns", strconv.Itoa(elsewhere.Process.Pid))
		p.gone(t, q)
		settled(t, 0, peer)
	})
}

// The kernel never wakes a writer whose link went down and came up again.
func TestLinkDownAndUpWhileBothDirectionsAreParked(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		q, peer := pair(t, m, fewSlots)
		p := park(t, q)
		testns.IP(t, "link", "set", name(q), "up")
		soon(t, "the parked writer", func() { assert.NoError(t, <-p.tx) })
		assert.Empty(t, p.refused)
		expectLater(t, peer)
		// The reader that waited all the time gets the first packet.
		send(t, peer, 1, 1, 60)
		soon(t, "the parked reader", func() { assert.NoError(t, <-p.rx) })
		settled(t, 0, q, peer)
	})
}

// expectLater receives what comes of 100 packets sent while a link comes up,
// which loses some, and then makes sure of the next ones.
func expectLater(t *testing.T, q *xsk.Queue) {
	t.Helper()
	require.NotZero(t, drain(t, q))
}

func TestRenamedInterfaceGoesOnAndReopensByItsNewName(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := testns.Veth{}.Make(t)
		program := attach(t, nameB, m)
		a, b := open(t, nameA, 0, config(attach(t, nameA, m))), open(t, nameB, 0, config(program))
		send(t, a, 0, 10, 60)
		expect(t, b, 0, 10)
		renamed := nameB + "x"
		if err := exec.Command("ip", "link", "set", nameB, "name", renamed).Run(); err != nil {
			// Before Linux 6.2 only while it is down.
			testns.IP(t, "link", "set", nameB, "down")
			testns.IP(t, "link", "set", nameB, "name", renamed)
			testns.IP(t, "link", "set", renamed, "up")
		}
		send(t, a, 10, 10, 60)
		expect(t, b, 10, 10)
		send(t, b, 20, 10, 60)
		expect(t, a, 20, 10)
		settled(t, 0, a, b)
		require.NoError(t, b.Close())
		_, err := xsk.Open(nameB, 0, &xsk.Config{XSKMap: program})
		require.ErrorIs(t, err, syscall.ENODEV)
		assert.ErrorContains(t, err, nameB)
		b = open(t, renamed, 0, config(program))
		send(t, a, 30, 10, 60)
		expect(t, b, 30, 10)
		settled(t, 0, a, b)
	})
}

// A flood sends as fast as it can until it is stopped, and counts.
type flood struct {
	sent  atomic.Int64
	stop  chan struct{}
	group sync.WaitGroup
	err   error
}

func startFlood(q *xsk.Queue, length int) *flood { return startTraffic(q, length, 0) }

// startTraffic is a flood that pauses after each burst.
func startTraffic(q *xsk.Queue, length int, pause time.Duration) *flood {
	f := &flood{stop: make(chan struct{})}
	f.group.Add(1)
	go func() {
		defer f.group.Done()
		frames := make([]xsk.Frame, 32)
		for {
			select {
			case <-f.stop:
				return
			default:
			}
			n, err := q.Alloc(frames)
			if err != nil {
				f.err = err
				return
			}
			for i := range frames[:n] {
				p := &frames[i]
				p.Data = p.Data[:length]
				fill(p.Data, int(f.sent.Load())+i)
			}
			sent, err := q.Send(frames[:n])
			f.sent.Add(int64(sent))
			if err != nil {
				xsk.Free(frames[sent:n])
				f.err = err
				return
			}
			if pause > 0 {
				time.Sleep(pause)
			}
		}
	}()
	return f
}

func (f *flood) end(t testing.TB) int {
	t.Helper()
	close(f.stop)
	soon(t, "the flood", f.group.Wait)
	require.NoError(t, f.err)
	return int(f.sent.Load())
}

func TestMTUChangesUnderTraffic(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		traffic := startFlood(a, 200)
		frames := make([]xsk.Frame, 64)
		take := func(d time.Duration) (total int) {
			for end := time.Now().Add(d); time.Now().Before(end); {
				require.NoError(t, b.SetReadDeadline(end))
				n, err := b.Receive(frames)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				require.NoError(t, err)
				total += n
			}
			return total
		}
		for _, mtu := range []string{"1400", "600", "1500", "2000", "3000", "1500"} {
			testns.IP(t, "link", "set", name(a), "mtu", mtu)
			testns.IP(t, "link", "set", name(b), "mtu", mtu)
			require.NotZero(t, take(50*time.Millisecond), "MTU %s", mtu)
		}
		traffic.end(t)
		require.NoError(t, b.SetReadDeadline(time.Time{}))
		drain(t, b)

		// Longer than a frame receives: dropped, counted and explained.
		testns.IP(t, "link", "set", name(a), "mtu", "3000")
		testns.IP(t, "link", "set", name(b), "mtu", "3000")
		before := b.Stats().Kernel.RxDropped
		send(t, a, 1, 5, 1792)
		expect(t, b, 1, 5)
		require.Equal(t, 1792, b.Umem().MaxPacket())
		fromKernel(t, name(a), 2000, 3)
		within(t, patience, func() bool { return b.Stats().Kernel.RxDropped == before+3 }, "%v", b)
		assert.Contains(t, b.Stats().String(), "MTU 3000, a frame holds 1792")
		send(t, a, 6, 5, 60)
		expect(t, b, 6, 5)
		settled(t, 0, a, b)
	})
}
