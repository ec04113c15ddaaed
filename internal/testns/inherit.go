package testns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Inherits runs do again and again for a while and fails t if a child that starts
// meanwhile could inherit a descriptor. It looks where package os/exec forks: with
// the fork lock held, every descriptor must be close-on-exec. That takes a few
// microseconds, so it is as good as ten thousands of children.
func Inherits(t testing.TB, while time.Duration, do func()) {
	t.Helper()
	before := inheritable()
	found := map[string]int{}
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Add(1)
	looks := 0
	go func() {
		defer group.Done()
		for ; ; looks++ {
			select {
			case <-stop:
				return
			default:
			}
			syscall.ForkLock.Lock()
			for what := range inheritable() {
				if !before[what] {
					found[what]++
				}
			}
			syscall.ForkLock.Unlock()
			runtime.Gosched()
		}
	}()
	for end := time.Now().Add(while); time.Now().Before(end); {
		do()
	}
	close(stop)
	group.Wait()
	for what, n := range found {
		t.Errorf("a child could inherit %s, at %d of %d looks", what, n, looks)
	}
}

// inheritable is what the process has open that is not close-on-exec.
func inheritable() map[string]bool {
	open := map[string]bool{}
	for fd := range 64 {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if errors.Is(err, unix.EBADF) || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		what, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil {
			what = err.Error()
		}
		open[fmt.Sprintf("%d, %s", fd, what)] = true
	}
	return open
}
