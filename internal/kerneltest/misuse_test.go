package kerneltest

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// address is where the frame begins in its Umem, as errors name it.
func address(q *xsk.Queue, f xsk.Frame) string {
	u := q.Umem()
	whole := u.Bytes(xsk.Desc{Len: 1})
	at := uintptrOf(f.Data) - uintptrOf(whole)
	return fmt.Sprintf("%#x", at&^uintptr(u.FrameSize()-1))
}

func TestSendRefusesEveryWrongFrameByItsAddress(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		refused := func(about, at string, f xsk.Frame) {
			t.Helper()
			for _, send := range []func([]xsk.Frame) (int, error){b.Send, b.TrySend} {
				n, err := send([]xsk.Frame{f})
				assert.Zero(t, n, about)
				if assert.ErrorIs(t, err, syscall.EINVAL, about) {
					assert.ErrorContains(t, err, "xsk: send "+name(b)+" queue 0: ", about)
					assert.ErrorContains(t, err, at, about)
				}
			}
		}
		one := func() xsk.Frame { return write(t, b, 7, 1, 60)[0] }
		sent := 0

		// foreign
		foreign := write(t, a, 0, 1, 60)
		refused("of another Umem", address(a, foreign[0]), foreign[0])
		xsk.Free(foreign)
		refused("of none", "neither Receive nor Alloc", xsk.Frame{Data: make([]byte, 60)})
		refused("the zero Frame", "neither Receive nor Alloc", xsk.Frame{})

		// freed
		freed := one()
		xsk.Free([]xsk.Frame{freed})
		refused("freed", address(b, freed), freed)
		again := one() // the same frame, in other hands
		require.Equal(t, address(b, freed), address(b, again))
		refused("freed and allocated again", address(b, freed), freed)

		// doubled
		n, err := b.Send([]xsk.Frame{again, again})
		require.Equal(t, 1, n)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, address(b, again))
		refused("sent", address(b, again), again)
		sent++

		// stale: the loan has ended, and the frame came again with another packet
		send(t, a, 1, 1, 60)
		frames := make([]xsk.Frame, 1)
		_, err = b.Receive(frames)
		require.NoError(t, err)
		stale := frames[0]
		for k := 2; ; k++ {
			send(t, a, k, 1, 60)
			_, err = b.Receive(frames)
			require.NoError(t, err)
			if address(b, frames[0]) == address(b, stale) {
				break
			}
			require.Less(t, k, 2000)
		}
		refused("lent again", address(b, stale), stale)
		assert.Panics(t, func() { stale.Keep() })
		assert.Panics(t, func() { stale.Free() })
		require.GreaterOrEqual(t, number(frames[0].Data), 2, "nothing happened to the new packet")
		n, err = b.Send(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		sent++

		// out of range, too short, too long
		f, g := one(), one()
		for about, change := range map[string]func(*xsk.Frame){
			"outside":         func(f *xsk.Frame) { f.Data = make([]byte, 60) },
			"another frame":   func(f *xsk.Frame) { f.Data = g.Data },
			"half outside":    func(f *xsk.Frame) { f.Data = b.Umem().Bytes(xsk.Desc{Len: 1}); f.Data = wider(f.Data, 1<<20) },
			"over the end":    func(f *xsk.Frame) { f.Data = wider(f.Data, cap(f.Data)+1) },
			"before the Umem": func(f *xsk.Frame) { f.Data = before(b.Umem().Bytes(xsk.Desc{Len: 60}), 1) },
			"empty":           func(f *xsk.Frame) { f.Data = f.Data[:0] },
			"nil":             func(f *xsk.Frame) { f.Data = nil },
			"13 bytes":        func(f *xsk.Frame) { f.Data = f.Data[:13] },
			"fragments":       func(f *xsk.Frame) { f.Frags = []xsk.Frame{g} },
		} {
			wrong := f
			change(&wrong)
			refused(about, address(b, f), wrong)
		}
		// The good ones before a bad one are sent, those behind it are not.
		bad := g
		bad.Data = bad.Data[:5]
		n, err = b.Send([]xsk.Frame{f, bad, one()})
		require.Equal(t, 1, n)
		require.ErrorIs(t, err, syscall.EINVAL)
		sent++
		require.Equal(t, 2, b.Stats().Frames.User)
		n, err = b.Send([]xsk.Frame{g})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		sent++
		assert.EqualValues(t, sent, b.Stats().TxPackets)
		assert.Equal(t, sent, drain(t, a))
		settled(t, 0, a)
		settled(t, 1, b)
		assert.Zero(t, b.Stats().Kernel.TxInvalidDescs)

		// All of it works on.
		send(t, b, 100, 200, 60)
		expect(t, a, 100, 200)
		settled(t, 1, b)
	})
}

// A packet longer than the link takes is the device's to drop.
func TestPacketLongerThanTheMTUIsCountedAsDropped(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{})
		send(t, a, 0, 10, 1700)
		settled(t, 0, a)
		// Not 10: a poll sends too, and what Go's poller sends nobody can count.
		assert.NotZero(t, a.Stats().Dropped, "%v", a.Stats())
		assert.LessOrEqual(t, a.Stats().Dropped, uint64(10))
		assert.Zero(t, b.Stats().Kernel.RxDropped+b.Stats().RxPackets)
		send(t, a, 10, 10, 1514)
		expect(t, b, 10, 10)
		settled(t, 0, a, b)
	})
}
