package bpf_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aquasecurity/libbpfgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestAttachTellsTheMode(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	cases := []struct {
		ifname    string
		ask, want bpf.Mode
	}{
		{a, bpf.Auto, bpf.Native},
		{a, bpf.Native, bpf.Native},
		{a, bpf.Generic, bpf.Generic},
		{"lo", bpf.Auto, bpf.Generic},
		{"lo", bpf.Generic, bpf.Generic},
	}
	for _, c := range cases {
		t.Run(c.ifname+" "+c.ask.String(), func(t *testing.T) {
			p, err := bpf.Attach(c.ifname, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53, 4789}}, Mode: c.ask})
			require.NoError(t, err)
			defer p.Close()
			assert.Equal(t, c.want, p.Mode())
			native, generic := programs(t, c.ifname)
			assert.Equal(t, c.want == bpf.Native, native != 0, "native program %d", native)
			assert.Equal(t, c.want == bpf.Generic, generic != 0, "generic program %d", generic)
			assert.Equal(t, c.ifname+": "+c.want.String()+", UDP ports 53, 4789, XSKMAP of 1 slot", p.String())

			require.NoError(t, p.Close())
			native, generic = programs(t, c.ifname)
			assert.Zero(t, native+generic, "a program is left")
		})
	}
}

func TestModeReadsWell(t *testing.T) {
	assert.Equal(t, "auto", bpf.Mode(0).String())
	assert.Equal(t, "Mode(9)", bpf.Mode(9).String())
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native, bpf.Generic} {
		text, err := mode.MarshalText()
		require.NoError(t, err)
		read := bpf.Mode(9)
		require.NoError(t, read.UnmarshalText(text))
		assert.Equal(t, mode, read)
	}
	read := bpf.Native
	assert.ErrorContains(t, read.UnmarshalText([]byte("skb")), "none of auto, native and generic")
	assert.Equal(t, bpf.Native, read)
}

func TestMapHasASlotPerQueue(t *testing.T) {
	a, _ := testns.Veth{Queues: 5}.Make(t)
	p := attach(t, a, everything)
	assert.EqualValues(t, 5, mapSlots(t, p.FileDescriptor()))
	assert.Equal(t, a+": native, all packets, XSKMAP of 5 slots", p.String())
	require.NoError(t, register(t, p.FileDescriptor(), 4))
	require.ErrorIs(t, register(t, p.FileDescriptor(), 5), syscall.E2BIG)

	// Loopback's driver has no ethtool channels.
	p = attach(t, "lo", everything)
	assert.EqualValues(t, 1, mapSlots(t, p.FileDescriptor()))
}

func TestMapCountsQueuesWithoutEthtool(t *testing.T) {
	testns.Kernel(t)
	testns.IP(t, "tuntap", "add", "tap0", "mode", "tap", "multi_queue")
	t.Cleanup(func() { testns.IP(t, "tuntap", "del", "tap0", "mode", "tap", "multi_queue") })
	p := attach(t, "tap0", bpf.Options{Filter: bpf.Filter{All: true}, Mode: bpf.Generic})
	assert.EqualValues(t, 256, mapSlots(t, p.FileDescriptor()))
}

func TestPacketsWithoutSocketStayWithTheKernel(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			a, b := testns.Veth{Queues: 2}.Make(t)
			kernel, wire := openTap(t, a), openTap(t, b)
			p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53}}, Mode: mode})
			matched := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, "matched")))
			other := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(54, "other")))

			wire.send(t, other)
			assert.True(t, kernel.sees(t, other, 2*time.Second), "an unmatched packet got lost")
			wire.send(t, matched)
			assert.True(t, kernel.sees(t, matched, 2*time.Second), "a matched packet for an empty slot got lost")

			// With a socket in the slots it is the socket's, even one that is not
			// bound and cannot take it.
			for slot := range 2 {
				require.NoError(t, register(t, p.FileDescriptor(), slot))
			}
			wire.send(t, matched)
			wire.send(t, other)
			require.True(t, kernel.sees(t, other, 2*time.Second), "an unmatched packet got lost beside a socket")
			assert.False(t, kernel.sees(t, matched, 50*time.Millisecond), "a matched packet passed the socket by")

			require.NoError(t, p.Close())
			wire.send(t, matched)
			assert.True(t, kernel.sees(t, matched, 2*time.Second), "a packet got lost after Close")
		})
	}
}

func TestNativeTakesJumboFrames(t *testing.T) {
	a, b := testns.Veth{MTU: 9000}.Make(t)
	kernel, wire := openTap(t, a), openTap(t, b)
	p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{53}}, Mode: bpf.Native})
	jumbo := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, string(make([]byte, 8900)))))

	wire.send(t, jumbo)
	assert.True(t, kernel.sees(t, jumbo, 2*time.Second), "no socket: it is the kernel's")
	require.NoError(t, register(t, p.FileDescriptor(), 0))
	wire.send(t, jumbo)
	assert.False(t, kernel.sees(t, jumbo, 50*time.Millisecond), "its headers were not found")
}

