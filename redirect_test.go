//go:build !nobpf

package xsk_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// redirect attaches a program that redirects every packet through its map.
func redirect(t testing.TB, ifname string, m mode) xsk.XSKMap {
	t.Helper()
	p, err := bpf.Attach(ifname, bpf.Options{
		Filter: bpf.Filter{All: true},
		Mode:   map[string]bpf.Mode{"generic": bpf.Generic, "native": bpf.Native}[m.name],
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

func TestAMapServesOneInterface(t *testing.T) {
	a, b := vethPair(t)
	program := redirect(t, a, modes[0])
	receiver := openQueue(t, a, modes[0], xsk.Config{XSKMap: program})
	_, err := xsk.Open(b, 0, &xsk.Config{XSKMap: program})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the XDP program of the XSKMap is on another interface: "+a+": generic")
	_, err = xsk.Open(b, 0, &xsk.Config{XSKMap: xsk.MapFD(program.FileDescriptor())})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "entry 0 of the XSKMAP is the socket's of "+a+" queue 0")

	sender := openQueue(t, b, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	sendPackets(t, sender, 7, 1, 60)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = receiver.Receive(frames)
	require.NoError(t, err, "the first one still receives")
	assert.Equal(t, 7, number(t, frames[0].Data))
}

func TestOpenRefusesANilProgram(t *testing.T) {
	a, _ := vethPair(t)
	_, err := xsk.Open(a, 0, &xsk.Config{XSKMap: (*bpf.Program)(nil)})
	assert.ErrorContains(t, err, "the XSKMap is closed")
}
