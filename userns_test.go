package xsk_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// Root of a user namespace sends on an interface of its own network, but loads no
// program.
func TestAQueueInAUserNamespace(t *testing.T) {
	if os.Getenv(unprivilegedHalf) == "" {
		testns.Kernel(t)
		half := exec.Command("/proc/self/exe", "-test.run=^TestAQueueInAUserNamespace$")
		half.Env = append(os.Environ(), unprivilegedHalf+"=lo")
		half.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{Size: 1}},
			Pdeathsig:   syscall.SIGKILL,
		}
		said, err := half.CombinedOutput()
		require.NoError(t, err, "%s", said)
		assert.Contains(t, string(said), "PASS")
		return
	}
	testns.IP(t, "link", "set", "lo", "up")
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	limit.Cur = 1 << 20
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit))

	_, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 1024, FrameSize: 2048})
	require.ErrorIs(t, err, syscall.ENOBUFS, "its CAP_IPC_LOCK does not count")
	u := newUmem(t, &xsk.UmemConfig{Frames: 256, FrameSize: 2048})
	q, err := xsk.Open("lo", 0, &xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	sendPackets(t, q, 0, 3, 60)
	require.NoError(t, q.Close())
	require.NoError(t, u.Close())
	_, err = xsk.NewSocket("lo", 0, newUmem(t, &xsk.UmemConfig{Frames: 64, FrameSize: 2048}), &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	require.ErrorIs(t, err, syscall.EPERM)
}
