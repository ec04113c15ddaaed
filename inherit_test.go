package xsk_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestChildrenInheritNothing of what libxdp opens while it attaches its program, for
// a socket, and takes it off.
func TestChildrenInheritNothing(t *testing.T) {
	a, _ := vethPair(t)
	testns.Inherits(t, 2*time.Second, func() {
		q, err := xsk.Open(a, 0, &xsk.Config{UmemConfig: smallQueue, LibxdpProgram: true})
		require.NoError(t, err)
		_, err = xsk.Probe(a)
		require.NoError(t, err)
		require.NoError(t, q.Close())
	})
}
