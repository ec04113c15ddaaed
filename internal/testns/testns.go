// Package testns gives each test binary a network of its own.
//
// Main, called by TestMain, runs the binary again in new network and mount
// namespaces, so plain "go test ./..." works as root, interface names never
// clash, and a crash leaves nothing behind. Unsharing one locked thread does
// not do: subtests and goroutines would still see the host.
package testns

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/kernel"
)

// inside marks the second run of the test binary.
const inside = "XSK_TESTNS_INSIDE"

// strict makes a test that cannot run a failure: scripts/test sets it.
const strict = "XSK_TEST_STRICT"

// Main runs the tests of m inside new network and mount namespaces and exits;
// setup, if any, is called there first. Without root they run where they are:
// each test that calls Kernel skips, and no Example runs.
func Main(m *testing.M, setup ...func() error) {
	if Inside() {
		for _, prepare := range append([]func() error{furnish}, setup...) {
			if err := prepare(); err != nil {
				fmt.Fprintln(os.Stderr, "testns:", err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 || fuzzing() {
		skipExamples()
		os.Exit(m.Run())
	}
	// Pdeathsig fires when the thread that started the child ends.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		os.Exit(0)
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		os.Exit(exit.ExitCode())
	}
	fmt.Fprintln(os.Stderr, "testns:", err)
	os.Exit(1)
}

// skipExamples does what an Example cannot do itself; its eth0 would be the
// machine's own.
func skipExamples() {
	flag.Parse()
	skip := flag.Lookup("test.skip").Value
	_ = skip.Set(strings.TrimSuffix("^Example|"+skip.String(), "|"))
}

// fuzzing reports whether this is "go test -fuzz", which talks to its workers
// over descriptors that would not come along.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args, func(arg string) bool {
		return strings.HasPrefix(arg, "-test.fuzz=") || strings.HasPrefix(arg, "-test.fuzzworker")
	})
}

// furnish makes the new namespaces usable: private mounts, a /sys that shows
// this network, a bpffs, loopback, and no IPv6 chatter.
func furnish() error {
	mounts := []struct {
		source, target, fstype string
		flags                  uintptr
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"sysfs", "/sys", "sysfs", 0},
		{"bpf", "/sys/fs/bpf", "bpf", 0},
	}
	for _, m := range mounts {
		if err := unix.Mount(m.source, m.target, m.fstype, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := noIPv6(); err != nil {
		return err
	}
	return ip("link", "set", "lo", "up")
}

// noIPv6 turns IPv6 off in the network of the calling thread.
func noIPv6() error {
	for _, scope := range []string{"all", "default"} {
		path := "/proc/sys/net/ipv6/conf/" + scope + "/disable_ipv6"
		if err := os.WriteFile(path, []byte("1"), 0); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	return nil
}

// Inside reports whether Main has put this process into namespaces of its own.
func Inside() bool { return os.Getenv(inside) != "" }

// Patience is d, times XSK_TEST_PATIENCE if that is set, as it is on an emulated
// machine: for limits that only a failure reaches.
func Patience(d time.Duration) time.Duration {
	if factor, err := strconv.Atoi(os.Getenv("XSK_TEST_PATIENCE")); err == nil {
		d *= time.Duration(factor)
	}
	return d
}

// Kernel says that t needs the real kernel and root. In scripts/test a machine
// that has neither is a failure; in a plain "go test" it is a skip.
func Kernel(t testing.TB) {
	t.Helper()
	if Inside() {
		return
	}
	if os.Getenv(strict) != "" {
		t.Fatal("kernel tests need root")
	}
	t.Skip("kernel tests need root")
}

// Missing says that t needs what is not on this machine: in scripts/test a failure, in a
// plain "go test" a skip.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv(strict) != "" {
		t.Fatal("missing here: " + what)
	}
	t.Skip("missing here: " + what)
}

// Need skips t on a kernel older than the version that opens what, as in
// Need(t, "6.9 generic multi-buffer"). It is the one skip scripts/test counts.
func Need(t testing.TB, what string) {
	t.Helper()
	Kernel(t)
	if !kernel.AtLeast(what) {
		t.Skip("need: " + what)
	}
}

// NeedGenericFrags is Need for a test that attaches an "xdp.frags" program in generic
// mode. On Linux 7.0 and 7.1 such a program can panic the machine as soon as somebody
// listens on a raw socket.
func NeedGenericFrags(t testing.TB) {
	t.Helper()
	Need(t, "6.9 generic multi-buffer")
	if kernel.AtLeast("7.0 the fault") {
		Need(t, "7.2 generic multi-buffer that cannot panic")
	}
}

// Veth describes a veth pair; the zero value is one queue a side and MTU 1500.
type Veth struct {
	Queues int
	MTU    int
}

var veths atomic.Int32

// Make adds the pair to this namespace, brings both ends up and deletes them
// when t ends. Both ends have IPv6 off and compute checksums themselves, for a
// kernel sender otherwise leaves them unfinished.
func (v Veth) Make(t testing.TB) (a, b string) {
	t.Helper()
	Kernel(t)
	n := veths.Add(1)
	a, b = fmt.Sprintf("va%d", n), fmt.Sprintf("vb%d", n)
	queues := strconv.Itoa(max(v.Queues, 1))
	IP(t, "link", "add", a, "numtxqueues", queues, "numrxqueues", queues,
		"type", "veth", "peer", "name", b, "numtxqueues", queues, "numrxqueues", queues)
	t.Cleanup(func() { _ = ip("link", "del", a) })
	for _, name := range []string{a, b} {
		if v.MTU > 0 {
			IP(t, "link", "set", name, "mtu", strconv.Itoa(v.MTU))
		}
		if err := txChecksumOff(name); err != nil {
			t.Fatalf("tx checksum offload of %s: %v", name, err)
		}
		IP(t, "link", "set", name, "up")
	}
	return a, b
}

// IP runs ip(8) with args and ends t if it fails.
func IP(t testing.TB, args ...string) {
	t.Helper()
	if err := ip(args...); err != nil {
		t.Fatal(err)
	}
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
