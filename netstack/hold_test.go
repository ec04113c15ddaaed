package netstack

import (
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/go-xsk/xsk"
)

// A holder adds up what it is given, as who keeps it would.
type holder struct {
	bytes int // of the packets
	held  int // of the buffers that they are in
	most  int // of one buffer
	count int
}

func (h *holder) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	h.bytes += pkt.Size()
	h.count++
	views, _ := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		h.held += v.Capacity()
		h.most = max(h.most, v.Capacity())
	}
}

func (h *holder) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// What the stack is given lies in buffers of at most twice its size, and a header's:
// whichever segments of a run are bad.
func TestBuffersAreNoLargerThanWhatIsInThem(t *testing.T) {
	run := func(n, size int, bad func(i int) bool) *holder {
		frames := make([]xsk.Frame, n)
		for i := range frames {
			b := tcpPacket(false, 1, uint32(100+size*i), 5, header.TCPFlagAck, bytesFrom(i, size))
			if bad(i) {
				b[len(b)-1] ^= 1
			}
			frames[i].Data = b
		}
		e := &Endpoint{}
		copy(e.filter[:], segmentEthernet(false))
		h := &holder{}
		var to stack.NetworkDispatcher = h
		e.to.Store(&to)
		newReceiver(e, nil).burst(frames)
		return h
	}
	for _, size := range []int{1, 60, 500, 1448} {
		for name, bad := range map[string]func(i int) bool{
			"none":             func(int) bool { return false },
			"every second":     func(i int) bool { return i%2 == 1 },
			"all but one":      func(i int) bool { return i != 20 },
			"the first":        func(i int) bool { return i == 0 },
			"one in the front": func(i int) bool { return i == 5 },
			"one in the back":  func(i int) bool { return i == 38 },
		} {
			h := run(44, size, bad)
			require.NotZero(t, h.count, name)
			require.LessOrEqual(t, h.held, 2*h.bytes+128*h.count, "%d bytes, bad: %s", size, name)
		}
	}
	require.Equal(t, 1, run(44, 1448, func(int) bool { return false }).count, "they are joined")
	require.Equal(t, 22, run(44, 1448, func(i int) bool { return i%2 == 1 }).count)
}
