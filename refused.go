package xsk

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/rights"
)

// explainSocket says why the kernel opened no AF_XDP socket. otherwise is what helps a
// process without CAP_NET_RAW, beside that capability.
func explainSocket(err error, otherwise string) error {
	switch {
	case errors.Is(err, syscall.EAFNOSUPPORT) && !kernelHasXDP():
		return explained(err, "this kernel is built without AF_XDP (CONFIG_XDP_SOCKETS)")
	case errors.Is(err, syscall.EAFNOSUPPORT), errors.Is(err, syscall.EACCES):
		return rights.Refused(err, "AF_XDP")
	case errors.Is(err, syscall.EPERM):
		if lacking, capErr := rights.Lacking(unix.CAP_NET_RAW); capErr == nil && len(lacking) == 0 {
			return explained(err, "the process has CAP_NET_RAW, but something else forbids AF_XDP sockets (seccomp, or a user namespace that does not own the network namespace?)")
		}
		return explained(err, "an AF_XDP socket needs CAP_NET_RAW%s", otherwise)
	}
	return err
}

// kernelHasXDP reports whether the kernel knows AF_XDP. Then it is not the kernel that
// answers EAFNOSUPPORT. Where nobody can tell it does not: who refuses a process sockets
// hides /proc more rarely than kernels lack AF_XDP.
func kernelHasXDP() bool {
	protocols, _ := os.ReadFile("/proc/net/protocols")
	return strings.Contains("\n"+string(protocols), "\nXDP ")
}

// alsoForProgram is what the thread lacks for libxdp's program, to be added to what it
// lacks for the socket; "" if nothing.
func alsoForProgram() string {
	lacking, err := rights.Lacking(unix.CAP_NET_ADMIN, unix.CAP_BPF)
	if err != nil || len(lacking) == 0 {
		return ""
	}
	return "; libxdp's program needs " + strings.Join(lacking, ", ") + ", too"
}

// alsoToLock is what the thread lacks to lock size bytes, to be added to what it lacks
// for the socket; "" if nothing.
func alsoToLock(size int) string {
	var limit unix.Rlimit
	lacking, err := rights.Lacking(unix.CAP_IPC_LOCK)
	if err != nil || len(lacking) == 0 || unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) != nil || uint64(size) <= limit.Cur {
		return ""
	}
	return "; " + tooMuchToLock(size, limit.Cur)
}

func tooMuchToLock(size int, limit uint64) string {
	return fmt.Sprintf("%d bytes to lock, RLIMIT_MEMLOCK is %d: raise it, or grant CAP_IPC_LOCK", size, limit)
}
