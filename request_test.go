package xsk_test

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// metadataQueues opens a Queue with TX metadata and one to receive from it.
func metadataQueues(t *testing.T, m mode, flags xsk.UmemFlags) (tx, rx *xsk.Queue) {
	t.Helper()
	a, b := vethPair(t)
	c := smallQueue
	c.TxMetadataLen, c.Flags = 24, flags
	tx = openQueue(t, a, m, xsk.Config{UmemConfig: c, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 64}})
	rx = openQueue(t, b, m, xsk.Config{})
	require.NoError(t, rx.SetReadDeadline(time.Now().Add(20*time.Second)))
	return tx, rx
}

// udpFrames allocates n frames with UDP packets number first, first+1, ...
func udpFrames(t *testing.T, q *xsk.Queue, first, n int) []xsk.Frame {
	t.Helper()
	frames := write(t, q, first, n, 60)
	for i := range frames {
		fillUDP(frames[i].Data, first+i)
	}
	return frames
}

func TestRequestsOfFramesByMetadata(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		tx, rx := metadataQueues(t, m, xsk.UmemTxSWCsum)
		got := make([]xsk.Frame, 64)
		ids, before := []uint64{}, tai(t)
		for round := range 60 { // every frame more than once
			frames := udpFrames(t, tx, 0, 30)
			for i := range frames {
				f := &frames[i]
				r := xsk.TxRequest{ID: uint64(round*100 + i), Timestamp: i%5 == 0}
				if i%3 == 0 {
					r.Checksum, r.ChecksumStart, r.ChecksumOffset = true, udpAt, 6
				}
				if i%2 == 0 {
					require.NoError(t, f.Request(r))
					if r.Timestamp {
						ids = append(ids, r.ID)
					}
				}
			}
			n, err := tx.Send(frames)
			require.NoError(t, err)
			require.Equal(t, len(frames), n)
			for left := len(frames); left > 0; {
				n, err := rx.Receive(got)
				require.NoError(t, err)
				left -= n
				for i := range got[:n] {
					b := got[i].Data
					assert.Equal(t, (b[59]-59)%6 == 0, checksumIsRight(b), "packet %d of round %d", b[59]-59, round)
				}
			}
		}
		came, now := []uint64{}, tai(t)
		for _, s := range stamps(t, tx, len(ids)) {
			came = append(came, s.ID)
			assert.GreaterOrEqual(t, s.Time, before)
			assert.LessOrEqual(t, s.Time, now)
		}
		assert.ElementsMatch(t, ids, came)
		n, err := tx.TxTimestamps(make([]xsk.TxTimestamp, 1))
		assert.NoError(t, err)
		assert.Zero(t, n, "each comes once")
	})
}

func TestARequestEndsWithItsFrameAndMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	tx, rx := metadataQueues(t, modes[0], xsk.UmemTxSWCsum)
	all := make([]xsk.Frame, 512)
	for range 2 {
		n, err := tx.Alloc(all)
		require.NoError(t, err)
		for i := range all[:n] {
			require.NoError(t, all[i].Request(xsk.TxRequest{Timestamp: true}))
		}
		xsk.Free(all[:n])
	}
	frames := udpFrames(t, tx, 0, 2)
	require.NoError(t, frames[1].Request(xsk.TxRequest{Timestamp: true}))
	require.NoError(t, frames[1].Request(xsk.TxRequest{ID: 7, Timestamp: true}), "the last holds")
	gone := frames[1]
	_, err := tx.Send(frames)
	require.NoError(t, err)
	assert.Len(t, stamps(t, tx, 1), 1)
	err = gone.Request(xsk.TxRequest{})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "stale")
	_, err = rx.Receive(frames)
	require.NoError(t, err)
	err = frames[0].Request(xsk.TxRequest{})
	assert.ErrorContains(t, err, "UmemConfig.TxMetadataLen")
	assert.ErrorContains(t, new(xsk.Frame).Request(xsk.TxRequest{}), "empty")
	_, err = rx.TxTimestamps(nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "UmemConfig.TxMetadataLen")
}

// Send names the frame, takes what stands before it, and loses nothing.
func TestSendRefusesMetadataThatCannotBe(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		tx, rx := metadataQueues(t, m, 0)
		frames := udpFrames(t, tx, 0, 4)
		short, early := &frames[1], &frames[2]
		require.NoError(t, short.Request(xsk.TxRequest{Checksum: true, ChecksumStart: 54, ChecksumOffset: 6}))
		require.True(t, early.Prepend(256))
		n, err := tx.Send(frames)
		assert.Equal(t, 1, n)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "outside of a packet of 60 bytes")
		assert.Regexp(t, `xsk: send va\d+ queue 0: frame 0x`, err)
		short.Data = short.Data[:64] // now it fits
		n, err = tx.Send(frames[1:])
		assert.Equal(t, 1, n)
		assert.ErrorContains(t, err, "less than the 24 bytes")
		early.Data = early.Data[24:]
		n, err = tx.Send(frames[2:])
		require.NoError(t, err)
		assert.Equal(t, 2, n)
		for got := 0; got < 4; {
			n, err := rx.Receive(make([]xsk.Frame, 8))
			require.NoError(t, err)
			got += n
		}
		s, err := tx.Socket().Stats()
		require.NoError(t, err)
		assert.Zero(t, s.TxInvalidDescs)
	})
}

func TestRequestsInUnalignedFramesWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	a, b := vethPair(t)
	c := xsk.UmemConfig{Frames: 512, FrameSize: 3000, Flags: xsk.UmemUnalignedChunk, TxMetadataLen: 24}
	q, far := openQueue(t, a, modes[1], xsk.Config{UmemConfig: c}), openQueue(t, b, modes[1], xsk.Config{})
	require.NoError(t, far.SetReadDeadline(time.Now().Add(5*time.Second)))
	frames := udpFrames(t, q, 0, 8)
	for i := range frames {
		f := &frames[i]
		r := udpChecksum
		r.ID, r.Timestamp = uint64(i), true
		require.NoError(t, f.Request(r))
	}
	before := tai(t)
	_, err := q.Send(frames)
	require.NoError(t, err)
	for _, s := range stamps(t, q, 8) {
		assert.GreaterOrEqual(t, s.Time, before)
	}
	_, err = far.Receive(frames[:1])
	require.NoError(t, err)
	assert.True(t, checksumIsRight(frames[0].Data))
}

func TestRequestsOfAPacketInFragmentsWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	a, b := vethPair(t)
	c := smallQueue
	c.TxMetadataLen = 24
	sg := xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}
	q := openQueue(t, a, modes[1], xsk.Config{UmemConfig: c, SocketConfig: sg})
	far := openQueue(t, b, modes[1], xsk.Config{SocketConfig: sg})
	require.NoError(t, far.SetReadDeadline(time.Now().Add(5*time.Second)))
	parts := write(t, q, 1, 6, 60)
	first, second := parts[0], parts[3]
	first.Frags, second.Frags = parts[1:3], parts[4:6]
	require.NoError(t, second.Request(xsk.TxRequest{ID: 2, Timestamp: true}))
	_, err := q.Send([]xsk.Frame{first, second})
	require.NoError(t, err)
	assert.EqualValues(t, 2, stamps(t, q, 1)[0].ID)

	// A fragment's Request would be lost: Send refuses it, until it is taken back.
	third := write(t, q, 7, 3, 60)
	third[0].Frags = third[1:3]
	require.NoError(t, third[2].Request(xsk.TxRequest{ID: 3, Timestamp: true}))
	n, err := q.Send(third[:1])
	assert.Zero(t, n)
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.Regexp(t, `frame 0x\w+: its fragment 1, frame 0x\w+, has a Request`, err)
	require.NoError(t, third[2].Request(xsk.TxRequest{}))
	_, err = q.Send(third[:1])
	require.NoError(t, err)

	frames := make([]xsk.Frame, 3)
	for got := 0; got < 3; {
		n, err := far.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:n] {
			assert.Equal(t, 180, frames[i].Len())
		}
		got += n
	}
}

// Senders on one memory, each with the timestamps of its own.
func TestRequestsOfManySendersWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	c := withTxMetadata(xsk.UmemTxSWCsum)
	u := newUmem(t, &c)
	var senders, receivers sync.WaitGroup
	var ends []*xsk.Queue
	for k := range 2 {
		a, b := vethPair(t)
		rx := openQueue(t, b, modes[1], xsk.Config{})
		tx := openQueue(t, a, modes[1], xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 64}})
		ends = append(ends, rx)
		senders.Add(1)
		receivers.Add(1)
		const packets = 500
		go func() {
			defer senders.Done()
			seen, buffer, sent := map[uint64]bool{}, make([]xsk.TxTimestamp, 64), 0
			for end := time.Now().Add(20 * time.Second); len(seen) < packets && time.Now().Before(end); {
				if sent < packets {
					frames := make([]xsk.Frame, 10)
					n, err := tx.Alloc(frames)
					if !assert.NoError(t, err) {
						return
					}
					n = min(n, packets-sent)
					xsk.Free(frames[n:])
					for i := range frames[:n] {
						f := &frames[i]
						f.Data = f.Data[:60]
						fillUDP(f.Data, sent)
						r := udpChecksum
						r.Timestamp, r.ID = true, uint64(k*packets+sent)
						assert.NoError(t, f.Request(r))
						sent++
					}
					if _, err = tx.Send(frames[:n]); !assert.NoError(t, err) {
						return
					}
				}
				n, err := tx.TxTimestamps(buffer)
				assert.NoError(t, err)
				for _, s := range buffer[:n] {
					assert.EqualValues(t, k, s.ID/packets, "another Queue's")
					assert.False(t, seen[s.ID], "twice")
					seen[s.ID] = true
				}
			}
			assert.Len(t, seen, packets)
		}()
		go func() {
			defer receivers.Done()
			for frames := make([]xsk.Frame, 64); ; {
				n, err := rx.Receive(frames)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					return
				}
				assert.NoError(t, err)
				for i := range frames[:n] {
					assert.True(t, checksumIsRight(frames[i].Data))
				}
			}
		}()
	}
	senders.Wait()
	for _, rx := range ends {
		require.NoError(t, rx.SetReadDeadline(time.Now()))
	}
	receivers.Wait()
	for _, rx := range ends {
		assert.NotZero(t, rx.Stats().RxPackets)
	}
}

func TestRequestsWithMetadataAllocateNothing(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	tx, _ := metadataQueues(t, modes[0], 0)
	frames, times := make([]xsk.Frame, 16), make([]xsk.TxTimestamp, 32)
	assert.Zero(t, testing.AllocsPerRun(20, func() {
		n, _ := tx.Alloc(frames)
		for i := range frames[:n] {
			f := &frames[i]
			f.Data = f.Data[:60]
			fillPacket(f.Data, i)
			if f.Request(xsk.TxRequest{ID: uint64(i), Timestamp: true}) != nil {
				panic("refused")
			}
		}
		if n, err := tx.Send(frames[:n]); n == 0 || err != nil {
			panic("not sent")
		}
		_, _ = tx.TxTimestamps(times)
	}))
}
