// Package rights tells what the calling thread may not do, for errors that say all of
// it at once.
package rights

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

var names = map[int]string{
	unix.CAP_NET_ADMIN: "CAP_NET_ADMIN",
	unix.CAP_NET_RAW:   "CAP_NET_RAW",
	unix.CAP_IPC_LOCK:  "CAP_IPC_LOCK",
	unix.CAP_SYS_ADMIN: "CAP_SYS_ADMIN",
	unix.CAP_PERFMON:   "CAP_PERFMON",
	unix.CAP_BPF:       "CAP_BPF",
}

// Lacking returns the names of those capabilities that the thread has not, in that
// order. CAP_SYS_ADMIN stands in for CAP_BPF and CAP_PERFMON.
func Lacking(capabilities ...int) ([]string, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return nil, err
	}
	has := func(capability int) bool {
		return data[capability/32].Effective>>(capability%32)&1 == 1
	}
	var lacking []string
	for _, c := range capabilities {
		if !has(c) && !((c == unix.CAP_BPF || c == unix.CAP_PERFMON) && has(unix.CAP_SYS_ADMIN)) {
			lacking = append(lacking, names[c])
		}
	}
	return lacking, nil
}

// Program is EPERM with the names of what is lacking to load and attach a program; nil
// if nothing is. It adds what an AF_XDP socket of the same process will want, so that
// one error is enough.
func Program(capabilities ...int) error {
	lacking, err := Lacking(capabilities...)
	if err != nil || len(lacking) == 0 {
		return err
	}
	text := "the process lacks " + strings.Join(lacking, ", ")
	if more, err := Lacking(unix.CAP_NET_RAW); err == nil && len(more) > 0 {
		text += "; its AF_XDP sockets will need CAP_NET_RAW, too"
	}
	var limit unix.Rlimit
	if more, err := Lacking(unix.CAP_IPC_LOCK); err == nil && len(more) > 0 &&
		unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil && limit.Cur != unix.RLIM_INFINITY {
		text += fmt.Sprintf("; CAP_IPC_LOCK is for Umems beyond RLIMIT_MEMLOCK, which is %d bytes", limit.Cur)
	}
	return fmt.Errorf("%w: %s", unix.EPERM, text)
}

// Refused adds to the errno of a socket of that family, as in "AF_NETLINK", what may
// have refused it.
func Refused(err error, family string) error {
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w: something refuses this process %s sockets (seccomp; a systemd unit with RestrictAddressFamilies= must name %s there)",
			err, family, family)
	}
	return err
}

// RawRefused is Refused for a family whose sockets need CAP_NET_RAW, which it names if
// the thread has not got it.
func RawRefused(err error, family string) error {
	if errors.Is(err, unix.EPERM) {
		if lacking, capErr := Lacking(unix.CAP_NET_RAW); capErr == nil && len(lacking) > 0 {
			return fmt.Errorf("%w: an %s socket needs CAP_NET_RAW", err, family)
		}
	}
	return Refused(err, family)
}
