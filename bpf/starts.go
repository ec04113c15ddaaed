package bpf

import "math/bits"

// What an entry of starts4 and of the tables is, if not the hits themselves.
const (
	startTable = 1 << 31
	startCut   = 1 << 30
)

// A cut is struct cut.
type cut struct {
	Second, Third uint32
	Hits          [3]uint32
	_             uint32
}

// A table6 is struct table6.
type table6 struct {
	High, Rest   uint64
	Shift        uint32
	Below, Above uint32
	Entries      [256]uint32
	_            uint32
}

// A cut6 is struct cut6.
type cut6 struct {
	Second, Third [2]uint64
	Hits          [3]uint32
	_             uint32
}

// setStarts4 makes the tables for IPv4 addresses. To look an address up takes
// three steps at most, however many prefixes there are: a table is for places with
// more than three ranges, and what is left is a cut.
func (t *tables) setStarts4(prefixes []prefix) {
	ranges, _ := spans(prefixes)
	if len(ranges) == 0 {
		return
	}
	for i := range t.bss.starts4 {
		ranges = since(ranges, uint64(i)<<16)
		t.bss.starts4[i] = t.entry4(ranges, uint64(i)<<16, 16)
	}
}

// since leaves out the ranges that end before the address.
func since(ranges []span, address uint64) []span {
	for len(ranges) > 1 && ranges[1].Start <= address {
		ranges = ranges[1:]
	}
	return ranges
}

// entry4 is the entry for the 1<<size addresses from first on, which is in the
// first of the ranges.
func (t *tables) entry4(ranges []span, first uint64, size int) uint32 {
	n := 1
	for n < len(ranges) && ranges[n].Start < first+1<<size {
		n++
	}
	switch {
	case n == 1:
		return uint32(ranges[0].Hits)
	case n <= 3:
		c := cut{Second: uint32(ranges[1].Start), Third: 1<<32 - 1}
		for i := range c.Hits {
			c.Hits[i] = uint32(ranges[min(i, n-1)].Hits)
		}
		if n == 3 {
			c.Third = uint32(ranges[2].Start)
		}
		t.cuts4 = append(t.cuts4, c)
		return startCut | uint32(len(t.cuts4)-1)
	}
	at := len(t.tables4)
	t.tables4 = append(t.tables4, [256]uint32{})
	for i := range t.tables4[at] {
		part := first + uint64(i)<<(size-8)
		ranges = since(ranges, part)
		entry := t.entry4(ranges, part, size-8)
		t.tables4[at][i] = entry
	}
	return startTable | uint32(at)
}

// setTables6 makes the tables for IPv6 addresses. A table has the eight bits where
// the ranges begin to differ, so as many steps as that takes are enough.
func (t *tables) setTables6(prefixes []prefix) {
	ranges, _ := spans6(prefixes)
	if len(ranges) > 0 {
		t.table6(ranges, 1)
	}
}

// entry6 is the entry for addresses that the ranges are all of.
func (t *tables) entry6(ranges []span6, depth uint32) uint32 {
	n := len(ranges)
	switch {
	case n == 1:
		return uint32(ranges[0].Hits)
	case n > 3:
		return startTable | t.table6(ranges, depth)
	}
	c := cut6{Second: [2]uint64{ranges[1].High, ranges[1].Low}, Third: [2]uint64{ranges[n-1].High, ranges[n-1].Low}}
	for i := range c.Hits {
		c.Hits[i] = uint32(ranges[min(i, n-1)].Hits)
	}
	t.cuts6 = append(t.cuts6, c)
	return startCut | uint32(len(t.cuts6)-1)
}

// table6 makes a table and returns its index.
func (t *tables) table6(ranges []span6, depth uint32) uint32 {
	first, last := ranges[min(1, len(ranges)-1)], ranges[len(ranges)-1]
	made := table6{Below: uint32(ranges[0].Hits), Above: uint32(last.Hits)}
	half := func(r span6) uint64 { return r.High }
	if first.High == last.High {
		half = func(r span6) uint64 { return r.Low }
		made.High, made.Shift = first.High, 64
	}
	shift := 56 - min(bits.LeadingZeros64(half(first)^half(last)), 56)
	made.Shift |= uint32(shift)
	made.Rest = half(first) >> shift >> 8
	t.config.Depth6 = max(t.config.Depth6, depth)
	at := len(t.tables6)
	t.tables6 = append(t.tables6, made)

	// place is the entry of the addresses that a range begins in, and whether it is
	// not with the first of those.
	place := func(r span6) (int, bool) {
		within := half(r) & (1<<shift - 1)
		if made.Shift < 64 {
			within |= r.Low
		}
		return int(half(r) >> shift & 255), within != 0
	}
	for i := range made.Entries {
		end := 1
		for end < len(ranges) {
			entry, inside := place(ranges[end])
			if entry > i {
				break
			}
			if entry < i || !inside {
				ranges, end = ranges[end:], 1
				continue
			}
			end++
		}
		entry := t.entry6(ranges[:end], depth+1)
		t.tables6[at].Entries[i] = entry
		ranges = ranges[end-1:]
	}
	return uint32(at)
}
