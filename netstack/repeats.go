package netstack

import (
	"hash/maphash"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// repeats knows packets that came before, when not all can be looked at: who is real
// sends a SYN again in a second, and a flood from addresses that are made up does not.
type repeats struct {
	mu    sync.Mutex
	seed  maphash.Seed
	marks []uint32 // hash, and the time in units of 256 ms; made by the first one
	begun time.Time
}

const (
	repeatMarks = 1 << 20
	repeatUnit  = 256 * time.Millisecond
	repeatFirst = 2  // units before it counts as sent again
	repeatLast  = 40 // and after which it is forgotten
)

// seen reports whether a packet came some time ago, by its addresses and what else
// tells it from others; if not, it is remembered.
func (r *repeats) seen(addresses, rest []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.marks == nil {
		r.seed, r.marks, r.begun = maphash.MakeSeed(), make([]uint32, repeatMarks), time.Now()
	}
	hash := maphash.Bytes(r.seed, addresses)
	hash ^= maphash.Bytes(r.seed, rest) >> 1 // not the same if both are
	now := uint8(time.Since(r.begun) / repeatUnit)
	mark := &r.marks[hash%repeatMarks]
	tag := uint32(hash>>40) << 8
	if *mark&^0xff == tag {
		if age := now - uint8(*mark); age >= repeatFirst && age <= repeatLast {
			return true
		}
	}
	*mark = tag | uint32(now)
	return false
}

// askers are those who ask for our MAC address and whose own is not known. The stack
// answers each, which is a system call, and keeps the last 512: a flood of them leaves
// no time for others, and pushes out real neighbours. So of more than a few at a time
// only those are answered that ask again, as a real one does after a second.
type askers struct {
	mu      sync.Mutex
	since   time.Time
	count   int
	repeats repeats
}

const (
	askersIn   = 128 * time.Millisecond
	askersMost = 256
)

// admitARP reports whether an ARP packet may go to the stack.
func (a *askers) admitARP(head []byte, s *strangers) bool {
	arp := header.ARP(head[ethernet:])
	if !arp.IsValid() || arp.Op() != header.ARPRequest {
		return true
	}
	return a.admit(arp.ProtocolAddressSender(), arp.HardwareAddressSender(), s)
}

// admitND does so for a neighbour solicitation.
func (a *askers) admitND(head []byte, p *packet, s *strangers) bool {
	return a.admit(head[p.addrs:p.addrs+header.IPv6AddressSize], head[6:12], s)
}

func (a *askers) admit(sender, mac []byte, s *strangers) bool {
	if s.has(s.hash(sender)) {
		return true
	}
	a.mu.Lock()
	now := time.Now()
	if now.Sub(a.since) > askersIn {
		a.since, a.count = now, 0
	}
	a.count++
	few := a.count <= askersMost
	a.mu.Unlock()
	return few || a.repeats.seen(sender, mac)
}
