package kerneltest

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"unsafe"

	"github.com/aquasecurity/libbpfgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestForeignProgramIsNamedAndStays(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := testns.Veth{}.Make(t)
		foreign(t, nameB, "somebody_else", xdpPass, m)
		was := attached(t, nameB)
		require.NotEmpty(t, was)
		for _, other := range modes {
			_, err := bpf.Attach(nameB, bpf.Options{Filter: bpf.Filter{All: true}, Mode: other.bpf})
			require.ErrorIs(t, err, syscall.EBUSY)
			assert.ErrorContains(t, err, nameB)
			assert.ErrorContains(t, err, `"somebody_else"`)

			c := xsk.Config{UmemConfig: small, LibxdpProgram: true}
			c.SocketConfig.XDPFlags = other.xdp
			q, err := xsk.Open(nameB, 0, &c)
			if !assert.Error(t, err, "libxdp in %s mode", other.name) {
				require.NoError(t, q.Close())
				continue
			}
			assert.ErrorContains(t, err, fmt.Sprintf("xsk: open %s queue 0: ", nameB))
			assert.ErrorContains(t, err, `"somebody_else"`)
			assert.Equal(t, was, attached(t, nameB))
		}
		// The queue is not in the way of those that only send, nor left busy.
		b := open(t, nameB, 0, config(nil))
		a := open(t, nameA, 0, config(attach(t, nameA, m)))
		send(t, b, 1, 10, 60)
		expect(t, a, 1, 10)
		settled(t, 0, a, b)
		assert.Equal(t, was, attached(t, nameB))
	})
}

// verdicts of XDP programs
const (
	xdpDrop = 1
	xdpPass = 2
)

// foreign attaches somebody else's program, which answers verdict to
// everything, until t ends.
func foreign(t testing.TB, ifname, name string, verdict uint64, m mode) {
	t.Helper()
	code := [2]uint64{0xb7 | verdict<<32, 0x95} // r0 = verdict; exit
	license := []byte("GPL\x00")
	load := struct {
		kind, count    uint32
		code, license  unsafe.Pointer
		level, size    uint32
		log            unsafe.Pointer
		version, flags uint32
		name           [16]byte
	}{kind: unix.BPF_PROG_TYPE_XDP, count: 2, code: unsafe.Pointer(&code), license: unsafe.Pointer(&license[0])}
	copy(load.name[:], name)
	prog, err := sysBPF(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	require.NoError(t, err)
	defer unix.Close(prog)
	link(t, prog, ifname, m)
}

// link attaches a program until t ends.
func link(t testing.TB, prog int, ifname string, m mode) {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	create := struct{ prog, ifindex, kind, flags uint32 }{uint32(prog), uint32(device.Index), unix.BPF_XDP, uint32(m.xdp)}
	fd, err := sysBPF(unix.BPF_LINK_CREATE, unsafe.Pointer(&create), unsafe.Sizeof(create))
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
}

// attachScenario attaches a program of scenario.bpf.c until t ends, and returns
// the map that it redirects through. delta is what "tail" adds to a packet.
func attachScenario(t testing.TB, program, ifname string, m mode, delta int32) xsk.XSKMap {
	t.Helper()
	module, err := libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{BPFObjPath: "scenario.bpf.o", SkipMemlockBump: true})
	require.NoError(t, err)
	t.Cleanup(module.Close)
	for _, name := range []string{"half", "mac", "tail", "half_frags", "mac_frags", "tail_frags"} {
		prog, err := module.GetProgram(name)
		require.NoError(t, err)
		require.NoError(t, prog.SetAutoload(name == program))
	}
	require.NoError(t, module.InitGlobalVariable("delta", delta))
	require.NoError(t, module.BPFLoadObject())
	prog, err := module.GetProgram(program)
	require.NoError(t, err)
	link(t, prog.FileDescriptor(), ifname, m)
	xsks, err := module.GetMap("xsks_map")
	require.NoError(t, err)
	return xsks
}

func sysBPF(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}
