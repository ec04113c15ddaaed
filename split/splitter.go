// Package split lets several listeners share the packets of one interface.
//
// A queue is exclusive: one socket has it, and a second Open answers EBUSY and says
// who. Where one program wants several readers, a [Splitter] receives for all of
// them:
//
//	s, err := split.New(queue)                                    // or several: split.New(queues...)
//	dns, err := s.Listen(&split.Options{Match: isDNS})            // the packets that Match takes
//	workers, err := s.FanOut(4, &split.Options{Match: isVoice})   // four share these, flow by flow
//	rest, err := s.Listen(nil)                                    // what nobody else takes
//	capture, err := s.Tap(nil)                                    // copies of everything
//	err = s.Run()                                                 // until s.Close
//
// So each packet goes to exactly one listener, the part of the program that it is
// for, and not to all: a frame has one owner, who may change it and send it on. Who
// wants to see what others get has a [Tap], and copies.
//
// A [Member] receives, sends and owns frames as a Queue does. Each has an inbox, and
// nobody waits for a slow one: what finds the inbox full is dropped, and counted as
// that Member's.
//
// Splitter, Members and Taps may be used from any goroutines, but Receive of a Member
// from one at a time. Errors wrap EINVAL for options that break a rule, which they
// name, and os.ErrClosed after Close.
package split

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/closed"
)

// A Splitter gives the packets of one or more Queues to several listeners.
type Splitter struct {
	name   string // "eth0 queue 0", for errors
	queues []*xsk.Queue

	table     atomic.Pointer[table]
	unclaimed atomic.Uint64
	stopping  atomic.Bool
	done      chan struct{} // closed when Run returns

	mu      sync.Mutex // guards the rest
	groups  []*group
	taps    []*Tap
	made    int   // listeners ever
	frames  int   // of each Umem that the listeners may have
	running bool  // Run was called
	ended   bool  // and leaves the Queues alone
	err     error // why it stopped
	closed  bool
}

// Options describe a listener. The zero value, or nil, takes every packet that no other
// one takes; for a Tap, every packet.
type Options struct {
	// Match says whether a packet, an Ethernet frame, is for the listener.
	// bpf.Filter.Func makes one of a Filter. It runs for every packet that no
	// earlier listener took, in a goroutine for each Queue, so it should be quick; it
	// must not change or keep the packet, nor call the Splitter.
	Match func(packet []byte) bool

	// Hash tells which Member of a FanOut gets a packet: the same number, the same
	// Member. Default Flow. The rules are those of Match.
	Hash func(packet []byte) uint64

	// Depth is how many frames may wait until the listener receives them, each a
	// packet, or a part of one with xsk.BindMultiBuffer; and the most that a Receive
	// lends. So a listener has twice as many, and what it keeps. A packet of more
	// frames than Depth is dropped, and counted. Default 256.
	Depth int

	Name string // for errors and String; default "listener 2"
}

// defaultDepth is what the Go side of a busy program is late by now and then.
const defaultDepth = 256

// New makes a Splitter of Queues, which stay the caller's to close, after the
// Splitter. Nobody else may receive from them until then, or set their read deadline;
// anybody may send. Queues of different interfaces need a Umem each, for what a Member
// sends goes out of one on the frame's Umem, whichever that is.
func New(queues ...*xsk.Queue) (*Splitter, error) {
	if len(queues) == 0 || slices.Contains(queues, nil) {
		return nil, fmt.Errorf("split: new: %w", invalid("it takes Queues, and there is none"))
	}
	s := &Splitter{queues: slices.Clone(queues), done: make(chan struct{})}
	s.name = fmt.Sprintf("%s queue %d", queues[0].Interface(), queues[0].QueueID())
	if n := len(queues); n > 1 {
		s.name += fmt.Sprintf(" and %d more", n-1)
	}
	for i, q := range queues {
		if slices.Contains(queues[:i], q) {
			return nil, fmt.Errorf("split: new: %w", invalid("%v is there twice", q))
		}
	}
	s.table.Store(new(table))
	return s, nil
}

