// Pingpong measures how long a packet takes there and back. One machine
// answers, the other asks, one packet at a time:
//
//	sudo pingpong -d eth0 -udp 9000 -server
//	sudo pingpong -d eth0 -udp 9000 -dmac 02:00:00:00:00:02 -dip 192.0.2.2 -c 100000
//
// With -spin it asks the queue again and again instead of waiting in Go's
// poller: that saves the wake-up, and costs a processor.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

// patience is how long an answer may take.
const patience = time.Second

func main() {
	flags := cmdline.New("pingpong", "measures round trips", 64)
	server := flags.Bool("server", false, "answer")
	spin := flags.Bool("spin", false, "never wait, but ask again and again")
	var flow packet.Flow
	flags.TextVar(&flow.DstMAC, "dmac", packet.MAC{}, "the server's `MAC` address")
	flags.TextVar(&flow.SrcIP, "sip", netip.MustParseAddr("192.0.2.1"), "source IPv4 `address`")
	flags.TextVar(&flow.DstIP, "dip", netip.MustParseAddr("192.0.2.2"), "the server's IPv4 `address`")
	options := flags.Parse()
	switch {
	case len(options.Ports) != 1:
		flags.Fail(errors.New("-udp takes one port, which packets go from and to"))
	case !*server && flow.DstMAC.IsZero():
		flags.Fail(errors.New("-dmac says where the server is, unless this is the one: -server"))
	case !flow.SrcIP.Is4() || !flow.DstIP.Is4():
		flags.Fail(errors.New("-sip and -dip take IPv4 addresses"))
	}
	flow.SrcPort, flow.DstPort = options.Ports[0], options.Ports[0]
	ctx, stop := options.Context()
	defer stop()
	if _, err := run(ctx, options, flow, *server, *spin); err != nil {
		fmt.Fprintln(os.Stderr, "pingpong:", err)
		os.Exit(1)
	}
}

// run returns how many packets came back.
func run(ctx context.Context, o *cmdline.Options, flow packet.Flow, server, spin bool) (trips int, err error) {
	if flow.SrcMAC, err = packet.InterfaceMAC(o.Interface); err != nil {
		return 0, err
	}
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return 0, err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return 0, err
	}
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
	})
	if err != nil {
		return 0, err
	}
	defer queue.Close()
	fmt.Println(queue)
	fmt.Printf("pingpong: ready mode=%v\n", program.Mode())

	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	p := &player{queue: queue, spin: spin, frames: make([]xsk.Frame, o.Batch)}
	if server {
		err = p.serve()
	} else {
		err = p.play(packet.NewTemplate(flow, o.Size), o.Count)
		p.report()
	}
	if err != nil && !errors.Is(err, os.ErrClosed) {
		return len(p.trips), err
	}
	fmt.Println(cmdline.Filtered(program))
	fmt.Println(queue.Stats())
	return len(p.trips), nil
}

type player struct {
	queue  *xsk.Queue
	spin   bool
	frames []xsk.Frame

	trips []time.Duration
	lost  int
}

// serve answers until the queue is closed.
func (p *player) serve() error {
	for {
		n, err := p.receive(time.Time{})
		if err != nil {
			return err
		}
		answers := p.frames[:0]
		for i := range p.frames[:n] {
			f := &p.frames[i]
			if packet.TurnAround(f.Data) {
				answers = append(answers, *f)
			}
		}
		if _, err := p.queue.Send(answers); err != nil {
			return err
		}
	}
}

// play sends packet after packet, each when the one before is back or lost:
// count of them, or until the queue is closed.
func (p *player) play(template *packet.Template, count uint64) error {
	second := time.Now().Add(time.Second)
	for number := uint64(0); count == 0 || number < count; number++ {
		ball := p.frames[:1]
		if _, err := p.queue.Alloc(ball); err != nil {
			return err
		}
		f := &ball[0]
		f.Data = f.Data[:template.Size()]
		template.Prepare(f.Data)
		template.Number(f.Data, number)
		begin := time.Now()
		if n, err := p.queue.Send(ball); err != nil {
			xsk.Free(ball[n:])
			return err
		}
		switch err := p.await(number, begin.Add(patience)); {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.lost++
		case err != nil:
			return err
		default:
			p.trips = append(p.trips, time.Since(begin))
		}
		if now := time.Now(); now.After(second) {
			fmt.Printf("pingpong: %d round trips, the last in %v\n", len(p.trips), now.Sub(begin))
			second = now.Add(time.Second)
		}
	}
	return nil
}

// await waits until packet number is back.
func (p *player) await(number uint64, until time.Time) error {
	for {
		n, err := p.receive(until)
		if err != nil {
			return err
		}
		for i := range p.frames[:n] {
			_, payload, err := packet.Parse(p.frames[i].Data)
			if got, ok := packet.PacketNumber(payload); err == nil && ok && got == number {
				return nil
			}
		}
	}
}

// receive waits for packets, in one way or the other.
func (p *player) receive(until time.Time) (int, error) {
	if !p.spin {
		if !until.IsZero() {
			if err := p.queue.SetReadDeadline(until); err != nil {
				return 0, err
			}
		}
		return p.queue.Receive(p.frames)
	}
	for {
		n, err := p.queue.TryReceive(p.frames)
		if n > 0 || err != nil {
			return n, err
		}
		if !until.IsZero() && time.Now().After(until) {
			return 0, os.ErrDeadlineExceeded
		}
	}
}

func (p *player) report() {
	n := len(p.trips)
	if n == 0 {
		fmt.Printf("pingpong: trips=0 lost=%d\n", p.lost)
		return
	}
	slices.Sort(p.trips)
	at := func(part float64) float64 { return p.trips[int(part*float64(n-1))].Seconds() * 1e6 }
	fmt.Printf("pingpong: trips=%d lost=%d min=%.1f median=%.1f 99th=%.1f max=%.1f microseconds\n",
		n, p.lost, at(0), at(0.5), at(0.99), at(1))
}
