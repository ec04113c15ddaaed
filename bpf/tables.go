package bpf

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"unsafe"
)

const (
	etherTypeARP  = 0x0806
	etherTypeVLAN = 0x8100
	etherTypeQinQ = 0x88a8
)

// tables are a Filter as the program reads it; redirect.bpf.c tells what is what.
type tables struct {
	config    config
	protocols [256]uint8
	bss       *bss
	ranges4   []span
	macs      []span
	ranges6   []span6
	flows     map[flowKey]uint32
}

// bss is the section of that name: numbers and starts.
type bss struct {
	numbers [1 << 16]uint16
	starts  [1 << 16]uint32
}

// numberMAC is the bit of numbers for the end of a MAC address.
const numberMAC = 1 << 15

// config is the program's variable of that name.
type config struct {
	Rules, Exceptions, Used ruleSet
	Parse                   uint32
	Top4, Top6, TopMAC      uint32
	FlowShapes              uint32
	ARP, ND                 uint32
	VLAN, NoVLAN            uint32
	DryRun                  uint32
}

// A side is where the hits of rules or of exceptions are.
type side struct {
	bit    int // in the hits
	number int // in numbers
	ip     int // in protocols
}

var (
	ofRules      = side{0, 0, 0}
	ofExceptions = side{16, 5, 1}
	ofManagement = side{number: 10}
)

// hit is the rule's bit.
func (s side) hit(r rule) uint32 { return 1 << (int(r) + s.bit) }

// newTables translates f, which has been checked.
func newTables(f *Filter, dryRun bool) *tables {
	t := &tables{bss: new(bss), flows: map[flowKey]uint32{}}
	c := &t.config
	c.Rules, c.Exceptions = f.sets()
	var prefixes4, prefixes6, macs []prefix
	add := func(f *Filter, s side) {
		t.setNumbers(f, s)
		for _, p := range f.Protocols {
			t.protocols[p] |= 1 << s.ip
		}
		for _, mac := range f.MACs {
			macs = append(macs, macPrefix(mac, s.hit(ruleMACs)))
			t.bss.numbers[binary.BigEndian.Uint16(mac[4:])] |= numberMAC
		}
		for _, p := range addressPrefixes(f, s) {
			if p.wide {
				prefixes6 = append(prefixes6, p)
			} else {
				prefixes4 = append(prefixes4, p)
			}
		}
		t.setFlows(f.Flows, s)
		for _, host := range f.Hosts {
			if host.Is4() {
				c.ARP |= s.hit(ruleHosts)
			} else {
				c.ND |= s.hit(ruleHosts)
			}
		}
	}
	add(f, ofRules)
	c.VLAN = uint32(f.VLAN)
	if e := f.Except; e != nil {
		c.NoVLAN = uint32(e.VLAN)
		add(e, ofExceptions)
	}
	if f.KeepManagement {
		t.setNumbers(management(f.ManagementPorts), ofManagement)
	}
	c.Used = c.Rules | c.Exceptions
	if c.Used&^(1<<ruleAll) != 0 {
		c.Parse = 1
	}
	t.ranges4, c.Top4 = spans(prefixes4)
	t.macs, c.TopMAC = spans(macs)
	t.ranges6, c.Top6 = spans6(prefixes6)
	t.setStarts()
	if dryRun {
		c.DryRun = 1
	}
	return t
}

// management is what KeepManagement looks up by number; the program knows
// neighbour discovery by itself.
func management(ports []uint16) *Filter {
	const ssh, dns, dhcp, dhcpv6 = 22, 53, 68, 546
	return &Filter{
		UDPPorts:       append([]uint16{dhcp, dhcpv6}, ports...),
		TCPPorts:       append([]uint16{ssh}, ports...),
		UDPSourcePorts: []uint16{dns},
		TCPSourcePorts: []uint16{dns},
		EtherTypes:     []uint16{etherTypeARP},
	}
}

