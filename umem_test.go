package xsk_test

import (
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestUmemZeroConfigMeansLibxdpsDefaults(t *testing.T) {
	for _, cfg := range []*xsk.UmemConfig{nil, {}} {
		u := newUmem(t, cfg)
		assert.Equal(t, 4096, u.Frames())
		assert.Equal(t, 4096, u.FrameSize())
		assert.Equal(t, 4096-256, u.MaxPacket())
		assert.Equal(t, 2048, u.Fill.Free())
		assert.Equal(t, "4096 frames of 4096 bytes", u.String())
	}
}

func TestNewUmemSaysWhichRuleIsBroken(t *testing.T) {
	for rule, cfg := range map[string]xsk.UmemConfig{
		"FrameSize 3000 is not a power of two":            {FrameSize: 3000},
		"FrameSize 1024 is outside 2048 to 4096":          {FrameSize: 1024},
		"FrameSize 8192 is outside 2048 to 4096":          {FrameSize: 8192},
		"FrameSize -1 is outside":                         {FrameSize: -1},
		"Headroom 4096 leaves no room for a packet":       {Headroom: 4096},
		"Headroom 3840 leaves no room for a packet":       {Headroom: 3840},
		"Headroom -1 leaves no room for a packet":         {Headroom: -1},
		"Headroom 3800 may be too much":                   {Headroom: 3800},
		"FillSize 3 is not a power of two":                {FillSize: 3},
		"FillSize 2097152 is more than 1048576 entries":   {FillSize: 2 << 20},
		"CompletionSize -2048 is not a power of two":      {CompletionSize: -2048},
		"Flags 0x100 has unknown bits 0x100":              {Flags: 0x100},
		"Frames -1 is not a number of frames":             {Frames: -1},
		"Area of 0 bytes is smaller than a frame of 4096": {Area: mapping(t, 4096, unix.PROT_READ)[:0]},
		"is not a multiple of the page size":              {Area: mapping(t, 8192, unix.PROT_READ)[1:4097]},
		"Area of 6144 bytes is not a multiple":            {Area: mapping(t, 8192, unix.PROT_READ)[:6144]},
		"Frames is 3, but Area holds 2":                   {Area: mapping(t, 8192, unix.PROT_READ), Frames: 3},
		"HugePages goes with memory that NewUmem maps":    {Area: mapping(t, 8192, unix.PROT_READ), HugePages: true},
	} {
		t.Run(rule, func(t *testing.T) {
			testns.Kernel(t)
			u, err := xsk.NewUmem(&cfg)
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, "xsk: create umem: ")
			assert.ErrorContains(t, err, rule)
			assert.Nil(t, u)
		})
	}
}

// mapping is memory outside the Go heap.
func mapping(t *testing.T, size, prot int) []byte {
	t.Helper()
	m, err := unix.Mmap(-1, 0, size, prot, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, unix.Munmap(m)) })
	return m
}

func TestUmemOverTheCallersMappingLeavesItMapped(t *testing.T) {
	area := mapping(t, 16*2048, unix.PROT_READ|unix.PROT_WRITE)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Area: area, FrameSize: 2048})
	testns.Kernel(t)
	require.NoError(t, err)
	assert.Equal(t, 16, u.Frames())
	u.Bytes(xsk.Desc{Addr: 2048, Len: 1})[0] = 42
	assert.EqualValues(t, 42, area[2048])
	require.NoError(t, u.Close())
	area[2048] = 43 // still there
}

func TestUmemRefusesMemoryTheKernelCannotPin(t *testing.T) {
	testns.Kernel(t)
	_, err := xsk.NewUmem(&xsk.UmemConfig{Area: mapping(t, 4096, unix.PROT_READ)})
	require.ErrorIs(t, err, syscall.EFAULT)
	assert.ErrorContains(t, err, "it must be writable")
}

func TestUmemHugePagesFallsBackAndSaysSo(t *testing.T) {
	free, err := os.ReadFile("/proc/sys/vm/nr_hugepages")
	require.NoError(t, err)
	u := newUmem(t, &xsk.UmemConfig{Frames: 16, HugePages: true})
	assert.Equal(t, string(free) != "0\n", u.HugePages())
	assert.Len(t, u.Bytes(xsk.Desc{Addr: 15 * 4096, Len: 4096}), 4096)
}

