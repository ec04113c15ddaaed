package xsk_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

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

// A socket is known by its rings, also one without a fill ring of its own.
func TestTheRingsOfASocketAreFoundInAProcess(t *testing.T) {
	a, _ := vethPair(t)
	u, err := xsk.NewUmem(nil)
	require.NoError(t, err)
	defer u.Close()
	var inodes []string
	for range 2 { // on one queue
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{TxOnly: true, InhibitProgLoad: true})
		require.NoError(t, err)
		defer s.Close()
		var about unix.Stat_t
		require.NoError(t, unix.Fstat(s.FD(), &about))
		inodes = append(inodes, fmt.Sprintf("socket:[%d]", about.Ino))
	}
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	assert.True(t, xsk.MapsRings(maps, ""))
	for _, inode := range inodes {
		assert.True(t, xsk.MapsRings(maps, inode), "%s in\n%s", inode, maps)
	}
	assert.False(t, xsk.MapsRings(maps, "socket:[1]"))
}

// A kernel that is late to let go of a queue is waited for: nobody is seen to hold
// it. Here that is a socket without mapped rings, for longer than a holder would be
// waited for.
func TestAQueueThatNobodyHoldsIsWaitedFor(t *testing.T) {
	a, _ := vethPair(t)
	device, err := net.InterfaceByName(a)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	memory, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
	require.NoError(t, err)
	defer func() { _ = unix.Munmap(memory) }()
	umem := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&memory[0]))), Len: 1 << 16, Size: 4096}
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_UMEM_REG,
		uintptr(unsafe.Pointer(&umem)), unsafe.Sizeof(umem), 0)
	require.Zero(t, errno)
	for _, ring := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_TX_RING} {
		require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_XDP, ring, 64))
	}
	require.NoError(t, unix.Bind(fd, &unix.SockaddrXDP{Ifindex: uint32(device.Index)}))
	closed := make(chan error)
	go func() {
		time.Sleep(1500 * time.Millisecond)
		closed <- unix.Close(fd)
	}()

	u := newUmem(t, &small)
	s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, <-closed)
	if errors.Is(err, syscall.EBUSY) { // CONFIG_XDP_SOCKETS_DIAG tells that somebody does hold it
		assert.ErrorContains(t, err, "out of sight")
		return
	}
	require.NoError(t, err)
	require.NoError(t, s.Close())
}
