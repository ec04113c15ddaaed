package bpf

import (
	"fmt"
	"strings"

	"github.com/go-xsk/xsk/internal/closed"
)

// Counters are what a Program did with the packets of its interface since
// Attach: the answer to "where are my packets?". Each packet is in exactly one of
// the first four.
type Counters struct {
	Matched  uint64 // handed to the socket of their queue; its own Stats tell what became of them
	NoSocket uint64 // matched, but left to the kernel because their queue has no socket, or they no room for Metadata
	Excepted uint64 // matched, but left to the kernel because of an exception
	Passed   uint64 // left to the kernel because no rule matches

	// Rules are the Filter's, and those of filters before it that have counted;
	// first the rules, then the exceptions.
	Rules []RuleCounter
}

// A RuleCounter counts the packets that one rule decided. A packet that several
// match counts for the first of them, in the order of Counters.Rules.
type RuleCounter struct {
	// Rule is the Filter's field, as in "UDPPorts", "Except.Ping" or
	// "KeepManagement". "Except (in doubt)" is for packets whose headers do not
	// tell whether an exception matches.
	Rule     string
	Packets  uint64 // handed to a socket; by an exception, left to the kernel
	NoSocket uint64 // left to the kernel, as in Counters
}

// counterValues are the values of the map counters in redirect.bpf.c.
type counterValues [64]uint64

// Where the outcomes are in counterValues, each by rule.
const (
	countMatched  = 0
	countNoSocket = 16
	countExcepted = 32
	countPassed   = 48
)

// Counters reads the counters, while packets flow. They go on counting over
// Update, under the same names. The error is os.ErrClosed after Close.
func (p *Program) Counters() (Counters, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.readCounters()
	if err != nil {
		return Counters{}, fmt.Errorf("bpf: read the counters of %s: %w", p.ifname, err)
	}
	return c, nil
}

func (p *Program) readCounters() (Counters, error) {
	if p.closed {
		return Counters{}, closed.Err
	}
	sum, err := readCounters(p.maps.counters)
	if err != nil {
		return Counters{}, err
	}
	matching, exceptions := p.filter.sets()
	return newCounters(&sum, matching, exceptions), nil
}

func newCounters(sum *counterValues, matching, exceptions ruleSet) Counters {
	c := Counters{Passed: sum[countPassed]}
	for r := range rules {
		matched, noSocket := sum[countMatched+r], sum[countNoSocket+r]
		c.Matched += matched
		c.NoSocket += noSocket
		if matching.has(r) || matched+noSocket > 0 {
			c.Rules = append(c.Rules, RuleCounter{r.String(), matched, noSocket})
		}
	}
	for r := range rules {
		excepted := sum[countExcepted+r]
		c.Excepted += excepted
		if exceptions.has(r) || excepted > 0 {
			c.Rules = append(c.Rules, RuleCounter{Rule: r.exception(), Packets: excepted})
		}
	}
	return c
}

// String is the counters on one line, as in
//
//	matched 12 (UDPPorts 10, Ping 2), no socket 0, excepted 3 (KeepManagement 3), passed 40
func (c Counters) String() string {
	var matched, noSocket, excepted []string
	add := func(words *[]string, rule string, n uint64) {
		if n > 0 {
			*words = append(*words, fmt.Sprintf("%s %d", rule, n))
		}
	}
	for _, r := range c.Rules {
		if isException(r.Rule) {
			add(&excepted, r.Rule, r.Packets)
			continue
		}
		add(&matched, r.Rule, r.Packets)
		add(&noSocket, r.Rule, r.NoSocket)
	}
	total := func(name string, n uint64, words []string) string {
		if len(words) == 0 {
			return fmt.Sprintf("%s %d", name, n)
		}
		return fmt.Sprintf("%s %d (%s)", name, n, strings.Join(words, ", "))
	}
	return strings.Join([]string{
		total("matched", c.Matched, matched),
		total("no socket", c.NoSocket, noSocket),
		total("excepted", c.Excepted, excepted),
		total("passed", c.Passed, nil),
	}, ", ")
}