// Some kernels, 6.18.44 among them, keep room behind a packet too.
func TestHeadroomGoesToTheKernelsLimit(t *testing.T) {
	for _, size := range []int{2048, 4096} {
		u := newUmem(t, &xsk.UmemConfig{Frames: 16, FrameSize: size, Headroom: size - 704})
		assert.Equal(t, 448, u.MaxPacket())
		for _, headroom := range []int{size - 703, size - 257, size - 256, size} {
			u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16, FrameSize: size, Headroom: headroom})
			if err == nil && headroom < size-256 {
				assert.NoError(t, u.Close())
				continue
			}
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, fmt.Sprintf("Headroom %d", headroom))
		}
	}
}

func TestUmemTakesOddFramesUnaligned(t *testing.T) {
	u := newUmem(t, &xsk.UmemConfig{Frames: 8, FrameSize: 3000, Flags: xsk.UmemUnalignedChunk})
	assert.Equal(t, 3000-256, u.MaxPacket())
	b := u.Bytes(xsk.Desc{Addr: 100<<48 | 3000, Len: 10})
	assert.Len(t, b, 10)
	assert.Equal(t, 2900, cap(b))
	assert.Panics(t, func() { u.Bytes(xsk.Desc{Addr: 7*3000 + 1, Len: 3000}) }, "the Umem ends")
}

func TestBytesEndsWithItsFrame(t *testing.T) {
	u := newUmem(t, &xsk.UmemConfig{Frames: 4, FrameSize: 2048})
	b := u.Bytes(xsk.Desc{Addr: 2048 + 256, Len: 60})
	assert.Len(t, b, 60)
	assert.Equal(t, 2048-256, cap(b))
	assert.Len(t, u.Bytes(xsk.Desc{Addr: 3 * 2048, Len: 2048}), 2048)
	assert.Empty(t, u.Bytes(xsk.Desc{Addr: 2048}))
	for _, d := range []xsk.Desc{
		{Addr: 2048 + 1, Len: 2048},
		{Addr: 0, Len: 2049},
		{Addr: 4 * 2048, Len: 1},
		{Addr: 1<<48 | 4*2048, Len: 1},
		{Addr: ^xsk.Addr(0), Len: 1},
		{Addr: ^xsk.Addr(0) - 1, Len: 2},
		{Addr: 0, Len: ^uint32(0)},
	} {
		assert.Panics(t, func() { u.Bytes(d) }, "%+v", d)
	}
}

func TestUmemCloseTwiceThenAnswersNothing(t *testing.T) {
	u := newUmem(t, &small)
	assert.GreaterOrEqual(t, u.FD(), 0)
	require.NoError(t, u.Close())
	require.NoError(t, u.Close())
	assert.Equal(t, -1, u.FD())
	assert.Nil(t, u.Bytes(xsk.Desc{Len: 1}))
	assert.Zero(t, u.Fill.Produce([]xsk.Addr{0}))
	assert.Zero(t, u.Fill.Free())
	assert.False(t, u.Fill.NeedsWakeup())
	assert.Zero(t, u.Completion.Consume(make([]xsk.Addr, 1)))
	_, err := xsk.NewSocket("lo", 0, u, nil)
	assert.ErrorIs(t, err, net.ErrClosed)
	assert.NotEmpty(t, u.String())
}

func TestMissingPrivilegeNamesTheCapability(t *testing.T) {
	testns.Kernel(t)
	without(t, func() {
		_, err := xsk.NewUmem(nil)
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "CAP_NET_RAW")
	}, unix.CAP_NET_RAW)
}

func TestMemlockLimitSaysNeedAndLimit(t *testing.T) {
	testns.Kernel(t)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit))
	lowered := limit
	lowered.Cur = 1 << 20
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &lowered))
	defer func() { assert.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit)) }()
	without(t, func() {
		_, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 4096, FrameSize: 2048})
		assert.ErrorIs(t, err, syscall.ENOBUFS)
		assert.ErrorContains(t, err, "8388608 bytes to lock, RLIMIT_MEMLOCK is 1048576: raise it, or grant CAP_IPC_LOCK")
	}, unix.CAP_IPC_LOCK)
	newUmem(t, &xsk.UmemConfig{Frames: 4096, FrameSize: 2048}) // with the capability the limit does not count
}

// A received packet begins behind the kernel's 256 bytes and the headroom.
func TestHeadroomIsKeptFree(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		for _, headroom := range []int{0, 128, 512} {
			uc := small
			uc.Headroom = headroom
			tx, rx := newPair(t, m, uc)
			rx.Fill.Produce(rx.frames(7, 1))
			tx.send(t, 1, 1, 60)
			d := rx.receive(t, 1)[0]
			assert.Equal(t, rx.frame(7)+256+xsk.Addr(headroom), d.Addr)
			assert.Equal(t, 1, number(t, rx.umem.Bytes(d)))
		}
	})
}
