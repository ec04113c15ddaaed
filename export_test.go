package xsk

// NewPlainSocket makes a Socket around ring structs that no kernel shares, for
// benchmarks of the program's side alone. It has no file descriptor; do not
// close it.
func NewPlainSocket(fill, completion, rx, tx uintptr) *Socket {
	s := &Socket{
		Fill:       new(FillRing),
		Completion: new(CompletionRing),
		Rx:         new(RxRing),
		Tx:         new(TxRing),
		name:       "plain memory",
		fd:         -1,
	}
	s.Fill.c, s.Completion.c, s.Rx.c, s.Tx.c = fill, completion, rx, tx
	return s
}

// NewPlainQueue makes a Queue on such a socket and on plain memory of frames of
// 2048 bytes, half of them posted.
func NewPlainQueue(s *Socket, frames int) *Queue {
	u := &Umem{area: make([]byte, frames*2048), layout: newLayout(frames, 2048, 0)}
	q := &Queue{name: "plain memory", sock: s, umem: u, pool: newPool(u), rxFrames: frames / 2}
	q.rx.descs = make([]Desc, maxBurst+mostFrags)
	q.tx.descs, q.tx.done = make([]Desc, 0, maxBurst), make([]Addr, 2*maxBurst)
	var err error
	if q.shard, err = q.pool.enter(q, queueKey{}); err != nil {
		panic(err)
	}
	q.firstStock()
	q.rx.post = q.rx.post[:copy(q.rx.post, q.rx.post[s.Fill.Produce(q.rx.post):])]
	return q
}

// What decides a text and takes no kernel.
var (
	WhyCopy   = (*Device).whyCopy
	MapsRings = mapsRings
	UnknownTo = unknownTo
)

// Of the package, for tests outside of it.
const (
	MaxBurst    = maxBurst
	RaceEnabled = raceEnabled
)
