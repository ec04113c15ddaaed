package xsk_test

import (
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
)

func TestOpenAndCloseLeakNeitherDescriptorsNorMemory(t *testing.T) {
	a, _ := vethPair(t)
	cycle := func() {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		require.NoError(t, err)
		_, _ = s.PollRx(0)
		require.NoError(t, s.Close())
		require.NoError(t, u.Close())
		_, err = xsk.NewSocket(a, 0, u, nil)
		require.ErrorIs(t, err, net.ErrClosed)
	}
	for range 20 {
		cycle()
	}
	fds, pages := openFiles(t), mapped(t)
	for range 200 {
		cycle()
	}
	assert.Equal(t, fds, openFiles(t))
	// One cycle maps 1 MiB of frames; 200 leaks of a page each would show.
	assert.Less(t, mapped(t)-pages, 200*4, "KiB of address space")
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

// mapped is the size of all shared mappings, in KiB: frames and rings.
func mapped(t *testing.T) int {
	runtime.GC()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	total := 0
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		if len(f) > 1 && f[1][3] == 's' {
			from, to, _ := strings.Cut(f[0], "-")
			total += hex(t, to) - hex(t, from)
		}
	}
	return total / 1024
}

func hex(t *testing.T, s string) int {
	n, err := strconv.ParseInt(s, 16, 64)
	require.NoError(t, err)
	return int(n)
}

func TestDescriptorsAreCloseOnExec(t *testing.T) {
	a, b := vethPair(t)
	e := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	s := newSocket(t, b, 0, e.umem, &xsk.SocketConfig{InhibitProgLoad: true})
	for _, fd := range []int{e.umem.FD(), e.FD(), s.FD()} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.NotZero(t, flags&unix.FD_CLOEXEC)
	}
	assert.NotEqual(t, e.FD(), s.FD())
}
