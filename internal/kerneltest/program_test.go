package kerneltest

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestForeignProgramIsNamedAndStays(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		nameA, nameB := testns.Veth{}.Make(t)
		foreign(t, nameB, "somebody_else", xdpPass, m)
		was := attached(t, nameB)
		require.NotEmpty(t, was)
		for _, other := range modes {
			_, err := bpf.Attach(nameB, bpf.Options{Filter: bpf.Filter{All: true}, Mode: other.bpf})
			require.ErrorIs(t, err, syscall.EBUSY)
			assert.ErrorContains(t, err, nameB)
			assert.ErrorContains(t, err, `"somebody_else"`)

			c := xsk.Config{UmemConfig: small, LibxdpProgram: true}
			c.SocketConfig.XDPFlags = other.xdp
			q, err := xsk.Open(nameB, 0, &c)
			if !assert.Error(t, err, "libxdp in %s mode", other.name) {
				require.NoError(t, q.Close())
				continue
			}
			assert.ErrorContains(t, err, fmt.Sprintf("xsk: open %s queue 0: ", nameB))
			assert.ErrorContains(t, err, `"somebody_else"`)
			assert.Equal(t, was, attached(t, nameB))
		}
		// The queue is not in the way of those that only send, nor left busy.
		b := open(t, nameB, 0, config(nil))
		a := open(t, nameA, 0, config(attach(t, nameA, m)))
		send(t, b, 1, 10, 60)
		expect(t, a, 1, 10)
		settled(t, 0, a, b)
		assert.Equal(t, was, attached(t, nameB))
	})
}
