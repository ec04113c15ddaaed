// Bench measures package xsk beside C and beside what a user would use instead.
// scripts/bench builds it and the contestants, makes its namespaces, and runs it
// there.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// settings say how long a comparison takes.
type settings struct {
	rounds int
	turn   time.Duration
	modes  []bool // native or not
	quick  bool
}

func main() {
	var s settings
	var seconds float64
	flag.IntVar(&s.rounds, "rounds", 0, "turns of each contestant (9)")
	flag.Float64Var(&seconds, "turn", 0, "seconds of a turn (1)")
	flag.BoolVar(&s.quick, "quick", false, "3 turns of 0.1 seconds, and less of scale")
	mode := flag.String("mode", "generic native", "generic, native or both")
	flag.BoolVar(&pinned, "pin", false, "keep contestants off their partners' processor")
	docs := flag.String("docs", "", "put what was measured into this `directory`'s performance.md and pictures")
	kept := flag.String("results", "", "`file` that keeps results from run to run")
	profile := flag.Bool("profile", false, "profile our contestants instead")
	flag.Parse()
	s.turn = time.Duration(seconds * float64(time.Second))
	if s.rounds == 0 {
		s.rounds = 9
		if s.quick {
			s.rounds = 3
		}
	}
	if s.turn == 0 {
		s.turn = time.Second
		if s.quick {
			s.turn = 100 * time.Millisecond
		}
	}
	for _, name := range strings.Fields(*mode) {
		s.modes = append(s.modes, name == "native")
	}
	err := run(flag.Args(), s, *kept, *docs, *profile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(parts []string, s settings, kept, docs string, profiles bool) error {
	results, err := loadResults(kept)
	if err != nil {
		return err
	}
	var failed []error
	for _, part := range parts {
		var err error
		switch {
		case profiles:
			err = profilePart(part, s, results)
		case part == "rings":
			err = ringsPart(s, results)
		case part == "scale":
			err = scalePart(s, results)
		default:
			err = comparePart(part, s, results)
		}
		failed = append(failed, err)
		if err := results.save(kept); err != nil {
			return err
		}
	}
	if docs != "" {
		failed = append(failed, results.document(docs))
	}
	return errors.Join(failed...)
}

func comparePart(part string, s settings, r *results) error {
	var failed []error
	var outcomes []*outcome
	for _, c := range comparisons(part, s.modes) {
		o, err := c.run(s)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		o.table().print(os.Stdout)
		fmt.Println()
		printRatios(os.Stdout, o.Ratios)
		outcomes = append(outcomes, o)
	}
	r.keep(part, s, outcomes)
	return errors.Join(failed...)
}
