package bpf

import (
	"errors"
	"fmt"
)

// Counters are what a Program did with the packets of its interface since
// Attach: the answer to "where are my packets?". Every packet is in exactly one
// of the first four.
type Counters struct {
	Matched  uint64 // handed to the socket of their queue, whose own Stats go on from there
	NoSocket uint64 // matched, but left to the kernel because their queue has no socket
	Excepted uint64 // left to the kernel because of an exception, whether a rule matches them or not
	Passed   uint64 // left to the kernel because nothing matches

	Rules []RuleCounter // rule by rule, in a fixed order; those of the Filter, and those that have counted
}

// A RuleCounter counts the packets that one rule decided. A packet that several
// rules match counts for the first of them, in the order of Counters.Rules.
type RuleCounter struct {
	Rule     string // the Filter's field, as in "UDPPorts" or "Except.Ping"
	Packets  uint64 // matched and handed to a socket; of an exception, left to the kernel
	NoSocket uint64 // matched, without a socket; 0 of an exception
}

// Counters reads the counters, while packets flow. They go on counting over
// Update, under the same names. The error is os.ErrClosed after Close.
func (p *Program) Counters() (Counters, error) {
	return Counters{}, fmt.Errorf("bpf: read the counters of %s: %w", p.ifname, errors.ErrUnsupported)
}

// String is the counters on one line, as in
//
//	matched 12 (UDPPorts 10, Ping 2), no socket 0, excepted 3 (KeepManagement 3), passed 40
func (c Counters) String() string { return "" }
