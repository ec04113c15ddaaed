package netstack

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A slow stack takes its time over each packet, and looks before and after whether it
// is to verify checksums.
type slowStack struct {
	e               *Endpoint
	entered         chan bool // a piece, or what is joined
	pieces, others  atomic.Int32
	verified, spoke atomic.Int32 // of what is joined; of pieces that it is not told to verify
}

func (s *slowStack) DeliverNetworkPacket(_ tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	piece := !pkt.RXChecksumValidated
	select {
	case s.entered <- piece:
	default:
	}
	for range 2 {
		verify := s.e.Capabilities()&stack.CapabilityRXChecksumOffload == 0
		switch {
		case piece && !verify:
			s.spoke.Add(1)
		case !piece && verify:
			s.verified.Add(1)
		}
		time.Sleep(30 * time.Millisecond)
	}
	if piece {
		s.pieces.Add(1)
	} else {
		s.others.Add(1)
	}
}

func (s *slowStack) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// The checksum of what is joined is that of its first segment. So the stack, which is
// told to verify while it has a piece of a datagram, must not have it then, from any
// queue.
func TestJoinedPacketsAreNotVerifiedBesideAPiece(t *testing.T) {
	e := &Endpoint{}
	for _, pieceFirst := range []bool{true, false} {
		s := &slowStack{e: e, entered: make(chan bool, 1)}
		deliver := func(piece bool) chan struct{} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				p := &packet{proto: header.IPv4ProtocolNumber, piece: piece}
				e.give(s, buffer.MakeWithData(make([]byte, 100)), p, !piece)
			}()
			return done
		}
		first := deliver(pieceFirst)
		assert.Equal(t, pieceFirst, <-s.entered)
		second := deliver(!pieceFirst)
		<-first
		<-second
		assert.EqualValues(t, 1, s.pieces.Load())
		assert.EqualValues(t, 1, s.others.Load())
		assert.Zero(t, s.verified.Load(), "what is joined is not to be verified")
		assert.Zero(t, s.spoke.Load(), "a piece is to be verified")
	}
}
