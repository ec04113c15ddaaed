package cmdline

import (
	"fmt"

	"github.com/go-xsk/xsk"
)

// Explain tells for each of the kernel's counters that stands for a lost packet
// what probably happened; maxPacket is Umem.MaxPacket. It is nil when nothing
// was lost.
func Explain(s xsk.Stats, maxPacket int) []string {
	var lines []string
	say := func(n uint64, format string, args ...any) {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d packets dropped: ", n)+fmt.Sprintf(format, args...))
		}
	}
	// A packet that finds no frame counts as dropped too.
	other := s.RxDropped - min(s.RxDropped, s.RxFillRingEmpty)
	say(s.RxFillRingEmpty, "no empty frame was in the fill ring; the program gave them back too late, or has too few")
	say(s.RxRingFull, "the RX ring was full; the program did not keep up")
	say(other, "probably longer than the %d bytes that a frame can take; raise -s", maxPacket)
	say(s.TxInvalidDescs, "their descriptors were refused")
	return lines
}

// KernelDrops is how many packets the kernel had for a socket and dropped.
func KernelDrops(s xsk.Stats) uint64 { return s.RxDropped + s.RxRingFull }
