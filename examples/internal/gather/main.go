// Gather is what scripts/bench linger measures: a receiver on a Queue that drops
// what it gets, and lets packets gather for as long as -linger says.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
)

func main() {
	flags := cmdline.New("gather", "drops UDP packets", 1500)
	linger := flags.Duration("linger", 0, "let packets gather for so long")
	options := flags.Parse()
	ctx, stop := options.Context()
	defer stop()
	meter := cmdline.NewMeter("gather")
	err := run(ctx, options, *linger, meter)
	fmt.Printf("gather: received=%d\n", meter.Packets)
	if err != nil {
		fmt.Fprintln(os.Stderr, "gather:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, linger time.Duration, meter *cmdline.Meter) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
		Linger:       linger,
	})
	if err != nil {
		return err
	}
	defer queue.Close()
	fmt.Println("gather: ready", queue)
	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	for frames := make([]xsk.Frame, o.Batch); ; {
		n, err := queue.Receive(frames)
		if errors.Is(err, os.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		meter.Add(n, 0)
	}
}
