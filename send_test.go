package xsk_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

func TestAllocTakesBackWhatAnotherQueueHasSent(t *testing.T) {
	a, b := vethPair(t)
	u := newUmem(t, &xsk.UmemConfig{Frames: 64, FrameSize: 2048})
	txOnly := xsk.SocketConfig{TxOnly: true}
	idle := openQueue(t, a, modes[0], xsk.Config{Umem: u, SocketConfig: txOnly})
	sender := openQueue(t, b, modes[0], xsk.Config{Umem: u, SocketConfig: txOnly})
	for range 50 {
		require.NoError(t, idle.SetWriteDeadline(time.Now().Add(5*time.Second)))
		sent, err := sender.Send(write(t, idle, 0, 64, 60))
		require.NoError(t, err)
		require.Equal(t, 64, sent)
	}
}

func TestSendersAndReceiverInParallel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := queuePair(t, m, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4096, FrameSize: 2048}})
		const senders, each = 4, 300
		var group sync.WaitGroup
		for s := range senders {
			group.Add(1)
			go func() {
				defer group.Done()
				for i := range each {
					frames := make([]xsk.Frame, 1)
					if _, err := a.Alloc(frames); !assert.NoError(t, err) {
						return
					}
					f := &frames[0]
					f.Data = f.Data[:60]
					fillPacket(f.Data, s*each+i)
					if _, err := a.Send(frames); !assert.NoError(t, err) {
						return
					}
				}
			}()
		}
		seen := map[int]bool{}
		frames := make([]xsk.Frame, 32)
		require.NoError(t, b.SetReadDeadline(time.Now().Add(10*time.Second)))
		for len(seen) < senders*each {
			n, err := b.Receive(frames)
			require.NoError(t, err, "%d so far: %v / %v", len(seen), a.Stats(), b.Stats())
			for i := range frames[:n] {
				k := number(t, frames[i].Data)
				require.False(t, seen[k])
				seen[k] = true
			}
		}
		group.Wait()
	})
}