func (t *tables) setNumbers(f *Filter, s side) {
	for r, values := range [...][]uint16{
		ruleUDPPorts: f.UDPPorts, ruleUDPSourcePorts: f.UDPSourcePorts,
		ruleTCPPorts: f.TCPPorts, ruleTCPSourcePorts: f.TCPSourcePorts,
		ruleEtherTypes: f.EtherTypes,
	} {
		for _, v := range values {
			t.bss.numbers[v] |= 1 << (r + s.number)
		}
	}
}

// setStarts finds the range that each 2^16 IPv4 addresses begin in, and how many
// steps it takes to go through the ranges up to their last one.
func (t *tables) setStarts() {
	if len(t.ranges4) == 0 {
		return
	}
	at := 0
	for i := range t.bss.starts {
		next := uint64(i+1) << 16
		for at+1 < len(t.ranges4) && t.ranges4[at+1].Start <= uint64(i)<<16 {
			at++
		}
		last := at
		for last+1 < len(t.ranges4) && t.ranges4[last+1].Start < next {
			last++
		}
		const stepBits = 24
		t.bss.starts[i] = uint32(at) | uint32(bits.Len(uint(last-at)))<<stepBits
		at = last
	}
}

// A flowKey is struct flow: addresses and ports are as they are in packets.
type flowKey struct {
	Source, Destination         [16]byte
	SourcePort, DestinationPort [2]byte
	Protocol, Version           uint16
}

// Bits of config.flow_shapes.
const (
	shapeAddresses = 1 << iota
	shapeProtocol
	shapeSourcePort
	shapeDestinationPort
	shapePorts
)

// setFlows adds an entry per flow and, for an exception that asks for more than
// addresses, entries that say so where the packet does not tell.
func (t *tables) setFlows(flows []Flow, s side) {
	for _, f := range flows {
		k := flowKey{Version: 4, Source: leading(f.Source.Addr()), Destination: leading(f.Destination.Addr())}
		if f.Source.Addr().Is6() {
			k.Version = 6
		}
		addresses := k
		k.Protocol = uint16(f.Protocol)
		protocol := k
		binary.BigEndian.PutUint16(k.SourcePort[:], f.Source.Port())
		binary.BigEndian.PutUint16(k.DestinationPort[:], f.Destination.Port())
		t.flows[k] |= s.hit(ruleFlows)
		t.config.FlowShapes |= shape(f)
		if s == ofExceptions && k != addresses {
			t.flows[addresses] |= s.hit(ruleUnsure)
			t.config.FlowShapes |= shapeAddresses
			if k != protocol {
				t.flows[protocol] |= s.hit(ruleUnsure)
				t.config.FlowShapes |= shapeProtocol
			}
		}
	}
}

func shape(f Flow) uint32 {
	switch from, to := f.Source.Port() != 0, f.Destination.Port() != 0; {
	case from && to:
		return shapePorts
	case to:
		return shapeDestinationPort
	case from:
		return shapeSourcePort
	case f.Protocol != 0:
		return shapeProtocol
	}
	return shapeAddresses
}

// leading is the address in the first bytes.
func leading(a netip.Addr) (b [16]byte) {
	copy(b[:], a.AsSlice())
	return b
}

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

// contents is what belongs into a map.
type contents struct {
	name         string
	count        int
	keys, values unsafe.Pointer
}

func (t *tables) contents() []contents {
	keys, values := make([]flowKey, 0, len(t.flows)), make([]uint32, 0, len(t.flows))
	for k, v := range t.flows {
		keys, values = append(keys, k), append(values, v)
	}
	return []contents{
		{"flows", len(keys), unsafe.Pointer(unsafe.SliceData(keys)), unsafe.Pointer(unsafe.SliceData(values))},
		array("ranges4", t.ranges4),
		array("macs", t.macs),
		array("ranges6", t.ranges6),
	}
}

func array[T any](name string, values []T) contents {
	keys := make([]uint32, len(values))
	for i := range keys {
		keys[i] = uint32(i)
	}
	return contents{name, len(keys), unsafe.Pointer(unsafe.SliceData(keys)), unsafe.Pointer(unsafe.SliceData(values))}
}

// plain is whether the program need not look at packets.
func (f *Filter) plain() bool {
	return f.None || f.All && f.Except == nil && !f.KeepManagement
}
