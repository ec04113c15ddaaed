package xsk

import (
	"fmt"
	"sync"
)

// A LogLevel tells how grave a line of libxdp's or libbpf's is
// (enum libxdp_print_level, enum libbpf_print_level).
type LogLevel int

// Levels of a log line.
const (
	LogWarn LogLevel = iota
	LogInfo
	LogDebug
)

// The two libraries that print, as xskgoLog names them.
const (
	logLibxdp = iota
	logLibbpf
)

// SetLogger hands every line that libxdp prints to hook; nil, the default,
// silences it (libxdp_set_print). The hook runs before the call that printed
// returns, outside of every lock, and may be called from several goroutines at
// once, as SetLogger may.
func SetLogger(hook func(level LogLevel, text string)) {
	_ = setLogger(logLibxdp, hook)
}

// SetLibbpfLogger hands every line that the libbpf of libxdp prints to hook, as
// SetLogger does libxdp's (libbpf_set_print). That printer belongs to the whole
// process, so it is left alone until this is called, and nil gives it back. Whoever
// sets it later replaces the hook without a word, and libbpfgo does so whenever a
// program makes a Module: there libbpfgo.SetLoggerCbs is the way. (Package bpf makes
// Modules too, and puts the hook back.) It fails with ENOSYS in a program that hides
// libbpf's symbols.
func SetLibbpfLogger(hook func(level LogLevel, text string)) error {
	if err := setLogger(logLibbpf, hook); err != nil {
		return fmt.Errorf("xsk: set libbpf logger: libbpf_set_print not found: %w", err)
	}
	return nil
}

// loggers are the hooks of libxdp and libbpf, in that order. A hook may do what
// it likes, so no lock of ours is held when it runs: what is printed during a
// call of ours waits for the end of it.
var loggers struct {
	sync.Mutex
	hook [2]func(level LogLevel, text string)
	busy int // calls of ours under way
	held []logLine
}

type logLine struct {
	hook  func(level LogLevel, text string)
	level LogLevel
	text  string
}

// holdLog is called at the start of a call that libxdp may print in, and what it
// returns at the end.
func holdLog() func() {
	loggers.Lock()
	defer loggers.Unlock()
	loggers.busy++
	return releaseLog
}

func releaseLog() {
	loggers.Lock()
	var lines []logLine
	if loggers.busy--; loggers.busy == 0 {
		lines, loggers.held = loggers.held, nil
	}
	loggers.Unlock()
	for _, l := range lines {
		l.hook(l.level, l.text)
	}
}
