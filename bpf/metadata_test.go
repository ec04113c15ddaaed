package bpf_test

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

func withMetadata(f bpf.Filter, m bpf.Mode) bpf.Options {
	return bpf.Options{Filter: f, Mode: m, Metadata: true}
}

func TestMetadataIsForNativeMode(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, _ := testns.Veth{Queues: 2}.Make(t)
	_, err := bpf.Attach(a, withMetadata(bpf.Filter{All: true}, bpf.Generic))
	require.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, "bpf: attach "+a+": ")
	assert.ErrorContains(t, err, "Metadata needs bpf.Native")
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native} {
		p, err := bpf.Attach(a, withMetadata(bpf.Filter{UDPPorts: []uint16{53}}, mode))
		require.NoError(t, err)
		assert.Equal(t, bpf.Native, p.Mode())
		assert.Equal(t, a+": native, UDP port 53, metadata, XSKMAP of 2 slots", p.String())
		_, err = bpf.Attach(a, everything)
		require.ErrorIs(t, err, syscall.EBUSY)
		assert.ErrorContains(t, err, `"xsk_metadata" is attached already, in native mode; nothing was replaced; another bpf.Attach holds it`)
		require.NoError(t, p.Close())
		native, generic := programs(t, a)
		assert.Zero(t, native+generic, "a program is left")
	}
}

func TestMetadataNeedsADriverThatHasIt(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	for _, mode := range []bpf.Mode{bpf.Auto, bpf.Native} {
		_, err := bpf.Attach("lo", withMetadata(bpf.Filter{All: true}, mode))
		require.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorContains(t, err, "bpf: attach lo: ")
		assert.ErrorContains(t, err, "no functions for Metadata")
	}
	// The next one is not bound to anything.
	p := attach(t, "lo", everything)
	assert.Equal(t, bpf.Generic, p.Mode())
}

func TestMetadataNeedsLinux63(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	p, err := bpf.Attach(a, withMetadata(bpf.Filter{All: true}, bpf.Native))
	if kernel.AtLeast("6.3 programs bound to a device") {
		require.NoError(t, err)
		require.NoError(t, p.Close())
		return
	}
	require.ErrorIs(t, err, errors.ErrUnsupported)
	assert.ErrorContains(t, err, "Metadata needs Linux 6.3")
}

// Metadata changes nothing about what goes to the sockets.
func TestMetadataLeavesTheOthersToTheKernel(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, b := testns.Veth{}.Make(t)
	stack, wire := openTap(t, a), openTap(t, b)
	p := attach(t, a, withMetadata(bpf.Filter{UDPPorts: []uint16{53}}, bpf.Native))
	matched := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, "matched")))
	other := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(54, "other")))
	wire.send(t, matched)
	assert.True(t, stack.sees(t, matched, 2*time.Second), "no socket yet")
	_, socket := open(t, a, 0)
	require.NoError(t, socket.UpdateXSKMap(p))
	wire.send(t, other)
	assert.True(t, stack.sees(t, other, 2*time.Second))
	wire.send(t, matched)
	ready, err := socket.PollRx(2 * time.Second)
	require.NoError(t, err)
	assert.True(t, ready)
}

func TestMetadataWithoutRoomLeavesThePacketToTheKernel(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, b := testns.Veth{}.Make(t)
	stack, wire := openTap(t, a), openTap(t, b)
	bpf.NoRoomForMetadata(t)
	p := attach(t, a, withMetadata(bpf.Filter{UDPPorts: []uint16{53}}, bpf.Native))
	_, socket := open(t, a, 0)
	require.NoError(t, socket.UpdateXSKMap(p))
	matched := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, "matched")))
	wire.send(t, matched)
	assert.True(t, stack.sees(t, matched, 2*time.Second))
	c := count(t, p)
	assert.EqualValues(t, 1, c.NoSocket, c)
	assert.Zero(t, c.Matched, c)
}

func TestMetadataOfJumboFrames(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, _ := testns.Veth{MTU: 9000}.Make(t)
	attach(t, a, withMetadata(bpf.Filter{All: true}, bpf.Native))
}

func TestTwoInterfacesWithMetadata(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, b := testns.Veth{}.Make(t)
	attach(t, a, withMetadata(bpf.Filter{All: true}, bpf.Native))
	attach(t, b, withMetadata(bpf.Filter{All: true}, bpf.Native))
}

func TestMetadataTakesNoCapabilityMore(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, _ := testns.Veth{}.Make(t)
	var err error
	without(t, func() {
		var p *bpf.Program
		if p, err = bpf.Attach(a, withMetadata(bpf.Filter{All: true}, bpf.Native)); err == nil {
			err = p.Close()
		}
	}, unix.CAP_SYS_ADMIN, unix.CAP_PERFMON, unix.CAP_NET_RAW)
	assert.NoError(t, err)
}

func TestMetadataStaysOverUpdate(t *testing.T) {
	testns.Need(t, "6.3 programs bound to a device")
	a, b := testns.Veth{}.Make(t)
	wire := openTap(t, b)
	p := attach(t, a, withMetadata(bpf.Filter{UDPPorts: []uint16{53}}, bpf.Native))
	umem, socket := open(t, a, 0)
	require.NoError(t, socket.UpdateXSKMap(p))
	require.NoError(t, p.Update(bpf.Filter{UDPPorts: []uint16{54}}))
	wire.send(t, ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(53, "old"))))
	updated := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(54, "new")))
	wire.send(t, updated)
	ready, err := socket.PollRx(2 * time.Second)
	require.NoError(t, err)
	require.True(t, ready)
	descs := make([]xsk.Desc, 2)
	_, n, err := socket.RxBurst(nil, descs)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	assert.Equal(t, updated, umem.Bytes(descs[0]))
	m, ok := umem.RxMetadata(descs[0])
	assert.True(t, ok)
	assert.True(t, m.HasHash)
}
