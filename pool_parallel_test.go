package xsk

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A player is a Queue, its kernel, and goroutines that use it beside others.
type player struct {
	*Queue
	random *rand.Rand
	filled []Addr
	sent   []Addr
}

// receive is TryReceive with a kernel that receives into some of what it has.
func (p *player) receive(frames []Frame) []Frame {
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	p.recycle()
	p.filled = append(p.filled, p.rx.post...)
	p.rx.post = p.rx.post[:0]
	n := min(len(frames), len(p.filled))
	for i, a := range p.filled[:n] {
		p.rx.descs[i] = Desc{Addr: a + 256, Len: 60}
	}
	p.filled = slices.Delete(p.filled, 0, n)
	return frames[:p.lendWhole(p.rx.descs[:n], frames)]
}

// send is TrySend with a kernel that takes all but the last at times, and
// returns some of what it has.
func (p *player) send(frames []Frame) (refused []Frame) {
	p.tx.mu.Lock()
	defer p.tx.mu.Unlock()
	descs, taken, err := p.pool.take(frames, p.shard, make([]Desc, 0, len(frames)), len(frames), 1)
	if err != nil || taken != len(frames) {
		panic(err)
	}
	queued := max(taken-p.random.IntN(2), 0)
	for _, d := range descs[:queued] {
		p.sent = append(p.sent, d.Addr)
	}
	p.random.Shuffle(len(p.sent), func(i, j int) { p.sent[i], p.sent[j] = p.sent[j], p.sent[i] })
	left := min(len(p.sent), p.random.IntN(32))
	c := p.pool.cursor()
	c.untake(descs[queued:])
	c.completed(p.sent[left:], p.shard)
	c.unlock()
	p.sent = p.sent[:left]
	return frames[queued:]
}

// Four queues whose frames go everywhere: each receives, forwards to another,
// keeps some for others to free, and new ones are allocated meanwhile; too few
// for all, so that they take them from each other.
func TestQueuesShareFramesInParallel(t *testing.T) {
	shared := newPool(&Umem{area: make([]byte, 256*2048), layout: newLayout(256, 2048, 0)})
	players := make([]*player, 4)
	open := func(i int) {
		q := &Queue{pool: shared, rxFrames: 60}
		q.rx.descs = make([]Desc, maxBurst)
		key := queueKey{queue: i}
		var err error
		q.shard, err = shared.enter(q, key)
		assert.NoError(t, err)
		shared.reclaim(key)
		players[i] = &player{Queue: q, random: rand.New(rand.NewPCG(uint64(i), 0))}
	}
	for i := range players {
		open(i)
	}
	kept := make(chan []Frame, 8)
	var moved atomic.Int64
	var group, helpers sync.WaitGroup
	for i, p := range players {
		group.Add(1)
		go func() {
			defer group.Done()
			frames, random := make([]Frame, 32), rand.New(rand.NewPCG(uint64(i), 1))
			for range 3000 {
				burst := p.receive(frames)
				moved.Add(int64(len(burst)))
				third := len(burst) / 3
				mine := slices.Clone(burst[:third])
				for k := range mine {
					mine[k].Keep()
				}
				if third > 0 {
					kept <- mine
				}
				for k := range burst[third:] {
					burst[third+k].Data = burst[third+k].Data[:30]
				}
				// What is refused stays lent.
				players[random.IntN(len(players))].send(burst[third:])
			}
		}()
	}
	for i := range 2 {
		helpers.Add(1)
		go func() {
			defer helpers.Done()
			frames, random := make([]Frame, 16), rand.New(rand.NewPCG(uint64(i), 2))
			for mine := range kept {
				Free(mine)
				s := players[random.IntN(len(players))].shard
				s.mu.Lock()
				n := shared.alloc(s, frames)
				s.mu.Unlock()
				for k := range frames[:n] {
					frames[k].Data = frames[k].Data[:60]
				}
				Free(players[random.IntN(len(players))].send(frames[:n]))
			}
		}()
	}
	group.Wait()
	close(kept)
	helpers.Wait()
	require.NoError(t, shared.balance())
	require.Zero(t, shared.strange.Load())
	require.Greater(t, moved.Load(), int64(10000))
	for i, p := range players {
		p.pool.leave(p.shard, false)
		p.endLoan()
		open(i)
	}
	require.NoError(t, shared.balance())
	require.Equal(t, FrameCounts{Free: 256}, shared.counts())
}

// A stale frame is refused also while its owner takes it from shard to shard.
func TestStaleFrameIsRefusedWhileItMoves(t *testing.T) {
	w := newWorld(t, rand.IntN)
	alloc := func(i int, frames []Frame) []Frame {
		s := w.queues[i].shard
		s.mu.Lock()
		defer s.mu.Unlock()
		return frames[:w.pool.alloc(s, frames)]
	}
	stale := slices.Clone(alloc(0, make([]Frame, 1)))
	Free(stale)
	done := make(chan struct{})
	go func() {
		defer close(done)
		frames := make([]Frame, worldFrames)
		for i := range 5000 {
			Free(alloc(i%3, frames))
		}
	}()
	for moving := true; moving; {
		select {
		case <-done:
			moving = false
		default:
			require.Panics(t, stale[0].Keep)
			_, _, err := w.pool.take(stale, w.queues[0].shard, make([]Desc, 0, 1), 1, 1)
			require.ErrorIs(t, err, syscall.EINVAL)
		}
	}
	require.NoError(t, w.pool.balance())
}
