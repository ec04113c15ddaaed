package xsk_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// refusedFamily, in the environment, makes a test the half whose sockets of that family
// are refused, with the errno that follows.
const refusedFamily = "XSK_TEST_REFUSED"

// What seccomp refuses, as systemd's RestrictAddressFamilies has it do, is no fault of
// the kernel, and the error says whose.
func TestRefusedSocketsNameTheSetting(t *testing.T) {
	if refused := os.Getenv(refusedFamily); refused != "" {
		meetRefusal(t, refused)
		return
	}
	testns.Kernel(t)
	for _, c := range []struct {
		family int
		errno  unix.Errno
		wants  []string // a line of output each
	}{
		{unix.AF_XDP, unix.EAFNOSUPPORT, []string{
			"umem: xsk: create umem: address family not supported by protocol: something refuses this process AF_XDP sockets",
			"second: xsk: bind lo queue 0: address family not supported by protocol: something refuses this process AF_XDP sockets"}},
		{unix.AF_XDP, unix.EPERM, []string{
			"umem: xsk: create umem: the process has CAP_NET_RAW, but something else forbids AF_XDP sockets (seccomp",
			"second: xsk: bind lo queue 0: the process has CAP_NET_RAW, but something else forbids AF_XDP sockets (seccomp"}},
		{unix.AF_UNIX, unix.EAFNOSUPPORT, []string{
			"first: xsk: bind lo queue 0: address family not supported by protocol: something refuses this process AF_UNIX sockets"}},
		{unix.AF_INET, unix.EAFNOSUPPORT, []string{
			"queues: xsk: count queues: address family not supported by protocol: something refuses this process AF_INET sockets"}},
		{unix.AF_NETLINK, unix.EAFNOSUPPORT, []string{
			"probe: XDP features and programs: address family not supported by protocol: something refuses this process AF_NETLINK sockets"}},
	} {
		half := exec.Command("/proc/self/exe", "-test.run=^TestRefusedSocketsNameTheSetting$", "-test.v")
		half.Env = append(os.Environ(), fmt.Sprintf("%s=%d %d", refusedFamily, c.family, int(c.errno)))
		output, err := half.CombinedOutput()
		require.NoError(t, err, "%s", output)
		for _, want := range c.wants {
			assert.Contains(t, string(output), want)
		}
		if c.errno == unix.EAFNOSUPPORT {
			assert.Contains(t, string(output), "RestrictAddressFamilies= must name AF_")
		}
		assert.NotContains(t, string(output), "built without AF_XDP")
	}
}

// meetRefusal prints what calls answer without sockets of a family.
func meetRefusal(t *testing.T, refused string) {
	family, errno, _ := strings.Cut(refused, " ")
	f, err := strconv.Atoi(family)
	require.NoError(t, err)
	e, err := strconv.Atoi(errno)
	require.NoError(t, err)
	inhibit := &xsk.SocketConfig{InhibitProgLoad: true, TxOnly: true}
	before, unbound := newUmem(t, &small), newUmem(t, &small)
	newSocket(t, "lo", 0, before, inhibit)
	require.NoError(t, testns.RefuseSockets(f, syscall.Errno(e)))
	_, err = xsk.NewUmem(&small)
	fmt.Println("umem:", err)
	_, err = xsk.NewSocket("lo", 0, before, inhibit)
	fmt.Println("second:", err)
	if f == unix.AF_UNIX { // else it would wait for the queue
		_, err = xsk.NewSocket("lo", 0, unbound, inhibit)
		fmt.Println("first:", err)
	}
	_, err = xsk.CountQueues("lo")
	fmt.Println("queues:", err)
	if d, err := xsk.Probe("lo"); err == nil {
		fmt.Println("probe:", d.Unknown)
	}
	os.Exit(0) // with all that was opened
}

// Rights that are missing come in one error, not one a try.
func TestMissingRightsComeAtOnce(t *testing.T) {
	a, _ := vethPair(t)
	newUmem(t, &small)
	var old unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &old))
	low := unix.Rlimit{Cur: 65536, Max: old.Max}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &low))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &old)) }()
	raw := []int{unix.CAP_NET_RAW, unix.CAP_IPC_LOCK}
	without(t, func() {
		_, err := xsk.NewUmem(&small)
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "an AF_XDP socket needs CAP_NET_RAW")
		assert.ErrorContains(t, err, "bytes to lock, RLIMIT_MEMLOCK is 65536: raise it, or grant CAP_IPC_LOCK")
	}, raw...)
	without(t, func() {
		_, err := xsk.Open(a, 0, &xsk.Config{LibxdpProgram: true})
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "an AF_XDP socket needs CAP_NET_RAW")
		assert.ErrorContains(t, err, "RLIMIT_MEMLOCK is 65536")
		assert.ErrorContains(t, err, "libxdp's program needs CAP_NET_ADMIN, CAP_BPF, too")
	}, append(raw, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_SYS_ADMIN)...)
}
