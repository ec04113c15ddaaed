// Command mutants breaks a tree in one place after the other, and fails if tests do not
// notice. scripts/ci/mutants runs it, in a copy.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// longest is the limit of time for the tests of a package without a mutant: all those
// that the table names.
const longest = 10 * time.Minute

func main() {
	table := flag.String("table", "scripts/ci/mutants.txt", "the mutants, from the root of the tree")
	tree := flag.String("tree", "", "a copy of the tree, to be broken")
	only := flag.String("run", "", "a regular expression for names, or numbers with commas between them")
	without := flag.String("without", "", "modules that this Go is too old for")
	var l limits
	flag.DurationVar(&l.time, "limit", time.Minute, "of time for a run of tests")
	flag.Int64Var(&l.memory, "memory", 1<<30, "in bytes, for the processes of a run together")
	flag.Parse()
	all, err := readTable(filepath.Join(*tree, *table))
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
	w := &work{tree: *tree, limits: l, without: strings.Fields(*without)}
	if !w.all(all, *only) {
		os.Exit(1)
	}
}

// A work is one after the other.
type work struct {
	tree    string
	limits  limits
	without []string
	sound   map[string]bool // packages whose tests pass without a mutant

	passed, failed, skipped int
	survivors               []string
}

// all tries the mutants, and ends with the line that counts them.
func (w *work) all(all []*mutant, only string) bool {
	chosen, err := choose(all, only)
	if err != nil {
		fmt.Println(err)
		return false
	}
	w.unbroken(all, chosen)
	for i, m := range all {
		if !chosen[i] {
			continue
		}
		about, err := w.try(m)
		line := fmt.Sprintf("%-2d %s", i+1, m.name)
		switch {
		case errors.Is(err, errSkipped):
			w.skipped++
			fmt.Printf("skip  %s: %s\n", line, about)
		case err != nil:
			w.failed++
			w.survivors = append(w.survivors, line)
			fmt.Printf("FAIL  %s: %v\n", line, err)
		default:
			w.passed++
			fmt.Printf("ok    %s: %s\n", line, about)
		}
	}
	if w.failed > 0 {
		fmt.Printf("not noticed, or not as the table says:\n  %s\n", strings.Join(w.survivors, "\n  "))
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", w.passed, w.failed, w.skipped)
	return w.failed == 0
}

// choose says which mutants are meant.
func choose(all []*mutant, only string) ([]bool, error) {
	chosen := make([]bool, len(all))
	if only != "" && strings.Trim(only, "0123456789,") == "" {
		for number := range strings.SplitSeq(only, ",") {
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > len(all) {
				return nil, fmt.Errorf("there is no mutant %q: they are 1 to %d", number, len(all))
			}
			chosen[n-1] = true
		}
		return chosen, nil
	}
	name, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	for i, m := range all {
		chosen[i] = name.MatchString(m.name)
	}
	if !slices.Contains(chosen, true) {
		return nil, fmt.Errorf("no mutant has a name like %q", only)
	}
	return chosen, nil
}

// unbroken runs the tests of the chosen mutants without any: one that fails anyway
// notices nothing.
func (w *work) unbroken(all []*mutant, chosen []bool) {
	tests := map[string][]string{}
	for i, m := range all {
		for _, k := range m.killers {
			if chosen[i] && !w.leftOut(k.dir) && !slices.Contains(tests[k.dir], k.run) {
				tests[k.dir] = append(tests[k.dir], k.run)
			}
		}
	}
	w.sound = map[string]bool{}
	for _, m := range all { // in the table's order
		for _, k := range m.killers {
			runs, ok := tests[k.dir]
			if !ok {
				continue
			}
			delete(tests, k.dir)
			o, err := w.run(killer{k.dir, strings.Join(runs, "|")}, limits{longest, 2 * w.limits.memory})
			if err == nil && o.how != passed {
				err = fmt.Errorf("without a mutant: %v: %s", o.how, o.what)
			}
			if err != nil {
				w.failed++
				w.survivors = append(w.survivors, "the tests of "+k.dir)
				fmt.Printf("FAIL  the tests of %s: %v\n", k.dir, err)
				continue
			}
			w.sound[k.dir] = true
			fmt.Printf("      the tests of %s pass, %.0f s\n", k.dir, o.took.Seconds())
		}
	}
}

// errSkipped is of a mutant whose tests cannot run with this Go.
var errSkipped = errors.New("skipped")

// try breaks the tree in one place and has the tests run, until they notice.
func (w *work) try(m *mutant) (about string, err error) {
	was, now, err := m.broken(w.tree)
	if err != nil {
		return "", err
	}
	path := filepath.Join(w.tree, m.file)
	if err := os.WriteFile(path, now, 0o644); err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.WriteFile(path, was, 0o644)) }()
	lived := []string{}
	for _, k := range m.killers {
		switch {
		case w.leftOut(k.dir):
			return "this Go is too old for " + k.dir, errSkipped
		case !w.sound[k.dir]:
			return "", fmt.Errorf("the tests of %s fail anyway", k.dir)
		}
		o, err := w.run(k, w.limits)
		switch {
		case err != nil:
			return "", err
		case o.how == failed && m.lives != "":
			return "", fmt.Errorf("noticed by %s, though it %q: mend the table", o.what, m.lives)
		case o.how == failed:
			return fmt.Sprintf("%s, %.0f s", o.what, o.took.Seconds()), nil
		}
		lived = append(lived, fmt.Sprintf("%s %s: %v", k.dir, k.run, o.how))
	}
	if m.lives != "" {
		return "lives: " + m.lives, nil
	}
	return "", errors.New("SURVIVED: " + strings.Join(lived, "; "))
}

// run compiles and runs tests.
func (w *work) run(k killer, l limits) (outcome, error) {
	binary := filepath.Join(w.tree, "..", "mutant.test")
	if err := build(w.tree, k.dir, binary); err != nil {
		return outcome{}, err
	}
	return test(binary, filepath.Join(w.tree, k.dir), k.run, l)
}

// leftOut reports whether a package is in a module that this Go is too old for.
func (w *work) leftOut(dir string) bool {
	return slices.ContainsFunc(w.without, func(module string) bool {
		return dir == module || strings.HasPrefix(dir, module+"/")
	})
}
