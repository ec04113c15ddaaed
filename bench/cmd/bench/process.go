package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/go-xsk/xsk/bench/internal/turns"
)

// A process is a contestant, or what keeps it busy from the peer's side. It
// works from start to stop.
type process struct {
	name   string
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	lines  chan string
	stderr bytes.Buffer
}

// startProcess runs words in this namespace or the peer's, on some processors or
// anywhere, and waits until it is ready.
func startProcess(name string, peer bool, cpus string, files []*os.File, words ...string) (*process, error) {
	if cpus != "" && runtime.NumCPU() > 1 {
		words = append([]string{"taskset", "-c", cpus}, words...)
	}
	if peer {
		words = append([]string{"ip", "netns", "exec", "peer"}, words...)
	}
	p := &process{name: name, cmd: exec.Command(words[0], words[1:]...), lines: make(chan string, 16)}
	p.cmd.ExtraFiles = files
	p.cmd.Stderr = &p.stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	line, err := p.line(60 * time.Second)
	if err == nil && line != "ready" {
		err = fmt.Errorf("%s said %q", name, line)
	}
	return p, err
}

// line is the next one that it prints.
func (p *process) line(patience time.Duration) (string, error) {
	select {
	case line, ok := <-p.lines:
		if ok {
			return line, nil
		}
		err := p.cmd.Wait()
		return "", fmt.Errorf("%s ended: %v: %s", p.name, err, strings.TrimSpace(p.stderr.String()))
	case <-time.After(patience):
		return "", fmt.Errorf("%s has said nothing for %v: %s", p.name, patience, strings.TrimSpace(p.stderr.String()))
	}
}

func (p *process) start() error {
	_, err := io.WriteString(p.stdin, "start\n")
	return err
}

func (p *process) stop() (turns.Result, error) {
	if _, err := io.WriteString(p.stdin, "stop\n"); err != nil {
		return nil, err
	}
	line, err := p.line(30 * time.Second)
	if err != nil {
		return nil, err
	}
	return turns.Parse(line)
}

// close lets it end, and sees to it.
func (p *process) close() {
	_ = p.stdin.Close()
	done := make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		_ = p.cmd.Process.Kill()
		<-done
	}
}
