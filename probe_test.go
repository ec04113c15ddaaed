package xsk_test

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestProbeTellsWhatTheInterfaceCanDo(t *testing.T) {
	a, _ := testns.Veth{Queues: 3, MTU: 1400}.Make(t)
	before := descriptors(t)
	d, err := xsk.Probe(a)
	require.NoError(t, err)
	assert.Equal(t, before, descriptors(t))
	assert.Equal(t, a, d.Name)
	assert.Equal(t, "veth", d.Driver)
	assert.Equal(t, 3, d.Queues)
	assert.Equal(t, 1400, d.MTU)
	assert.Empty(t, d.Programs)
	if d.Unknown != nil {
		assert.ErrorIs(t, d.Unknown, errors.ErrUnsupported)
		assert.Contains(t, d.String(), d.Unknown.Error())
		return
	}
	assert.Equal(t, xsk.FeatureBasic|xsk.FeatureRedirect, d.Features&(xsk.FeatureBasic|xsk.FeatureRedirect|xsk.FeatureZeroCopy))
	assert.Zero(t, d.MaxSegs, "without zero copy")
	assert.Equal(t, fmt.Sprintf("%s: veth, 3 queues, MTU 1400, XDP: native, redirect, rx frags", a), d.String())
}

func TestProbeDescribesForeignPrograms(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, _ := vethPair(t)
		testns.AttachXDP(t, a, "somebody_else", uint32(m.flags), 0xb7|2<<32, 0x95) // XDP_PASS
		d, err := xsk.Probe(a)
		require.NoError(t, err)
		require.Len(t, d.Programs, 1)
		p := d.Programs[0]
		assert.Equal(t, xsk.XDPProgram{ID: p.ID, Name: "somebody_else", Mode: m.flags}, p)
		line := fmt.Sprintf("program %d \"somebody_else\", %s", p.ID, m.name)
		assert.Equal(t, line, p.String())
		assert.Contains(t, d.String(), "\n"+a+": "+line)

		// libxdp's cannot join it, and the error says the same of it.
		_, err = xsk.NewSocket(a, 0, newUmem(t, &small), &xsk.SocketConfig{XDPFlags: m.flags})
		require.Error(t, err)
		assert.ErrorContains(t, err, fmt.Sprintf(`XDP program %d "somebody_else", in %s mode is on the interface`, p.ID, m.name))

		without(t, func() {
			d, err := xsk.Probe(a)
			if assert.NoError(t, err) && assert.Len(t, d.Programs, 1) {
				assert.Equal(t, p.ID, d.Programs[0].ID)
				assert.Contains(t, d.String(), "(its name takes CAP_SYS_ADMIN)")
			}
		}, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_NET_ADMIN)
	})
}

func TestProbeKnowsLibxdpsOwnProgram(t *testing.T) {
	a, _ := vethPair(t)
	left, err := xsk.SetupXDPProg(a) // stays, as after a crash
	require.NoError(t, err)
	require.NoError(t, left.Close())
	d, err := xsk.Probe(a)
	require.NoError(t, err)
	require.NotEmpty(t, d.Programs)
	own := d.Programs[len(d.Programs)-1] // behind the dispatcher, where the kernel has one
	assert.Equal(t, "xsk_def_prog", own.Name)
	assert.Equal(t, xsk.XDPDrvMode, own.Mode)
	assert.Equal(t, len(d.Programs) > 1, own.Dispatched)
	if !own.Dispatched {
		assert.Contains(t, d.String(), "libxdp's own; bpf.RemoveStale takes it off")
	}
}

func TestProbeOfNoInterface(t *testing.T) {
	_, err := xsk.Probe("nosuch0")
	assert.ErrorIs(t, err, syscall.ENODEV)
	assert.ErrorContains(t, err, "xsk: probe nosuch0: ")
}

func TestProbeSaysWhatAnOldLibbpfLeavesOut(t *testing.T) {
	for version, text := range map[int]string{
		1<<16 | 1: "XDP features: they take libbpf 1.2, and libxdp brings 1.1",
		1<<16 | 2: "frames of one packet in zero copy: they take libbpf 1.3, and libxdp brings 1.2",
	} {
		err := xsk.UnknownTo(version, 0)
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorContains(t, err, text)
	}
	assert.NoError(t, xsk.UnknownTo(1<<16|3, xsk.FeatureBasic))
}
