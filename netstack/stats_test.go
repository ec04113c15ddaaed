package netstack_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// What is lost below the stack is counted, whether a queue has one Queue or one each
// way.
func TestLossesBelowAreCounted(t *testing.T) {
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 1024})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, u.Close()) })
	for name, queue := range map[string]xsk.Config{
		"one each way": {UmemConfig: xsk.UmemConfig{Frames: 1024}},
		"one":          {Umem: u, RxFrames: 128},
	} {
		t.Run(name, func(t *testing.T) {
			p := makePeer(t)
			h := open(t, p.Near, &netstack.Config{Addresses: prefixes(ours4), Mode: bpf.Native, Queue: queue})
			stats := h.Endpoint().Stats
			to, err := h.Dial(soon(t), "udp", peer4+":9")
			require.NoError(t, err)
			defer to.Close()
			r := newRaw(t, p)
			r.arp([4]byte{192, 0, 2, 2})
			deadline := time.Now().Add(20 * time.Second)
			for stats().RxLost == 0 && time.Now().Before(deadline) {
				r.flood(1<<30, 100*time.Millisecond, func(i int, b []byte) []byte {
					return r.frame(b, &segment{src: [4]byte{192, 0, 2, 2}, sport: uint16(i), dport: 81, flags: 0})
				})
			}
			assert.NotZero(t, stats().RxLost)
			assert.Contains(t, stats().String(), "by the kernel: no frame was free")

			require.NoError(t, p.Do(func() error {
				testns.IP(t, "link", "set", "eth0", "down")
				return nil
			}))
			for stats().TxLost == 0 && time.Now().Before(deadline) {
				_, err = to.Write([]byte("lost"))
				require.NoError(t, err)
				time.Sleep(time.Millisecond)
			}
			assert.NotZero(t, stats().TxLost)
			assert.Contains(t, stats().String(), "by the device in sending")
		})
	}
}
