package kerneltest

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// Memory for a Umem may be of many kinds, and packets arrive in each.
func TestUmemOnEveryKindOfMemory(t *testing.T) {
	const size = 256 * 4096
	onTmpfs := t.TempDir()
	testns.Kernel(t)
	require.NoError(t, unix.Mount("tmpfs", onTmpfs, "tmpfs", 0, ""))
	defer func() { assert.NoError(t, unix.Unmount(onTmpfs, unix.MNT_DETACH)) }()
	memory, err := unix.MemfdCreate("frames", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	file := func(folder string) int {
		f, err := os.Create(filepath.Join(folder, "frames"))
		require.NoError(t, err)
		t.Cleanup(func() { f.Close() })
		require.NoError(t, f.Truncate(size))
		return int(f.Fd())
	}
	require.NoError(t, unix.Ftruncate(memory, size))
	defer unix.Close(memory)
	for _, kind := range []struct {
		name  string
		fd    int
		flags int
	}{
		{"anonymous and private", -1, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS},
		{"anonymous and shared", -1, unix.MAP_SHARED | unix.MAP_ANONYMOUS},
		{"a memfd", memory, unix.MAP_SHARED},
		{"a file on tmpfs", file(onTmpfs), unix.MAP_SHARED},
		{"a copy of a file on disk", file(t.TempDir()), unix.MAP_PRIVATE},
	} {
		t.Run(kind.name, func(t *testing.T) {
			area, err := unix.Mmap(kind.fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, kind.flags)
			require.NoError(t, err)
			defer func() { assert.NoError(t, unix.Munmap(area)) }()
			u, err := xsk.NewUmem(&xsk.UmemConfig{Area: area})
			require.NoError(t, err)
			nameA, nameB := testns.Veth{}.Make(t)
			b := open(t, nameB, 0, xsk.Config{Umem: u, XSKMap: attach(t, nameB, modes[1])})
			a := open(t, nameA, 0, config(nil))
			queueExchange(t, a, b, 512, 64, 1000)
			settled(t, 0, a, b)
			require.NoError(t, b.Close())
			require.NoError(t, u.Close())
		})
	}
}

// A completion ring smaller than the TX ring stops the kernel, not the program: a
// burst that reaps goes on. A Queue refuses it.
func TestCompletionRingSmallerThanTheTxRing(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		w := wire{umem: xsk.UmemConfig{Frames: 1024, CompletionSize: 16}, tx: xsk.SocketConfig{TxSize: 256}}
		tx, rx := w.lay(t, m)
		exchange(t, tx, rx, 128, tx.plain(512, 64))

		_, nameB := testns.Veth{}.Make(t)
		_, err := xsk.Open(nameB, 0, &xsk.Config{UmemConfig: w.umem, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 256}})
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "the completion ring's 16 entries are fewer than the TX ring's 256")
	})
}
