package bpf

import (
	"math/bits"
	"strings"
)

// A rule is a field of Filter that says which packets match. Its number is its
// bit in a ruleSet, and its place among the counters; both are enum rule in
// redirect.bpf.c. If several rules match a packet, it counts for the first.
type rule int

const (
	ruleUDPPorts rule = iota // the first five are bits in struct numbers, too
	ruleUDPSourcePorts
	ruleTCPPorts
	ruleTCPSourcePorts
	ruleEtherTypes
	rulePing
	ruleProtocols
	ruleVLAN
	ruleMACs // up to ruleHosts they take a search, in this order
	ruleSources
	ruleFlows
	ruleDestinations
	ruleHosts
	ruleAll
	ruleManagement // an exception only, as is the last
	ruleUnsure     // an exception could not be ruled out
	rules          // how many there are
)

var ruleNames = [rules]string{
	"UDPPorts", "UDPSourcePorts", "TCPPorts", "TCPSourcePorts", "EtherTypes", "Ping", "Protocols", "VLAN",
	"MACs", "Sources", "Flows", "Destinations", "Hosts", "All", "KeepManagement", "Except (in doubt)",
}

// String is the name of the field.
func (r rule) String() string { return ruleNames[r] }

// exception is its name as an exception.
func (r rule) exception() string {
	if r == ruleManagement || r == ruleUnsure {
		return r.String()
	}
	return "Except." + r.String()
}

// isException tells those names.
func isException(name string) bool {
	return strings.HasPrefix(name, "Except") || name == ruleManagement.String()
}

// A ruleSet has a bit per rule.
type ruleSet uint32

func (s ruleSet) has(r rule) bool { return s>>r&1 == 1 }

// first is the rule that comes first.
func (s ruleSet) first() rule { return rule(bits.TrailingZeros32(uint32(s))) }

// rules are the fields that are set, without All.
func (f *Filter) rules() ruleSet {
	var s ruleSet
	for r, set := range map[rule]bool{
		ruleUDPPorts:       len(f.UDPPorts) > 0,
		ruleUDPSourcePorts: len(f.UDPSourcePorts) > 0,
		ruleTCPPorts:       len(f.TCPPorts) > 0,
		ruleTCPSourcePorts: len(f.TCPSourcePorts) > 0,
		ruleEtherTypes:     len(f.EtherTypes) > 0,
		rulePing:           f.Ping,
		ruleProtocols:      len(f.Protocols) > 0,
		ruleVLAN:           f.VLAN != 0,
		ruleSources:        len(f.Sources) > 0,
		ruleDestinations:   len(f.Destinations) > 0,
		ruleHosts:          len(f.Hosts) > 0,
		ruleMACs:           len(f.MACs) > 0,
		ruleFlows:          len(f.Flows) > 0,
	} {
		if set {
			s |= 1 << r
		}
	}
	return s
}

// sets are the rules of f, All too, and its exceptions.
func (f *Filter) sets() (matching, exceptions ruleSet) {
	matching = f.rules()
	if f.All {
		matching |= 1 << ruleAll
	}
	if f.Except != nil {
		exceptions = f.Except.rules()
	}
	if f.KeepManagement {
		exceptions |= 1 << ruleManagement
	}
	return matching, exceptions
}
