package bpf

import (
	"encoding/binary"
	"net/netip"
	"unsafe"
)

const (
	etherTypeARP   = 0x0806
	etherTypeVLAN  = 0x8100
	etherTypeQinQ  = 0x88a8
	etherTypeQinQ1 = 0x9100 // of QinQ before 802.1ad, which switches still write
)

// tables are a Filter as the program reads it; redirect.bpf.c tells what is what.
type tables struct {
	config    config
	protocols [256]uint32
	bss       *bss
	tables4   [][256]uint32
	cuts4     []cut
	tables6   []table6
	cuts6     []cut6
	macs      []span
	flows     map[flowKey]uint32
}

// bss is the section of that name.
type bss struct {
	numbers [1 << 16]uint16
	starts4 [1 << 16]uint32
}

// numberMAC is the bit of numbers for the end of a MAC address.
const numberMAC = 1 << 15

// config is the program's variable of that name.
type config struct {
	Rules, Exceptions, Used ruleSet
	Used4, Used6            ruleSet
	Depth6                  uint32
	TopMAC                  uint32
	FlowShapes              uint32
	ARP, ND                 uint32
	VLAN, NoVLAN            uint32
	DryRun                  uint32
}

// A side is where the hits of rules or of exceptions are.
type side struct {
	bit    int // in the hits
	number int // in numbers
}

var (
	ofRules      = side{0, 0}
	ofExceptions = side{16, 5}
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
			t.protocols[p] |= s.hit(ruleProtocols)
		}
		for _, mac := range f.MACs {
			macs = append(macs, macPrefix(mac, s.hit(ruleMACs)))
			t.bss.numbers[binary.BigEndian.Uint16(mac[4:])] |= numberMAC
		}
		for _, p := range addressPrefixes(f, s) {
			used := ruleSet(p.hits | p.hits>>ofExceptions.bit)
			if p.wide {
				prefixes6 = append(prefixes6, p)
				c.Used6 |= used & (1<<ruleAll - 1)
			} else {
				prefixes4 = append(prefixes4, p)
				c.Used4 |= used & (1<<ruleAll - 1)
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
	t.setStarts4(prefixes4)
	t.setTables6(prefixes6)
	t.macs, c.TopMAC = spans(macs)
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
		TCPSourcePorts: []uint16{ssh, dns},
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
		array("tables4", t.tables4),
		array("cuts4", t.cuts4),
		array("macs", t.macs),
		array("tables6", t.tables6),
		array("cuts6", t.cuts6),
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
