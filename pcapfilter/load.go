package pcapfilter

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/rights"
)

// programName is what bpftool shows.
const programName = "xsk_pcap"

// load loads the program that f is compiled to, and the XSKMAP that it
// redirects to. For a match without a socket the program answers miss. With frags it
// is for packets of several buffers, where the kernel knows such programs (5.18).
func (f Filter) load(slots, miss int, frags bool) (*ebpf.Program, *ebpf.Map, error) {
	classic, err := f.classic()
	if err != nil {
		return nil, nil, err
	}
	xsks, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "xsks_map", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: uint32(slots),
	})
	if err != nil {
		return nil, nil, explainLoad("make the XSKMAP", err)
	}
	prog, err := f.loadProgram(classic, xsks, miss, frags)
	if err != nil {
		xsks.Close()
		return nil, nil, err
	}
	return prog, xsks, nil
}

func (f Filter) loadProgram(classic []bpf.Instruction, xsks *ebpf.Map, miss int, frags bool) (*ebpf.Program, error) {
	code, err := f.assemble(classic, xsks.FD(), miss)
	if err != nil {
		return nil, err
	}
	spec := &ebpf.ProgramSpec{Name: programName, Type: ebpf.XDP, Instructions: code, License: "Dual BSD/GPL"}
	if frags {
		spec.Flags = unix.BPF_F_XDP_HAS_FRAGS
	}
	prog, err := ebpf.NewProgram(spec)
	if frags && errors.Is(err, unix.EINVAL) { // before 5.18
		spec.Flags = 0
		prog, err = ebpf.NewProgram(spec)
	}
	if err != nil {
		return nil, explainLoad("load the program", err)
	}
	return prog, nil
}

// explainLoad names the capabilities that are lacking: without CAP_PERFMON the verifier
// answers EACCES, and means an instruction.
func explainLoad(step string, err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		if lacking := rights.Program(unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON); lacking != nil {
			return fmt.Errorf("%s: %w", step, lacking)
		}
		return fmt.Errorf("%s: %w: it takes CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON (%w)", step, unix.EPERM, err)
	}
	return fmt.Errorf("%s: %w", step, err)
}

// Match reports whether the filter matches a packet: 14 bytes, an Ethernet
// header, or more. It compiles and loads the program that Attach would attach,
// and runs it on the packet in the kernel (BPF_PROG_TEST_RUN), which needs the
// same capabilities but no interface. What of a packet does not fit a page is in
// further buffers, which the filter does not see.
func (f Filter) Match(packet []byte) (bool, error) {
	t, err := newTrial(f)
	if err != nil {
		return false, fmt.Errorf("pcapfilter: match: %w", err)
	}
	defer t.close()
	matched, err := t.match(packet)
	if err != nil {
		return false, fmt.Errorf("pcapfilter: match a packet of %d bytes with %q: %w", len(packet), string(f), err)
	}
	return matched, nil
}

// A trial is the filter's program for test runs. It has no socket in its map;
// so that a match can be told, it answers XDP_TX to one instead of XDP_PASS, and
// that number is the only difference.
type trial struct {
	prog *ebpf.Program
	xsks *ebpf.Map
}

func newTrial(f Filter) (t trial, err error) {
	t.prog, t.xsks, err = f.load(1, xdpTx, true)
	return t, err
}

func (t trial) close() {
	t.prog.Close()
	t.xsks.Close()
}

func (t trial) match(packet []byte) (bool, error) {
	const ethernetHeader = 14
	if len(packet) < ethernetHeader {
		return false, fmt.Errorf("%w: an Ethernet header alone is %d", unix.EINVAL, ethernetHeader)
	}
	verdict, err := t.prog.Run(&ebpf.RunOptions{Data: packet})
	switch {
	case err != nil:
		return false, err
	case verdict == xdpTx:
		return true, nil
	case verdict == xdpPass:
		return false, nil
	}
	return false, fmt.Errorf("the program answered %d", verdict)
}
