// Udpecho answers UDP packets with themselves, through AF_XDP: a received
// packet is turned round in its frame and sent from there, so no byte of it is
// copied.
//
//	sudo udpecho -d eth0 -udp 7
//
// The kernel keeps everything else on the interface, ARP and logins too. From
// another machine "nc -u ADDRESS 7" shows the echo.
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
	options := cmdline.New("udpecho", "answers UDP packets with themselves", 3840).Parse()
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options); err != nil {
		fmt.Fprintln(os.Stderr, "udpecho:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return err
	}
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
	})
	if err != nil {
		return err
	}
	defer queue.Close()
	fmt.Println(queue)
	fmt.Printf("udpecho: ready mode=%v\n", program.Mode())

	// Ctrl-C closes the queue, which wakes whoever waits in it.
	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	meter := cmdline.NewMeter("udpecho")
	if err := echo(queue, o, meter); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	fmt.Println(cmdline.Filtered(program))
	fmt.Println(queue.Stats())
	fmt.Printf("udpecho: answered=%d seconds=%.3f pps=%.0f\n", meter.Packets, meter.Seconds(), meter.Rate(meter.Packets))
	return nil
}

// echo answers packets until the queue is closed, or -c of them are answered.
func echo(queue *xsk.Queue, o *cmdline.Options, meter *cmdline.Meter) error {
	frames := make([]xsk.Frame, o.Batch)
	for o.Count == 0 || meter.Packets < o.Count {
		n, err := queue.Receive(frames)
		if err != nil {
			return err
		}
		answers, bytes := frames[:0], 0
		for i := range frames[:n] {
			f := &frames[i]
			if packet.TurnAround(f.Data) { // in place: f.Data is the frame itself
				answers = append(answers, *f)
				bytes += f.Len()
			}
		}
		// What is not sent goes back with the next Receive.
		if _, err := queue.Send(answers); err != nil {
			return err
		}
		meter.Add(len(answers), bytes)
	}
	return nil
}
