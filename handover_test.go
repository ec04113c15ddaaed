package xsk_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// handedOver opens an AF_XDP socket for one interface, as a privileged process
// does for an unprivileged one.
func handedOver(t testing.TB, ifname string) *os.File {
	t.Helper()
	testns.Kernel(t)
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fd), "AF_XDP")
	t.Cleanup(func() { _ = f.Close() })
	require.NoError(t, unix.BindToDevice(fd, ifname))
	return f
}

// takesFile reports whether this libxdp can make a Umem on a File; where it
// cannot, it checks that the error says so.
func takesFile(t testing.TB, err error) bool {
	t.Helper()
	if !errors.Is(err, errors.ErrUnsupported) {
		return true
	}
	assert.ErrorContains(t, err, "xsk: create umem: File needs libxdp 1.4.0")
	assert.ErrorContains(t, err, "CAP_NET_RAW")
	assert.Less(t, libxdpMinor(t), 4, "this libxdp has xsk_umem__create_with_fd")
	return false
}

func descriptors(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func TestUmemOnAFileClosesItsOwnDescriptorOnly(t *testing.T) {
	a, b := vethPair(t)
	f := handedOver(t, a)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16, File: f}) // loads what is loaded once
	if takesFile(t, err) {
		require.NoError(t, err)
		require.NoError(t, u.Close())
		f = handedOver(t, a)
	}
	before := descriptors(t)
	for range 3 { // a failure closes no descriptor of the caller's, and keeps none
		_, err = xsk.NewUmem(&xsk.UmemConfig{Frames: 16, Headroom: 3800, File: f})
		require.Error(t, err)
		assert.Equal(t, before, descriptors(t))
	}
	u, err = xsk.NewUmem(&xsk.UmemConfig{Frames: 16, File: f})
	if !takesFile(t, err) {
		assert.Equal(t, before, descriptors(t))
		assert.NoError(t, f.Close(), "the File stays the caller's")
		return
	}
	require.NoError(t, err)
	assert.Equal(t, before+1, descriptors(t))
	_, err = xsk.NewUmem(&xsk.UmemConfig{Frames: 16, File: f})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "File AF_XDP has a Umem already")
	assert.Equal(t, before+1, descriptors(t))

	_, err = xsk.NewSocket(b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the Umem's socket is for "+a+" only")
	s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, err)
	require.NoError(t, f.Close(), "the Umem has a descriptor of its own")
	assert.Equal(t, before, descriptors(t))
	require.NoError(t, s.Close())
	require.NoError(t, u.Close())
	assert.Equal(t, before-1, descriptors(t))
}

func TestUmemOnAFileWithTxMetadata(t *testing.T) {
	a, _ := vethPair(t)
	f := handedOver(t, a)
	before := descriptors(t)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16, TxMetadataLen: 24, File: f})
	if errors.Is(err, errors.ErrUnsupported) {
		assert.ErrorContains(t, err, "libxdp 1.5")
		assert.Less(t, libxdpMinor(t), 5, "this libxdp has xsk_umem__create_opts")
		assert.Equal(t, before, descriptors(t))
		return
	}
	require.NoError(t, err)
	s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, err)
	assert.Equal(t, before+1, descriptors(t), "the socket is the one that was handed over")
	require.NoError(t, s.Close())
	require.NoError(t, u.Close())
	assert.Equal(t, before, descriptors(t))
}

// libxdp binds the socket before it fails to attach its program.
func TestFailedProgramSpendsAUmemOnAFile(t *testing.T) {
	f := handedOver(t, "lo")
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16, File: f})
	if !takesFile(t, err) {
		return
	}
	require.NoError(t, err)
	defer u.Close()
	_, err = xsk.NewSocket("lo", 0, u, nil)
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	assert.ErrorContains(t, err, "the driver has no native XDP")
	_, err = xsk.NewSocket("lo", 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "close it and make a new one")
}

func TestUmemRefusesAFileThatIsNoSocketOfItsKind(t *testing.T) {
	testns.Kernel(t)
	regular, err := os.Open("/proc/self/exe")
	require.NoError(t, err)
	defer regular.Close()
	_, err = xsk.NewUmem(&xsk.UmemConfig{File: regular})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "File /proc/self/exe is not an AF_XDP socket")

	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer udp.Close()
	other, err := udp.(*net.UDPConn).File()
	require.NoError(t, err)
	_, err = xsk.NewUmem(&xsk.UmemConfig{File: other})
	assert.ErrorContains(t, err, "is not an AF_XDP socket")
	require.NoError(t, other.Close())
	_, err = xsk.NewUmem(&xsk.UmemConfig{File: other})
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestOpenAllRefusesOneFileForManyQueues(t *testing.T) {
	a, _ := testns.Veth{Queues: 2}.Make(t)
	_, err := xsk.OpenAll(a, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{File: handedOver(t, a)},
		SocketConfig: xsk.SocketConfig{TxOnly: true},
	})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "xsk: open "+a+": UmemConfig.File is one socket, and 2 queues need one each: Open every queue by itself")
}

