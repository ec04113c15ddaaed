package xsk

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	worldFrames    = 200
	worldFrameSize = 2048
	worldRx        = 50
)

type modelFrame struct {
	owner owner
	gen   uint32
	queue uint16 // by its place in the world, for numbers change
	home  uint32 // the number of its shard
}

// A world is a pool, three Queues on it, a kernel and a program that do with
// the frames what they like, and a model that says what must come of it.
type world struct {
	t      *testing.T
	choose func(n int) int // 0 to n-1
	pool   *pool
	queues [3]*Queue
	steps  int // frames that changed hands

	// the model
	frames  []modelFrame
	free    [][]uint32 // by shard
	strange uint64

	// what the kernel has of each queue, and the program
	filled [3][]Addr
	sent   [3][]Addr
	done   []Addr // completed before
	lent   [5][]Frame
	loans  [5]Loan // the last two
	own    []Frame
	stale  []Frame
}

func newWorld(t *testing.T, choose func(int) int) *world {
	u := &Umem{
		area:   make([]byte, worldFrames*worldFrameSize),
		layout: newLayout(worldFrames, worldFrameSize, 0),
	}
	w := &world{t: t, choose: choose, pool: newPool(u), frames: make([]modelFrame, worldFrames)}
	w.free = make([][]uint32, 1)
	for i := range worldFrames {
		w.free[0] = append(w.free[0], uint32(worldFrames-1-i))
	}
	for i := range w.queues {
		w.open(i)
	}
	return w
}

func (w *world) open(i int) {
	q := &Queue{pool: w.pool, rxFrames: worldRx, multi: true}
	key := queueKey{ifindex: 1, queue: i}
	var err error
	q.shard, err = w.pool.enter(q, key)
	require.NoError(w.t, err)
	if number := int(q.shard.number); number == len(w.free) {
		w.free = append(w.free, nil)
	} else {
		require.Empty(w.t, w.free[number], "a number that is used again")
	}
	q.rx.descs = make([]Desc, maxBurst+mostFrags)
	w.queues[i] = q
	w.pool.reclaim(key)
	for index := range w.frames {
		if f := &w.frames[index]; f.owner == ownerRetired && int(f.queue) == i {
			w.put(uint32(index))
		}
	}
	for number := range w.free {
		if number > 0 && w.pool.all()[number].queue == nil {
			w.claim(0, number, worldFrames)
		}
	}
}

// same is require.Equal in a hundredth of the time.
func (w *world) same(want, got int) {
	if want != got {
		w.t.Helper()
		require.Equal(w.t, want, got)
	}
}

func (w *world) put(index uint32) {
	f := &w.frames[index]
	f.owner = ownerFree
	w.free[f.home] = append(w.free[f.home], index)
	w.steps++
}

func (w *world) give(index uint32, to owner, q int) {
	w.frames[index].owner, w.frames[index].queue = to, uint16(q)
	w.steps++
}

// pop is the next free frame for queue i, which needs n: the last that became
// free at home, or else somewhere.
func (w *world) pop(i, n int) (uint32, bool) {
	home := int(w.queues[i].shard.number)
	if len(w.free[home]) == 0 {
		w.refill(home, n)
	}
	last := len(w.free[home]) - 1
	if last < 0 {
		return 0, false
	}
	index := w.free[home][last]
	w.free[home] = w.free[home][:last]
	return index, true
}

// refill takes n free frames of other shards, and some spare ones of the common.
func (w *world) refill(home, n int) {
	for other := range w.free {
		want := n
		if other == 0 {
			want += spare
		}
		if other != home {
			n -= w.claim(home, other, want)
		}
		if n <= 0 {
			return
		}
	}
}

// claim moves the last n free frames of one shard to another.
func (w *world) claim(to, from, n int) int {
	keep := max(len(w.free[from])-n, 0)
	moved := w.free[from][keep:]
	for _, index := range moved {
		w.frames[index].home = uint32(to)
	}
	w.free[to] = append(w.free[to], moved...)
	w.free[from] = w.free[from][:keep]
	return len(moved)
}

func (w *world) retire(f Frame) {
	f.Frags = nil
	if len(w.stale) == 64 {
		w.stale[w.choose(64)] = f
		return
	}
	w.stale = append(w.stale, f)
}

// check compares the pool with the model.
func (w *world) check() {
	require.NoError(w.t, w.pool.balance())
	for number, s := range w.pool.all() {
		at := s.free
		for _, index := range slices.Backward(w.free[number]) {
			w.same(int(index), int(at)) // last in, first out
			at = w.pool.table[at].next
		}
		w.same(noFrame, int(at))
	}
	require.Equal(w.t, w.strange, w.pool.strange.Load())
	for index, m := range w.frames {
		if e := &w.pool.table[index]; e.owner != m.owner || e.gen != m.gen || e.home.Load() != m.home {
			require.FailNow(w.t, "a frame is another's", "frame %d is %s, generation %d, of shard %d; it should be %s, %d, %d", index,
				ownerNames[e.owner], e.gen, e.home.Load(), ownerNames[m.owner], m.gen, m.home)
		}
	}
	require.Equal(w.t, worldFrames, w.pool.counts().Total())
}

// act does one thing of many.
func (w *world) act() {
	switch w.choose(64) {
	case 0:
		if w.choose(16) == 0 {
			w.reopen()
		}
	case 1, 2, 3, 4:
		w.misuse()
	default:
		switch w.choose(9) {
		case 0:
			w.alloc()
		case 8:
			w.lendOut(3 + w.choose(2))
		case 1:
			w.keep()
		case 2:
			w.giveBack()
		case 3, 4:
			w.send()
		case 5:
			w.complete()
		default:
			w.receive(w.choose(3))
		}
	}
}

// pick takes up to n of the program's frames out of its hands: its own and lent
// ones, which stay in lent, for the loan does not know.
func (w *world) pick(n int) (frames []Frame) {
	for range n {
		i := w.choose(6)
		if i == 5 {
			if len(w.own) > 0 {
				at := w.choose(len(w.own))
				frames = append(frames, w.own[at])
				w.own = slices.Delete(w.own, at, at+1)
			}
			continue
		}
		if len(w.lent[i]) == 0 {
			continue
		}
		f := w.lent[i][w.choose(len(w.lent[i]))]
		same := func(g Frame) bool { return g.index == f.index }
		if w.isLent(i, f) && !slices.ContainsFunc(frames, same) {
			frames = append(frames, f)
		}
	}
	return frames
}
