package xsk

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sharers are Queues on one pool of plain memory: who owns a frame takes no kernel.
func sharers(t *testing.T, frames, queues int) (*pool, []*Queue) {
	t.Helper()
	p := newPool(&Umem{area: make([]byte, frames*2048), layout: newLayout(frames, 2048, 0)})
	var all []*Queue
	for i := range queues {
		q := &Queue{pool: p, rxFrames: frames / queues}
		var err error
		q.shard, err = p.enter(q, queueKey{queue: i})
		require.NoError(t, err)
		all = append(all, q)
	}
	return p, all
}

// An Alloc that is past the door when the Queue and its Umem are closed gets nothing: the
// memory may be gone.
func TestAClosedPoolGivesNoFrames(t *testing.T) {
	p, queues := sharers(t, 8, 1)
	frames := make([]Frame, 2)
	require.Equal(t, 1, queues[0].allocFree(frames[:1]))
	Free(frames[:1])
	p.close(nil)
	assert.Zero(t, queues[0].allocFree(frames))
	assert.NoError(t, p.balance())
}

// Two Queues take all frames from each other, again and again, while a third goroutine
// locks all shards to count them. In the wrong order they would wait for each other.
func TestWhoTakesFramesLocksShardsInOneOrder(t *testing.T) {
	p, queues := sharers(t, 8, 2)
	var over atomic.Bool
	time.AfterFunc(300*time.Millisecond, func() { over.Store(true) })
	done := make(chan struct{}, 2)
	go func() {
		frames := make([]Frame, 8)
		for i := 0; !over.Load(); i++ {
			Free(frames[:queues[i%2].allocFree(frames)])
		}
		done <- struct{}{}
	}()
	go func() {
		for !over.Load() {
			_ = p.counts()
		}
		done <- struct{}{}
	}()
	for range 2 {
		select {
		case <-done:
		case <-time.After(8 * time.Second):
			require.FailNow(t, "they wait for each other")
		}
	}
	assert.NoError(t, p.balance())
}

// A frame that comes back after a Queue has looked for it, and before the Queue says that
// it lacks frames, is not overlooked: the Queue looks again, or else it would learn of the
// frame only with the next that comes back.
func TestAFrameThatComesBackMeanwhileIsSeen(t *testing.T) {
	p, queues := sharers(t, 8, 3)
	hungry, second, third := queues[0], queues[1], queues[2]
	frames := make([]Frame, 8)
	require.Equal(t, 7, second.allocFree(frames[:7]))
	require.Equal(t, 1, third.allocFree(frames[7:]))
	Free(frames[7:]) // at home in the third shard, and free
	third.shard.mu.Lock()
	done := make(chan struct{})
	go func() {
		hungry.recycle() // passes the second shard, and waits at the third
		close(done)
	}()
	for hungry.shard.mu.TryLock() {
		hungry.shard.mu.Unlock()
		time.Sleep(100 * time.Microsecond)
	}
	time.Sleep(20 * time.Millisecond)
	Free(frames[:1])
	_, e := third.shard.pop() // somebody else was quicker
	third.shard.move(e, ownerUser)
	third.shard.mu.Unlock()
	<-done
	assert.Equal(t, 1, hungry.rx.held, "it looked again")
	assert.NoError(t, p.balance())
}