func TestMethodsAfterClose(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p, err := bpf.Attach(a, everything)
	require.NoError(t, err)
	require.NoError(t, p.Close())
	assert.NoError(t, p.Close(), "a second Close")
	assert.Equal(t, -1, p.FileDescriptor())
	assert.Equal(t, bpf.Auto, p.Mode())
	assert.Equal(t, a+": closed", p.String())
	assert.ErrorIs(t, p.WaitLink(t.Context()), net.ErrClosed)
}

func TestCloseAfterTheInterfaceIsGone(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native, bpf.Generic} {
		a, _ := testns.Veth{}.Make(t)
		p, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
		require.NoError(t, err)
		testns.IP(t, "link", "del", a)
		assert.NoError(t, p.Close(), mode)
	}
}

func TestMethodsFromManyGoroutines(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p, err := bpf.Attach(a, everything)
	require.NoError(t, err)
	var group sync.WaitGroup
	for range 4 {
		group.Add(1)
		go func() {
			defer group.Done()
			for p.FileDescriptor() >= 0 {
				_, _, _ = p.Mode(), p.String(), p.WaitLink(t.Context())
			}
			assert.NoError(t, p.Close())
		}()
	}
	time.Sleep(10 * time.Millisecond)
	require.NoError(t, p.Close())
	group.Wait()
}

func TestAttachAtTheSameTime(t *testing.T) {
	var group sync.WaitGroup
	for range 4 {
		a, _ := testns.Veth{}.Make(t)
		group.Add(1)
		go func() {
			defer group.Done()
			for range 5 {
				p, err := bpf.Attach(a, everything)
				if assert.NoError(t, err) {
					assert.NoError(t, p.Close())
				}
			}
		}()
	}
	group.Wait()
}

func TestDescriptors(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	cycle := func(mode bpf.Mode) {
		p, err := bpf.Attach(a, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
		require.NoError(t, err)
		require.NoError(t, p.Close())
		_, err = bpf.Attach(a, bpf.Options{})
		require.Error(t, err)
		_, err = bpf.Attach("none0", everything)
		require.Error(t, err)
	}
	cycle(bpf.Native)
	before := descriptors(t)
	for range 50 {
		cycle(bpf.Auto)
		cycle(bpf.Native)
		cycle(bpf.Generic)
	}
	assert.Equal(t, len(before), len(descriptors(t)), "descriptors leak")

	attach(t, a, everything)
	for fd := range descriptors(t) {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if _, old := before[fd]; err == nil && !old {
			assert.NotZero(t, flags&unix.FD_CLOEXEC, "a child would inherit descriptor %d", fd)
		}
	}
}

// descriptors returns what is open.
func descriptors(t *testing.T) map[int]string {
	t.Helper()
	open := map[int]string{}
	for fd := range 256 {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			open[fd] = ""
		}
	}
	return open
}

func TestKilledProcessLeavesNothing(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), helperInterface+"="+a)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := command.StdoutPipe()
	require.NoError(t, err)
	runtime.LockOSThread() // Pdeathsig
	defer runtime.UnlockOSThread()
	require.NoError(t, command.Start())
	line, err := bufio.NewReader(output).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "attached\n", line)
	native, _ := programs(t, a)
	require.NotZero(t, native)

	require.NoError(t, command.Process.Kill())
	_ = command.Wait()
	require.Eventually(t, func() bool {
		native, generic := programs(t, a)
		return native+generic == 0
	}, 2*time.Second, 10*time.Millisecond, "the program outlived its process")
}

// stderr runs do and returns what it wrote to standard error, descriptor and
// all: libbpf writes from C.
func stderr(t *testing.T, do func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	saved, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(int(w.Fd()), 2, 0))
	// Under go test -json os.Stderr is standard output.
	file := os.Stderr
	os.Stderr = w
	do()
	os.Stderr = file
	require.NoError(t, unix.Dup3(saved, 2, 0))
	unix.Close(saved)
	w.Close()
	text, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(text)
}

func TestLibbpfKeepsQuiet(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	text := stderr(t, func() {
		p, err := bpf.Attach(a, everything)
		if assert.NoError(t, err) {
			_, err = bpf.Attach(a, everything)
			assert.Error(t, err)
			p.Close()
		}
	})
	assert.Empty(t, text)
}

func TestOtherModulesKeepTheirLogger(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	module := func() {
		m, err := libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{BPFObjPath: "redirect.bpf.o", SkipMemlockBump: true})
		if assert.NoError(t, err) {
			m.Close()
		}
	}
	assert.Contains(t, stderr(t, module), "redirect.bpf.o", "libbpfgo's own logger is as it was")
	attach(t, a, everything)
	assert.Contains(t, stderr(t, module), "redirect.bpf.o", "and after Attach too")

	// A logger of the program's own gets everything, ours included.
	var log strings.Builder
	libbpfgo.SetLoggerCbs(libbpfgo.Callbacks{Log: func(_ int, text string) { log.WriteString(text) }})
	defer bpf.SetQuietLogger()
	b, _ := testns.Veth{}.Make(t)
	attach(t, b, everything)
	assert.Contains(t, log.String(), "xsks_map")
	log.Reset()
	assert.Empty(t, stderr(t, module))
	assert.Contains(t, log.String(), "redirect.bpf.o")
}
