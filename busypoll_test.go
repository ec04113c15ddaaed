package xsk_test

import (
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

var spinning = xsk.BusyPoll{Prefer: true, Time: 20 * time.Microsecond, Budget: 64}

// busyPoll are Prefer and Time in microseconds, as the kernel has them; it tells
// nobody the Budget.
func busyPoll(t *testing.T, s *xsk.Socket) [2]int {
	t.Helper()
	prefer, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL)
	require.NoError(t, err)
	micros, err := unix.GetsockoptInt(s.FD(), unix.SOL_SOCKET, unix.SO_BUSY_POLL)
	require.NoError(t, err)
	return [2]int{prefer, micros}
}

func TestBusyPollIsSetAllOfItOrNothing(t *testing.T) {
	tx, _ := newPair(t, modes[0], small)
	require.NoError(t, tx.SetBusyPoll(spinning))
	assert.Equal(t, [2]int{1, 20}, busyPoll(t, tx.Socket))
	without(t, func() {
		err := tx.SetBusyPoll(xsk.BusyPoll{Time: time.Microsecond, Budget: 65})
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "xsk: busy poll "+ifname(tx)+" queue 0: Budget needs CAP_NET_ADMIN")
		assert.Equal(t, [2]int{1, 20}, busyPoll(t, tx.Socket))
		longer := spinning
		longer.Time = 40 * time.Microsecond
		err = tx.SetBusyPoll(longer)
		if kernel.AtLeast("6.5 anybody sets SO_BUSY_POLL") {
			assert.NoError(t, err, "Prefer is set already")
			assert.Equal(t, [2]int{1, 40}, busyPoll(t, tx.Socket))
		} else {
			assert.ErrorIs(t, err, syscall.EPERM)
			assert.ErrorContains(t, err, "Time needs CAP_NET_ADMIN")
			assert.Equal(t, [2]int{1, 20}, busyPoll(t, tx.Socket))
		}
		assert.NoError(t, tx.SetBusyPoll(xsk.BusyPoll{Time: time.Microsecond, Budget: 64}))
		assert.Equal(t, [2]int{0, 1}, busyPoll(t, tx.Socket), "less is anybody's right")
		err = tx.SetBusyPoll(xsk.BusyPoll{Prefer: true, Time: time.Microsecond, Budget: 8})
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "Prefer needs CAP_NET_ADMIN")
	}, unix.CAP_NET_ADMIN)
	assert.Equal(t, [2]int{0, 1}, busyPoll(t, tx.Socket))
	require.NoError(t, tx.SetBusyPoll(xsk.BusyPoll{}))
	assert.Equal(t, [2]int{0, 0}, busyPoll(t, tx.Socket))

	for rule, b := range map[string]xsk.BusyPoll{
		"Time -1ns is not between 0 and":            {Time: -1},
		"Time 1h0m0s is not between 0 and 35m47.48": {Time: time.Hour},
		"Time 1.5µs is not a number of whole micro": {Time: 1500},
		"Budget 65536 is not between 0 and 65535":   {Time: time.Second, Budget: 65536},
		"Budget -1 is not between 0 and 65535":      {Budget: -1},
		"Prefer goes with a Time to poll":           {Prefer: true},
	} {
		err := tx.SetBusyPoll(b)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, rule)
	}
	require.NoError(t, tx.Close())
	assert.ErrorIs(t, tx.SetBusyPoll(spinning), net.ErrClosed)
}

// Copy mode never asks for a wake-up of the fill ring; a busy poller's burst makes
// one all the same, and so learns that the interface is gone.
func TestBusyPollingBurstsEnterTheKernel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		for _, spins := range []bool{false, true} {
			tx, rx := newPair(t, m, small)
			if spins {
				require.NoError(t, rx.SetBusyPoll(spinning))
				require.NoError(t, tx.SetBusyPoll(spinning))
			}
			assert.Equal(t, spins, rx.Fill.NeedsWakeup())
			rx.Fill.Produce(rx.frames(0, 100))
			for k := range 10 {
				tx.send(t, 10*k, 10, 60)
				for i, d := range rx.receive(t, 10) {
					require.Equal(t, 10*k+i, number(t, rx.umem.Bytes(d)))
				}
			}
			testns.IP(t, "link", "del", ifname(rx))
			_, _, err := rx.RxBurst(nil, make([]xsk.Desc, 1))
			if spins {
				assert.ErrorIs(t, err, syscall.ENODEV)
			} else {
				assert.NoError(t, err)
			}
		}
	})
}

