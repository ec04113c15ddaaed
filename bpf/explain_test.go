package bpf_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestAttachToUnknownInterface(t *testing.T) {
	for _, name := range []string{"none0", "", "averyveryverylongname"} {
		_, err := bpf.Attach(name, everything)
		require.ErrorIs(t, err, syscall.ENODEV)
	}
	_, err := bpf.Attach("none0", everything)
	assert.EqualError(t, err, "bpf: attach none0: no such device: no interface none0 in this network namespace")
	_, err = bpf.Attach("", everything)
	assert.EqualError(t, err, `bpf: attach : no such device: "" is no interface name`)
	assert.ErrorContains(t, bpf.RemoveStale("none0"), "no interface none0 in this network namespace")
	assert.ErrorContains(t, bpf.WaitLink(t.Context(), "none0"), "no interface none0 in this network namespace")
}

func TestAttachReplacesNobody(t *testing.T) {
	const generic, native = 1 << 1, 1 << 2
	for _, c := range []struct {
		name  string
		flags uint32
		mode  string
		hint  string
	}{
		{"drop_all", native, "native", ""},
		{"drop_all", generic, "generic", ""},
		{"xsk_def_prog", generic, "generic", "xdpgeneric off removes it"},
		{"xsk_redirect", native, "native", "another bpf.Attach holds it"},
	} {
		t.Run(c.name+" "+c.mode, func(t *testing.T) {
			a, _ := testns.Veth{}.Make(t)
			foreign(t, a, c.name, c.flags)
			wasNative, wasGeneric := programs(t, a)
			for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native, bpf.Generic} {
				_, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
				require.ErrorIs(t, err, syscall.EBUSY)
				want := fmt.Sprintf(`bpf: attach %s: device or resource busy: XDP program %d "%s" is attached already, in %s mode; nothing was replaced`,
					a, wasNative+wasGeneric, c.name, c.mode)
				assert.True(t, strings.HasPrefix(err.Error(), want), "%v\nwant %s", err, want)
				assert.ErrorContains(t, err, c.hint)
			}
			isNative, isGeneric := programs(t, a)
			assert.Equal(t, wasNative, isNative)
			assert.Equal(t, wasGeneric, isGeneric)
		})
	}
}

func TestRulesNeedAnEthernetHeader(t *testing.T) {
	testns.Kernel(t)
	testns.IP(t, "tuntap", "add", "tun0", "mode", "tun")
	t.Cleanup(func() { testns.IP(t, "tuntap", "del", "tun0", "mode", "tun") })
	keep := bpf.Filter{All: true, KeepManagement: true}
	_, err := bpf.Attach("tun0", bpf.Options{Filter: keep})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, "bpf: attach tun0: operation not supported: its packets have no Ethernet header (ARPHRD 65534)")
	p := attach(t, "tun0", everything)
	require.ErrorIs(t, p.Update(keep), errors.ErrUnsupported)
	require.NoError(t, p.Update(bpf.Filter{None: true}))
}

func TestNativeWithoutDriverSupport(t *testing.T) {
	testns.Kernel(t)
	_, err := bpf.Attach("lo", bpf.Options{Filter: bpf.Filter{All: true}, Mode: bpf.Native})
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	assert.ErrorContains(t, err, "the driver has no native XDP; use bpf.Auto or bpf.Generic")
}

func TestNativeWithTooFewQueues(t *testing.T) {
	testns.Kernel(t)
	testns.IP(t, "link", "add", "few0", "numrxqueues", "1", "numtxqueues", "1",
		"type", "veth", "peer", "name", "few1", "numrxqueues", "4", "numtxqueues", "4")
	t.Cleanup(func() { testns.IP(t, "link", "del", "few0") })
	testns.IP(t, "link", "set", "few0", "up")
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native} {
		_, err := bpf.Attach("few0", bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
		require.ErrorIs(t, err, syscall.ENOSPC, mode)
		assert.ErrorContains(t, err, "too few queues")
		assert.ErrorContains(t, err, "bpf.Generic")
	}
	attach(t, "few0", bpf.Options{Filter: bpf.Filter{All: true}, Mode: bpf.Generic})
}

func TestNativeWithTooLargeAnMTU(t *testing.T) {
	a, _ := testns.Veth{MTU: 9000}.Make(t)
	bpf.SingleBuffer(t)
	_, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: bpf.Native})
	require.ErrorIs(t, err, syscall.ERANGE)
	assert.ErrorContains(t, err, "the MTU is too large")
}

// without runs do on a thread that lacks capabilities, and then ends it.
func without(t *testing.T, do func(), capabilities ...int) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever: the thread is of no more use
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		for _, c := range capabilities {
			data[c/32].Effective &^= 1 << (c % 32)
		}
		if err == nil {
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			do()
		}
		done <- err
	}()
	require.NoError(t, <-done)
}

