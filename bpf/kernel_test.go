package bpf_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) {
	if ifname := os.Getenv(helperInterface); ifname != "" {
		helper(ifname)
	}
	testns.Main(m, plug)
}

var everything = bpf.Options{Filter: bpf.Filter{All: true}}

func udpPorts(ports ...uint16) bpf.Options {
	return bpf.Options{Filter: bpf.Filter{UDPPorts: ports}}
}

// attach attaches until the test ends.
func attach(t testing.TB, ifname string, o bpf.Options) *bpf.Program {
	t.Helper()
	p, err := bpf.Attach(ifname, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// sysBPF is bpf(2).
func sysBPF(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	for tries := 0; errno == unix.EAGAIN && tries < 100; tries++ { // a signal ends the verifier
		r, _, errno = unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	}
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// verdict runs the program on packet as if it had come in by queue 0.
func verdict(t testing.TB, p *bpf.Program, packet []byte) uint32 {
	t.Helper()
	result, _ := runProg(t, p.ProgFD(), packet, 1)
	return result
}

// runProg runs a program repeatedly and returns the nanoseconds of one run as
// well.
func runProg(t testing.TB, prog int, packet []byte, repeat int) (result, duration uint32) {
	t.Helper()
	attr := struct {
		prog, result      uint32
		sizeIn, sizeOut   uint32
		in, out           unsafe.Pointer
		repeat, duration  uint32
		ctxIn, ctxOut     uint32
		ctx, ctxResult    unsafe.Pointer
		flags, cpu, batch uint32
		_                 uint32
	}{prog: uint32(prog), sizeIn: uint32(len(packet)), in: unsafe.Pointer(&packet[0]), repeat: uint32(repeat)}
	_, err := sysBPF(unix.BPF_PROG_TEST_RUN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	for err == unix.EINTR { // a long run, and the Go scheduler's signal
		_, err = sysBPF(unix.BPF_PROG_TEST_RUN, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	}
	require.NoError(t, err, "test run")
	return attr.result, attr.duration
}

const (
	xdpPass     = 2
	xdpRedirect = 4
)

// register puts an AF_XDP socket into a slot of the map: one with an RX ring,
// all that a slot asks for.
func register(t testing.TB, xskMap, slot int) error {
	t.Helper()
	socket, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(socket) })
	require.NoError(t, unix.SetsockoptInt(socket, unix.SOL_XDP, unix.XDP_RX_RING, 64))
	key, value := uint32(slot), uint32(socket)
	attr := struct {
		fd, _      uint32
		key, value unsafe.Pointer
		flags      uint64
	}{fd: uint32(xskMap), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value)}
	_, err = sysBPF(unix.BPF_MAP_UPDATE_ELEM, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	return err
}

// loadProgram loads a program's instructions until t ends.
func loadProgram(t testing.TB, kind uint32, code []uint64) (prog int) {
	t.Helper()
	license := []byte("Dual BSD/GPL\x00")
	load := struct {
		kind, count   uint32
		code, license unsafe.Pointer
		_             [44]byte
		attach        uint32 // for XDP, where libbpf says it too, so that links take either
		_             [40]byte
	}{kind: kind, count: uint32(len(code)), code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0])}
	if kind == unix.BPF_PROG_TYPE_XDP {
		load.attach = unix.BPF_XDP
	}
	prog, err := sysBPF(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(prog) })
	return prog
}

// foreign attaches somebody else's program, which passes everything.
func foreign(t *testing.T, ifname, name string, flags uint32) {
	t.Helper()
	testns.AttachXDP(t, ifname, name, flags, 0xb7|xdpPass<<32, 0x95) // r0 = XDP_PASS; exit
}

// A tap is an AF_PACKET socket on an interface. What a program passes on, the
// tap sees; what it redirects, not.
type tap int

func openTap(t testing.TB, ifname string) tap {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	all := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: device.Index}))
	return tap(fd)
}

func (s tap) send(t testing.TB, packet []byte) {
	t.Helper()
	_, err := unix.Write(int(s), packet)
	require.NoError(t, err)
}

// sees reports whether packet arrives within the time.
func (s tap) sees(t *testing.T, packet []byte, within time.Duration) bool {
	t.Helper()
	buffer := make([]byte, 65536)
	for end := time.Now().Add(within); ; {
		left := time.Until(end)
		if left <= 0 {
			return false
		}
		poll := []unix.PollFd{{Fd: int32(s), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, int(left/time.Millisecond)+1); n == 0 || err == unix.EINTR {
			continue
		}
		n, err := unix.Read(int(s), buffer)
		require.NoError(t, err)
		if string(buffer[:n]) == string(packet) {
			return true
		}
	}
}

// programs is what ip(8) would print: the ids on an interface.
func programs(t *testing.T, ifname string) (native, generic uint32) {
	t.Helper()
	native, generic, err := bpf.XDPQuery(ifname)
	require.NoError(t, err)
	return native, generic
}

// mapSlots reads max_entries of a map.
func mapSlots(t *testing.T, fd int) uint32 {
	t.Helper()
	var info struct{ kind, id, keySize, valueSize, maxEntries, flags uint32 }
	attr := struct {
		fd, size uint32
		info     unsafe.Pointer
	}{uint32(fd), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
	_, err := sysBPF(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&attr), unsafe.Sizeof(attr))
	require.NoError(t, err)
	require.EqualValues(t, unix.BPF_MAP_TYPE_XSKMAP, info.kind)
	return info.maxEntries
}

// helperInterface makes the test binary a program that attaches and waits.
const helperInterface = "XSK_BPF_TEST_HELPER"

// helperRefused is the number of a family of sockets that the helper does without.
const helperRefused = "XSK_BPF_TEST_REFUSED"

func helper(ifname string) {
	if family, err := strconv.Atoi(os.Getenv(helperRefused)); err == nil {
		if err = testns.RefuseSockets(family, unix.EAFNOSUPPORT); err != nil {
			fmt.Println(err)
		}
	}
	if _, err := bpf.Attach(ifname, everything); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("attached")
	select {}
}
