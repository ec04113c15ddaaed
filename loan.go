package xsk

// A Loan lends frames that the program has, as Receive lends those it received: to
// one goroutine, which may keep, send or free them, until the next Lend. Whoever
// receives for others (package split) lends each of them what is theirs.
//
// The zero Loan is ready. It belongs to one goroutine at a time, and takes frames of
// any number of Umems.
type Loan struct{ lent []lentFrame }

// A lentFrame is a frame as it was when it was lent.
type lentFrame struct {
	pool       *pool
	index, gen uint32
}

// Lend ends the loan, and then lends frames. What was lent before goes back to the
// memory it came from, unless somebody has kept, sent or freed it. Lend(nil) only
// ends the loan.
//
// The frames must be the program's, or lent to the goroutine that calls. Copies made of them before are
// stale then, for frames is changed. Lend ignores zero Frames, panics on a stale
// one, takes a lock for all that one Queue has received or allocated, and allocates
// nothing once it has lent as many. It may be called after the Queue is closed.
func (l *Loan) Lend(frames []Frame) {
	l.end()
	for len(frames) > 0 {
		n := ofOnePool(frames)
		if p := frames[0].pool; p != nil {
			l.lent = p.lendOut(frames[:n], l.lent)
		}
		frames = frames[n:]
	}
}

// end gives back what is still lent.
func (l *Loan) end() {
	for lent := l.lent; len(lent) > 0; {
		p, n := lent[0].pool, 1
		for n < len(lent) && lent[n].pool == p {
			n++
		}
		p.cameBack(p.endLent(lent[:n]))
		lent = lent[n:]
	}
	l.lent = l.lent[:0]
}

// endLent does it for frames of one pool, and reports whether that is closed.
func (p *pool) endLent(lent []lentFrame) bool {
	c := p.cursor()
	defer c.unlock()
	for _, was := range lent {
		e := &c.table[was.index]
		c.lock(e)
		switch {
		case e.gen == was.gen && e.owner == ownerLent:
			e.gen++
			c.at.put(was.index)
		case e.gen == was.gen+1 && e.owner == ownerTx && e.was == ownerLent: // see loanOver
			e.was = ownerUser
		}
	}
	return p.closed
}

// lendOut lends frames, and appends what it lends to lent.
func (p *pool) lendOut(frames []Frame, lent []lentFrame) []lentFrame {
	c := p.cursor()
	defer c.unlock()
	for i := range frames {
		f := &frames[i]
		lent = append(lent, c.lendOut(f))
		if len(f.Frags) == 0 {
			continue
		}
		f.Frags = append([]Frame(nil), f.Frags...) // a Queue may use the array again
		for j := range f.Frags {
			lent = append(lent, c.lendOut(&f.Frags[j]))
		}
	}
	return lent
}

func (c *cursor) lendOut(f *Frame) lentFrame {
	e := &c.table[f.index]
	if c.lock(e); !e.held(f) {
		panic("xsk: lend: " + c.pool.notHeld(f, e).Error())
	}
	c.at.move(e, ownerLent)
	e.gen++ // an earlier Loan must not end this one
	f.gen = e.gen
	return lentFrame{c.pool, f.index, e.gen}
}

// Keep ends the loan of received frames in the program's favour, as Frame.Keep does,
// with one lock for all that one Queue has received. It changes frames whose packet
// has fragments, and ignores the zero Frame. It panics on a stale one, and has kept
// those before it then.
func Keep(frames []Frame) {
	for len(frames) > 0 {
		n := ofOnePool(frames)
		if p := frames[0].pool; p != nil {
			p.keep(frames[:n])
		}
		frames = frames[n:]
	}
}

// keep is Keep, for frames of one pool.
func (p *pool) keep(frames []Frame) {
	c := p.cursor()
	defer c.unlock()
	for i := range frames {
		f := &frames[i]
		c.keep(f)
		if len(f.Frags) == 0 {
			continue
		}
		f.Frags = append([]Frame(nil), f.Frags...) // the Queue uses the array again
		for j := range f.Frags {
			c.keep(&f.Frags[j])
		}
	}
}

func (c *cursor) keep(f *Frame) {
	e := &c.table[f.index]
	if c.lock(e); !e.held(f) {
		panic("xsk: keep: " + c.pool.notHeld(f, e).Error())
	}
	if e.owner != ownerUser {
		c.at.move(e, ownerUser)
	}
}

// ofOnePool is how many frames at the front are of the first one's pool.
func ofOnePool(frames []Frame) int {
	n := 1
	for n < len(frames) && frames[n].pool == frames[0].pool {
		n++
	}
	return n
}
