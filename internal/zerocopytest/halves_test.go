package zerocopytest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// One queue has a Queue each way, on both NICs, and packets go both ways at a time.
func TestAQueueEachWay(t *testing.T) {
	ends := map[string]*[2]*xsk.Queue{left: {}, right: {}}
	for nic, end := range ends {
		u := newUmem(t, small)
		end[0] = open(t, nic, attach(t, nic), xsk.Config{Umem: u, RxFrames: 128, SocketConfig: xsk.SocketConfig{RxOnly: true}})
		end[1] = open(t, nic, nil, xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	}
	first := 0
	for _, lengths := range everyLength(64) {
		send(t, ends[left][1], first, lengths)
		send(t, ends[right][1], first, lengths)
		expect(t, ends[right][0], first, lengths)
		expect(t, ends[left][0], first, lengths)
		first += len(lengths)
	}
	for nic, end := range ends {
		_, err := end[0].TryReceive(nil) // ends the loan
		require.NoError(t, err)
		settled(t, end[1])
		k := end[0].Stats().Kernel
		assert.Zero(t, k.RxDropped+k.RxInvalidDescs+k.RxRingFull+end[1].Stats().Kernel.TxInvalidDescs, nic)
	}
}
