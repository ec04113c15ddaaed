// Workers answers each UDP packet with the SHA-256 of its payload, computed by
// several goroutines. It shows frames that change hands: one goroutine receives
// and keeps them, the workers answer or free them, and at the end every frame
// is accounted for.
//
//	sudo workers -d eth0 -udp 9000 -workers 4
package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

func main() {
	flags := cmdline.New("workers", "answers UDP packets with the SHA-256 of their payload", 3840)
	workers := flags.Int("workers", 4, "`goroutines` that compute")
	options := flags.Parse()
	if *workers < 1 {
		flags.Fail(fmt.Errorf("-workers %d do nothing", *workers))
	}
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "workers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, workers int) error {
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
	fmt.Printf("workers: ready mode=%v workers=%d\n", program.Mode(), workers)

	// A full channel makes the receiver wait, and the kernel drop what it has no
	// frame for: the workers never have more than a fraction of the frames.
	p := &pool{queue: queue, jobs: make(chan xsk.Frame, 256)}
	for range workers {
		p.running.Add(1)
		go p.work()
	}
	// Ctrl-C ends only the receiving. What was kept is answered yet.
	defer context.AfterFunc(ctx, func() { _ = queue.SetReadDeadline(time.Now()) })()
	meter := cmdline.NewMeter("workers")
	err = p.receive(ctx, o, meter)
	close(p.jobs)
	p.running.Wait()
	fmt.Println(cmdline.Filtered(program))
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return p.account(meter)
}

type pool struct {
	queue           *xsk.Queue
	jobs            chan xsk.Frame
	running         sync.WaitGroup
	answered, freed atomic.Uint64
}

// receive hands packets to the workers until the read deadline passes, or -c
// of them have come.
func (p *pool) receive(ctx context.Context, o *cmdline.Options, meter *cmdline.Meter) error {
	frames := make([]xsk.Frame, o.Batch)
	for ctx.Err() == nil && (o.Count == 0 || meter.Packets < o.Count) {
		n, err := p.queue.Receive(frames)
		if err != nil {
			return err
		}
		bytes := 0
		for i := range frames[:n] {
			f := &frames[i]
			bytes += f.Len()
			f.Keep() // or the next Receive would take it back
			p.jobs <- *f
		}
		meter.Add(n, bytes)
	}
	return nil
}

// work answers frames, or frees those that it does not understand.
func (p *pool) work() {
	defer p.running.Done()
	for f := range p.jobs {
		flow, payload, err := packet.Parse(f.Data)
		if err == nil && !flow.DstMAC.IsGroup() {
			sum := sha256.Sum256(payload)
			f.Data = append(f.Data[:packet.HeaderLen], sum[:]...) // longer or shorter, in the same frame
			answer := flow.Reverse()
			answer.Put(f.Data)
			if n, _ := p.queue.Send([]xsk.Frame{f}); n == 1 { // gone
				p.answered.Add(1)
				continue
			}
		}
		f.Free() // still ours
		p.freed.Add(1)
	}
}

// account waits until all answers are sent, and checks that nothing is lost.
func (p *pool) account(meter *cmdline.Meter) error {
	stats := p.queue.Stats()
	for end := time.Now().Add(time.Second); stats.Frames.Tx > 0 && time.Now().Before(end); stats = p.queue.Stats() {
		if _, err := p.queue.TrySend(nil); err != nil { // takes back what was sent
			return err
		}
		time.Sleep(time.Millisecond)
	}
	fmt.Println(stats)
	answered, freed := p.answered.Load(), p.freed.Load()
	fmt.Printf("workers: received=%d answered=%d freed=%d seconds=%.3f pps=%.0f\n",
		meter.Packets, answered, freed, meter.Seconds(), meter.Rate(meter.Packets))
	if meter.Packets != answered+freed || stats.Frames.User > 0 {
		return fmt.Errorf("%d packets and %d frames are lost", meter.Packets-answered-freed, stats.Frames.User)
	}
	return nil
}
