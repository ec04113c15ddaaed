package xsk_test

import (
	"errors"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestModeSaysWhyItIsCopy(t *testing.T) {
	a, b := vethPair(t)
	e := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	mode, err := e.Mode()
	require.NoError(t, err)
	if d, err := xsk.Probe(a); assert.NoError(t, err) && d.Unknown == nil {
		assert.Equal(t, "copy: the driver veth has no zero copy", mode)
	}
	asked := newEnd(t, b, &small, &xsk.SocketConfig{BindFlags: xsk.BindCopy, InhibitProgLoad: true})
	mode, err = asked.Mode()
	require.NoError(t, err)
	assert.Equal(t, "copy: BindCopy asks for it", mode)

	testns.IP(t, "link", "del", a)
	mode, err = e.Mode()
	require.NoError(t, err)
	assert.Equal(t, "copy: the interface is gone", mode)
	require.NoError(t, e.Close())
	_, err = e.Mode()
	assert.ErrorIs(t, err, net.ErrClosed)
}

func TestRefusedZeroCopyNamesTheReason(t *testing.T) {
	a, _ := vethPair(t)
	u := newUmem(t, &small)
	_, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{BindFlags: xsk.BindZeroCopy, InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	assert.ErrorContains(t, err, "no zero copy: ")
	assert.ErrorContains(t, err, "BindCopy always works")
	if d, err2 := xsk.Probe(a); assert.NoError(t, err2) && d.Unknown == nil {
		assert.ErrorContains(t, err, "the driver veth has no zero copy")
	}
}

// The reasons that veth cannot have.
func TestReasonsForCopy(t *testing.T) {
	const can = xsk.FeatureBasic | xsk.FeatureRedirect | xsk.FeatureZeroCopy
	for _, c := range []struct {
		device xsk.Device
		flags  xsk.BindFlags
		reason string
	}{
		{xsk.Device{Unknown: errors.New("too old")}, 0, "what the driver can do is unknown: too old"},
		{xsk.Device{Driver: "nic", MTU: 1500, MaxSegs: 1, Features: can}, xsk.BindMultiBuffer, "for packets of several frames"},
		{xsk.Device{Driver: "nic", MTU: 3000, MaxSegs: 1, Features: can}, 0, "the MTU of 3000 is too large for zero copy: a frame holds a packet of 1792 bytes"},
		{xsk.Device{Driver: "nic", MTU: 3000, MaxSegs: 5, Features: can}, xsk.BindMultiBuffer, "the driver nic has zero copy but refuses it for this queue"},
		{xsk.Device{Driver: "nic", MTU: 1500, MaxSegs: 1, Features: can}, xsk.BindZeroCopy, "the driver nic has zero copy but refuses it for this queue"},
	} {
		assert.Contains(t, xsk.WhyCopy(&c.device, c.flags, 1792), c.reason)
	}
}
