package xsk_test

import (
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A program's own metadata, eight bytes of it, arrives in both modes.
func TestMetadataOfAProgramOfOnesOwn(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		xsks := newXSKMap(t, 1)
		attachOwn(t, a, m, xsks)
		q := openQueue(t, a, m, xsk.Config{XSKMap: xsks})
		frames := make([]xsk.Frame, 1)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
		rawSender(t, b)(1)
		_, err := q.Receive(frames)
		require.NoError(t, err)
		f := &frames[0]
		assert.Equal(t, 1, number(t, f.Data))
		assert.Equal(t, "metadata", string(f.Metadata(8)))
		assert.Equal(t, "data", string(f.Metadata(4)))
		assert.Equal(t, 8, cap(f.Metadata(8)))
		_, ok := f.RxMetadata()
		assert.False(t, ok, "it is not bpf's")

		room := 0
		for ; f.Metadata(room+1) != nil; room++ {
		}
		assert.GreaterOrEqual(t, room, 256)
		require.True(t, f.Prepend(room))
		assert.NotNil(t, f.Metadata(0))
		assert.Nil(t, f.Metadata(1), "before the frame")
		assert.Nil(t, f.Metadata(-1))
		assert.Nil(t, new(xsk.Frame).Metadata(1))
	})
}

func TestMetadataStaysInsideTheFrame(t *testing.T) {
	u := newUmem(t, &small)
	copy(u.Bytes(xsk.Desc{Addr: 2048, Len: 300}), "before")
	assert.Equal(t, "before", string(u.Metadata(xsk.Desc{Addr: 2054}, 6)))
	assert.NotNil(t, u.Metadata(xsk.Desc{Addr: 2048}, 0))
	for _, addr := range []xsk.Addr{0, 2048, 2053, 1 << 20, 1 << 40} {
		assert.Nil(t, u.Metadata(xsk.Desc{Addr: addr}, 6), addr)
		_, ok := u.RxMetadata(xsk.Desc{Addr: addr})
		assert.False(t, ok)
	}
	assert.Nil(t, u.Metadata(xsk.Desc{Addr: 2054}, -1))
	require.NoError(t, u.Close())
	assert.Nil(t, u.Metadata(xsk.Desc{Addr: 2054}, 6))

	u = newUmem(t, &xsk.UmemConfig{Frames: 16, FrameSize: 3000, Flags: xsk.UmemUnalignedChunk})
	assert.Len(t, u.Metadata(xsk.Desc{Addr: 3000 | 320<<48}, 320), 320)
	assert.Nil(t, u.Metadata(xsk.Desc{Addr: 3000 | 320<<48}, 321))
	assert.Len(t, u.Metadata(xsk.Desc{Addr: 3320}, 3320), 3320)
	assert.Nil(t, u.Metadata(xsk.Desc{Addr: 3320}, 3321))
}

// attachOwn attaches a program that writes "metadata" before each packet and
// redirects it through xsks.
func attachOwn(t *testing.T, ifname string, m mode, xsks xsk.MapFD) {
	t.Helper()
	prog := loadProgram(t, unix.BPF_PROG_TYPE_XDP, 0, []uint64{
		insn(move, 6, 1, 0, 0),
		insn(set, 2, 0, 0, -8),
		insn(call, 0, 0, 0, 54), // bpf_xdp_adjust_meta
		insn(differs, 0, 0, 13, 0),
		insn(load, 2, 6, 8, 0), // data_meta
		insn(load, 3, 6, 0, 0), // data
		insn(move, 4, 2, 0, 0),
		insn(add, 4, 0, 0, 8),
		insn(greater, 4, 3, 8, 0),
		insn(store, 2, 0, 0, 'm'|'e'<<8|'t'<<16|'a'<<24),
		insn(store, 2, 0, 4, 'd'|'a'<<8|'t'<<16|'a'<<24),
		insn(load, 2, 6, 16, 0), // rx_queue_index
		insn(wide, 1, 1, 0, int32(xsks.FileDescriptor())), 0,
		insn(set, 3, 0, 0, 0),
		insn(call, 0, 0, 0, 51), // bpf_redirect_map
		insn(exit, 0, 0, 0, 0),
		insn(set, 0, 0, 0, 1), // XDP_DROP
		insn(exit, 0, 0, 0, 0),
	})
	link := linkProgram(t, prog, ifname, unix.BPF_XDP, uint32(m.flags))
	t.Cleanup(func() { assert.NoError(t, unix.Close(link)) })
}

// Opcodes of insn.
const (
	add     = 0x07 // to dst
	wide    = 0x18 // a map's descriptor, of two words
	greater = 0x2d // than src: skip off
	differs = 0x55 // from imm: skip off
	load    = 0x61 // from src + off
	store   = 0x62 // imm to dst + off
	call    = 0x85
	exit    = 0x95
	set     = 0xb7 // dst to imm
	move    = 0xbf
)

// insn is a struct bpf_insn.
func insn(code, dst, src, off uint64, imm int32) uint64 {
	return code | dst<<8 | src<<12 | off<<16 | uint64(uint32(imm))<<32
}

func loadProgram(t testing.TB, kind, flags uint32, code []uint64) int {
	t.Helper()
	license := []byte("GPL\x00")
	load := struct {
		kind, count          uint32
		code, license        unsafe.Pointer
		logLevel, logSize    uint32
		log                  unsafe.Pointer
		kernelVersion, flags uint32
		name                 [16]byte
	}{kind: kind, count: uint32(len(code)), code: unsafe.Pointer(&code[0]), license: unsafe.Pointer(&license[0]), flags: flags}
	copy(load.name[:], "xsk_redirect")
	return sysBPF(t, unix.BPF_PROG_LOAD, &load)
}

// linkProgram attaches a program, whose descriptor it closes, for as long as the
// link is open.
func linkProgram(t testing.TB, prog int, ifname string, kind, flags uint32) (link int) {
	t.Helper()
	i, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	link = sysBPF(t, unix.BPF_LINK_CREATE, &struct {
		prog, ifindex, kind, flags uint32
		_                          [4]uint64
	}{uint32(prog), uint32(i.Index), kind, flags, [4]uint64{}})
	require.NoError(t, unix.Close(prog))
	return link
}

// sysBPF is bpf(2).
func sysBPF[T any](t testing.TB, command uintptr, attr *T) int {
	t.Helper()
	return testns.BPF(t, int(command), unsafe.Pointer(attr), unsafe.Sizeof(*attr))
}

// rawSender returns a function that sends packet n from the kernel's stack.
func rawSender(t *testing.T, ifname string) func(n int) {
	fd := packetSocket(t, ifname)
	packet := make([]byte, 60)
	return func(n int) {
		t.Helper()
		fillPacket(packet, n)
		_, err := unix.Write(fd, packet)
		require.NoError(t, err)
	}
}
