// Mirror answers UDP packets on one interface, and sends a copy of each packet
// that comes in out of another one, where somebody may be looking.
//
//	sudo mirror -d eth0 -udp 9000 -to eth1
//
// The copies never hold the answers up. When eth1 is full, down or gone, they
// are dropped and counted, and the answers go on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

func main() {
	flags := cmdline.New("mirror", "answers UDP packets and copies them to another interface", 3840)
	to := flags.String("to", "", "the `interface` that the copies go out of")
	options := flags.Parse()
	if *to == "" || *to == options.Interface {
		flags.Fail(errors.New("-to names an interface other than -d's"))
	}
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options, *to); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, to string) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return err
	}
	// Each queue has memory of its own: copies that wait to be sent take no
	// frame that packets could be received into.
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
	})
	if err != nil {
		return err
	}
	defer queue.Close()
	// One that only sends needs no program.
	out, err := xsk.Open(to, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags(), TxOnly: true},
	})
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Println(queue)
	fmt.Println(out)
	fmt.Printf("mirror: ready mode=%v\n", program.Mode())

	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	meter := cmdline.NewMeter("mirror")
	m := &mirror{queue: out, frames: make([]xsk.Frame, o.Batch)}
	if err := answer(queue, m, o, meter); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	fmt.Println(cmdline.Filtered(program))
	fmt.Printf("%s:\n%v\n%s:\n%v\n", o.Interface, queue.Stats(), to, out.Stats())
	fmt.Printf("mirror: received=%d copied=%d missed=%d seconds=%.3f pps=%.0f\n",
		meter.Packets, m.copied, m.missed, meter.Seconds(), meter.Rate(meter.Packets))
	return nil
}

// answer is the main path. It waits for nothing but its own interface.
func answer(queue *xsk.Queue, m *mirror, o *cmdline.Options, meter *cmdline.Meter) error {
	frames := make([]xsk.Frame, o.Batch)
	for o.Count == 0 || meter.Packets < o.Count {
		n, err := queue.Receive(frames)
		if err != nil {
			return err
		}
		m.copy(frames[:n]) // before they change
		answers, bytes := frames[:0], 0
		for i := range frames[:n] {
			f := &frames[i]
			bytes += f.Len()
			if packet.TurnAround(f.Data) {
				answers = append(answers, *f)
			}
		}
		if _, err := queue.Send(answers); err != nil {
			return err
		}
		meter.Add(n, bytes)
	}
	return nil
}

// A mirror sends copies.
type mirror struct {
	queue          *xsk.Queue
	frames         []xsk.Frame // for one batch
	copied, missed int
	err            error
}

// copy sends copies of packets, as many as there is room for now.
func (m *mirror) copy(packets []xsk.Frame) {
	n, err := m.queue.TryAlloc(m.frames[:len(packets)])
	copies := m.frames[:n]
	for i := range copies {
		f := &copies[i]
		f.Data = append(f.Data, packets[i].Data...) // within the frame, which is as large as the other
	}
	sent := 0
	if err == nil {
		sent, err = m.queue.TrySend(copies)
	}
	xsk.Free(copies[sent:])
	m.copied += sent
	m.missed += len(packets) - sent
	if err != nil && m.err == nil {
		m.err = err
		fmt.Println("mirror: no more copies:", err)
	}
}