func TestAttachNamesTheCapabilities(t *testing.T) {
	const netAdmin, capBPF, perfmon, sysAdmin = unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN
	a, _ := testns.Veth{}.Make(t)
	plainLacks, allLack := "", "CAP_NET_ADMIN, CAP_BPF"
	if !kernel.AtLeast("6.8 functions that are verified when called") {
		plainLacks, allLack = "CAP_PERFMON", allLack+", CAP_PERFMON"
	}
	for _, c := range []struct {
		options bpf.Options
		without []int
		lacks   string // "" if it works
	}{
		{udpPorts(53), []int{netAdmin, capBPF, perfmon, sysAdmin}, "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON"},
		{udpPorts(53), []int{netAdmin}, "CAP_NET_ADMIN"},
		{udpPorts(53), []int{capBPF, sysAdmin}, "CAP_BPF"},
		{udpPorts(53), []int{perfmon, sysAdmin}, "CAP_PERFMON"},
		{everything, []int{netAdmin, capBPF, perfmon, sysAdmin}, allLack},
		{udpPorts(53), []int{sysAdmin, unix.CAP_NET_RAW, unix.CAP_SYS_RESOURCE, unix.CAP_IPC_LOCK}, ""},
		{udpPorts(53), []int{capBPF, perfmon}, ""},
		{everything, []int{perfmon, sysAdmin}, plainLacks},
	} {
		var err error
		without(t, func() {
			var p *bpf.Program
			if p, err = bpf.Attach(a, c.options); err == nil {
				err = p.Close()
			}
		}, c.without...)
		if c.lacks == "" {
			assert.NoError(t, err, "%v without %v", c.options, c.without)
			continue
		}
		require.ErrorIs(t, err, syscall.EPERM)
		text, _, _ := strings.Cut(err.Error(), ";")
		assert.Equal(t, "bpf: attach "+a+": operation not permitted: the process lacks "+c.lacks, text)
	}
}

// TestMissingRightsComeAtOnce: what the sockets will want is in the error of Attach.
func TestMissingRightsComeAtOnce(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	var err error
	without(t, func() { _, err = bpf.Attach(a, udpPorts(53)) },
		unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN, unix.CAP_NET_RAW, unix.CAP_IPC_LOCK)
	require.ErrorIs(t, err, syscall.EPERM)
	for _, name := range []string{"CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON", "CAP_NET_RAW", "CAP_IPC_LOCK"} {
		assert.ErrorContains(t, err, name)
	}
	without(t, func() { _, err = bpf.Attach(a, udpPorts(53)) }, unix.CAP_NET_ADMIN)
	assert.EqualError(t, err, "bpf: attach "+a+": operation not permitted: the process lacks CAP_NET_ADMIN")
}

func TestRefusedSocketsAreNamed(t *testing.T) {
	testns.Kernel(t)
	for family, name := range map[int]string{unix.AF_NETLINK: "AF_NETLINK", unix.AF_INET: "AF_INET"} {
		command := exec.Command("/proc/self/exe")
		command.Env = append(os.Environ(), helperInterface+"=lo", fmt.Sprintf("%s=%d", helperRefused, family))
		output, err := command.CombinedOutput()
		require.Error(t, err)
		assert.Contains(t, string(output), "bpf: attach lo: ")
		assert.Contains(t, string(output), "address family not supported by protocol: something refuses this process "+name+" sockets")
		assert.Contains(t, string(output), "RestrictAddressFamilies= must name "+name)
	}
}

func TestAttachNamesAProgramAsFarAsItMay(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	foreign(t, a, "drop_all", 0)
	var err error
	without(t, func() { _, err = bpf.Attach(a, everything) }, unix.CAP_SYS_ADMIN)
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "(its name takes CAP_SYS_ADMIN) is attached already")
}

func TestAttachInAUserNamespace(t *testing.T) {
	testns.Kernel(t)
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), helperInterface+"=lo")
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{Size: 1}},
	}
	output, err := command.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(output), "bpf: attach lo: make the XSKMAP: operation not permitted: ")
	assert.Contains(t, string(output), "a user namespace")
}

func TestLoadErrorCarriesWhatLibbpfSays(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	bpf.BreakProgram(t)
	var err error
	assert.Empty(t, stderr(t, func() { _, err = bpf.Attach(a, everything) }))
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.True(t, strings.HasPrefix(err.Error(), "bpf: attach "+a+": load the program: invalid argument ("), err.Error())
	assert.ErrorContains(t, err, "invalid func unknown#65792")
	assert.NotContains(t, err.Error(), "\n")
}
