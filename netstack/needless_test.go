package netstack

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// outgoing is a segment as the stack hands it over to be sent.
func outgoing(t *testing.T, port uint16, seq, ack uint32, payload int) *stack.PacketBuffer {
	t.Helper()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.TCPMinimumSize + header.IPv4MinimumSize,
		Payload:            buffer.MakeWithData(make([]byte, payload)),
	})
	tcp := header.TCP(pkt.TransportHeader().Push(header.TCPMinimumSize))
	tcp.Encode(&header.TCPFields{SrcPort: port, DstPort: 80, SeqNum: seq, AckNum: ack, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagAck})
	ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	ip[12], ip[16] = 10, 11
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.GSOOptions.Type = stack.GSOTCPv4
	pkt.Hash = 7 // one slot for all
	t.Cleanup(pkt.DecRef)
	return pkt
}

// One acknowledgment that waits goes out before the next one, unless that makes it
// needless. Two equal ones tell of a loss: three of them bring what was lost at once.
func TestWhichAcknowledgmentsAreNeedless(t *testing.T) {
	for _, next := range []struct {
		about     string
		port      uint16
		seq, ack  uint32
		payload   int
		needless  bool
		holdsNext bool
	}{
		{"an equal one", 1, 500, 1000, 0, false, true},
		{"a later one", 1, 500, 1001, 0, true, true},
		{"an earlier one", 1, 500, 999, 0, false, true},
		{"new data with it", 1, 500, 1000, 10, true, false},
		{"new data with a later one", 1, 500, 1001, 10, true, false},
		{"data that was sent before, with it", 1, 400, 1000, 10, false, false},
		{"data that was sent before, with a later one", 1, 400, 1001, 10, false, false},
		{"another connection's", 2, 500, 1001, 10, false, false},
		{"a later one, round the end of numbers", 1, 500, 1000 + 1<<31 - 1, 0, true, true},
	} {
		a := &acks{}
		a.awake.Store(1) // somebody will let it go
		first := outgoing(t, 1, 500, 1000, 0)
		held, before := a.hold(first, nil, func() {})
		require.True(t, held)
		require.Empty(t, before)

		second := outgoing(t, next.port, next.seq, next.ack, next.payload)
		held, before = a.hold(second, nil, func() {})
		assert.Equal(t, next.holdsNext, held, next.about)
		if next.needless {
			assert.Empty(t, before, next.about)
		} else {
			assert.Equal(t, []*stack.PacketBuffer{first}, before, next.about)
		}
		left := a.take(nil, false)
		if held {
			assert.Equal(t, []*stack.PacketBuffer{second}, left, next.about)
		} else {
			assert.Empty(t, left, next.about)
		}
		for _, pkt := range append(before, left...) {
			pkt.DecRef()
		}
	}
}

// Three equal acknowledgments all go out.
func TestEqualAcknowledgmentsAllGoOut(t *testing.T) {
	a := &acks{}
	a.awake.Store(1)
	var out []*stack.PacketBuffer
	for range 4 {
		_, out = a.hold(outgoing(t, 1, 500, 1000, 0), out, func() {})
	}
	out = a.take(out, false)
	assert.Len(t, out, 4)
	for _, pkt := range out {
		pkt.DecRef()
	}
}
