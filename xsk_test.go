package xsk_test

import (
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
)

func TestLibxdpIsSilentUntilAsked(t *testing.T) {
	a, _ := vethPair(t)
	bind := func() {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, u.Close())
	}
	assert.NotContains(t, stderrOf(t, bind), "libxdp")
	var mu sync.Mutex
	lines := map[string]int{}
	count := func(library string) func(xsk.LogLevel, string) {
		return func(_ xsk.LogLevel, text string) {
			mu.Lock()
			defer mu.Unlock()
			assert.NotEmpty(t, text)
			lines[library]++
		}
	}
	xsk.SetLogger(count("libxdp"))
	require.NoError(t, xsk.SetLibbpfLogger(count("libbpf")))
	assert.Empty(t, stderrOf(t, bind))
	assert.NotZero(t, lines["libxdp"])
	assert.NotZero(t, lines["libbpf"])
	// A hook may do what it likes, also start a process and call the library.
	u := newUmem(t, &small)
	xsk.SetLogger(func(xsk.LogLevel, string) {
		_ = exec.Command("true").Run()
		u.FD()
	})
	bind()
	xsk.SetLogger(nil)
	require.NoError(t, xsk.SetLibbpfLogger(nil))
	clear(lines)
	bind()
	assert.Empty(t, lines)
}

// stderrOf is what f makes the process print to its standard error.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	kept, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, unix.Dup3(int(file.Fd()), 2, 0))
	f()
	require.NoError(t, unix.Dup3(kept, 2, 0))
	require.NoError(t, unix.Close(kept))
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	return string(text)
}
