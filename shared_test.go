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
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// openHalves opens a Queue that receives and one that sends on one queue.
func openHalves(t testing.TB, ifname string, m mode, u *xsk.Umem, rxFirst bool) (rx, tx *xsk.Queue) {
	t.Helper()
	receive := xsk.Config{Umem: u, RxFrames: 256, SocketConfig: xsk.SocketConfig{RxOnly: true}}
	send := xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}}
	if rxFirst {
		rx = openQueue(t, ifname, m, receive)
		return rx, openQueue(t, ifname, m, send)
	}
	tx = openQueue(t, ifname, m, send)
	return openQueue(t, ifname, m, receive), tx
}

// Two programs of halves talk to each other at full rate, each sending in one
// goroutine while it waits in another: no packet is lost but those that veth drops,
// none doubled, none changed, and every frame comes back.
func TestAQueueEachWayOnOneQueue(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := vethPair(t)
		umemA, umemB := newUmem(t, &smallQueue), newUmem(t, &smallQueue)
		rxA, txA := openHalves(t, nameA, m, umemA, true)
		rxB, txB := openHalves(t, nameB, m, umemB, false)
		const packets = 20000
		received := make(chan int, 2)
		for _, rx := range []*xsk.Queue{rxA, rxB} {
			go func() { received <- receiveInOrder(t, rx, packets) }()
		}
		done := make(chan struct{}, 2)
		for _, tx := range []*xsk.Queue{txA, txB} {
			go func() {
				defer func() { done <- struct{}{} }()
				for n := 0; n < packets; n += 50 {
					sendPackets(t, tx, n, 50, 60)
				}
			}()
		}
		<-done
		<-done
		var s xsk.QueueStats
		within(t, 10*time.Second, func() bool {
			s = xsk.Queues{rxA, txA, rxB, txB}.Stats()
			return s.RxPackets+s.Dropped+s.Kernel.RxDropped+s.Kernel.RxRingFull == 2*packets
		})
		require.NoError(t, errors.Join(rxA.SetReadDeadline(time.Now()), rxB.SetReadDeadline(time.Now())))
		assert.EqualValues(t, s.RxPackets, <-received+<-received)
		assert.NotZero(t, s.RxPackets)
		for _, tx := range []*xsk.Queue{txA, txB} {
			within(t, 5*time.Second, func() bool {
				_, err := tx.TrySend(nil)
				return err == nil && tx.Stats().Frames.Tx == 0
			})
		}
	})
}

// receiveInOrder counts packets until the read deadline, whose numbers must rise.
func receiveInOrder(t *testing.T, q *xsk.Queue, most int) (n int) {
	frames, next := make([]xsk.Frame, 64), 0
	for {
		k, err := q.Receive(frames)
		if err != nil {
			assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
			return n
		}
		for i := range frames[:k] {
			number := number(t, frames[i].Data)
			if !assert.GreaterOrEqual(t, number, next) || !assert.Less(t, number, most) {
				return n
			}
			next = number + 1
		}
		n += k
	}
}

// What the one half was lent the other sends, and gives back to be received into.
func TestHalvesTakeFramesBackForEachOther(t *testing.T) {
	nameA, nameB := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 80, FrameSize: 2048})
	rx := openQueue(t, nameA, modes[0], xsk.Config{Umem: u, RxFrames: 64, SocketConfig: xsk.SocketConfig{RxOnly: true}})
	tx := openQueue(t, nameA, modes[0], xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	peer := openQueue(t, nameB, modes[0], xsk.Config{})
	until := time.Now().Add(testns.Patience(20 * time.Second))
	require.NoError(t, errors.Join(rx.SetReadDeadline(until), peer.SetReadDeadline(until)))
	const burst = 16
	frames := make([]xsk.Frame, burst)
	for range 100 {
		sendPackets(t, peer, 0, burst, 60)
		for got := 0; got < burst; {
			n, err := rx.Receive(frames)
			require.NoError(t, err)
			for i := range frames[:n] {
				require.Equal(t, got+i, number(t, frames[i].Data))
			}
			got += n
			sent, err := tx.Send(frames[:n])
			require.NoError(t, err)
			require.Equal(t, n, sent)
		}
		for got := 0; got < burst; {
			n, err := peer.Receive(frames)
			require.NoError(t, err)
			got += n
		}
	}
}

