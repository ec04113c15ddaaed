// Contestant is what scripts/bench measures of the Queue: an echo of UDP packets
// on a Queue, beside the same on the rings with the same tactics, and a receiver
// on a Queue that drops what it gets.
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
	"github.com/go-xsk/xsk/examples/internal/packet"
)

func main() {
	flags := cmdline.New("contestant", "echoes UDP packets, or drops them", 1500)
	rings := flags.Bool("rings", false, "on the rings, not on a Queue")
	drop := flags.Bool("drop", false, "drop, on a Queue")
	linger := flags.Duration("linger", 0, "let packets gather for so long")
	options := flags.Parse()
	ctx, stop := options.Context()
	defer stop()
	meter := cmdline.NewMeter("contestant")
	err := run(ctx, options, *rings, *drop, *linger, meter)
	fmt.Printf("contestant: received=%d\n", meter.Packets)
	if err != nil {
		fmt.Fprintln(os.Stderr, "contestant:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, rings, drop bool, linger time.Duration, meter *cmdline.Meter) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	umem, err := xsk.NewUmem(&xsk.UmemConfig{FrameSize: o.FrameSize()})
	if err != nil {
		return err
	}
	defer umem.Close()
	if rings {
		return onRings(ctx, o, umem, program, linger, meter)
	}
	queue, err := xsk.Open(o.Interface, o.Queue, &xsk.Config{
		Umem:         umem,
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
		Linger:       linger,
	})
	if err != nil {
		return err
	}
	defer queue.Close()
	fmt.Println("contestant: ready", queue)
	defer context.AfterFunc(ctx, func() { _ = queue.Close() })()
	if err := onQueue(queue, o.Batch, drop, meter); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func onQueue(queue *xsk.Queue, batch int, drop bool, meter *cmdline.Meter) error {
	for frames := make([]xsk.Frame, batch); ; {
		n, err := queue.Receive(frames)
		if err != nil {
			return err
		}
		meter.Add(n, 0)
		if drop {
			continue
		}
		answers := frames[:0]
		for i := range frames[:n] {
			if packet.TurnAround(frames[i].Data) {
				answers = append(answers, frames[i])
			}
		}
		if _, err := queue.Send(answers); err != nil {
			return err
		}
	}
}

// onRings does what a Queue does: half of the frames are for receiving, a frame
// that was sent is the next one to be posted, and what finds no room in the TX
// ring waits for it.
func onRings(ctx context.Context, o *cmdline.Options, umem *xsk.Umem, program *bpf.Program, linger time.Duration, meter *cmdline.Meter) error {
	socket, err := xsk.NewSocket(o.Interface, o.Queue, umem, &xsk.SocketConfig{
		BindFlags:       o.BindFlags(),
		InhibitProgLoad: true,
	})
	if err != nil {
		return err
	}
	defer socket.Close()
	free := make([]xsk.Addr, umem.Frames())
	for i := range free {
		free[i] = xsk.Addr(i * umem.FrameSize())
	}
	free = free[:len(free)-umem.Fill.Produce(free[len(free)/2:])]
	if err := socket.UpdateXSKMap(program); err != nil {
		return err
	}
	fmt.Println("contestant: ready", socket)
	mask := ^xsk.Addr(umem.FrameSize() - 1)
	rx, tx := make([]xsk.Desc, o.Batch), make([]xsk.Desc, 0, o.Batch)
	post := make([]xsk.Addr, 0, umem.Frames())
	for ctx.Err() == nil {
		filled, n, err := socket.RxBurstWait(post, rx, 100*time.Millisecond, linger)
		if err != nil {
			return err
		}
		post = post[:copy(post, post[filled:])]
		meter.Add(n, 0)
		for _, d := range rx[:n] {
			if packet.TurnAround(umem.Bytes(d)) {
				tx = append(tx, d)
			} else {
				post = append(post, d.Addr&mask)
			}
		}
		gone := len(tx)
		for first := true; first || len(tx) > 0 && ctx.Err() == nil; first = false {
			queued, completed, err := socket.TxBurst(tx, free[len(free):cap(free)])
			if err != nil && !cmdline.Passing(err) {
				return err
			}
			free = free[:len(free)+completed]
			for i := len(free) - completed; i < len(free); i++ {
				free[i] &= mask
			}
			if tx = tx[:copy(tx, tx[queued:])]; len(tx) > 0 {
				if _, err := socket.PollTx(100 * time.Millisecond); err != nil {
					return err
				}
			}
		}
		for ; gone > 0 && len(free) > 0; gone-- {
			post = append(post, free[len(free)-1])
			free = free[:len(free)-1]
		}
	}
	return nil
}