// unprivilegedHalf, in the environment, makes a test the half without
// privileges; its value is the interface.
const unprivilegedHalf = "XSK_TEST_UNPRIVILEGED"

// A process of nobody without any capability echoes packets on the socket and
// the map that root hands over. Where libxdp takes no socket, CAP_NET_RAW is the
// only capability that it needs.
func TestQueueWithoutPrivileges(t *testing.T) {
	if ifname := os.Getenv(unprivilegedHalf); ifname != "" {
		echoUnprivileged(t, ifname)
		return
	}
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		program := redirect(t, b, m)
		socket := handedOver(t, b)
		u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16, File: handedOver(t, b)})
		var raw []uintptr
		if takesFile(t, err) {
			require.NoError(t, err)
			require.NoError(t, u.Close())
		} else {
			raw = []uintptr{unix.CAP_NET_RAW}
		}

		half := exec.Command("/proc/self/exe", "-test.run=^TestQueueWithoutPrivileges$")
		half.Env = append(os.Environ(), unprivilegedHalf+"="+b)
		var said bytes.Buffer
		half.Stdout, half.Stderr = &said, &said
		fd, err := unix.FcntlInt(uintptr(program.FileDescriptor()), unix.F_DUPFD_CLOEXEC, 3)
		require.NoError(t, err)
		mapFile := os.NewFile(uintptr(fd), "XSKMAP")
		half.ExtraFiles = []*os.File{socket, mapFile}
		half.SysProcAttr = &syscall.SysProcAttr{
			Credential:  &syscall.Credential{Uid: 65534, Gid: 65534},
			AmbientCaps: raw,
			Pdeathsig:   syscall.SIGKILL,
		}
		require.NoError(t, half.Start())
		require.NoError(t, socket.Close())
		require.NoError(t, mapFile.Close())

		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		back := redirect(t, a, m)
		require.NoError(t, tx.UpdateXSKMap(back))
		tx.Fill.Produce(tx.frames(256, 256))
		first := 0
		within(t, 20*time.Second, func() bool { // until it is ready
			tx.send(t, first, 1, 60)
			first++
			ready, err := tx.PollRx(20 * time.Millisecond)
			return assert.NoError(t, err) && ready
		})
		assert.Less(t, number(t, tx.umem.Bytes(tx.receive(t, 1)[0])), first)
		tx.send(t, 1000, 20, 60)
		for seen := 0; seen < 20; { // late ones of the first may come, too
			if number(t, tx.umem.Bytes(tx.receive(t, 1)[0])) >= 1000 {
				seen++
			}
		}
		tx.send(t, lastNumber, 1, 60)
		assert.NoError(t, half.Wait(), &said)
	})
}

// lastNumber ends the echo.
const lastNumber = 4000

// echoUnprivileged sends every packet back until lastNumber.
func echoUnprivileged(t *testing.T, ifname string) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var caps [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &caps[0]))
	raw := caps[0].Effective == 1<<unix.CAP_NET_RAW
	require.True(t, raw || caps[0].Effective == 0, "capabilities %#x", caps[0].Effective)
	require.Zero(t, caps[1].Effective)
	require.Equal(t, caps[0].Effective, caps[0].Permitted)

	uc := small
	socket := os.NewFile(3, "socket")
	if !raw {
		_, err := xsk.NewUmem(&uc)
		require.ErrorIs(t, err, syscall.EPERM)
		require.ErrorContains(t, err, "UmemConfig.File")
		uc.File = socket
	}
	q, err := xsk.Open(ifname, 0, &xsk.Config{
		UmemConfig:   uc,
		SocketConfig: xsk.SocketConfig{TxSize: 256},
		XSKMap:       xsk.MapFD(4),
	})
	require.NoError(t, err)
	require.NoError(t, socket.Close())
	require.NoError(t, unix.Close(4))
	if !raw { // a further socket would have to be opened
		_, err = xsk.NewSocket(ifname, 0, q.Umem(), nil)
		require.ErrorIs(t, err, syscall.EPERM)
		require.ErrorContains(t, err, "CAP_NET_RAW")
	}
	require.NoError(t, q.SetDeadline(time.Now().Add(20*time.Second)))
	for frames := make([]xsk.Frame, 64); ; {
		n, err := q.Receive(frames)
		require.NoError(t, err)
		if number(t, frames[n-1].Data) == lastNumber {
			require.NoError(t, q.Close())
			return
		}
		_, err = q.Send(frames[:n])
		require.NoError(t, err)
	}
}
