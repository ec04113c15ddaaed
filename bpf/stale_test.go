package bpf_test

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// noDispatcher has libxdp attach its program itself until t ends. Where the kernel
// lets it, it puts its dispatcher before it.
func noDispatcher(t *testing.T) { t.Setenv("LIBXDP_SKIP_DISPATCHER", "1") }

func TestRemoveStaleTakesOffLibxdpsProgramUnlessASocketIsServed(t *testing.T) {
	noDispatcher(t)
	a, _ := testns.Veth{Queues: 3}.Make(t)
	left, err := xsk.SetupXDPProg(a) // stays, as after a crash
	require.NoError(t, err)
	for slot := range 3 {
		t.Run("", func(t *testing.T) {
			require.NoError(t, register(t, int(left), slot))
			err := bpf.RemoveStale(a)
			require.ErrorIs(t, err, syscall.EBUSY)
			assert.ErrorContains(t, err, `"xsk_def_prog" serves a socket on queue `+string(rune('0'+slot)))
			native, _ := programs(t, a)
			assert.NotZero(t, native)
		})
	}
	require.NoError(t, unix.Close(int(left)))
	require.NoError(t, bpf.RemoveStale(a))
	native, generic := programs(t, a)
	assert.Zero(t, native+generic)
	attach(t, a, everything)
}

func TestRemoveStaleLeavesOthersAlone(t *testing.T) {
	for _, flags := range []uint32{1 << 1, 1 << 2} {
		a, _ := testns.Veth{}.Make(t)
		require.NoError(t, bpf.RemoveStale(a), "nothing there")
		foreign(t, a, "drop_all", flags)
		err := bpf.RemoveStale(a)
		require.ErrorIs(t, err, syscall.EEXIST)
		assert.ErrorContains(t, err, "bpf: remove libxdp's program from "+a+": ")
		assert.ErrorContains(t, err, `"drop_all" is not libxdp's; nothing was removed`)
		native, generic := programs(t, a)
		assert.NotZero(t, native+generic)
	}
	require.ErrorIs(t, bpf.RemoveStale("none0"), syscall.ENODEV)
}

// A link belongs to a living process, and libxdp has none.
func TestRemoveStaleLeavesANamesakeOnALinkAlone(t *testing.T) {
	for _, flags := range []uint32{1 << 1, 1 << 2} {
		a, _ := testns.Veth{}.Make(t)
		foreign(t, a, "xsk_def_prog", flags)
		require.Error(t, bpf.RemoveStale(a))
		native, generic := programs(t, a)
		assert.NotZero(t, native+generic)
	}
}

func TestRemoveStaleLeavesTheDispatcherAlone(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	left, err := xsk.SetupXDPProg(a)
	require.NoError(t, err)
	require.NoError(t, unix.Close(int(left)))
	d, err := xsk.Probe(a)
	require.NoError(t, err)
	err = bpf.RemoveStale(a)
	if d.Programs[0].Name == "xsk_def_prog" { // there is none on this machine
		require.NoError(t, err)
		return
	}
	require.ErrorIs(t, err, syscall.EEXIST)
	assert.ErrorContains(t, err, `"xdp_dispatcher" is libxdp's dispatcher, which may call programs of others; nothing was removed`)
	native, _ := programs(t, a)
	assert.NotZero(t, native)
}

func TestRemoveStaleNeedsCapabilities(t *testing.T) {
	noDispatcher(t)
	a, _ := testns.Veth{}.Make(t)
	left, err := xsk.SetupXDPProg(a)
	require.NoError(t, err)
	require.NoError(t, unix.Close(int(left)))
	for _, capability := range []int{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN} {
		without(t, func() { assert.ErrorIs(t, bpf.RemoveStale(a), syscall.EPERM) }, capability)
	}
	require.NoError(t, bpf.RemoveStale(a))
}
