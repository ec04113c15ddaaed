package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A joiner finds the packets of a burst that continue each other: TCP segments of
// one flow that differ in nothing but their place in it (GRO). It only looks; they
// become one when they are copied.
//
// gVisor's own package gro joins packets that were copied one by one, each into a
// buffer of its own that is cleared first.
type joiner struct {
	runs []run
	next []int16          // of each packet the one that continues it, or -1
	open [flowSlots]int16 // runs that may go on, by the flow's hash; -1 for none
	used [maxBurst]uint8  // slots to be cleared
	n    int              // of them
}

// A run is packets that become one.
type run struct {
	first, last int16
	count       int16
	payload     int // bytes of all
}

const (
	flowSlots = 256
	maxBurst  = 256 // packets that are received at a time

	longestIP = 1<<16 - 1 // the most that an IP header can say
)

func (j *joiner) init() {
	j.runs, j.next = make([]run, 0, maxBurst), make([]int16, maxBurst)
	for i := range j.open {
		j.open[i] = -1
	}
}

// reset begins a burst.
func (j *joiner) reset() {
	j.runs = j.runs[:0]
	for _, slot := range j.used[:j.n] {
		j.open[slot] = -1
	}
	j.n = 0
}

// add looks at packet i of the burst, which heads and packets have.
func (j *joiner) add(i int, heads [][]byte, packets []packet) {
	p := &packets[i]
	j.next[i] = -1
	alone := run{first: int16(i), last: int16(i), count: 1, payload: p.size - p.payload}
	if !p.tcp {
		j.runs = append(j.runs, alone)
		return
	}
	slot := &j.open[p.hash%flowSlots]
	l4 := heads[i][p.l4:]
	data, flags := p.size-p.payload, header.TCPFlags(l4[header.TCPFlagsOffset])
	joinable := data > 0 && flags&^(header.TCPFlagPsh|header.TCPFlagFin) == header.TCPFlagAck
	if *slot >= 0 {
		r := &j.runs[*slot]
		before, base := &packets[r.last], &packets[r.first]
		whole := base.size - base.payload
		if joinable && data <= whole && base.payload-ethernet+r.payload+data <= longestIP &&
			continues(heads[r.first], heads[r.last], heads[i], base, before, p) {
			j.next[r.last] = int16(i)
			r.last, r.payload = int16(i), r.payload+data
			r.count++
			if data < whole || flags&(header.TCPFlagPsh|header.TCPFlagFin) != 0 {
				*slot = -1
			}
			return
		}
		*slot = -1 // the order within a flow stays
	}
	if joinable && flags == header.TCPFlagAck {
		*slot = int16(len(j.runs))
		j.used[j.n] = uint8(p.hash % flowSlots)
		j.n++
	}
	j.runs = append(j.runs, alone)
}

// continues reports whether p goes on where before ends, and their headers are
// otherwise those of the first packet of the run.
func continues(first, last, head []byte, base, before, p *packet) bool {
	if p.proto != base.proto || p.l4 != base.l4 || p.payload != base.payload {
		return false
	}
	was, now := last[before.l4:], head[p.l4:]
	seq := binary.BigEndian.Uint32(was[header.TCPSeqNumOffset:]) + uint32(before.size-before.payload)
	if binary.BigEndian.Uint32(now[header.TCPSeqNumOffset:]) != seq {
		return false
	}
	a, b := first[:base.payload], head[:base.payload]
	if string(a[:ethernet]) != string(b[:ethernet]) {
		return false
	}
	ip, other := a[ethernet:], b[ethernet:]
	if p.proto == header.IPv4ProtocolNumber {
		// Version, length and type of service; flags; time to live and protocol.
		if ip[1] != other[1] || ip[6] != other[6] || ip[7] != other[7] || ip[8] != other[8] {
			return false
		}
	} else if string(ip[:4]) != string(other[:4]) || ip[7] != other[7] { // traffic class and flow label; hop limit
		return false
	}
	if string(a[base.addrs:base.addrs+base.addrLen]) != string(b[base.addrs:base.addrs+base.addrLen]) {
		return false
	}
	l4, l4b := a[base.l4:], b[base.l4:]
	return string(l4[:4]) == string(l4b[:4]) && // ports
		string(l4[8:12]) == string(l4b[8:12]) && // acknowledgment
		string(l4[18:]) == string(l4b[18:]) // urgent pointer, options
}
