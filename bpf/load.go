package bpf

import (
	"debug/elf"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"unsafe"

	"github.com/aquasecurity/libbpfgo"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/kernel"
)

//go:embed redirect.bpf.o
var object []byte

// The names in redirect.bpf.c.
const (
	progFrags   = "xsk_redirect"
	progSingle  = "xsk_redirect_1b"
	xsksMap     = "xsks_map"
	countersMap = "counters"
)

// candidates are tried in this order. Kernels before 5.18 answer EINVAL to a
// program that takes packets of several buffers; they get the one that does not.
var candidates = []string{progFrags, progSingle}

// A source is the object that a program is loaded from, and its candidates.
type source struct {
	object     []byte
	candidates []string
	ifindex    int // of the device to bind the program to; 0: none
}

// nativeSource is for native mode, where a large MTU takes a program for packets
// of several buffers, and for test runs, which attach nothing.
func nativeSource() source { return source{object: object, candidates: candidates} }

// singleSource is for generic mode: it makes one buffer of each packet for such a
// program.
func singleSource() source { return source{object: object, candidates: []string{progSingle}} }

// multiSource is for Options.MultiBuffer.
func multiSource() source { return source{object: object, candidates: []string{progFrags}} }

const multiBufferKernel = "5.18 XDP programs for packets of several buffers"

// An image is the program in the kernel, with the tables of one Filter.
type image struct {
	module *libbpfgo.Module
	prog   *libbpfgo.BPFProg
}

func (i *image) close() { i.module.Close() }

// A mapSet is the maps that stay while the images change.
type mapSet struct{ xsks, counters int }

func newMaps(queues int) (mapSet, error) {
	xsks, err := createXSKMap(queues)
	if err != nil {
		return mapSet{}, fmt.Errorf("make the XSKMAP: %w", denied(err))
	}
	counters, err := createCounters()
	if err != nil {
		unix.Close(xsks)
		return mapSet{}, fmt.Errorf("make the counters: %w", denied(err))
	}
	return mapSet{xsks, counters}, nil
}

func (m mapSet) close() {
	unix.Close(m.xsks)
	unix.Close(m.counters)
}

// load loads the program of s with the tables. Its maps are those of m, or new ones
// if m is nil. The thread is locked, and captures what libbpf says.
func load(s source, t *tables, m *mapSet) (*image, error) {
	var err error
	bindTo(s.ifindex)
	for _, name := range s.candidates {
		var i *image
		if i, err = loadNamed(s.object, name, t, m); err == nil {
			return i, nil
		}
		if !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if !errors.Is(err, unix.EMFILE) { // room has said more
		err = denied(cause(err))
	}
	err = fmt.Errorf("load the program: %w", err)
	if hint := metadataHint(err); s.ifindex != 0 && hint != "" {
		err = fmt.Errorf("%w: %s", err, hint)
		if !kernel.AtLeast(metadataKernel) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
	} else if slices.Equal(s.candidates, multiSource().candidates) && errors.Is(err, unix.EINVAL) && !kernel.AtLeast(multiBufferKernel) {
		err = fmt.Errorf("%w: %w: MultiBuffer needs Linux 5.18", errors.ErrUnsupported, err)
	} else if text := captured(); text != "" && !errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w (%s)", err, text)
	}
	return nil, err
}

// denied adds to EPERM what it is not. (libbpf suspects RLIMIT_MEMLOCK, without
// reason.)
func denied(err error) error {
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: %s", err, forbidden)
	}
	return err
}

func loadNamed(object []byte, name string, t *tables, m *mapSet) (*image, error) {
	clearCapture()
	module, err := openObject(object)
	if err != nil {
		return nil, err
	}
	i := &image{module: module}
	if err = i.start(name, t, m); err != nil {
		module.Close()
		closeELF(module)
		return nil, err
	}
	return i, nil
}