// The fill ring is everybody's on the queue, and spins as long as one does.
func TestSocketsThatShareAQueueSpinTogether(t *testing.T) {
	_, b := vethPair(t)
	u := newUmem(t, &small)
	first := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	second := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	sends := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true, TxOnly: true})
	require.NoError(t, sends.SetBusyPoll(spinning))
	assert.False(t, first.Fill.NeedsWakeup(), "one that only sends has nothing to receive")
	require.NoError(t, first.SetBusyPoll(spinning))
	require.NoError(t, first.SetBusyPoll(spinning))
	require.NoError(t, second.SetBusyPoll(spinning))
	require.NoError(t, first.SetBusyPoll(xsk.BusyPoll{}))
	assert.True(t, first.Fill.NeedsWakeup())
	require.NoError(t, second.Close())
	assert.False(t, first.Fill.NeedsWakeup())
	require.NoError(t, first.SetBusyPoll(spinning))
	assert.True(t, first.Fill.NeedsWakeup())
}

func TestQueueReceivesWhileItSpins(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := queuePair(t, m, xsk.Config{})
		require.NoError(t, b.Socket().SetBusyPoll(spinning))
		name, _, _ := strings.Cut(b.String(), " ")
		deferral, err := xsk.DeferNAPI(name, 2, 200*time.Microsecond)
		require.NoError(t, err)
		defer deferral.Close()
		for k := range 20 {
			sendPackets(t, a, k, 1, 60)
			frames := make([]xsk.Frame, 1)
			within(t, 5*time.Second, func() bool {
				n, err := b.TryReceive(frames)
				require.NoError(t, err)
				return n == 1
			})
			require.Equal(t, k, number(t, frames[0].Data))
		}
	})
}

func TestTxBudgetIsWhatAKickSends(t *testing.T) {
	testns.Need(t, "6.17 XDP_MAX_TX_SKB_BUDGET")
	inEachMode(t, func(t *testing.T, m mode) {
		tx, _ := newPair(t, m, small)
		descs := make([]xsk.Desc, 200)
		for i := range descs {
			descs[i] = xsk.Desc{Addr: tx.frame(i), Len: 60}
			fillPacket(tx.umem.Bytes(descs[i]), i)
		}
		room := tx.Tx.Free()
		for _, budget := range []int{32, 100, 200} {
			require.NoError(t, tx.SetTxBudget(budget))
			require.Equal(t, 200, tx.Tx.Produce(descs))
			_ = unix.Send(tx.FD(), nil, unix.MSG_DONTWAIT)
			if m.name == "generic" { // a native receiver may be slow, and then the kick ends
				assert.Equal(t, 200-budget, room-tx.Tx.Free())
			}
			within(t, 5*time.Second, func() bool {
				_, _, err := tx.TxBurst(nil, make([]xsk.Addr, 256))
				return tx.Tx.Free() == room && (err == nil || errors.Is(err, syscall.EBUSY))
			})
			for tx.Completion.Consume(make([]xsk.Addr, 256)) > 0 {
			}
		}
	})
}

func TestTxBudgetSaysWhichRuleIsBroken(t *testing.T) {
	_, b := vethPair(t)
	u := newUmem(t, &small)
	first := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true, TxSize: 64})
	for _, packets := range []int{-1, 0, 31, 65} {
		err := first.SetTxBudget(packets)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "is not between 32 and the 64 entries of the TX ring")
	}
	receives := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true, RxOnly: true})
	err := receives.SetTxBudget(32)
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "xsk: set tx budget "+b+" queue 0: the socket has no TX ring")
	err = first.SetTxBudget(64)
	if kernel.AtLeast("6.17") {
		require.NoError(t, err)
	} else {
		require.ErrorIs(t, err, errors.ErrUnsupported)
	}
	require.NoError(t, first.Close())
	assert.ErrorIs(t, first.SetTxBudget(64), net.ErrClosed)
}
