package kerneltest

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

var (
	xsk4K    = xsk.UmemConfig{Frames: 1024}
	frames2K = xsk.UmemConfig{Frames: 1024, FrameSize: 2048}
)

// rows 1 to 3
func sendReceive(w wire, packets, burst int) func(*testing.T, mode) {
	if w.umem.Frames == 0 {
		w.umem = xsk4K
	}
	return func(t *testing.T, m mode) {
		w := w
		tx, rx := w.lay(t, m)
		var all []parcel
		for len(all) < packets { // the frames, round and round
			all = append(all, tx.plain(min(512, packets-len(all)), 64)...)
		}
		exchange(t, tx, rx, burst, all)
	}
}

func queueSendReceive(u xsk.UmemConfig, packets, burst int) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		a, b := pair(t, m, xsk.Config{UmemConfig: u})
		queueExchange(t, a, b, packets, burst, 64)
		settled(t, 0, a, b)
	}
}

// queueExchange sends packets and receives them, a burst at a time.
func queueExchange(t testing.TB, from, to *xsk.Queue, packets, burst, length int) {
	t.Helper()
	for k := 0; k < packets; k += burst {
		send(t, from, k, min(burst, packets-k), length)
		expect(t, to, k, min(burst, packets-k))
	}
}

// POLL_RX: nothing but PollRx says when to look.
func pollRx(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	tx, rx := w.lay(t, m)
	go func() {
		for k, one := range tx.plain(256, 64) {
			tx.write(k, one)
			assert.Equal(t, 1, tx.Tx.Produce(one.descs))
			assert.NoError(t, tx.WakeTx())
			time.Sleep(10 * time.Microsecond)
		}
	}()
	descs := make([]xsk.Desc, 64)
	for k := 0; k < 256; {
		ready, err := rx.PollRx(patience)
		require.NoError(t, err)
		require.True(t, ready)
		n := rx.Rx.Consume(descs)
		require.Positive(t, n, "ready without a packet")
		for i := range descs[:n] {
			require.Equal(t, k+i, number(rx.umem.Bytes(descs[i])))
		}
		k += n
	}
}

// POLL_TX: nothing but PollTx makes the kernel send.
func pollTx(t *testing.T, m mode) {
	w := wire{umem: xsk4K, tx: xsk.SocketConfig{TxSize: 64}}
	tx, rx := w.lay(t, m)
	done := make([]xsk.Addr, 64)
	all := tx.plain(512, 64)
	for k := 0; k < len(all); {
		ready, err := tx.PollTx(patience)
		require.NoError(t, err)
		require.True(t, ready)
		first := k
		for k < len(all) && k < first+32 {
			tx.write(k, all[k])
			require.Equal(t, 1, tx.Tx.Produce(all[k].descs), "ready means half the ring at least")
			k++
		}
		ready, err = tx.PollTx(patience)
		require.NoError(t, err)
		require.True(t, ready)
		for i, b := range rx.receive(t, k-first) {
			require.Equal(t, first+i, number(b))
		}
		tx.Completion.Consume(done)
	}
}

// POLL_RXQ_FULL: without traffic a poll times out.
func pollRxIdle(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	_, rx := w.lay(t, m)
	start := time.Now()
	ready, err := rx.PollRx(50 * time.Millisecond)
	require.NoError(t, err)
	assert.False(t, ready)
	assert.GreaterOrEqual(t, time.Since(start), 50*time.Millisecond)
}

func queueReceiveIdle(t *testing.T, m mode) {
	_, b := pair(t, m, xsk.Config{})
	require.NoError(t, b.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := b.Receive(make([]xsk.Frame, 1))
	assert.Zero(t, n)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	settled(t, 0, b)
}

// POLL_TXQ_FULL: a full completion ring that nobody reaps stops the TX ring too.
func pollTxFull(t *testing.T, m mode) {
	w := wire{umem: xsk.UmemConfig{Frames: 256, CompletionSize: 64}, tx: xsk.SocketConfig{TxSize: 64}}
	tx, _ := w.lay(t, m)
	for range 2 {
		for k, one := range tx.plain(64, 64) {
			tx.write(k, one)
			require.Equal(t, 1, tx.Tx.Produce(one.descs))
		}
		require.NoError(t, tx.WakeTx())
	}
	ready, err := tx.PollTx(50 * time.Millisecond)
	require.NoError(t, err)
	assert.False(t, ready)
	assert.Zero(t, tx.Tx.Free())
	// Reaping is all that it takes.
	require.Equal(t, 64, tx.Completion.Consume(make([]xsk.Addr, 256)))
	ready, err = tx.PollTx(patience)
	require.NoError(t, err)
	assert.True(t, ready)
}

// A Queue reaps, so only a link that is down fills its ring.
func queueSendFull(t *testing.T, m mode) {
	a, b := pair(t, m, xsk.Config{SocketConfig: xsk.SocketConfig{TxSize: 64}})
	testns.IP(t, "link", "set", name(a), "down")
	frames := write(t, a, 0, 65, 60)
	require.NoError(t, a.SetWriteDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := a.Send(frames)
	assert.Equal(t, 64, n)
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	require.NoError(t, a.SetWriteDeadline(time.Time{}))
	testns.IP(t, "link", "set", name(a), "up")
	n, err = a.Send(frames[64:])
	require.NoError(t, err)
	require.Equal(t, 1, n)
	settled(t, 0, a, b)
}

// TEARDOWN: open, exchange, close, ten times.
func teardown(t *testing.T, m mode) {
	w := wire{umem: frames2K}
	for round := range 10 {
		tx, rx := w.lay(t, m)
		exchange(t, tx, rx, 64, tx.plain(256, 64))
		for _, p := range []*port{tx, rx} {
			require.NoError(t, p.Close(), "round %d", round)
			require.NoError(t, p.umem.Close())
		}
	}
}

func queueTeardown(t *testing.T, m mode) {
	nameA, nameB := testns.Veth{}.Make(t)
	for range 10 {
		program := attach(t, nameB, m)
		a, b := open(t, nameA, 0, config(nil)), open(t, nameB, 0, config(program))
		queueExchange(t, a, b, 128, 64, 64)
		settled(t, 0, a, b)
		require.NoError(t, a.Close())
		require.NoError(t, b.Close())
		require.NoError(t, program.Close())
	}
}

// BIDIRECTIONAL: the ends swap their roles, with the sockets they have.
func bidirectional(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	tx, rx := w.lay(t, m)
	require.NoError(t, tx.UpdateXSKMap(w.attach(t, w.from, m)))
	tx.post(t)
	for range 3 {
		exchange(t, tx, rx, 64, tx.plain(256, 64))
		exchange(t, rx, tx, 64, rx.plain(256, 64))
	}
}

func queueBidirectional(t *testing.T, m mode) {
	a, b := pair(t, m, xsk.Config{})
	for range 3 {
		queueExchange(t, a, b, 256, 64, 64)
		queueExchange(t, b, a, 256, 64, 64)
	}
	settled(t, 0, a, b)
}
