package netstack

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// SetLogger hands every line that gVisor logs to hook; nil, the default, silences
// it: a stranger's packet can make it log, which is nothing to print. The hook may be
// called from several goroutines at once, in the middle of the stack's work: it must
// not wait, nor call the Host. SetLogger may be called at any time.
//
// gVisor has one log in a process. This package takes it when the program starts,
// unless it writes elsewhere than to standard error by then; a program that sets a
// target of its own (log.SetTarget) has it from then on, and SetLogger is without
// effect.
func SetLogger(hook func(text string)) {
	if hook == nil {
		logHook.Store(nil)
		return
	}
	logHook.Store(&hook)
}

var logHook atomic.Pointer[func(text string)]

// An emitter is the target of gVisor's log.
type emitter struct{}

// Emit is for gVisor to call.
func (emitter) Emit(_ int, _ log.Level, _ time.Time, format string, args ...any) {
	if hook := logHook.Load(); hook != nil {
		(*hook)(fmt.Sprintf(format, args...))
	}
}

func init() {
	google, ok := log.Log().Emitter.(log.GoogleEmitter)
	if ok && google.Writer != nil && google.Writer.Next == os.Stderr {
		log.SetTarget(emitter{})
	}
}
