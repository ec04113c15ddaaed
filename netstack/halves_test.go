package netstack_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// Every queue has a Queue each way, unless its memory is the caller's; and what
// cannot be opened leaves nothing behind that would be in the way.
func TestOpenHasAQueueEachWay(t *testing.T) {
	testns.Kernel(t)
	near, _ := testns.Veth{Queues: 2}.Make(t)
	open := func(c xsk.Config) (string, error) {
		h, err := netstack.Open(soon(t), near, &netstack.Config{Addresses: prefixes(ours4), Queue: c})
		if err != nil {
			return "", err
		}
		defer func() { assert.NoError(t, h.Close()) }()
		_, bound, _ := strings.Cut(h.String(), "\n")
		return bound, nil
	}
	halves := func(queue string) []string {
		return []string{near + queue + ": copy, tx 2048, 8192 frames", near + queue + ": copy, rx 4096, 8192 frames"}
	}
	for range 2 { // the half that sends is refused, once the other is open
		_, err := open(xsk.Config{UmemConfig: xsk.UmemConfig{CompletionSize: 64}})
		require.ErrorIs(t, err, syscall.EINVAL)
		require.ErrorContains(t, err, "completion ring")
	}
	u, err := xsk.NewUmem(nil)
	require.NoError(t, err)
	defer u.Close()
	for _, c := range []struct {
		name   string
		config xsk.Config
		want   []string
		unwant string
	}{
		{"all queues", xsk.Config{}, append(halves(" queue 0"), halves(" queue 1")...), "rx 4096, tx"},
		{"the second queue", xsk.Config{Queues: []int{1}}, halves(" queue 1"), "queue 0"},
		{"the caller's memory", xsk.Config{Queues: []int{1}, Umem: u}, []string{near + " queue 1: copy, rx 4096, tx 2048"}, "queue 0"},
	} {
		bound, err := open(c.config)
		require.NoError(t, err, c.name)
		for _, line := range c.want {
			assert.Contains(t, bound, line, c.name)
		}
		assert.NotContains(t, bound, c.unwant, c.name)
	}
}
