package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Results are what the parts gave when they were last measured. A file keeps
// them, so that parts may be measured one by one, and documented together.
type results struct {
	Parts map[string]*partResult
}

// A partResult is all that is told of a part.
type partResult struct {
	When    string
	Machine string
	How     string
	Tables  []*table
	Text    string // printed as it is
	Charts  []chart
}

func loadResults(file string) (*results, error) {
	r := &results{Parts: map[string]*partResult{}}
	if file == "" {
		return r, nil
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	return r, err
}

func (r *results) save(file string) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil || os.Geteuid() != 0 {
		return err
	}
	// The parts that need no root write it too.
	var dir unix.Stat_t
	if err := unix.Stat(filepath.Dir(file), &dir); err != nil {
		return err
	}
	return os.Chown(file, int(dir.Uid), int(dir.Gid))
}

// part begins the result of a part anew.
func (r *results) part(name string, s settings) *partResult {
	p := &partResult{
		When: time.Now().UTC().Format("2006-01-02"), Machine: machine(),
		How: fmt.Sprintf("%d turns of %v", s.rounds, s.turn),
	}
	if s.quick {
		p.How += ", quick: too short for a verdict"
	}
	r.Parts[name] = p
	return p
}

func (r *results) keep(name string, s settings, outcomes []*outcome) {
	p := r.part(name, s)
	for _, o := range outcomes {
		p.Tables = append(p.Tables, o.table(), o.goals())
	}
	p.Charts = charts(name, outcomes)
}

// machine describes the processors and the kernel.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	model := runtime.GOARCH
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return fmt.Sprintf("%d processors (%s), Linux %s, %s", runtime.NumCPU(), model, release, runtime.Version())
}

// document replaces what stands in performance.md between <!-- bench:PART --> and
// <!-- /bench:PART -->, for each part that was measured, and draws performance.svg
// and netstack.svg.
func (r *results) document(dir string) error {
	file := filepath.Join(dir, "performance.md")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for name, p := range r.Parts {
		begin, end := []byte("<!-- bench:"+name+" -->\n"), []byte("<!-- /bench:"+name+" -->")
		before, rest, ok := bytes.Cut(text, begin)
		_, after, closed := bytes.Cut(rest, end)
		if !ok || !closed {
			return fmt.Errorf("%s has no place for %s", file, name)
		}
		text = bytes.Join([][]byte{before, begin, p.markdown(), end, after}, nil)
	}
	if err := os.WriteFile(file, text, 0o644); err != nil {
		return err
	}
	return errors.Join(
		r.draw(filepath.Join(dir, "performance.svg"), "tx", "rx", "echo", "forward", "latency"),
		r.draw(filepath.Join(dir, "netstack.svg"), "netstack"))
}

func (p *partResult) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\nMeasured %s: %s; %s.\n\n", p.When, p.Machine, p.How)
	for _, t := range p.Tables {
		t.markdown(&b)
	}
	if p.Text != "" {
		fmt.Fprintf(&b, "```\n%s\n```\n\n", strings.TrimSpace(p.Text))
	}
	return b.Bytes()
}
