// Xskdump captures what a filter or a tcpdump expression matches: into a pcapng
// file, or as a line a packet.
//
//	sudo xskdump -d eth0 -udp 53
//	sudo xskdump -d eth0 -e 'tcp port 443 and net 192.0.2.0/24' -o web.pcapng
//
// Unlike tcpdump it takes the packets away: what matches no longer reaches this
// host, on any queue, and the rest is not touched. What the host sends it does
// not see. A packet's time is that of the burst that brought it to the program,
// so a few packets share one, and those of different queues are in the file as
// they came to the program.
//
// At the end it says how many packets matched, and where those are that were not
// captured: dropped for want of room, or by the interface before.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/pcapfilter"
)

// mostBytes is the most that is kept of a packet unless -s says less: more than
// any packet has.
const mostBytes = 262144

// config is what the command line asks for.
type config struct {
	*cmdline.Options
	expression string // -e
	file       string // -o; "-" is standard output, "" prints lines there
	promisc    bool   // -p
	queues     []int  // -q; nil is all
}

func main() {
	c := config{}
	flags := cmdline.New("xskdump", "captures packets, and takes them from this host while it runs", mostBytes)
	flags.DefaultPorts("")
	flags.SizeIs("keep at most so many `bytes` of a packet", 1, mostBytes)
	flags.Lookup("q").Usage = "only this `queue` (default all)"
	flags.StringVar(&c.expression, "e", "", "a tcpdump `expression`, instead of the filter's flags")
	flags.StringVar(&c.file, "o", "", "write pcapng to this `file`; - is standard output (default: print a line a packet)")
	flags.BoolVar(&c.promisc, "p", false, "promiscuous: take packets for other stations too, until the end")
	c.Options = flags.Parse()
	if flags.Given("q") {
		c.queues = []int{c.Queue}
	}
	switch filtered := !reflect.ValueOf(c.Filter()).IsZero(); {
	case filtered && c.expression != "":
		flags.Fail(errors.New("-e and the filter's flags exclude each other"))
	case !filtered && c.expression == "":
		flags.Fail(errors.New("nothing to capture; say -udp 53, or -e with a tcpdump expression, or -all -keep"))
	}
	ctx, stop := c.Context()
	defer stop()
	if err := run(ctx, &c, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "xskdump:", err)
		os.Exit(1)
	}
}

// A program is bpf's or pcapfilter's.
type program interface {
	xsk.XSKMap
	fmt.Stringer
	Mode() bpf.Mode
	WaitLink(context.Context) error
	Close() error
}

func (c *config) attach() (program, error) {
	if c.expression != "" {
		return pcapfilter.Attach(c.Interface, pcapfilter.Options{Filter: pcapfilter.Filter(c.expression), Mode: c.Mode})
	}
	return bpf.Attach(c.Interface, bpf.Options{Filter: c.Filter(), Mode: c.Mode})
}

// run captures until ctx ends or -c packets have come. Packets go to out, or to
// the file, and what there is to say to log.
func run(ctx context.Context, c *config, out, log io.Writer) (err error) {
	nic, err := openNIC(c.Interface)
	if err != nil {
		return err
	}
	defer nic.close()
	program, err := c.attach()
	if err != nil {
		return err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, log); err != nil {
		return err
	}
	if c.promisc {
		if err := nic.setPromiscuous(); err != nil {
			return err
		}
	}
	queues, err := xsk.OpenAll(c.Interface, &xsk.Config{
		SocketConfig: xsk.SocketConfig{BindFlags: c.BindFlags() | nic.multiBuffer(), RxOnly: true},
		XSKMap:       program,
		Queues:       c.queues,
	})
	if err != nil {
		return err
	}
	defer queues.Close()
	sink, err := c.openSink(out) // last: an error before leaves an older file as it is
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sink.close()) }()
	fmt.Fprintf(log, "%v\n%v\n", queues, program)
	fmt.Fprintln(log, "xskdump: from now on packets that match no longer reach this host; the others do")
	fmt.Fprintf(log, "xskdump: ready mode=%v\n", program.Mode())

	capture := newCapture(c, queues, sink)
	err = capture.run(ctx)
	if p, is := program.(*bpf.Program); is {
		fmt.Fprintln(log, cmdline.Filtered(p))
	}
	capture.report(log)
	nic.report(log)
	return err
}