// Who receives may allocate, also when there is no frame left but those that the
// other half is sending, whose completion ring is not his.
func TestHalvesAllocateAtTheSameTime(t *testing.T) {
	name, _ := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 64, FrameSize: 2048})
	rx := openQueue(t, name, modes[0], xsk.Config{Umem: u, RxFrames: 32, SocketConfig: xsk.SocketConfig{RxOnly: true}})
	tx := openQueue(t, name, modes[0], xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 2000 {
			sendPackets(t, tx, n, 32, 60)
		}
	}()
	frames := make([]xsk.Frame, 32)
	for {
		n, err := rx.Alloc(frames)
		require.NoError(t, err)
		xsk.Free(frames[:n])
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestHalvesExcludeWhatHasTheSameWay(t *testing.T) {
	name, _ := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 1024, FrameSize: 2048})
	program := redirect(t, name, modes[0])
	open := func(c xsk.SocketConfig) (*xsk.Queue, error) {
		cfg := xsk.Config{Umem: u, RxFrames: 64, XSKMap: program, SocketConfig: c}
		if c.TxOnly {
			cfg.XSKMap = nil
		}
		return xsk.Open(name, 0, &cfg)
	}
	rx, err := open(xsk.SocketConfig{RxOnly: true})
	require.NoError(t, err)
	without(t, func() {
		_, err := open(xsk.SocketConfig{TxOnly: true})
		require.ErrorIs(t, err, syscall.EPERM)
	}, unix.CAP_NET_RAW)
	tx, err := open(xsk.SocketConfig{TxOnly: true}) // who was never bound is in nobody's way
	require.NoError(t, err)
	for _, c := range []xsk.SocketConfig{{RxOnly: true}, {TxOnly: true}, {}} {
		_, err := open(c)
		require.ErrorIs(t, err, syscall.EBUSY)
		require.ErrorContains(t, err, "a Queue of this Umem is open on it")
	}
	require.NoError(t, rx.Close())
	retired := tx.Stats().Frames.Retired
	assert.Equal(t, 64, retired, "the fill ring is there still")
	_, err = open(xsk.SocketConfig{RxOnly: true})
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "its frames stay in the rings")
	assert.Equal(t, retired, tx.Stats().Frames.Retired)
	sendPackets(t, tx, 0, 100, 60)
	require.NoError(t, tx.Close())
	require.NoError(t, u.Close())
	_, err = rx.Receive(make([]xsk.Frame, 1))
	assert.ErrorIs(t, err, net.ErrClosed)
}

// Closing wakes both, in either order, and leaves the other half at work.
func TestHalvesCloseInEitherOrder(t *testing.T) {
	for _, rxFirst := range []bool{true, false} {
		nameA, nameB := vethPair(t)
		u := newUmem(t, &smallQueue)
		rx, tx := openHalves(t, nameA, modes[0], u, rxFirst)
		peer := openQueue(t, nameB, modes[0], xsk.Config{})
		waiting := make(chan error, 1)
		go func() {
			_, err := rx.Receive(make([]xsk.Frame, 8))
			waiting <- err
		}()
		time.Sleep(10 * time.Millisecond)
		if rxFirst {
			require.NoError(t, rx.Close())
			assert.ErrorIs(t, <-waiting, net.ErrClosed)
			sendPackets(t, tx, 0, 10, 60)
			require.NoError(t, peer.SetReadDeadline(time.Now().Add(testns.Patience(5*time.Second))))
			_, err := peer.Receive(make([]xsk.Frame, 10))
			require.NoError(t, err)
			require.ErrorIs(t, u.Close(), syscall.EBUSY)
			require.NoError(t, tx.Close())
		} else {
			require.NoError(t, tx.Close())
			sendPackets(t, peer, 0, 10, 60)
			assert.NoError(t, <-waiting)
			require.ErrorIs(t, u.Close(), syscall.EBUSY)
			require.NoError(t, rx.Close())
		}
		require.NoError(t, u.Close())
	}
}
