package xsk_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// Nobody reads one queue, which gets a hundred times as many packets as it holds;
// the other one, with memory of its own, loses none.
func TestTheLossesOfOneQueueAreNotAnothers(t *testing.T) {
	testns.Kernel(t)
	m := modes[1] // a veth's packets are all of queue 0 for generic mode
	near, far := testns.Veth{Queues: 2}.Make(t)
	open := func(ifname string, queue int, cfg xsk.Config) *xsk.Queue {
		q, err := xsk.Open(ifname, queue, &cfg)
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, q.Close()) })
		return q
	}
	slots := redirect(t, far, m)
	var senders, receivers [2]*xsk.Queue
	for i := range senders {
		receivers[i] = open(far, i, xsk.Config{UmemConfig: smallQueue, XSKMap: slots})
		senders[i] = open(near, i, xsk.Config{UmemConfig: smallQueue, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	}
	frames := make([]xsk.Frame, 64)
	const bursts, burst = 800, 32
	for i := 0; i < bursts; i++ {
		sendPackets(t, senders[0], i*burst, burst, 60)
		sendPackets(t, senders[1], i*burst, burst, 60)
		require.NoError(t, receivers[1].SetReadDeadline(time.Now().Add(5*time.Second)))
		for got := 0; got < burst; {
			n, err := receivers[1].Receive(frames)
			require.NoError(t, err)
			for j := range frames[:n] {
				require.Equal(t, i*burst+got+j, number(t, frames[j].Data))
			}
			got += n
		}
	}
	lost := receivers[0].Stats()
	assert.Greater(t, lost.Kernel.RxDropped+lost.Kernel.RxRingFull, uint64(bursts*burst*9/10))
	none := receivers[1].Stats()
	assert.Zero(t, none.Kernel.RxDropped+none.Kernel.RxRingFull)
}
