package zerocopytest

import (
	"encoding/binary"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
)

// What is received from one NIC is sent out of the other one, to come back over the
// cable to the first: so packets go round, from left's receiver to right's sender
// and the other way, and each time the program writes the next number into them.
const circling, rounds = 32, 50

// A circle counts the packets that come to one NIC.
type circle struct {
	name   string
	came   int
	length [circling]int
}

func newCircle(name string) *circle {
	c := &circle{name: name}
	for i := range c.length {
		c.length[i] = shortest + i*(longest-shortest)/(circling-1)
	}
	return c
}

// next checks the packet that has come and numbers it for the next round.
func (c *circle) next(t *testing.T, b []byte) {
	t.Helper()
	check(t, b, c.came, c.length[c.came%circling])
	c.came++
	fill(b, int(binary.BigEndian.Uint32(b[14:]))+circling)
}

func (c *circle) done() bool { return c.came >= circling*rounds }

func TestRingsForwardBetweenNICsWithoutACopy(t *testing.T) {
	programs := map[string]xsk.XSKMap{left: attach(t, left), right: attach(t, right)}
	u := newUmem(t, xsk.UmemConfig{Frames: 512, FrameSize: 2048})
	c := xsk.SocketConfig{BindFlags: xsk.BindZeroCopy | xsk.BindNeedWakeup}
	ends := []*end{newEnd(t, left, u, c, 0, 256), newEnd(t, right, u, c, 256, 256)}
	for i, nic := range []string{left, right} {
		require.NoError(t, ends[i].UpdateXSKMap(programs[nic]))
		ends[i].receive(t, 0)
	}
	circles := []*circle{newCircle(left), newCircle(right)}
	for i := range ends { // what left sends comes to right
		ends[i].transmit(t, 0, circles[1-i].length[:])
	}
	descs, done := make([]xsk.Desc, 64), make([]xsk.Addr, 64)
	within(t, "going round", func() bool {
		for i, in := range ends {
			out := ends[1-i]
			filled, n, err := in.RxBurst(in.fill, descs)
			require.NoError(t, err)
			in.fill = in.fill[filled:]
			for k := range descs[:n] {
				circles[i].next(t, u.Bytes(descs[k]))
			}
			// The descriptor itself goes on: it is the same memory.
			queued, completed, err := out.TxBurst(descs[:n], done)
			require.NoError(t, err)
			require.Equal(t, n, queued)
			for _, a := range done[:completed] {
				in.fill = append(in.fill, a-a%xsk.Addr(u.FrameSize()))
			}
		}
		return circles[0].done() && circles[1].done()
	})
}

func TestQueuesForwardBetweenNICsWithoutACopy(t *testing.T) {
	u := newUmem(t, xsk.UmemConfig{Frames: 512, FrameSize: 2048})
	queues := []*xsk.Queue{
		open(t, left, attach(t, left), xsk.Config{Umem: u, RxFrames: 128}),
		open(t, right, attach(t, right), xsk.Config{Umem: u, RxFrames: 128}),
	}
	circles := []*circle{newCircle(left), newCircle(right)}
	for i := range queues {
		send(t, queues[i], 0, circles[1-i].length[:])
	}
	frames, sent := make([]xsk.Frame, 64), 0
	start := uintptr(unsafe.Pointer(&u.Bytes(xsk.Desc{Len: 1})[0]))
	within(t, "going round", func() bool {
		for i, in := range queues {
			n, err := in.TryReceive(frames)
			require.NoError(t, err)
			for k := range frames[:n] {
				at := uintptr(unsafe.Pointer(&frames[k].Data[0])) - start
				require.Less(t, at, uintptr(512*2048), "in the shared memory")
				circles[i].next(t, frames[k].Data)
			}
			k, err := queues[1-i].Send(frames[:n])
			require.NoError(t, err)
			sent += k
		}
		return circles[0].done() && circles[1].done()
	})
	assert.GreaterOrEqual(t, sent, 2*circling*(rounds-1))
	for _, q := range queues {
		assert.NoError(t, q.Close()) // what still goes round ends here
	}
}
