package bpf_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestChildrenInheritNothing of what libbpf opens while it loads.
func TestChildrenInheritNothing(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	testns.Inherits(t, 2*time.Second, func() {
		p, err := bpf.Attach(a, everything)
		require.NoError(t, err)
		require.NoError(t, p.Update(bpf.Filter{None: true}))
		_, err = p.Counters()
		require.NoError(t, err)
		_, err = bpf.Filter{All: true}.Match(make([]byte, 64))
		require.NoError(t, err)
		require.NoError(t, p.Close())
	})
}
