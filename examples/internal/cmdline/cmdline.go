// Package cmdline is what the examples share beside their subject: flags, the
// rate they print once a second, and the counters they explain at the end.
package cmdline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// Frames between these sizes fit an example that says nothing else: Ethernet's
// minimum, and what a Umem frame of 4096 bytes can receive.
const (
	minSize = 60
	maxSize = 3840
)

// Options are the flags that all examples have.
type Options struct {
	Interface  string        // -d
	Queue      int           // -q
	Count      uint64        // -c; 0: no limit
	Time       time.Duration // -t; 0: no limit
	NeedWakeup bool          // -w
	ZeroCopy   bool          // -z
	Size       int           // -s
	Batch      int           // -n
	Mode       bpf.Mode      // -mode
	Ports      []uint16      // -udp
	Rules      bpf.Filter    // the filter's other flags; see Filter
}

// A Set reads the flags of one example, which adds its own to those of Options.
type Set struct {
	*flag.FlagSet
	options     Options
	about       string
	seconds     float64
	least, most int // -s
	defaultAll  bool
}

// New begins a Set. about says in a line what the example does, and size what
// -s is when it is not given.
func New(name, about string, size int) *Set {
	s := &Set{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), about: about, least: minSize, most: maxSize}
	s.SetOutput(io.Discard) // Parse says it in one line
	o := &s.options
	o.Ports = []uint16{9000}
	s.StringVar(&o.Interface, "d", "", "the `interface`")
	s.IntVar(&o.Queue, "q", 0, "its `queue`")
	s.Uint64Var(&o.Count, "c", 0, "stop after this many `packets`; 0: never")
	s.Float64Var(&s.seconds, "t", 0, "stop after this many `seconds`; 0: never")
	s.BoolVar(&o.NeedWakeup, "w", true, "let the kernel say when it wants a kick (need wakeup); off is -w=false")
	s.BoolVar(&o.ZeroCopy, "z", false, "insist on zero copy")
	s.IntVar(&o.Size, "s", size, "largest Ethernet frame in `bytes`, without its FCS")
	s.IntVar(&o.Batch, "n", 64, "`packets` in a batch")
	s.TextVar(&o.Mode, "mode", bpf.Auto, "`mode` of the XDP program: auto, native or generic")
	s.Func("udp", "UDP destination `ports`, as in 53,4000-4010 (default 9000, without another rule)", s.addPorts)
	s.filterFlags(&o.Rules)
	return s
}

// SizeIs changes what -s means, and its bounds.
func (s *Set) SizeIs(usage string, least, most int) {
	s.Lookup("s").Usage = usage
	s.least, s.most = least, most
}

// Given reports whether a flag is on the command line.
func (s *Set) Given(name string) (given bool) {
	s.Visit(func(f *flag.Flag) { given = given || f.Name == name })
	return given
}

// DefaultPorts changes what -udp is when it is not given; "" is none.
func (s *Set) DefaultPorts(ports string) {
	if ports == "" {
		s.options.Ports = nil
		s.Lookup("udp").Usage = "UDP destination `ports`, as in 53,4000-4010"
		return
	}
	s.options.Ports = nil
	if err := s.addPorts(ports); err != nil {
		panic(err)
	}
	s.Lookup("udp").Usage = "UDP destination `ports` (default " + ports + ", without another rule)"
}

// addPorts is -udp, the first of which replaces the default.
func (s *Set) addPorts(text string) error {
	if !s.Given("udp") {
		s.options.Ports = nil
	}
	return addPorts(&s.options.Ports, text)
}

// Parse reads the command line. It ends the program with status 2 if that is
// wrong, and with 0 after -h.
func (s *Set) Parse() *Options {
	switch err := s.parse(os.Args[1:]); {
	case errors.Is(err, flag.ErrHelp):
		s.SetOutput(os.Stdout)
		fmt.Printf("%s %s\n", s.Name(), s.about)
		s.PrintDefaults()
		os.Exit(0)
	case err != nil:
		s.Fail(err)
	}
	return &s.options
}

// Fail ends the program because of a wrong flag.
func (s *Set) Fail(err error) {
	fmt.Fprintf(os.Stderr, "%s: %v (-h lists the flags)\n", s.Name(), err)
	os.Exit(2)
}

func (s *Set) parse(args []string) error {
	if err := s.FlagSet.Parse(args); err != nil {
		return err
	}
	s.settle()
	o := &s.options
	o.Time = time.Duration(s.seconds * float64(time.Second))
	switch {
	case s.NArg() > 0:
		return fmt.Errorf("unexpected %q: every argument is a flag", s.Arg(0))
	case o.Interface == "":
		return errors.New("no interface; -d names it")
	case o.Queue < 0:
		return fmt.Errorf("-q %d is no queue", o.Queue)
	case !(s.seconds >= 0 && s.seconds <= 1e9):
		return fmt.Errorf("-t %v is no number of seconds", s.seconds)
	case o.Size < s.least || o.Size > s.most:
		return fmt.Errorf("-s %d is outside %d to %d", o.Size, s.least, s.most)
	case o.Batch < 1 || o.Batch > xsk.DefaultRingSize:
		return fmt.Errorf("-n %d is outside 1 to %d, the size of a ring", o.Batch, xsk.DefaultRingSize)
	case o.ZeroCopy && o.Mode == bpf.Generic:
		return errors.New("-z needs the program in the driver, not -mode generic")
	}
	return nil
}

// BindFlags are what -w, -z and -mode say about the bind. A program in generic
// mode sees no packet of a queue that the driver serves by zero copy, which the
// kernel would choose by itself.
func (o *Options) BindFlags() xsk.BindFlags {
	var flags xsk.BindFlags
	if o.NeedWakeup {
		flags |= xsk.BindNeedWakeup
	}
	switch {
	case o.ZeroCopy:
		flags |= xsk.BindZeroCopy
	case o.Mode == bpf.Generic:
		flags |= xsk.BindCopy
	}
	return flags
}

// FrameSize is the size of Umem frame that can receive -s bytes: 256 of each
// frame are the kernel's.
func (o *Options) FrameSize() int {
	if o.Size <= 2048-256 {
		return 2048
	}
	return 4096
}

// Context ends with Ctrl-C, SIGTERM, or when -t is over.
func (o *Options) Context() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	if o.Time == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeout(ctx, o.Time)
	return ctx, func() { cancel(); stop() }
}

// Passing reports whether a burst's error is one to go on after: the device
// dropped a packet, the link is down, or the kernel is short of memory.
func Passing(err error) bool {
	return errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENOBUFS)
}
