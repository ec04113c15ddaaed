// Testreport runs "go test -json" and reports what a person wants to know: the
// output of what failed, a sign of life every few seconds, and a count.
//
// Tests are counted by their leaves. The only skip it accepts is a test that
// needs a newer kernel, which says "need: 6.9 what"; any other counts as failed.
//
//	usage: testreport TALLY go test -json ARGUMENTS...
//
// Another command does too, if it runs go test once for each of several modules.
// The file TALLY gets the numbers of passed, failed and skipped tests.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

// quiet is the longest time without a line.
const quiet = 8 * time.Second

// event is a line of "go test -json"; cmd/test2json documents it.
type event struct {
	Action      string
	Package     string
	Test        string
	Output      string
	Elapsed     float64
	ImportPath  string
	FailedBuild string
}

// test names a test, or with an empty name the package's own part.
type test struct{ pkg, name string }

func (t test) String() string { return strings.TrimSpace(t.pkg + " " + t.name) }

func (t test) parent() test {
	return test{t.pkg, t.name[:max(strings.LastIndexByte(t.name, '/'), 0)]}
}

// report is what is known of the run so far.
type report struct {
	out     io.Writer
	start   time.Time
	printed time.Time

	output  map[test][]string   // of tests and packages that may still fail
	builds  map[string][]string // compiler output by import path
	running []test              // in order of start
	inner   map[test]bool       // has subtests
	broken  map[test]bool       // has a failed subtest or, a package, a failed test

	passed          int
	failed, skipped []string
}

func newReport(out io.Writer) *report {
	now := time.Now()
	return &report{
		out: out, start: now, printed: now,
		output: map[test][]string{}, builds: map[string][]string{},
		inner: map[test]bool{}, broken: map[test]bool{},
	}
}

func (r *report) printf(format string, args ...any) {
	fmt.Fprintf(r.out, format, args...)
	r.printed = time.Now()
}

func (r *report) add(e event) {
	t := test{e.Package, e.Test}
	switch e.Action {
	case "run":
		r.running = append(r.running, t)
		if p := t.parent(); p.name != "" {
			r.inner[p] = true
		}
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") {
			r.output[t] = append(r.output[t], e.Output)
		}
	case "build-output":
		r.builds[e.ImportPath] = append(r.builds[e.ImportPath], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(t, e)
		} else {
			r.endTest(t, e.Action)
		}
	}
}

var needs = regexp.MustCompile(`need: (\d+\.\d+.*)`)

func (r *report) endTest(t test, action string) {
	r.running = slices.DeleteFunc(r.running, func(o test) bool { return o == t })
	switch {
	case action == "pass" && !r.inner[t]:
		r.passed++
	case action == "fail" && r.broken[t]:
		r.show(t) // counted below it
	case action == "fail":
		r.fail(t, "")
	case action == "skip":
		if need := needs.FindStringSubmatch(strings.Join(r.output[t], "")); need != nil {
			r.skipped = append(r.skipped, t.String()+": kernel "+need[1])
		} else {
			r.fail(t, "skipped, and not for an older kernel")
		}
	}
	delete(r.output, t)
}

func (r *report) endPackage(t test, e event) {
	if e.Action == "fail" {
		for _, o := range slices.Clone(r.running) {
			if o.pkg == t.pkg && !r.broken[o] {
				r.fail(o, "did not end")
			}
		}
		if lines := r.builds[e.FailedBuild]; len(lines) > 0 {
			r.output[t] = append(lines, r.output[t]...)
		}
		if !r.broken[t] {
			r.fail(t, "")
		} else {
			r.show(t)
		}
	}
	r.running = slices.DeleteFunc(r.running, func(o test) bool { return o.pkg == t.pkg })
	if e.Action != "skip" { // it has no tests
		r.printf("%-4s  %s  %.1fs\n", map[string]string{"pass": "ok", "fail": "FAIL"}[e.Action], t, e.Elapsed)
	}
	delete(r.output, t)
}

func (r *report) fail(t test, why string) {
	name := t.String()
	if why != "" {
		name += ": " + why
	}
	r.failed = append(r.failed, name)
	for p := t; p.name != ""; {
		p = p.parent()
		r.broken[p] = true
	}
	r.printf("FAIL  %s\n", name)
	r.show(t)
}

func (r *report) show(t test) {
	for _, line := range r.output[t] {
		r.printf("      %s\n", strings.TrimRight(line, "\n"))
	}
}

// live prints a sign of life if nothing else was printed for a while.
func (r *report) live() {
	if time.Since(r.printed) < quiet {
		return
	}
	doing := "compiling"
	if n := len(r.running); n > 0 {
		doing = "in " + r.running[n-1].String()
	}
	r.printf("      %.0f s: %d passed, %d failed, %s\n", time.Since(r.start).Seconds(), r.passed, len(r.failed), doing)
}

// end lists what did not pass; err is how go test ended.
func (r *report) end(err error) {
	if err != nil && len(r.failed) == 0 {
		r.fail(test{"go test", ""}, err.Error())
	}
	if r.passed+len(r.failed)+len(r.skipped) == 0 {
		r.fail(test{"go test", ""}, "no test ran")
	}
	for _, s := range r.skipped {
		r.printf("skipped: %s\n", s)
	}
	for _, f := range r.failed {
		r.printf("failed: %s\n", f)
	}
}

func run(tally string, command []string) (*report, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewReader(stdout); ; {
			line, err := in.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	r := newReport(os.Stdout)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for open := true; open; {
		var line string
		select {
		case line, open = <-lines:
			var e event
			if json.Unmarshal([]byte(line), &e) == nil {
				r.add(e)
			} else if open {
				r.printf("%s", line)
			}
		case <-tick.C:
			r.live()
		}
	}
	r.end(cmd.Wait())
	counts := fmt.Sprintln(r.passed, len(r.failed), len(r.skipped))
	return r, os.WriteFile(tally, []byte(counts), 0o666)
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: testreport TALLY go test -json ARGUMENTS...")
		os.Exit(2)
	}
	r, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(2)
	}
	if len(r.failed) > 0 {
		os.Exit(1)
	}
}
