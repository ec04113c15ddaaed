package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// Limits are those of one run of tests.
type limits struct {
	time   time.Duration
	memory int64 // bytes that are resident, of all its processes together
}

// An outcome is how a run of tests ended.
type outcome struct {
	how  ending
	what string // the first test that failed, or what it printed last
	took time.Duration
}

type ending int

const (
	passed ending = iota
	failed
	hung    // nothing but the limit ended it
	swelled // beyond the limit
	empty   // there is no such test
)

func (e ending) String() string {
	return [...]string{"passed", "failed", "hangs, and only the limit ends it", "takes too much memory", "has no such test"}[e]
}

// test runs a test binary in its package's folder.
func test(binary, dir, run string, l limits) (outcome, error) {
	said, err := os.CreateTemp("", "xsk-mutant.")
	if err != nil {
		return outcome{}, err
	}
	defer os.Remove(said.Name())
	defer said.Close()
	cmd := exec.Command(binary, "-test.run", run, "-test.failfast", "-test.short", "-test.timeout", "0")
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, said, said
	cmd.Env = append(os.Environ(), "XSK_TEST_STRICT=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	o := outcome{how: passed}
	ticks := time.NewTicker(200 * time.Millisecond)
	defer ticks.Stop()
	for ended := false; !ended; {
		select {
		case err = <-done:
			if ended = true; err != nil && o.how == passed {
				o.how = failed
			}
		case <-ticks.C:
			switch {
			case o.how != passed: // it is being killed
			case time.Since(start) > l.time:
				o.how = hung
			case resident(cmd.Process.Pid) > l.memory:
				o.how = swelled
			default:
				continue
			}
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left
	o.took = time.Since(start)
	text, err := os.ReadFile(said.Name())
	if err != nil {
		return outcome{}, err
	}
	if o.how == passed && bytes.Contains(text, []byte("no tests to run")) {
		o.how = empty
	}
	o.what = about(text)
	return o, nil
}

var (
	failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	crash   = regexp.MustCompile(`(?m)^(panic|fatal error|SIG[A-Z]+): .*`)
)

// about says by which test, or with which words, it ended.
func about(text []byte) string {
	if found := failure.FindAllSubmatch(text, -1); found != nil {
		longest := []byte{}
		for _, f := range found[:min(3, len(found))] { // the subtest says more
			if len(f[1]) > len(longest) && bytes.HasPrefix(f[1], longest) {
				longest = f[1]
			}
		}
		return string(longest)
	}
	if found := crash.Find(text); found != nil {
		return string(found)
	}
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// resident is the memory of a group of processes.
func resident(group int) (bytesUsed int64) {
	all, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range all {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it is gone
		}
		_, fields, ok := bytes.Cut(stat, []byte(") ")) // behind the name
		if !ok {
			continue
		}
		f := bytes.Fields(fields)
		if len(f) < 22 || string(f[2]) != strconv.Itoa(group) {
			continue
		}
		pages, _ := strconv.ParseInt(string(f[21]), 10, 64)
		bytesUsed += pages * int64(os.Getpagesize())
	}
	return bytesUsed
}

// build compiles the tests of a package of the tree.
func build(tree, dir, binary string) error {
	cmd := exec.Command("go", "test", "-c", "-trimpath", "-o", binary, ".")
	cmd.Dir = filepath.Join(tree, dir)
	cmd.WaitDelay = time.Second
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the tests of %s do not build: %w\n%s", dir, err, said)
	}
	return nil
}
