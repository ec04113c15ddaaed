package xsk

import (
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// lentBy is the owner of what queue i lends; 3 and 4 are Loans.
func lentBy(i int) owner {
	if i < 3 {
		return ownerLoan
	}
	return ownerLent
}

func (w *world) isLent(i int, f Frame) bool {
	m := w.frames[f.index]
	return m.owner == lentBy(i) && int(m.queue) == i && m.gen == f.gen
}

// endLoan is the model's end of the loan of queue i; it returns the frames that
// were lent until now.
func (w *world) endLoan(i int) (ended []uint32) {
	for _, f := range w.lent[i] {
		if m := &w.frames[f.index]; w.isLent(i, f) {
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
		if w.choose(8) == 0 && before+k < worldRx-1 {
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

func (w *world) keep() {
	for _, f := range w.pick(4) {
		f.Keep()
		w.give(f.index, ownerUser, 0)
		w.own = append(w.own, f)
	}
}

// lendOut ends a Loan and lends others.
func (w *world) lendOut(i int) {
	frames := w.pick(w.choose(16))
	frames = slices.DeleteFunc(frames, func(f Frame) bool { return w.isLent(i, f) }) // they end with the loan
	for _, index := range w.endLoan(i) {
		w.put(index)
	}
	w.loans[i].Lend(frames)
	for _, f := range frames {
		w.give(f.index, ownerLent, i)
		stale := f
		stale.gen = w.frames[f.index].gen
		w.retire(stale)
		w.frames[f.index].gen++
		w.same(int(w.frames[f.index].gen), int(f.gen))
		w.lent[i] = append(w.lent[i], f)
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
		if ended = w.choose(5); ended < 3 {
			w.recycle(ended)
		} else {
			for _, index := range w.endLoan(ended) {
				w.put(index)
			}
			w.loans[ended].Lend(nil)
		}
	}
	queued := w.choose(taken + 1)
	c := w.pool.cursor()
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
			if ended >= 0 && was[k].owner == lentBy(ended) && int(was[k].queue) == ended {
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
	w.pool.leave(q.shard, false)
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

// A Queue that was closed ends its loan when it pleases: when its number is another's
// by then, it must not end the loan of that.
func TestALateEndOfALoanSparesWhoHasTheNumberNow(t *testing.T) {
	w := newWorld(t, rand.IntN)
	receive := func(q *Queue) []Frame {
		q.recycle()
		frames := make([]Frame, len(q.rx.post))
		for i, a := range q.rx.post {
			q.rx.descs[i] = Desc{Addr: a, Len: 60}
		}
		q.rx.post = q.rx.post[:0]
		require.Equal(t, len(frames), q.lend(q.rx.descs[:len(frames)], frames))
		return frames
	}
	old := w.queues[0]
	frames := receive(old)
	w.pool.leave(old.shard, true)
	Free(frames)
	w.pool.reclaim(queueKey{})
	q := &Queue{pool: w.pool, rxFrames: worldRx, multi: true}
	q.rx.descs = make([]Desc, maxBurst)
	var err error
	q.shard, err = w.pool.enter(q, queueKey{ifindex: 1})
	require.NoError(t, err)
	require.Equal(t, old.shard.number, q.shard.number)
	lent := receive(q)
	old.endLoan()
	require.NoError(t, w.pool.balance())
	require.Equal(t, len(lent), w.pool.counts().Loan)
	Keep(lent)
}
