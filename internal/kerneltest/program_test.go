package kerneltest

import (
	"encoding/binary"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/aquasecurity/libbpfgo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
	testns.AttachXDP(t, ifname, name, uint32(m.xdp), 0xb7|verdict<<32, 0x95) // r0 = verdict; exit
}

// A scenario is a program of scenario.bpf.c on an interface.
type scenario struct {
	*libbpfgo.BPFMap // that it redirects through
	data             *libbpfgo.BPFMap
}

// A state is what the program says: struct state there.
type state struct {
	seen, refused int
	why           syscall.Errno
}

func (s *scenario) state(t testing.TB) state {
	t.Helper()
	var key uint32
	b, err := s.data.GetValue(unsafe.Pointer(&key))
	require.NoError(t, err)
	word := func(i int) uint32 { return binary.NativeEndian.Uint32(b[4*i:]) }
	return state{int(word(0)), int(word(1)), syscall.Errno(-int32(word(2)))}
}

// attachScenario attaches a program of scenario.bpf.c until t ends. delta is what
// "tail" adds to a packet.
func attachScenario(t testing.TB, program, ifname string, m mode, delta int32) *scenario {
	t.Helper()
	if m.bpf == bpf.Generic && strings.HasSuffix(program, "_frags") {
		testns.NeedGenericFrags(t)
	}
	module, err := libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{BPFObjPath: "scenario.bpf.o", SkipMemlockBump: true})
	require.NoError(t, err)
	t.Cleanup(module.Close)
	for _, name := range []string{"half", "mac", "tail", "meta"} {
		for _, name := range []string{name, name + "_frags"} {
			prog, err := module.GetProgram(name)
			require.NoError(t, err)
			require.NoError(t, prog.SetAutoload(name == program))
		}
	}
	require.NoError(t, module.InitGlobalVariable("delta", delta))
	require.NoError(t, module.BPFLoadObject())
	prog, err := module.GetProgram(program)
	require.NoError(t, err)
	testns.LinkXDP(t, ifname, prog.FileDescriptor(), uint32(m.xdp))
	xsks, err := module.GetMap("xsks_map")
	require.NoError(t, err)
	data, err := module.GetMap(".bss")
	require.NoError(t, err)
	return &scenario{xsks, data}
}
