package netstack

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Strangers are hosts of our own networks that have sent us something, though nobody
// knows their MAC address yet. Who answers one asks for it, and keeps the answers
// until it is known, or has not come for three seconds; the stack does so for 64
// hosts, and for one more drops what it keeps for the first, in a goroutine of its
// own. Made-up addresses would push out those of real hosts. So only some strangers
// are answered at a time, each for a moment, and those that could not be found not
// again soon.
//
// A real host is no stranger as a rule: it has asked for our MAC address first.
type strangers struct {
	seed  maphash.Seed
	known [knownSets][knownWays]atomic.Uint64 // hashes of addresses whose MAC address was known
	next  atomic.Uint32                       // way to be given up

	mu      sync.Mutex
	waiting []stranger
	resting [restingSlots]stranger // by hash
}

const restingSlots = 1 << 12

type stranger struct {
	hash  uint64
	until time.Time
	count int // packets
}

const (
	knownSets, knownWays = 1 << 10, 4
	used                 = 1 // bit of a hash: a packet of this neighbour came

	// A stranger's MAC address comes in less than a millisecond, on a link that works.
	strangerWaits = 300 * time.Millisecond
	strangerSends = 64 // packets meanwhile

	// How long one rests whose MAC address did not come so soon, and one that the
	// stack gave up.
	strangerRests = time.Second
	absentRests   = 3 * time.Second
)

func (s *strangers) init(most int) {
	s.seed = maphash.MakeSeed()
	s.waiting = make([]stranger, most)
}

// admit reports whether a packet from an address may be answered.
func (s *strangers) admit(h *Host, address []byte) bool {
	if !h.neighbours(address) {
		return true // by a gateway
	}
	hash := s.hash(address)
	if s.knows(hash) {
		return true
	}
	enters, asks := s.enter(hash)
	if asks { // outside of the lock, which the stack's own locks are around in forget
		h.ask(address, s)
	}
	return enters
}

// enter reports whether a stranger may come in, and has to be asked for.
func (s *strangers) enter(hash uint64) (enters, asks bool) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	free := -1
	for i := range s.waiting {
		w := &s.waiting[i]
		switch {
		case w.hash == 0:
			free = i
		case s.has(w.hash):
			w.hash, free = 0, i
		case now.After(w.until):
			s.rest(w.hash, w.until.Add(strangerRests))
			w.hash, free = 0, i
		case w.hash == hash:
			w.count++
			return w.count <= strangerSends, false
		}
	}
	if r := s.resting[hash/knownSets%restingSlots]; free < 0 || r.hash == hash && now.Before(r.until) {
		return false, false
	}
	s.waiting[free] = stranger{hash: hash, until: now.Add(strangerWaits), count: 1}
	return true, true
}

// rest has an address wait before it may be asked for again. s is locked.
func (s *strangers) rest(hash uint64, until time.Time) {
	if r := &s.resting[hash/knownSets%restingSlots]; r.hash != hash || r.until.Before(until) {
		*r = stranger{hash: hash, until: until}
	}
}

// ask has the stack look for the MAC address of a neighbour, which may be known to it.
func (h *Host) ask(address []byte, s *strangers) {
	proto, a := header.IPv4ProtocolNumber, tcpip.AddrFromSlice(address)
	if a.Len() == header.IPv6AddressSize {
		proto = header.IPv6ProtocolNumber
	}
	_ = h.Stack.GetLinkAddress(nic, a, tcpip.Address{}, proto, func(r stack.LinkResolutionResult) {
		if r.Err == nil {
			s.learn(a.AsSlice())
		}
	})
}

func (s *strangers) hash(address []byte) uint64 {
	return maphash.Bytes(s.seed, address)&^used | used<<1 // never 0
}

func (s *strangers) set(hash uint64) *[knownWays]atomic.Uint64 { return &s.known[hash>>2%knownSets] }

// knows reports whether the MAC address of a neighbour that sends was known, and marks
// it as one that does: those who only ask for ours do not take its place.
func (s *strangers) knows(hash uint64) bool {
	set := s.set(hash)
	for i := range set {
		switch set[i].Load() {
		case hash | used:
			return true
		case hash:
			set[i].CompareAndSwap(hash, hash|used)
			return true
		}
	}
	return false
}

// has reports whether the MAC address of a neighbour was known.
func (s *strangers) has(hash uint64) bool {
	set := s.set(hash)
	for i := range set {
		if set[i].Load()&^used == hash {
			return true
		}
	}
	return false
}

// learn keeps an address whose MAC address is known, in the place of another if there
// are many.
func (s *strangers) learn(address []byte) {
	hash := s.hash(address)
	if s.has(hash) {
		return
	}
	set, first := s.set(hash), int(s.next.Add(1))
	for i := range set {
		if set[i].CompareAndSwap(0, hash) {
			return
		}
	}
	for i := range set {
		way := &set[(first+i)%knownWays]
		if v := way.Load(); v&used == 0 {
			way.Store(hash)
			return
		}
	}
	for i := range set {
		set[i].And(^uint64(used))
	}
	set[first%knownWays].Store(hash)
}

// forget is for an address that nobody answers for any more.
func (s *strangers) forget(address []byte) {
	hash := s.hash(address)
	set := s.set(hash)
	for i := range set {
		set[i].CompareAndSwap(hash, 0)
		set[i].CompareAndSwap(hash|used, 0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rest(hash, time.Now().Add(absentRests))
}

// The stack tells of its neighbours; one that it gave up for want of room is still no
// stranger.
type neighbours struct{ s *strangers }

func (n neighbours) OnNeighborAdded(_ tcpip.NICID, e stack.NeighborEntry) { n.changed(e) }

func (n neighbours) OnNeighborChanged(_ tcpip.NICID, e stack.NeighborEntry) { n.changed(e) }

func (n neighbours) OnNeighborRemoved(tcpip.NICID, stack.NeighborEntry) {}

func (n neighbours) changed(e stack.NeighborEntry) {
	switch e.State {
	case stack.Reachable, stack.Stale, stack.Static:
		n.s.learn(e.Addr.AsSlice())
	case stack.Unreachable:
		n.s.forget(e.Addr.AsSlice())
	}
}

// neighbours reports whether an address is one of a network of ours.
func (h *Host) neighbours(address []byte) bool {
	all := h.networks.Load()
	if all == nil {
		return false
	}
	a, ok := netip.AddrFromSlice(address)
	if !ok {
		return false
	}
	for _, n := range *all {
		if n.Contains(a) {
			return true
		}
	}
	return a.IsLinkLocalUnicast() && a.Is6()
}

// changeNetworks is for when the addresses have changed. The Host is locked.
func (h *Host) changeNetworks() {
	var all []netip.Prefix
	for _, p := range h.addresses {
		all = append(all, p.Masked())
	}
	h.networks.Store(&all)
}
