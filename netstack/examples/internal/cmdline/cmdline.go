// Package cmdline is what the examples of package netstack share beside their
// subject: the flags that say where the host is, and how to open it.
package cmdline

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/netstack"
)

// Options are the flags that these examples have.
type Options struct {
	Interface string         // -d
	Addresses []netip.Prefix // -ip
	Gateways  []netip.Addr   // -gw
	DHCP      bool           // -dhcp
	Kernel    bool           // -kernel
	Mode      bpf.Mode       // -mode
	Port      uint           // -p
	Time      time.Duration  // -t; 0: no limit
}

// A Set reads the flags of one example, which adds its own to those of Options.
type Set struct {
	*flag.FlagSet
	options Options
	about   string
}

// New begins a Set. about says in a line what the example does, and port what -p
// is when it is not given.
func New(name, about string, port uint) *Set {
	s := &Set{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError), about: about}
	s.SetOutput(io.Discard) // Parse says it in one line
	o := &s.options
	s.StringVar(&o.Interface, "d", "", "the `interface`")
	s.Func("ip", "own `address` and prefix length, as in 192.0.2.10/24, which the kernel must not have; may be repeated", func(text string) error {
		p, err := netip.ParsePrefix(text)
		o.Addresses = append(o.Addresses, p)
		return err
	})
	s.Func("gw", "`address` of the gateway; one for each family", func(text string) error {
		a, err := netip.ParseAddr(text)
		o.Gateways = append(o.Gateways, a)
		return err
	})
	s.BoolVar(&o.DHCP, "dhcp", false, "ask for an address and a gateway")
	s.BoolVar(&o.Kernel, "kernel", false, "use the kernel's TCP/IP instead, for comparison; without -d and -ip")
	s.TextVar(&o.Mode, "mode", bpf.Auto, "`mode` of the XDP program: auto, native or generic")
	s.UintVar(&o.Port, "p", port, "TCP `port`")
	s.DurationVar(&o.Time, "t", 0, "stop after this `time`, as in 30s; 0: never")
	return s
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
		fmt.Fprintf(os.Stderr, "%s: %v (-h lists the flags)\n", s.Name(), err)
		os.Exit(2)
	}
	return &s.options
}

func (s *Set) parse(args []string) error {
	if err := s.FlagSet.Parse(args); err != nil {
		return err
	}
	o := &s.options
	switch {
	case s.NArg() > 0:
		return fmt.Errorf("unexpected %q: every argument is a flag", s.Arg(0))
	case o.Port > 65535:
		return fmt.Errorf("-p %d is no port", o.Port)
	case o.Kernel:
		return nil
	case o.Interface == "":
		return errors.New("no interface; -d names it")
	case len(o.Addresses) == 0 && !o.DHCP:
		return errors.New("no address; -ip gives one, or -dhcp asks for it")
	}
	return nil
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

// A Network is where connections come from: a *netstack.Host, or the kernel.
type Network interface {
	Dial(ctx context.Context, network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	Addresses() []netip.Prefix // own ones
	Close() error
	String() string
}

// Open opens what the flags say.
func (o *Options) Open(ctx context.Context) (Network, error) {
	if o.Kernel {
		return kernel{}, nil
	}
	host, err := netstack.Open(ctx, o.Interface, &netstack.Config{
		Addresses: o.Addresses, Gateways: o.Gateways, DHCP: o.DHCP, Mode: o.Mode,
	})
	if err != nil {
		return nil, err
	}
	return host, nil
}

type kernel struct{ net.Dialer }

func (k kernel) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return k.DialContext(ctx, network, address)
}
func (kernel) Listen(network, address string) (net.Listener, error) {
	return net.Listen(network, address)
}

// Addresses are all of this machine's, or of its namespace.
func (kernel) Addresses() (all []netip.Prefix) {
	addresses, _ := net.InterfaceAddrs()
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}

func (kernel) Close() error   { return nil }
func (kernel) String() string { return "the kernel's TCP/IP" }

// Counts are what the network under a host counted, for the end of a program;
// of the kernel there is nothing to tell.
func Counts(n Network) string {
	if host, ok := n.(*netstack.Host); ok {
		return host.Endpoint().Stats().String()
	}
	return n.String()
}
