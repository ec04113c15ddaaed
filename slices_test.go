package xsk_test

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// A slice that a program kept beyond its frame is a fault once the memory is
// gone: SIGSEGV, which recover does not catch unless SetPanicOnFault is on.
func TestASliceBeyondItsFrameIsAFault(t *testing.T) {
	a, _ := vethPair(t)
	q, err := xsk.Open(a, 0, &xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 2)
	_, err = q.Alloc(frames)
	require.NoError(t, err)
	d := frames[0].Data[:1]
	first := func() (b byte, fault any) {
		defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
		defer func() { fault = recover() }()
		return d[0], nil
	}

	d[0] = 7
	frames[0].Free()
	require.NoError(t, q.Close())
	_, fault := first()
	assert.Nil(t, fault, "another frame is out, so the memory stays")

	frames[1].Free()
	_, fault = first()
	addressed, is := fault.(interface{ Addr() uintptr })
	require.True(t, is, "%T", fault)
	assert.NotZero(t, addressed.Addr())
}
