package wire_test

import (
	"bytes"
	"net"
	"net/netip"
	"testing"

	"github.com/go-xsk/xsk/bench/internal/wire"
)

func flow() *wire.Flow {
	return &wire.Flow{
		SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2},
		SrcIP: netip.MustParseAddr("10.77.0.1"), DstIP: netip.MustParseAddr("10.77.0.2"),
	}
}

func TestCheckSeesEachWrongByte(t *testing.T) {
	for _, size := range []int{64, 1500} {
		frame := make([]byte, size)
		flow().Make(frame)
		wire.Number(frame, 12345)
		if err := wire.Check(frame, size); err != nil {
			t.Fatal(err)
		}
		if wire.Check(frame[:size-1], size) == nil {
			t.Error("a byte less was not seen")
		}
		for i := wire.Headers; i < size; i++ {
			frame[i] ^= 1
			if wire.Check(frame, size) == nil {
				t.Errorf("byte %d of %d was not seen", i, size)
			}
			frame[i] ^= 1
		}
	}
}

func TestTurnAroundTwiceIsNothing(t *testing.T) {
	frame := make([]byte, 64)
	flow().Make(frame)
	before := bytes.Clone(frame)
	wire.TurnAround(frame)
	if !bytes.Equal(frame[:6], before[6:12]) || !bytes.Equal(frame[26:30], before[30:34]) {
		t.Error("the addresses are not exchanged")
	}
	wire.TurnAround(frame)
	if !bytes.Equal(frame, before) {
		t.Error("the packet is another one")
	}
}
