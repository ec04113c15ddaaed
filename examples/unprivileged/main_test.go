package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/user"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) {
	if os.Getenv(other) != "" {
		end(unprivileged())
	}
	testns.Main(m)
}

// takesSocket reports whether this libxdp can use a socket that is handed over.
func takesSocket(t *testing.T) bool {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "AF_XDP")
	defer f.Close()
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 2, File: f})
	if errors.Is(err, errors.ErrUnsupported) {
		return false
	}
	require.NoError(t, err)
	return assert.NoError(t, u.Close())
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// A kernel socket hears its own words from the process without privileges, and
// root's half has no descriptor left over.
func TestKernelSocketIsAnsweredWithoutPrivileges(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			raw := !takesSocket(t)
			o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{7}}
			conn, err := p.Dial("192.0.2.1:7")
			require.NoError(t, err)
			defer conn.Close()
			if raw {
				assert.Error(t, privileged(t.Context(), o, "nobody", false), "libxdp takes no socket")
			}
			before := descriptors(t)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- privileged(ctx, o, "nobody", raw) }()
			said, heard := bytes.Repeat([]byte("echo"), 100), make([]byte, 2000)
			assert.Eventually(t, func() bool {
				if _, err := conn.Write(said); err != nil {
					return false // refused by the kernel: the example has not begun
				}
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				n, err := conn.Read(heard)
				return err == nil && assert.Equal(t, said, heard[:n])
			}, 20*time.Second, time.Millisecond)
			stop()
			require.NoError(t, <-done)
			assert.Equal(t, before, descriptors(t))
		})
	}
}

// Whatever ends root's half ends the other one.
func TestNobodyIsLeftBehind(t *testing.T) {
	p := testns.MakePeer(t)
	program, err := bpf.Attach(p.Near, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
	require.NoError(t, err)
	defer program.Close()
	who, err := user.Lookup("nobody")
	require.NoError(t, err)
	ours, theirs, err := pair()
	require.NoError(t, err)
	raw := !takesSocket(t)
	process, err := start(who, raw, theirs)
	require.NoError(t, err)
	require.NoError(t, theirs.Close())
	o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64}
	assert.NoError(t, handOver(ours, o, raw, program.FileDescriptor()))
	require.NoError(t, ours.Close(), "as the kernel does when root's half is killed")
	assert.NoError(t, process.Wait())
}