// Listen adds a listener. Those with a Match are asked in the order in which they
// were added; one without gets the rest, and there can be only one: EBUSY names it.
// Listeners may come and go while Run is at work. Errors wrap EINVAL when the frames
// of a Umem that are not for receiving (Frames less Queue.RxFrames) are fewer than
// twice the Depth of all listeners together.
func (s *Splitter) Listen(o *Options) (*Member, error) {
	members, err := s.add(1, o)
	if err != nil {
		return nil, fmt.Errorf("split: listen on %s: %w", s.name, err)
	}
	return members[0], nil
}

// FanOut adds n listeners that share what one would get: each packet goes to one of
// them, and those of a flow, in both directions, to the same; see Flow. When a Member
// is closed, its flows, and no others, go to those that remain. Errors are Listen's.
func (s *Splitter) FanOut(n int, o *Options) ([]*Member, error) {
	if n < 1 {
		return nil, fmt.Errorf("split: fan out %s: %w", s.name, invalid("%d listeners are none", n))
	}
	members, err := s.add(n, o)
	if err != nil {
		return nil, fmt.Errorf("split: fan out %s: %w", s.name, err)
	}
	return members, nil
}

// Tap adds a listener that gets a copy of each packet that Match takes, whoever has
// the packet itself; there may be any number. A Tap that is late misses packets, and
// counts them; it never holds the others up. Errors are Listen's.
func (s *Splitter) Tap(o *Options) (*Tap, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.addTap(o)
	if err != nil {
		return nil, fmt.Errorf("split: tap %s: %w", s.name, err)
	}
	return t, nil
}

func (s *Splitter) addTap(o *Options) (*Tap, error) {
	c := complete(o)
	if err := s.admit(1, &c); err != nil {
		return nil, err
	}
	t := newTap(s, s.queues[s.made%len(s.queues)], &c)
	s.taps = append(s.taps, t)
	s.enlist(1, &c)
	return t, nil
}

func (s *Splitter) add(n int, o *Options) ([]*Member, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := complete(o)
	if err := s.admit(n, &c); err != nil {
		return nil, err
	}
	if c.Match == nil {
		for _, g := range s.groups {
			if g.match == nil {
				return nil, fmt.Errorf("%q has what no Match takes: %w", g.name, syscall.EBUSY)
			}
		}
	}
	if c.Name == "" {
		c.Name = fmt.Sprintf("listener %d", s.made)
	}
	g := &group{name: c.Name, match: c.Match, hash: c.Hash}
	for i := range n {
		name := c.Name
		if n > 1 {
			name += fmt.Sprintf("/%d", i)
		}
		g.members = append(g.members, newMember(s, name, s.made+i, c.Depth))
	}
	s.groups = append(s.groups, g)
	s.enlist(n, &c)
	return slices.Clone(g.members), nil
}

// admit holds options of n more listeners against the rules.
func (s *Splitter) admit(n int, c *Options) error {
	switch {
	case s.closed:
		return closed.Err
	case s.err != nil:
		return s.err
	case c.Depth < 1:
		return invalid("Depth %d is less than 1", c.Depth)
	}
	for _, q := range s.queues {
		spare := q.Umem().Frames()
		for _, other := range s.queues {
			if other.Umem() == q.Umem() {
				spare -= other.RxFrames()
			}
		}
		if more := 2 * c.Depth * n; s.frames+more > spare {
			return invalid("twice the Depth of all listeners is %d frames, and of the %d of the Umem of %v %d are not for receiving; lower Depth or RxFrames, or raise Frames",
				s.frames+more, q.Umem().Frames(), q, spare)
		}
	}
	return nil
}

// enlist tells the pumps of n more listeners.
func (s *Splitter) enlist(n int, c *Options) {
	s.made += n
	s.frames += 2 * c.Depth * n
	s.table.Store(newTable(s.groups, s.taps))
}

