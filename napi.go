package xsk

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A NAPIDeferral holds back the interrupts of an interface, for programs that
// busy poll it; see [BusyPoll].
type NAPIDeferral struct {
	ifname string

	mu     sync.Mutex
	dir    *os.Root // the interface in /sys, by whatever name; nil after Close
	before napiState
}

// napiState is an interface's two settings.
type napiState struct{ irqs, flush int64 }

// Their files in /sys/class/net/IFNAME.
const (
	deferIRQsFile    = "napi_defer_hard_irqs"
	flushTimeoutFile = "gro_flush_timeout"
)

// DeferNAPI makes an interface wait, after a poll that found no packet left, for
// up to irqs further such polls before it turns its interrupts on again
// (napi_defer_hard_irqs), and flush between them, unless a program polls meanwhile
// (gro_flush_timeout). 2 and 200 us are usual with [BusyPoll]. All queues of the
// interface are meant, also those of the kernel: their packets may come so much
// later.
//
// It does not block. Close restores what was there; a process that ends without it
// leaves the settings behind. Errors wrap EINVAL for a value that breaks a rule,
// ENODEV for an unknown interface, EPERM or EACCES without CAP_NET_ADMIN or the
// right to write to /sys, EROFS where /sys cannot be written to, and ENOENT where
// it shows another network namespace than the one of the calling thread.
func DeferNAPI(ifname string, irqs int, flush time.Duration) (*NAPIDeferral, error) {
	d, err := deferNAPI(ifname, napiState{int64(irqs), int64(flush)})
	if err != nil {
		return nil, failed("defer NAPI of "+ifname, err)
	}
	return d, nil
}

func deferNAPI(ifname string, want napiState) (*NAPIDeferral, error) {
	switch {
	case want.irqs < 0 || want.irqs > math.MaxInt32:
		return nil, invalid("irqs %d is not between 0 and %d", want.irqs, math.MaxInt32)
	case want.flush < 0:
		return nil, invalid("flush time %v is negative", time.Duration(want.flush))
	case want.irqs > 0 && want.flush == 0:
		return nil, invalid("interrupts that are put off need a flush time, or packets would wait for ever")
	}
	ifindex, err := lookupInterface(ifname)
	if err != nil {
		return nil, err
	}
	d := &NAPIDeferral{ifname: ifname}
	if d.dir, err = openSys(ifname, ifindex); err != nil {
		return nil, err
	}
	if d.before, err = readNAPI(d.dir); err == nil {
		if err = writeNAPI(d.dir, want); err != nil {
			err = errors.Join(err, writeNAPI(d.dir, d.before))
		}
	}
	if err != nil {
		_ = d.dir.Close()
		return nil, err
	}
	return d, nil
}

// Close restores the settings that were there before, also if somebody else has
// changed them since, and also if the interface has another name now. It does
// nothing when the interface is gone, or when it is called again.
func (d *NAPIDeferral) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dir == nil {
		return nil
	}
	err := writeNAPI(d.dir, d.before)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		err = nil // with the interface its settings are gone
	}
	if err != nil {
		return failed("restore NAPI of "+d.ifname, err)
	}
	_ = d.dir.Close()
	d.dir = nil
	return nil
}

// openSys opens an interface's directory in /sys, which stays the interface's
// when it is renamed.
func openSys(ifname string, ifindex int) (*os.Root, error) {
	dir, err := os.OpenRoot("/sys/class/net/" + ifname)
	if err == nil {
		var n int64
		if n, err = readSys(dir, "ifindex"); err == nil && n == int64(ifindex) {
			return dir, nil
		}
		_ = dir.Close()
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil, explained(syscall.ENOENT, "/sys shows another network namespace; mount a sysfs in this one")
	}
	return nil, err
}

func readNAPI(dir *os.Root) (s napiState, err error) {
	if s.irqs, err = readSys(dir, deferIRQsFile); err == nil {
		s.flush, err = readSys(dir, flushTimeoutFile)
	}
	return s, err
}

// writeNAPI sets the timeout first where interrupts are to be put off, and last
// where they no longer are, so that no packet waits for ever.
func writeNAPI(dir *os.Root, s napiState) error {
	if s.flush == 0 {
		return errors.Join(writeSys(dir, deferIRQsFile, s.irqs), writeSys(dir, flushTimeoutFile, s.flush))
	}
	return errors.Join(writeSys(dir, flushTimeoutFile, s.flush), writeSys(dir, deferIRQsFile, s.irqs))
}

func readSys(dir *os.Root, name string) (int64, error) {
	f, err := dir.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	text := make([]byte, 32)
	n, err := f.Read(text)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text[:n])), 10, 64)
}

func writeSys(dir *os.Root, name string, value int64) error {
	f, err := dir.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		defer f.Close()
		_, err = f.WriteString(strconv.FormatInt(value, 10))
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s needs CAP_NET_ADMIN and the right to write to /sys: %w", name, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: /sys is mounted read-only, as in a container without privileges: %w", name, err)
	}
	return err
}
