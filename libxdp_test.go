package xsk_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A socket may do without the program that it would load, and register in the
// map of one that was set up before.
func TestSetupProgramsMapServesASocket(t *testing.T) {
	a, b := vethPair(t)
	slots, err := xsk.SetupXDPProg(b)
	require.NoError(t, err)
	t.Cleanup(func() { testns.IP(t, "link", "set", b, "xdp", "off") })
	tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	rx.Fill.Produce(rx.frames(0, 16))
	require.NoError(t, rx.UpdateXSKMap(slots))
	tx.send(t, 1, 1, 60)
	assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))
	_, err = unix.FcntlInt(uintptr(slots), unix.F_GETFD, 0)
	assert.NoError(t, err, "the map's descriptor stays the caller's")
	require.NoError(t, slots.Close())
	tx.send(t, 2, 1, 60)
	assert.Equal(t, 2, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])), "the program keeps its map")
}
