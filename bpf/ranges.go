package bpf

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
)

// A prefix is a range of addresses, IPv4 or IPv6 (wide), or one MAC address.
type prefix struct {
	wide      bool
	high, low uint64 // its first address
	length    int    // of 128 bits
	hits      uint32
}

// addressPrefixes are those of Sources, Destinations, Hosts and Flows; the source of a
// flow is marked, whichever side it is on, as worth a look.
func addressPrefixes(f *Filter, s side) []prefix {
	var all []prefix
	add := func(p netip.Prefix, hits uint32) {
		length := p.Bits()
		var b [16]byte
		if p.Addr().Is4() {
			a := p.Addr().As4()
			copy(b[12:], a[:])
			length += 96
		} else {
			b = p.Addr().As16()
		}
		all = append(all, prefix{p.Addr().Is6(), binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:]), length, hits})
	}
	for _, p := range f.Sources {
		add(p, s.hit(ruleSources))
	}
	for _, p := range f.Destinations {
		add(p, s.hit(ruleDestinations))
	}
	single := func(a netip.Addr, hits uint32) { add(netip.PrefixFrom(a, a.BitLen()), hits) }
	for _, host := range f.Hosts {
		single(host, s.hit(ruleHosts))
	}
	for _, flow := range f.Flows {
		single(flow.Source.Addr(), ofRules.hit(ruleFlows))
	}
	return all
}

func macPrefix(mac []byte, hits uint32) prefix {
	var b [8]byte
	copy(b[2:], mac)
	return prefix{false, 0, binary.BigEndian.Uint64(b[:]), 128, hits}
}

// A span6 is struct range6: it ends where the next begins.
type span6 struct {
	High, Low uint64
	Hits      uint64
}

// A span is struct range.
type span struct {
	Start uint64
	Hits  uint64
}

// spans6 cuts the addresses where a prefix begins or ends, so that every piece
// has the hits of all prefixes that it is in. top is where a search begins: the
// highest power of two below the number of spans, 1 if there is one; and 0
// without prefixes.
func spans6(prefixes []prefix) (all []span6, top uint32) {
	if len(prefixes) == 0 {
		return nil, 0
	}
	// The outer ones first: what is open is then a stack.
	slices.SortFunc(prefixes, func(a, b prefix) int {
		return cmp.Or(cmp.Compare(a.high, b.high), cmp.Compare(a.low, b.low), cmp.Compare(a.length, b.length))
	})
	type open struct {
		endHigh, endLow uint64 // the first address behind it; 0, 0 for none
		hits            uint32
	}
	stack := []open{{}}
	put := func(high, low uint64, hits uint32) {
		if n := len(all); n > 0 && all[n-1].High == high && all[n-1].Low == low {
			all = all[:n-1]
		}
		if n := len(all); n == 0 || all[n-1].Hits != uint64(hits) {
			all = append(all, span6{high, low, uint64(hits)})
		}
	}
	// leave closes what ends before the address.
	leave := func(reached func(open) bool) {
		for len(stack) > 1 && reached(stack[len(stack)-1]) {
			o := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			if o.endHigh != 0 || o.endLow != 0 {
				put(o.endHigh, o.endLow, stack[len(stack)-1].hits)
			}
		}
	}
	put(0, 0, 0)
	for _, p := range prefixes {
		leave(func(o open) bool {
			return (o.endHigh != 0 || o.endLow != 0) && (o.endHigh < p.high || o.endHigh == p.high && o.endLow <= p.low)
		})
		hits := stack[len(stack)-1].hits | p.hits
		put(p.high, p.low, hits)
		endHigh, endLow := behind(p)
		stack = append(stack, open{endHigh, endLow, hits})
	}
	leave(func(open) bool { return true })
	top = 1
	if n := len(all); n > 1 {
		top = 1 << (bits.Len(uint(n-1)) - 1)
	}
	return all, top
}

// behind is the first address behind p; 0 if there is none.
func behind(p prefix) (high, low uint64) {
	size := 128 - p.length
	if size >= 64 {
		return p.high + 1<<(size-64), 0 // a shift by 64 gives 0, as it should
	}
	low, carry := bits.Add64(p.low, 1<<size, 0)
	return p.high + carry, low
}

// spans are spans6 of numbers of 64 bits.
func spans(prefixes []prefix) (all []span, top uint32) {
	wide, top := spans6(prefixes)
	for _, s := range wide {
		if s.High == 0 {
			all = append(all, span{s.Low, s.Hits})
		}
	}
	return all, top
}
