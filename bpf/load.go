package bpf

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/aquasecurity/libbpfgo"
	"golang.org/x/sys/unix"
)

//go:embed redirect.bpf.o
var object []byte

// The names in redirect.bpf.c.
const (
	progFrags  = "xsk_redirect"
	progSingle = "xsk_redirect_1b"
	xsksMap    = "xsks_map"
)

// candidates are tried in this order. Kernels before 5.18 answer EINVAL to a
// program that takes packets of several buffers; they get the one that does not.
var candidates = []string{progFrags, progSingle}

// load loads the program, configured, and leaves module and map in p.
func (p *Program) load() (*libbpfgo.BPFProg, error) {
	var err error
	from, names := object, candidates
	if p.metadata {
		from, names = metadataObject, []string{progMetadata}
		bindTo(p.device.index)
	}
	for _, name := range names {
		var prog *libbpfgo.BPFProg
		if prog, err = p.loadNamed(from, name); err == nil {
			return prog, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	err = fmt.Errorf("load the program: %w", cause(err))
	switch text := captured(); {
	case p.metadata && metadataHint(err) != "":
		err = fmt.Errorf("%w: %s", err, metadataHint(err))
	case errors.Is(err, unix.EPERM): // here libbpf suspects RLIMIT_MEMLOCK, without reason
		err = fmt.Errorf("%w: %s", err, forbidden)
	case text != "":
		err = fmt.Errorf("%w (%s)", err, text)
	}
	return nil, err
}

func (p *Program) loadNamed(from []byte, name string) (*libbpfgo.BPFProg, error) {
	if p.module != nil { // that of the candidate before
		p.module.Close()
	}
	clearCapture()
	var err error
	if p.module, err = openObject(from); err != nil {
		return nil, err
	}
	for _, each := range []string{progFrags, progSingle} {
		prog, err := p.module.GetProgram(each)
		if err != nil {
			return nil, err
		}
		if err = prog.SetAutoload(each == name); err != nil {
			return nil, err
		}
	}
	if err = p.configure(); err != nil {
		return nil, err
	}
	if err = p.module.BPFLoadObject(); err != nil {
		return nil, err
	}
	return p.module.GetProgram(name)
}

// configure sets what cannot be changed once the program is loaded.
func (p *Program) configure() error {
	var err error
	if p.xsks, err = p.module.GetMap(xsksMap); err != nil {
		return err
	}
	if err = p.xsks.SetMaxEntries(uint32(p.queues)); err != nil {
		return err
	}
	if err = p.module.InitGlobalVariable("match_all", p.filter.All); err != nil {
		return err
	}
	return p.module.InitGlobalVariable("udp_ports", newPortSet(p.filter.UDPPorts))
}

// openObject opens an embedded object. It goes through a file in memory, for
// libbpfgo's buffer variant raises RLIMIT_MEMLOCK whatever SkipMemlockBump says
// (before v0.10), which takes CAP_SYS_RESOURCE and has been of no use to BPF
// since kernel 5.11.
func openObject(object []byte) (*libbpfgo.Module, error) {
	fd, err := unix.MemfdCreate("xsk-bpf", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if err == unix.EINVAL { // before kernel 6.3; later ones may insist on it
		fd, err = unix.MemfdCreate("xsk-bpf", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "xsk-bpf")
	defer file.Close()
	if _, err = file.Write(object); err != nil {
		return nil, err
	}
	opening.Store(int64(unix.Gettid()))
	defer opening.Store(0)
	defer resumeCapture() // libbpfgo has put its own printer in
	return libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{
		BPFObjPath:      fmt.Sprintf("/proc/self/fd/%d", fd),
		SkipMemlockBump: true,
	})
}

// opening is the thread that is in openObject, or 0; attaching goes one at a
// time.
var opening atomic.Int64

func init() { setQuietLogger() }

// setQuietLogger leaves out what libbpfgo would print while it opens our
// object; see the package comment.
func setQuietLogger() {
	libbpfgo.SetLoggerCbs(libbpfgo.Callbacks{
		LogFilters: []func(int, string) bool{
			func(int, string) bool { return opening.Load() == int64(unix.Gettid()) },
		},
	})
}

// cause is the errno inside a libbpfgo error, whose own words add nothing, or
// else the error itself.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// captured returns libbpf's warnings so far as one line. Of a long one, the
// verifier's log, it leaves out the middle.
func captured() string {
	const head, tail = 200, 600
	text := strings.ReplaceAll(strings.TrimSpace(capturedText()), "\n", "; ")
	if len(text) > head+tail {
		text = text[:head] + " ... " + text[len(text)-tail:]
	}
	return text
}
