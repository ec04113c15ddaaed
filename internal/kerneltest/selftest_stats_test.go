package kerneltest

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// roomy are headrooms for frames of 4096 bytes, the last one the most that
// every kernel takes.
var roomy = []int{128, 1000, 3392}

func withHeadroom(headroom int) xsk.UmemConfig {
	return xsk.UmemConfig{Frames: 1024, Headroom: headroom}
}

// UMEM_HEADROOM: a packet begins so much later in its frame.
func umemHeadroom(t *testing.T, m mode) {
	for _, headroom := range roomy {
		for _, flags := range []xsk.UmemFlags{0, xsk.UmemUnalignedChunk} {
			w := wire{umem: withHeadroom(headroom)}
			w.umem.Flags = flags
			tx, rx := w.lay(t, m)
			exchange(t, tx, rx, 64, tx.plain(256, 64))
		}
	}
}

func queueHeadroom(t *testing.T, m mode) {
	for _, headroom := range roomy {
		a, b := pair(t, m, xsk.Config{UmemConfig: withHeadroom(headroom)})
		queueExchange(t, a, b, 128, 64, 64)
		send(t, a, 1, 1, 60)
		each(t, b, 1, func(_ int, f *xsk.Frame) {
			assert.False(t, f.Prepend(256+headroom+1))
			assert.True(t, f.Prepend(256+headroom))
			assert.Len(t, f.Data, 256+headroom+60)
		})
		frames := write(t, a, 0, 1, 60)
		assert.Equal(t, 4096-256-headroom, cap(frames[0].Data))
		assert.True(t, frames[0].Prepend(256+headroom))
		xsk.Free(frames)
		settled(t, 0, a, b)
	}
}

// STAT_RX_DROPPED: every other packet is longer than the headroom leaves room for.
func statRxDropped(t *testing.T, m mode) {
	w := wire{umem: withHeadroom(3000)}
	tx, rx := w.lay(t, m)
	all := tx.plain(64, 64)
	for i := range all {
		if i%2 == 1 {
			all[i].descs[0].Len = uint32(rx.umem.MaxPacket() + 1)
		}
		tx.write(i, all[i])
	}
	tx.transmit(t, all)
	for i, b := range rx.receive(t, 32) {
		require.Equal(t, 2*i, number(b))
	}
	within(t, patience, func() bool { return rx.stats(t).RxDropped == 32 })
	assert.Zero(t, rx.stats(t).RxFillRingEmpty)
}

func queueRxDropped(t *testing.T, m mode) {
	a, b := pair(t, m, xsk.Config{UmemConfig: withHeadroom(3000)})
	send(t, a, 0, 32, b.Umem().MaxPacket())
	expect(t, b, 0, 32)
	// What b cannot take it cannot send either, so this comes from elsewhere.
	fromKernel(t, name(a), b.Umem().MaxPacket()+1, 32)
	send(t, a, 32, 1, 64)
	expect(t, b, 32, 1)
	settled(t, 0, a, b)
	assert.EqualValues(t, 32, must(b.Socket().Stats()).RxDropped)
}

// STAT_TX_INVALID: every other descriptor has an impossible length.
func statTxInvalid(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	tx, rx := w.lay(t, m)
	all := tx.plain(256, 64)
	for i := range all {
		if all[i].invalid = i%2 == 1; all[i].invalid {
			all[i].descs[0].Len = 4097
		}
	}
	exchange(t, tx, rx, 64, all)
	assert.EqualValues(t, 128, tx.stats(t).TxInvalidDescs)
}

// STAT_RX_FULL: a small RX ring that nobody consumes.
func statRxFull(t *testing.T, m mode) {
	w := wire{umem: xsk4K, rx: xsk.SocketConfig{RxSize: 32}}
	tx, rx := w.lay(t, m)
	for i, one := range tx.plain(64, 64) {
		tx.write(i, one)
		tx.transmit(t, []parcel{one})
	}
	within(t, patience, func() bool { return rx.stats(t).RxRingFull == 32 })
	for i, b := range rx.receive(t, 32) {
		require.Equal(t, i, number(b), "the first ones")
	}
	assert.Equal(t, uint64(0), rx.stats(t).RxDropped)
	tx.write(99, tx.plain(1, 64)[0])
	tx.transmit(t, tx.plain(1, 64))
	require.Equal(t, 99, number(rx.receive(t, 1)[0]))
}

// STAT_FILL_EMPTY: nothing is posted.
func statFillEmpty(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	w.from, w.to = testns.Veth{}.Make(t)
	rx, tx := w.port(t, w.to, w.rx), w.port(t, w.from, w.tx)
	require.NoError(t, rx.UpdateXSKMap(w.attach(t, w.to, m)))
	for i, one := range tx.plain(64, 64) {
		tx.write(i, one)
	}
	tx.transmit(t, tx.plain(64, 64))
	within(t, patience, func() bool { return rx.stats(t).RxFillRingEmpty == 64 })
	assert.EqualValues(t, 64, rx.stats(t).RxDropped)
	rx.post(t)
	tx.transmit(t, tx.plain(1, 64))
	rx.receive(t, 1)
}

// TX_QUEUE_CONSUMER: a kick takes 32 packets and says so at once.
func txQueueConsumer(t *testing.T, m mode) {
	testns.Need(t, "6.17 the TX ring's consumer index is published with each kick")
	w := wire{umem: xsk4K, tx: xsk.SocketConfig{TxSize: 64}}
	tx, rx := w.lay(t, m)
	for i, one := range tx.plain(33, 64) {
		tx.write(i, one)
		require.Equal(t, 1, tx.Tx.Produce(one.descs))
	}
	require.Equal(t, 31, tx.Tx.Free())
	require.ErrorIs(t, tx.kick(), syscall.EAGAIN)
	assert.Equal(t, 31+32, tx.Tx.Free())
	require.NoError(t, tx.kick())
	assert.Equal(t, 64, tx.Tx.Free())
	rx.receive(t, 33)
}