// closeELF closes the object's file, which libbpfgo leaves to the garbage
// collector where the object does not load. It keeps it in a field of its own, and
// has no call for it. To close it twice does no harm.
func closeELF(m *libbpfgo.Module) {
	field := reflect.ValueOf(m).Elem().FieldByName("elf")
	if field.IsValid() && field.Type() == reflect.TypeFor[*elf.File]() && !field.IsNil() {
		(*elf.File)(field.UnsafePointer()).Close()
	}
}

func (i *image) start(name string, t *tables, m *mapSet) error {
	for _, each := range []string{progFrags, progSingle} {
		prog, err := i.module.GetProgram(each)
		if err != nil {
			return err
		}
		if err = prog.SetAutoload(each == name); err != nil {
			return err
		}
	}
	if m != nil {
		if err := i.share(m); err != nil {
			return err
		}
	}
	if err := i.configure(t); err != nil {
		return err
	}
	if err := i.loadObject(); err != nil {
		return err
	}
	if err := i.fill(t); err != nil {
		return err
	}
	var err error
	i.prog, err = i.module.GetProgram(name)
	return err
}

// loadObject holds the fork lock: libbpf opens the folder of bpffs, 1.4 and newer for a
// token, and not close-on-exec.
func (i *image) loadObject() error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return i.module.BPFLoadObject()
}

// share makes the program use the maps of m.
func (i *image) share(m *mapSet) error {
	for name, fd := range map[string]int{xsksMap: m.xsks, countersMap: m.counters} {
		bpfMap, err := i.module.GetMap(name)
		if err != nil {
			return err
		}
		if err = bpfMap.ReuseFD(fd); err != nil {
			return err
		}
	}
	return nil
}

// configure sets what cannot be changed once the program is loaded.
func (i *image) configure(t *tables) error {
	if err := i.module.InitGlobalVariable("config", t.config); err != nil {
		return err
	}
	if err := i.module.InitGlobalVariable("protocols", t.protocols); err != nil {
		return err
	}
	zeroes, err := i.module.GetMap(".bss")
	if err != nil {
		return err
	}
	if err = zeroes.SetInitialValue(unsafe.Pointer(t.bss)); err != nil {
		return err
	}
	for _, c := range t.contents() {
		bpfMap, err := i.module.GetMap(c.name)
		if err != nil {
			return err
		}
		if err = bpfMap.SetMaxEntries(uint32(max(c.count, 1))); err != nil {
			return err
		}
	}
	return nil
}

// fill puts the tables into the maps, before a packet sees them.
func (i *image) fill(t *tables) error {
	for _, c := range t.contents() {
		if c.count == 0 {
			continue
		}
		bpfMap, err := i.module.GetMap(c.name)
		if err != nil {
			return err
		}
		if err = updateBatch(bpfMap.FileDescriptor(), c.keys, c.values, c.count); err != nil {
			return fmt.Errorf("fill map %s: %w", c.name, err)
		}
	}
	return nil
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
	path := fmt.Sprintf("/proc/self/fd/%d", fd)
	if _, err = os.Stat(path); err != nil {
		return nil, fmt.Errorf("/proc must be mounted: %w", err)
	}
	if err = room(fd); err != nil {
		return nil, err
	}
	opening.Store(int64(unix.Gettid()))
	defer opening.Store(0)
	defer resumeCapture() // libbpfgo has put its own printer in
	return libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{BPFObjPath: path, SkipMemlockBump: true})
}

// descriptors is how many may be open at a time while a program is loaded and
// attached: those of its maps, of libbpf's probes, and some to spare. With libbpf 1.4.6
// it takes 13.
const descriptors = 20

// room is an error unless so many can be opened. For want of one, libbpfgo leaves a
// file open until the garbage collector runs, and libbpf believes for good that the
// kernel lacks what it has asked for.
func room(fd int) error {
	var held [descriptors]int
	for i := range held {
		var err error
		if held[i], err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err == unix.EMFILE {
			err = fmt.Errorf("%w: it takes %d descriptors more (RLIMIT_NOFILE)", err, descriptors-i)
		}
		if err != nil {
			return err
		}
		defer unix.Close(held[i])
	}
	return nil
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
