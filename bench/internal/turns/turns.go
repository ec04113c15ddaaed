// Package turns is how the harness and a contestant talk: the harness writes
// "start" and "stop", and the contestant prints what it did between, as
// key=value.
package turns

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A Turn is one contestant's time to work. It belongs to the goroutine that
// works; only On may be asked from others.
type Turn struct {
	Packets      uint64
	Checked, Bad uint64
	Extra        string // more key=value

	on atomic.Bool
}

// On reports whether the turn goes on. It costs a load.
func (t *Turn) On() bool { return t.on.Load() }

// A Worker works until the Turn is not On any more; Interrupt, from another
// goroutine, tells it that this is so now.
type Worker interface {
	Work(t *Turn) error
	Interrupt()
}

// Serve obeys the harness until that closes the standard input.
func Serve(w Worker) error {
	fmt.Println("ready")
	t := new(Turn)
	starts := make(chan struct{})
	go func() {
		defer close(starts)
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if lines.Text() == "start" {
				t.on.Store(true)
				starts <- struct{}{}
			} else {
				t.on.Store(false)
				w.Interrupt()
			}
		}
		t.on.Store(false)
		w.Interrupt()
	}()
	for range starts {
		if err := serve(w, t); err != nil {
			return err
		}
	}
	return nil
}

func serve(w Worker, t *Turn) error {
	t.Packets, t.Checked, t.Bad, t.Extra = 0, 0, 0, ""
	before := usage()
	began := time.Now()
	err := w.Work(t)
	took := time.Since(began)
	after := usage()
	fmt.Printf("packets=%d seconds=%.6f user=%.6f system=%.6f checked=%d bad=%d allocs=%d rss=%d %s\n",
		t.Packets, took.Seconds(), after.user-before.user, after.system-before.system,
		t.Checked, t.Bad, after.allocs-before.allocs, after.rss, t.Extra)
	return err
}

type used struct {
	user, system float64 // seconds of processor time
	allocs       uint64
	rss          int64 // bytes, the most so far
}

func usage() used {
	var r syscall.Rusage
	var m runtime.MemStats
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	runtime.ReadMemStats(&m)
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return used{seconds(r.Utime), seconds(r.Stime), m.Mallocs, r.Maxrss << 10}
}

// A Result is what a contestant printed.
type Result map[string]float64

// Parse reads a line of key=value.
func Parse(line string) (Result, error) {
	r := Result{}
	for _, word := range strings.Fields(line) {
		key, value, _ := strings.Cut(word, "=")
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is no result", line)
		}
		r[key] = v
	}
	return r, nil
}
