package xsk

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

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
	lent   [3][]Frame
	own    []Frame
	stale  []Frame
}

type modelFrame struct {
	owner owner
	gen   uint32
	queue uint16 // by its place in the world, for numbers change
	home  uint32 // the number of its shard
}

const (
	worldFrames    = 200
	worldFrameSize = 2048
	worldRx        = 50
)

func newWorld(t *testing.T, choose func(int) int) *world {
	u := &Umem{
		area:      make([]byte, worldFrames*worldFrameSize),
		frameSize: worldFrameSize,
		mask:      worldFrameSize - 1,
		frames:    worldFrames,
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
	w.free = append(w.free, nil)
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

// endLoan is the model's end of the loan of queue i; it returns the frames that
// were lent until now.
func (w *world) endLoan(i int) (ended []uint32) {
	for _, f := range w.lent[i] {
		if m := &w.frames[f.index]; m.owner == ownerLoan && m.gen == f.gen {
			m.gen++
			ended = append(ended, f.index)
			w.retire(f)
		}
	}
	w.lent[i] = nil
	return ended
}

// recycle checks what the receiver posts: what its loan gave back, and then
// free frames.
func (w *world) recycle(i int) {
	q := w.queues[i]
	var want []Addr
	for _, index := range w.endLoan(i) {
		w.give(index, ownerRx, i)
		want = append(want, w.pool.addr(index))
	}
	held := 0
	for _, f := range w.frames {
		if f.owner == ownerRx && int(f.queue) == i {
			held++
		}
	}
	for ; held < worldRx; held++ {
		index, ok := w.pop(i, worldRx-held)
		if !ok {
			break
		}
		w.give(index, ownerRx, i)
		want = append(want, w.pool.addr(index))
	}
	before := len(q.rx.post)
	q.recycle()
	if !slices.Equal(want, q.rx.post[before:]) {
		require.Equal(w.t, want, q.rx.post[before:])
	}
	w.same(held, q.rx.held)
}

// receive is Receive with a kernel that has posted and received some.
func (w *world) receive(i int) {
	q := w.queues[i]
	w.recycle(i)
	posted := w.choose(len(q.rx.post) + 1)
	w.filled[i] = append(w.filled[i], q.rx.post[:posted]...)
	q.rx.post = q.rx.post[:copy(q.rx.post, q.rx.post[posted:])]

	n := min(len(w.filled[i]), w.choose(32))
	frames := make([]Frame, n)
	before := q.rx.partial
	for k := range n {
		at := w.choose(len(w.filled[i])) // the kernel has its own order
		a := w.filled[i][at]
		w.filled[i] = slices.Delete(w.filled[i], at, at+1)
		d := Desc{Addr: a + 256, Len: uint32(14 + w.choose(1000))}
		if w.choose(8) == 0 && before+k < mostFrags-1 {
			d.Options = PktContd
		}
		q.rx.descs[before+k] = d
	}
	descs := slices.Clone(q.rx.descs[:before+n])
	var want [][]Desc
	from := 0
	for k := range descs {
		if descs[k].Options&PktContd == 0 {
			want = append(want, descs[from:k+1])
			from = k + 1
		}
	}
	got := q.lend(q.rx.descs[:before+n], frames)
	w.same(len(want), got)
	w.same(len(descs)-from, q.rx.partial)
	for k, packet := range want {
		parts := append([]Frame{frames[k]}, frames[k].Frags...)
		w.same(len(packet), len(parts))
		for j, f := range parts {
			w.same(int(w.pool.frameOf(packet[j].Addr)), int(f.index))
			w.same(int(packet[j].Len), len(f.Data))
			w.same(int(w.frames[f.index].gen), int(f.gen))
			w.give(f.index, ownerLoan, i)
			f.Frags = nil
			w.lent[i] = append(w.lent[i], f)
		}
	}
}

func (w *world) alloc() {
	frames := make([]Frame, 1+w.choose(16))
	i, free := w.choose(3), 0
	for _, list := range w.free {
		free += len(list)
	}
	s := w.queues[i].shard
	s.mu.Lock()
	n := w.pool.alloc(s, frames)
	s.mu.Unlock()
	w.same(min(len(frames), free), n)
	for k, f := range frames[:n] {
		index, _ := w.pop(i, len(frames)-k)
		w.same(int(index), int(f.index))
		w.same(int(w.frames[index].gen), int(f.gen))
		w.give(index, ownerUser, 0)
		w.own = append(w.own, f)
	}
}

// pick takes up to n of the program's frames out of its hands: its own and lent
// ones, which stay in lent, for the loan does not know.
func (w *world) pick(n int) (frames []Frame) {
	for range n {
		i := w.choose(4)
		if i == 3 {
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
		if m := w.frames[f.index]; m.owner == ownerLoan && m.gen == f.gen && !slices.ContainsFunc(frames, same) {
			frames = append(frames, f)
		}
	}
	return frames
}

func (w *world) keep() {
	for _, f := range w.pick(4) {
		f.Keep()
		w.give(f.index, ownerUser, 0)
		w.own = append(w.own, f)
	}
}

func (w *world) giveBack() {
	frames := w.pick(1 + w.choose(16))
	Free(frames)
	for _, f := range frames {
		w.frames[f.index].gen++
		w.put(f.index)
		w.retire(f)
	}
}

// misuse does what must be refused and change nothing.
func (w *world) misuse() {
	if len(w.stale) == 0 {
		return
	}
	f := w.stale[w.choose(len(w.stale))]
	f.Data = w.pool.area[int(f.index)*worldFrameSize+300:][:60]
	switch w.choose(3) {
	case 0:
		require.Panics(w.t, func() { f.Keep() })
	case 1:
		require.Panics(w.t, func() { f.Free() })
	case 2:
		descs, n, err := w.pool.take([]Frame{f}, w.queues[0].shard, make([]Desc, 0, 1), 1, 1)
		require.Empty(w.t, descs)
		require.Zero(w.t, n)
		require.ErrorIs(w.t, err, syscall.EINVAL)
	}
}

// send is trySend with a ring that has room for some.
func (w *world) send() {
	i := w.choose(3)
	q := w.queues[i]
	frames := w.pick(w.choose(24))
	good := len(frames)
	if len(frames) > 0 && w.choose(4) == 0 {
		// One goes in twice.
		frames = append(frames, frames[w.choose(len(frames))])
	}
	for k := range frames {
		frames[k].Data = w.pool.area[int(frames[k].index)*worldFrameSize+w.choose(1000):][:14+w.choose(1000)]
	}
	room := w.choose(32)
	descs, taken, err := w.pool.take(frames, q.shard, make([]Desc, 0, 32), room, 1)
	w.same(min(good, room), taken)
	require.Equal(w.t, err != nil, len(frames) > good && room > good)
	w.same(taken, len(descs))
	was := make([]modelFrame, taken)
	for k, f := range frames[:taken] {
		was[k] = w.frames[f.index]
		w.give(f.index, ownerTx, i)
	}
	// Between the two the loan may end: the sender's are the sender's then.
	ended := -1
	if w.choose(4) == 0 {
		ended = w.choose(3)
		w.recycle(ended)
	}
	queued := w.choose(taken + 1)
	c := w.pool.cursor()
	c.sent(descs[:queued])
	c.untake(descs[queued:])
	c.unlock()
	for k, f := range frames[:good] {
		switch {
		case k < queued:
			w.frames[f.index].gen++
			w.sent[i] = append(w.sent[i], descs[k].Addr)
			w.retire(f)
			continue
		case k < taken:
			w.frames[f.index] = was[k]
			w.steps++
			if was[k].owner == ownerLoan && int(was[k].queue) == ended {
				w.frames[f.index].owner = ownerUser
			}
		}
		if w.frames[f.index].owner == ownerUser {
			w.own = append(w.own, f)
		}
	}
}

// complete is what the kernel returns: what was sent, in any order, some never,
// some twice, and things that it never had.
func (w *world) complete() {
	i := w.choose(3)
	var done []Addr
	for range w.choose(24) {
		switch w.choose(16) {
		case 0:
			done = append(done, Addr(w.choose(1<<30))<<w.choose(34))
		case 1:
			if len(w.done) > 0 {
				done = append(done, w.done[w.choose(len(w.done))])
			}
		default:
			if n := len(w.sent[i]); n > 0 {
				at := w.choose(n)
				done = append(done, w.sent[i][at])
				w.sent[i] = slices.Delete(w.sent[i], at, at+1)
			}
		}
	}
	c := w.pool.cursor()
	c.completed(done, w.queues[i].shard)
	c.unlock()
	for _, a := range done {
		index := uint64(a) / worldFrameSize
		if index < worldFrames && w.frames[index].owner == ownerTx && int(w.frames[index].queue) == i {
			w.put(uint32(index))
		} else {
			w.strange++
		}
	}
	if w.done = append(w.done, done...); len(w.done) > 64 {
		w.done = w.done[len(w.done)-64:]
	}
}

// reopen closes a queue and opens it again.
func (w *world) reopen() {
	i := w.choose(3)
	q := w.queues[i]
	w.pool.leave(q.shard)
	w.claim(0, int(q.shard.number), worldFrames)
	for index := range w.frames {
		if f := &w.frames[index]; int(f.queue) == i && (f.owner == ownerRx || f.owner == ownerTx) {
			w.give(uint32(index), ownerRetired, i)
		}
	}
	for _, index := range w.endLoan(i) {
		w.put(index)
	}
	q.endLoan()
	w.filled[i], w.sent[i] = nil, nil
	w.check()
	w.open(i)
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
		switch w.choose(8) {
		case 0:
			w.alloc()
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

// Ten million times a frame changes hands, at random, and each time the pool
// knows whose it is.
func TestTenMillionOwnersOfFrames(t *testing.T) {
	steps := 10_000_000
	if testing.Short() || raceEnabled {
		steps = 500_000
	}
	if os.Getenv("XSK_TEST_ALL") != "" {
		steps = 10_000_000
	}
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, random.IntN)
	for acts := 0; w.steps < steps; acts++ {
		if w.act(); acts%512 == 0 {
			w.check()
		}
		if len(w.pool.all()) > 1<<16-8 {
			total := w.steps
			w = newWorld(t, random.IntN)
			w.steps = total
		}
	}
	w.check()
}

func FuzzPool(f *testing.F) {
	f.Add([]byte("receive, keep, send, complete, free"))
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWorld(t, func(n int) int {
			if len(script) < 2 {
				script = nil
				return 0
			}
			k := int(script[0])<<8 | int(script[1])
			script = script[2:]
			return k % n
		})
		for len(script) > 0 {
			w.act()
			w.check()
		}
	})
}

// A descriptor that names no frame of the Queue's is left out and counted.
func TestReceiveLeavesStrangeFramesOut(t *testing.T) {
	w := newWorld(t, rand.IntN)
	mine, other := w.queues[0], w.queues[1]
	mine.recycle()
	other.recycle()
	a, b := mine.rx.post[0], other.rx.post[0]
	const outside = worldFrames * worldFrameSize
	descs := []Desc{{Addr: b, Len: 60}, {Addr: a, Len: 61}, {Addr: a, Len: 62}, {Addr: outside, Len: 63}, {Addr: 1 << 60, Len: 64}}
	frames := make([]Frame, len(descs))
	require.Equal(t, 1, mine.lendWhole(descs, frames))
	require.Len(t, frames[0].Data, 61)
	require.EqualValues(t, 4, w.pool.strange.Load())
	require.NoError(t, w.pool.balance())
	mine.recycle()
	require.EqualValues(t, 1, mine.lend(descs, frames))
	require.Len(t, frames[0].Data, 61)
	require.EqualValues(t, 8, w.pool.strange.Load())
	require.NoError(t, w.pool.balance())
}

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
	c.sent(descs[:queued])
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
	shared := newPool(&Umem{area: make([]byte, 256*2048), frameSize: 2048, mask: 2047, frames: 256})
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
		p.pool.leave(p.shard)
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
