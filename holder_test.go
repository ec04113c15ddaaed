package xsk_test

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// holds makes the test the process that holds queue 0 of an interface.
const holds = "XSK_TEST_HOLDS"

// A queue that another process holds is refused with its number and name.
func TestTheProcessThatHoldsAQueueIsNamed(t *testing.T) {
	if ifname := os.Getenv(holds); ifname != "" {
		q, err := xsk.Open(ifname, 0, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
		require.NoError(t, err)
		fmt.Println("held")
		_, _ = io.Copy(io.Discard, os.Stdin)
		require.NoError(t, q.Close())
		return
	}
	a, b := vethPair(t)
	holder := exec.Command("/proc/self/exe", "-test.run=^TestTheProcessThatHoldsAQueueIsNamed$")
	holder.Env = append(os.Environ(), holds+"="+a, unprivilegedHalf+"=no")
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdin, err := holder.StdinPipe()
	require.NoError(t, err)
	stdout, err := holder.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, holder.Start())
	word := make([]byte, 4)
	_, err = io.ReadFull(stdout, word)
	require.NoError(t, err)
	require.Equal(t, "held", string(word))

	_, err = xsk.Open(a, 0, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.ErrorIs(t, err, syscall.EBUSY)
	process := fmt.Sprintf("process %d (exe)", holder.Process.Pid) // as it was started
	assert.ErrorContains(t, err, "xsk: open "+a+" queue 0: ")
	assert.ErrorContains(t, err, process) // who holds it, or, without CONFIG_XDP_SOCKETS_DIAG, who could
	assert.ErrorContains(t, err, "holds the queue")
	openQueue(t, b, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})

	require.NoError(t, stdin.Close())
	_, _ = io.Copy(io.Discard, stdout)
	require.NoError(t, holder.Wait())
	openQueue(t, a, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
}