// remove is for a Member that is being closed.
func (s *Splitter) remove(m *Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range s.taps {
		if &t.Member == m {
			s.taps = slices.Delete(slices.Clone(s.taps), i, i+1)
		}
	}
	for i, g := range s.groups {
		k := slices.Index(g.members, m)
		if k < 0 {
			continue
		}
		g = &group{name: g.name, match: g.match, hash: g.hash, members: slices.Clone(g.members)}
		g.members[k] = nil
		s.groups = slices.Clone(s.groups)
		s.groups[i] = g
		if g.empty() {
			s.groups = slices.Delete(s.groups, i, i+1)
		}
		break
	}
	s.frames -= 2 * m.in.depth
	s.table.Store(newTable(s.groups, s.taps))
}

func complete(o *Options) Options {
	var c Options
	if o != nil {
		c = *o
	}
	if c.Depth == 0 {
		c.Depth = defaultDepth
	}
	if c.Hash == nil {
		c.Hash = Flow
	}
	return c
}

// Run receives for the listeners until Close, or until a Queue fails, and returns
// why: os.ErrClosed, or the Queue's error, such as ENODEV, which the Members get too.
// It is for a goroutine of its own, and may be called once. It starts one for each
// Queue more, and waits for all of them.
//
// When the listeners keep every frame there is, it waits for one to come back, and
// the kernel drops packets meanwhile (QueueStats.Kernel.RxFillRingEmpty).
func (s *Splitter) Run() error {
	s.mu.Lock()
	switch {
	case s.closed:
		s.mu.Unlock()
		return fmt.Errorf("split: run %s: %w", s.name, closed.Err)
	case s.running:
		s.mu.Unlock()
		return fmt.Errorf("split: run %s: %w", s.name, invalid("Run was called before"))
	}
	s.running = true
	s.mu.Unlock()
	defer close(s.done)
	var pumps sync.WaitGroup
	for _, q := range s.queues[1:] {
		pumps.Add(1)
		go func() {
			defer pumps.Done()
			s.stop(newPump(s, q).run())
		}()
	}
	s.stop(newPump(s, s.queues[0]).run())
	pumps.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	for _, q := range s.queues {
		_ = q.SetReadDeadline(time.Time{})
	}
	for m := range s.members() {
		m.in.end(s.err)
	}
	return fmt.Errorf("split: run %s: %w", s.name, s.err)
}

// stop ends all pumps. Once they have ended the Queues are the caller's, and so are
// their deadlines.
func (s *Splitter) stop(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = why
	}
	if s.ended {
		return
	}
	s.stopping.Store(true)
	for _, q := range s.queues {
		_ = q.SetReadDeadline(time.Unix(1, 0)) // long past: wakes who waits in Receive
	}
}

// members are the listeners. s.mu is locked.
func (s *Splitter) members() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for _, t := range s.taps {
			if !yield(&t.Member) {
				return
			}
		}
		for _, g := range s.groups {
			for _, m := range g.members {
				if m != nil && !yield(m) {
					return
				}
			}
		}
	}
}

// Close ends Run, waits until it has returned, and closes all Members and Taps. The
// Queues stay open, and are the caller's again. It may be called again, from any
// goroutine, but not from Match or Hash.
func (s *Splitter) Close() error {
	s.mu.Lock()
	s.closed = true
	running := s.running
	s.mu.Unlock()
	if running {
		s.stop(closed.Err)
		<-s.done
	}
	s.mu.Lock()
	all := slices.Collect(s.members())
	s.mu.Unlock()
	var errs []error
	for _, m := range all {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Unclaimed counts the packets that no listener was for. They went back to the
// kernel as empty frames.
func (s *Splitter) Unclaimed() uint64 { return s.unclaimed.Load() }

// String names the Queues and the listeners, each with its counts.
func (s *Splitter) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d packets unclaimed", s.name, s.Unclaimed())
	for m := range s.members() {
		fmt.Fprintf(&b, "\n%s: %v", m.name, m.Stats())
	}
	return b.String()
}

// invalid is an EINVAL that says which rule was broken.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), syscall.EINVAL)
}
