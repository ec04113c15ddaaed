package bpf

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Match reports whether the filter hands the packet, an Ethernet frame without
// its FCS, to a socket. It asks the program itself: it loads the program, runs it
// on the packet in the kernel (BPF_PROG_TEST_RUN), and removes it again. So it
// needs no interface, but the capabilities that Attach needs, and some
// milliseconds: it is for tests rather than for traffic.
//
// Errors wrap EINVAL for a Filter that cannot be, and for a packet that is
// shorter than an Ethernet header (14 bytes) or longer than the kernel can try
// (some 64 KB; one page before 5.18), and EPERM without the capabilities.
func (f Filter) Match(packet []byte) (bool, error) {
	m, err := newMatcher(&f)
	if err == nil {
		defer m.close()
		var yes bool
		if yes, err = m.match(packet); err == nil {
			return yes, nil
		}
	}
	return false, fmt.Errorf("bpf: match %v: %w", f, err)
}

// A matcher is a filter's program, to run on packets.
type matcher struct{ image *image }

func newMatcher(f *Filter) (*matcher, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	runtime.LockOSThread() // see attach
	defer runtime.UnlockOSThread()
	if err := privileged(f); err != nil {
		return nil, err
	}
	startCapture()
	defer stopCapture()
	i, err := load(nativeSource(), newTables(f, true), nil)
	if err != nil {
		return nil, err
	}
	return &matcher{i}, nil
}

func (m *matcher) close() { m.image.close() }

func (m *matcher) match(packet []byte) (bool, error) {
	const header = 14
	if len(packet) < header {
		return false, fmt.Errorf("%w: %s are less than an Ethernet header", unix.EINVAL, count(len(packet), "byte"))
	}
	action, err := matchOf(m.image.prog.FileDescriptor(), packet)
	if err != nil {
		return false, fmt.Errorf("run the program on %s: %w", count(len(packet), "byte"), err)
	}
	return action == xdpRedirect, nil
}
