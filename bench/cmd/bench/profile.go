package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// profilePart shows where the time of a part goes, at ring and at Queue level
// and in C with the same tactics: perf's samples by the processor's clock, for a
// machine may have no other.
func profilePart(part string, s settings, r *results) error {
	if part == "rings" || part == "scale" {
		return fmt.Errorf("%s has no profile", part)
	}
	p := r.part("profile-"+part, s)
	p.How = "perf record -e cpu-clock"
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, c := range comparisons(part, s.modes) {
		for _, contestant := range c.contestants {
			switch contestant.name {
			case "rings", "queue", "c-tactics", "xsk":
			default:
				continue
			}
			l, err := openLane(contestant, c.task)
			if err != nil {
				return err
			}
			text, err := l.profile(filepath.Join(dir, "perf"), s)
			if err := errors.Join(err, l.close()); err != nil {
				return err
			}
			heading := fmt.Sprintf("%s, %s", c.Name, contestant.name)
			fmt.Printf("\n%s\n%s", heading, text)
			p.Text += heading + "\n" + text + "\n"
		}
	}
	return nil
}

// profile has the contestant work while perf looks. It returns the share of each
// program and library, and of the functions at the top.
func (l *lane) profile(file string, s settings) (string, error) {
	_, err := l.turn(s.turn, func() error {
		out, err := exec.Command("perf", "record", "-q", "-e", "cpu-clock", "-F", "4999", "-o", file,
			"-p", l.pids(), "--", "sleep", fmt.Sprint(2*s.turn.Seconds())).CombinedOutput()
		if err != nil {
			return fmt.Errorf("perf record: %w: %s (is it installed? linux-perf, linux-tools)", err, out)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var all strings.Builder
	for _, by := range []struct {
		key   string
		lines int
	}{{"dso", 3}, {"dso,symbol", 6}} {
		out, err := exec.Command("perf", "report", "--stdio", "-q", "--percent-limit", "0.5", "-i", file,
			"--sort", by.key).Output()
		if err != nil {
			return "", fmt.Errorf("perf report: %w", err)
		}
		n := 0
		for line := range strings.Lines(string(out)) {
			// The columns at the end are of counters that a cpu-clock has not.
			if line = strings.TrimRight(line, " -\n"); line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if n++; n > by.lines {
				break
			}
			all.WriteString(line + "\n")
		}
		all.WriteString("\n")
	}
	return all.String(), nil
}

// pids are of the contestant; of a TCP/IP stack of both sides.
func (l *lane) pids() string {
	pids := strconv.Itoa(l.worker.cmd.Process.Pid)
	if l.task.talks() {
		pids += "," + strconv.Itoa(l.partner.cmd.Process.Pid)
	}
	return pids
}
