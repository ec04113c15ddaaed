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
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// described attaches bpf's program with metadata.
func described(t *testing.T, ifname string) *bpf.Program {
	t.Helper()
	testns.Need(t, "6.8 VLAN tag for XDP programs")
	p, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}, Metadata: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// tagger puts tag 5 of priority 3 into what is sent through ifname, in the way
// that leaves it to the device, until the function that it returns is called.
func tagger(t *testing.T, ifname string) (stop func()) {
	t.Helper()
	prog := loadProgram(t, unix.BPF_PROG_TYPE_SCHED_CLS, []uint64{
		insn(set, 2, 0, 0, 0x0081), // htons(0x8100)
		insn(set, 3, 0, 0, 3<<13|5),
		insn(call, 0, 0, 0, 18), // bpf_skb_vlan_push
		insn(set, 0, 0, 0, 0),   // TCX_PASS
		insn(exit, 0, 0, 0, 0),
	})
	const egress = 47 // BPF_TCX_EGRESS, Linux 6.6
	link := linkProgram(t, prog, ifname, egress, 0)
	return func() { require.NoError(t, unix.Close(link)) }
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

// describes asserts what veth tells: a time, which it has not from any clock, a
// hash, and a VLAN tag only if there was one.
func describes(t *testing.T, m xsk.RxMetadata, ok, tag bool) {
	t.Helper()
	require.True(t, ok, "no metadata")
	assert.True(t, m.HasTimestamp)
	assert.Zero(t, m.Timestamp)
	assert.True(t, m.HasHash)
	assert.NotZero(t, m.Hash)
	assert.Equal(t, tag, m.HasVLAN)
	if tag {
		assert.EqualValues(t, 3<<13|5, m.VLANTCI)
		assert.EqualValues(t, 0x8100, m.VLANProto)
	} else {
		assert.Zero(t, m.VLANTCI)
		assert.Zero(t, m.VLANProto)
	}
}

func TestRxMetadataOfAFrame(t *testing.T) {
	a, b := vethPair(t)
	q := openQueue(t, a, modes[1], xsk.Config{XSKMap: described(t, a)})
	frames := make([]xsk.Frame, 4)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	send := rawSender(t, b)
	for i := range 600 { // every frame more than once, some with what a tagged one left
		stop := func() {}
		if i%100 == 50 {
			stop = tagger(t, b)
		}
		send(i)
		n, err := q.Receive(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, i, number(t, frames[0].Data))
		m, ok := frames[0].RxMetadata()
		describes(t, m, ok, i%100 == 50)
		stop()
	}
	f := &frames[0]
	f.Data = f.Data[14:]
	_, ok := f.RxMetadata()
	assert.False(t, ok, "Data begins elsewhere")
	assert.Zero(t, testing.AllocsPerRun(10, func() { frames[0].RxMetadata() }))
}

func TestRxMetadataOfAPacketInFragments(t *testing.T) {
	a, b := testns.Veth{MTU: 9000}.Make(t)
	q := openQueue(t, a, modes[1], xsk.Config{
		XSKMap:       described(t, a),
		SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
	})
	packet := make([]byte, 5000)
	fillPacket(packet, 1)
	_, err := unix.Write(packetSocket(t, b), packet)
	require.NoError(t, err)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = q.Receive(frames)
	require.NoError(t, err)
	m, ok := frames[0].RxMetadata()
	describes(t, m, ok, false)
	got := make([]byte, 6000)
	assert.Equal(t, packet, got[:frames[0].CopyTo(got)])
	assert.NotEmpty(t, frames[0].Frags)
}

func TestRxMetadataOfADescriptor(t *testing.T) {
	a, b := vethPair(t)
	rx := newEnd(t, a, &xsk.UmemConfig{Frames: 64, FrameSize: 2048, Headroom: 64}, &xsk.SocketConfig{InhibitProgLoad: true})
	rx.Fill.Produce(rx.frames(0, 16))
	require.NoError(t, rx.UpdateXSKMap(described(t, a)))
	send := rawSender(t, b)
	send(1)
	defer tagger(t, b)()
	send(2)
	for i, d := range rx.receive(t, 2) {
		assert.Equal(t, i+1, number(t, rx.umem.Bytes(d)))
		m, ok := rx.umem.RxMetadata(d)
		describes(t, m, ok, i == 1)
	}
}

// A packet that another program has sent back is no skb, and veth knows nothing
// of it.
func TestRxMetadataThatTheDeviceLacks(t *testing.T) {
	a, b := vethPair(t)
	q := openQueue(t, a, modes[1], xsk.Config{XSKMap: described(t, a)})
	prog := loadProgram(t, unix.BPF_PROG_TYPE_XDP, []uint64{insn(set, 0, 0, 0, 3), insn(exit, 0, 0, 0, 0)}) // XDP_TX
	defer unix.Close(linkProgram(t, prog, b, unix.BPF_XDP, uint32(xsk.XDPDrvMode)))
	rawSender(t, a)(1)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := q.Receive(frames)
	require.NoError(t, err)
	assert.Equal(t, 1, number(t, frames[0].Data))
	m, ok := frames[0].RxMetadata()
	assert.True(t, ok)
	assert.Equal(t, xsk.RxMetadata{}, m)
}

func TestNoRxMetadataWithoutTheProgramForIt(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		q := openQueue(t, a, m, xsk.Config{})
		frames := make([]xsk.Frame, 1)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
		rawSender(t, b)(1)
		_, err := q.Receive(frames)
		require.NoError(t, err)
		_, ok := frames[0].RxMetadata()
		assert.False(t, ok)
	})
}

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
	prog := loadProgram(t, unix.BPF_PROG_TYPE_XDP, []uint64{
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

func loadProgram(t *testing.T, kind uint32, code []uint64) int {
	t.Helper()
	license := []byte("GPL\x00")
	return sysBPF(t, unix.BPF_PROG_LOAD, &struct {
		kind, count   uint32
		code, license unsafe.Pointer
		_             [5]uint64
	}{kind, uint32(len(code)), unsafe.Pointer(&code[0]), unsafe.Pointer(&license[0]), [5]uint64{}})
}

// linkProgram attaches a program, whose descriptor it closes, for as long as the
// link is open.
func linkProgram(t *testing.T, prog int, ifname string, kind, flags uint32) (link int) {
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
func sysBPF[T any](t *testing.T, command uintptr, attr *T) int {
	t.Helper()
	fd, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	require.Zero(t, errno)
	return int(fd)
}
