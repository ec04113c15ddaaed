// Iperf measures TCP between two programs, over whichever TCP/IP stack they are
// told to use:
//
//	sudo iperf -d eth0 -ip 192.0.2.1/24 -s
//	sudo iperf -d eth0 -ip 192.0.2.2/24 -c 192.0.2.1 -P 8 -t 5
//	sudo iperf -d eth0 -ip 192.0.2.2/24 -c 192.0.2.1 -rr
//
// The stacks are xsk (package netstack), gvisor-xdp (gVisor's own AF_XDP
// endpoint), afpacket (gVisor's endpoint on AF_PACKET) and kernel. All but the
// last are gVisor's TCP with the same settings, and take an address of their
// own, which the kernel must not have. The two sides may have different stacks.
//
// It tells Gbit/s and, for each Gbit, the seconds of processor time that the two
// processes took, as getrusage has it. What the kernel does for a packet counts
// for whom it interrupts: on a veth pair that is the one who sends, mostly. What
// it does in threads of its own counts for nobody, so "machine" is all that the
// processors of this machine did meanwhile, whoever did it.
//
// Of all bytes one in 64 is hashed on both sides, and of requests every one is
// compared: a difference is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/go-xsk/xsk/bpf"
)

// options are the flags.
type options struct {
	stack   string
	device  string
	address netip.Prefix
	mode    bpf.Mode
	trust   bool
	host    bool
	procs   int
	server  bool
	client  string
	port    uint
	load    load
	time    time.Duration
	turns   bool
}

// stacks open a network each; the names are those of -stack.
var stacks = map[string]func(ctx context.Context, o *options) (network, error){
	"xsk":        openXSK,
	"gvisor-xdp": openLinkXDP,
	"afpacket":   openPacket,
	"kernel":     openKernel,
}

func main() {
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "iperf: %v (-h lists the flags)\n", err)
		os.Exit(2)
	}
	if o.procs > 0 {
		runtime.GOMAXPROCS(o.procs)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "iperf:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := &options{}
	set := flag.NewFlagSet("iperf", flag.ContinueOnError)
	set.StringVar(&o.stack, "stack", "xsk", "the TCP/IP `stack`: xsk, gvisor-xdp, afpacket or kernel")
	set.StringVar(&o.device, "d", "", "the `interface`")
	set.TextVar(&o.address, "ip", netip.Prefix{}, "own `address` and prefix length; kernel has what the interface has")
	set.TextVar(&o.mode, "mode", bpf.Auto, "`mode` of the XDP program: auto, native or generic")
	set.BoolVar(&o.trust, "trust", false, "gvisor-xdp, afpacket: believe in every checksum, as runsc does, and merge what comes")
	set.BoolVar(&o.host, "hostgso", false, "afpacket: have the kernel cut segments (PACKET_VNET_HDR)")
	set.IntVar(&o.procs, "procs", 0, "most `processors` to use at a time; 0: as many as there are")
	set.BoolVar(&o.server, "s", false, "serve")
	set.StringVar(&o.client, "c", "", "ask the server at this `address`")
	set.UintVar(&o.port, "p", 5201, "the server's TCP `port`")
	set.IntVar(&o.load.streams, "P", 1, "`streams` at a time")
	set.BoolVar(&o.load.trips, "rr", false, "requests of 64 bytes, and replies, in place of streams")
	set.IntVar(&o.load.size, "l", 256<<10, "`bytes` to write at a time")
	set.DurationVar(&o.time, "t", 5*time.Second, "`time` to run")
	set.BoolVar(&o.turns, "turns", false, "work from \"start\" to \"stop\" on the standard input, as the benchmark says them")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	_, known := stacks[o.stack]
	switch {
	case set.NArg() > 0:
		return nil, fmt.Errorf("unexpected %q: every argument is a flag", set.Arg(0))
	case !known:
		return nil, fmt.Errorf("-stack %s is none of xsk, gvisor-xdp, afpacket and kernel", o.stack)
	case o.stack != "kernel" && o.device == "":
		return nil, errors.New("no interface; -d names it")
	case o.stack != "kernel" && !o.address.IsValid():
		return nil, errors.New("no address; -ip 192.0.2.1/24 gives one, which the kernel must not have")
	case o.server == (o.client != ""):
		return nil, errors.New("one of -s and -c, to serve or to ask")
	case o.port < 1 || o.port > 65535:
		return nil, fmt.Errorf("-p %d is outside 1 to 65535", o.port)
	case o.load.streams < 1 || o.load.size < 1:
		return nil, errors.New("-P and -l take numbers above 0")
	}
	return o, nil
}

func run(ctx context.Context, o *options) (err error) {
	n, err := stacks[o.stack](ctx, o)
	if err != nil {
		return fmt.Errorf("%s: %w", o.stack, err)
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	fmt.Fprintln(os.Stderr, n)
	if o.server {
		return serve(ctx, n, o)
	}
	address, err := netip.ParseAddr(strings.Trim(o.client, "[]"))
	if err != nil {
		return err
	}
	c := &client{network: n, server: netip.AddrPortFrom(address, uint16(o.port)), load: o.load}
	if o.turns {
		return c.takeTurns(ctx, os.Stdin, os.Stdout)
	}
	r, err := c.work(ctx, o.time)
	if err != nil {
		return err
	}
	fmt.Println(r.sentence(o))
	return r.wrong()
}

func serve(ctx context.Context, n network, o *options) error {
	address := netip.IPv4Unspecified()
	if o.address.IsValid() {
		address = o.address.Addr()
	}
	l, err := n.Listen(netip.AddrPortFrom(address, uint16(o.port)))
	if err != nil {
		return err
	}
	s := &server{network: n}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if o.turns {
		fmt.Println("ready")
		go func() {
			defer cancel()
			_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark closes it
		}()
	} else {
		fmt.Printf("iperf: ready, stack=%s on %v\n", o.stack, l.Addr())
	}
	err = s.serve(ctx, l)
	fmt.Fprintf(os.Stderr, "iperf: %v\n", s)
	return err
}
