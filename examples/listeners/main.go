// Listeners answers UDP packets from several goroutines, which share what comes in
// on all queues of an interface, and lets another one look on.
//
//	sudo listeners -d eth0 -udp 9000 -workers 4
//
// Each worker has whole conversations: a sender hears from one of them only. The
// one that looks on gets copies; when it is late it misses some, and nobody waits.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
	"github.com/go-xsk/xsk/split"
)

func main() {
	flags := cmdline.New("listeners", "answers UDP packets from several goroutines, and looks on", 3840)
	workers := flags.Int("workers", 4, "`goroutines` that answer")
	flags.Lookup("q").Usage = "this `queue` of it alone; default all"
	options := flags.Parse()
	var queues []int
	if flags.Given("q") {
		queues = []int{options.Queue}
	}
	switch {
	case *workers < 1:
		flags.Fail(fmt.Errorf("-workers %d do nothing", *workers))
	case options.Count > 0:
		flags.Fail(errors.New("-c is for one goroutine; -t ends all of them"))
	}
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options, queues, *workers); err != nil {
		fmt.Fprintln(os.Stderr, "listeners:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *cmdline.Options, numbers []int, workers int) error {
	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return err
	}
	defer program.Close()
	if err := program.WaitLink(ctx); err != nil {
		return err
	}
	queues, err := xsk.OpenAll(o.Interface, &xsk.Config{
		UmemConfig:   xsk.UmemConfig{FrameSize: o.FrameSize()},
		SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
		XSKMap:       program,
		Queues:       numbers,
	})
	if err != nil {
		return err
	}
	defer queues.Close()
	fmt.Println(queues)

	s, err := split.New(queues...)
	if err != nil {
		return err
	}
	defer s.Close()
	depth := max(1024/(workers+1), 1) // half of what the kernel leaves, and as much on loan
	members, err := s.FanOut(workers, &split.Options{Name: "worker", Depth: depth})
	if err != nil {
		return err
	}
	tap, err := s.Tap(&split.Options{Name: "tap", Depth: depth})
	if err != nil {
		return err
	}
	fmt.Printf("listeners: ready mode=%v workers=%d\n", program.Mode(), workers)

	var running sync.WaitGroup
	for _, m := range members {
		running.Add(1)
		go func() {
			defer running.Done()
			answer(m, o.Batch)
		}()
	}
	sizes := make(map[int]int)
	running.Add(1)
	go func() {
		defer running.Done()
		look(tap, o.Batch, sizes)
	}()

	// Ctrl-C ends Run, and closes the Members, which wakes whoever waits in them.
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	if err := s.Run(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	running.Wait()
	return report(program, queues, s, append(members, &tap.Member), sizes)
}

// answer turns packets round until the Member is closed, as it would on a Queue.
func answer(m *split.Member, batch int) {
	frames := make([]xsk.Frame, batch)
	for {
		n, err := m.Receive(frames)
		if err != nil {
			return
		}
		answers := frames[:0]
		for i := range frames[:n] {
			if packet.TurnAround(frames[i].Data) {
				answers = append(answers, frames[i])
			}
		}
		if _, err := m.Send(answers); err != nil {
			return
		}
	}
}

// look counts copies by their size.
func look(tap *split.Tap, batch int, sizes map[int]int) {
	frames := make([]xsk.Frame, batch)
	for {
		n, err := tap.Receive(frames)
		if err != nil {
			return
		}
		for i := range frames[:n] {
			sizes[frames[i].Len()]++
		}
	}
}

// report prints who got what, and checks that it is all.
func report(program *bpf.Program, queues xsk.Queues, s *split.Splitter, all []*split.Member, sizes map[int]int) error {
	fmt.Println(cmdline.Filtered(program))
	fmt.Println(queues.Stats())
	var given, answered uint64
	for i, m := range all {
		stats := m.Stats()
		fmt.Printf("%v: %v\n", m, stats)
		if i < len(all)-1 {
			given += stats.RxPackets + stats.Dropped
			answered += stats.TxPackets
		}
	}
	received := queues.Stats().RxPackets
	seen := all[len(all)-1].Stats()
	fmt.Printf("listeners: received=%d answered=%d copied=%d missed=%d sizes=%v\n",
		received, answered, seen.RxPackets, seen.Dropped, sizes)
	if given+s.Unclaimed() != received {
		return fmt.Errorf("%d packets are lost", int64(received-given-s.Unclaimed()))
	}
	return nil
}
