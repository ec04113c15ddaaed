package xsk_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// A packet longer than the MTU is taken and lost, and the statistics say why.
func TestAPacketLongerThanTheMTUIsNamed(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, _ := queuePair(t, m, xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 64, FrameSize: 4096}})
		_, err := a.Send(write(t, a, 0, 1, 1514))
		require.NoError(t, err)
		assert.NotContains(t, a.Stats().String(), "dropped")
		n, err := a.Send(write(t, a, 0, 1, 1700))
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		assert.EqualValues(t, 1, a.Stats().Dropped)
		assert.Contains(t, a.Stats().String(),
			"dropped 1 by the device in sending: the longest packet to be sent had 1700 bytes, and with MTU 1500 the interface takes 1514")
		assert.Contains(t, xsk.Queues{a}.Stats().String(), "with MTU 1500 the interface takes 1514")
	})
	other := xsk.QueueStats{KickStats: xsk.KickStats{Dropped: 1}}
	assert.Contains(t, other.String(), "takes no more (on veth a full peer queue)")
}
