// Forward sends what it receives on each port out of the next one, and from the
// last out of the first: the job of the C sample xsk_fwd. All ports have their
// frames from one pool, the Umem they share, so no byte is copied; each port has
// a thread of its own.
//
//	sudo forward -d eth0,eth1,eth2,eth3 -cpus 0,1,2,3
//
// It swaps the MAC addresses, and takes all packets of the ports, so do not log
// in over one. A port whose link takes no more holds up the one before it, which
// then drops at its own NIC: no packet is lost that was received.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

func main() {
	flags := cmdline.New("forward", "forwards Ethernet frames from port to port, -d eth0,eth1,...", 3840)
	var cpus []int
	flags.Func("cpus", "`CPUs` for the ports' threads, as in 0,1; from the first again if there are more ports", func(text string) (err error) {
		cpus, err = parseCPUs(text)
		return err
	})
	frames := flags.Int("b", 4096, "`frames` of the pool for each port")
	options := flags.Parse()
	if *frames < 256 {
		flags.Fail(fmt.Errorf("-b %d is less than 256", *frames))
	}
	ctx, stop := options.Context()
	defer stop()
	if err := run(ctx, options, *frames, cpus); err != nil {
		fmt.Fprintln(os.Stderr, "forward:", err)
		os.Exit(1)
	}
}

func parseCPUs(text string) (cpus []int, err error) {
	for _, word := range strings.Split(text, ",") {
		cpu, err := strconv.Atoi(word)
		if err != nil || cpu < 0 {
			return nil, fmt.Errorf("%q is no CPU", word)
		}
		cpus = append(cpus, cpu)
	}
	return cpus, nil
}

// A forwarder is the ports and the pool that they share.
type forwarder struct {
	pool  *xsk.Umem
	ports []*port
	meter *cmdline.Meter
}

// A port is one interface's queue, and the thread that empties it.
type port struct {
	queue   *xsk.Queue
	program *bpf.Program
	packets atomic.Uint64 // forwarded
	bytes   atomic.Uint64
}

func run(ctx context.Context, o *cmdline.Options, frames int, cpus []int) error {
	f, err := open(ctx, o, frames)
	if err != nil {
		return err
	}
	defer f.close()
	return f.run(ctx, o, cpus)
}

// open makes the pool and opens the ports.
func open(ctx context.Context, o *cmdline.Options, frames int) (*forwarder, error) {
	names := strings.Split(o.Interface, ",")
	pool, err := xsk.NewUmem(&xsk.UmemConfig{Frames: frames * len(names), FrameSize: o.FrameSize()})
	if err != nil {
		return nil, err
	}
	f := &forwarder{pool: pool, meter: cmdline.NewMeter("forward")}
	for _, name := range names {
		p, err := openPort(ctx, name, o, pool, frames)
		if err != nil {
			f.close()
			return nil, err
		}
		f.ports = append(f.ports, p)
		fmt.Println(p.queue)
	}
	fmt.Printf("forward: ready ports=%d mode=%v\n", len(f.ports), f.ports[0].program.Mode())
	return f, nil
}

func (f *forwarder) close() {
	for _, p := range f.ports {
		p.close()
	}
	_ = f.pool.Close()
}

// run forwards until ctx ends, or -c packets are forwarded.
func (f *forwarder) run(ctx context.Context, o *cmdline.Options, cpus []int) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(f.ports))
	var running sync.WaitGroup
	for i, p := range f.ports {
		out := f.ports[(i+1)%len(f.ports)].queue
		running.Add(1)
		go func() {
			defer running.Done()
			defer stop() // an error on one port ends the others
			if errs[i] = pin(cpus, i); errs[i] == nil {
				errs[i] = p.forward(ctx, out, o.Batch)
			}
		}()
	}
	// Whoever waits for a packet or for room is woken at the end.
	defer context.AfterFunc(ctx, func() {
		for _, p := range f.ports {
			_ = p.queue.SetReadDeadline(time.Now())
			_ = p.queue.SetWriteDeadline(time.Now().Add(time.Second))
		}
	})()
	for tick := time.Tick(50 * time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick:
		case <-ctx.Done():
		}
		if f.show(); o.Count > 0 && f.meter.Packets >= o.Count {
			stop()
		}
	}
	running.Wait()
	f.show()
	return errors.Join(errors.Join(errs...), f.report())
}

// openPort attaches the program and binds the queue. Half of its share of the
// pool is for receiving, the rest is under way.
func openPort(ctx context.Context, name string, o *cmdline.Options, pool *xsk.Umem, frames int) (*port, error) {
	program, err := bpf.Attach(name, bpf.Options{Filter: bpf.Filter{All: true}, Mode: o.Mode})
	if err != nil {
		return nil, err
	}
	p := &port{program: program}
	if err = cmdline.WaitLink(ctx, program, os.Stderr); err == nil {
		p.queue, err = xsk.Open(name, o.Queue, &xsk.Config{
			Umem:         pool,
			SocketConfig: xsk.SocketConfig{BindFlags: o.BindFlags()},
			XSKMap:       program,
			RxFrames:     min(frames/2, xsk.DefaultRingSize),
		})
	}
	if err != nil {
		_ = program.Close()
		return nil, err
	}
	return p, nil
}

func (p *port) close() {
	_ = p.queue.Close()
	_ = p.program.Close()
}

// pin gives the goroutine a thread, and that a CPU if there is a list.
func pin(cpus []int, i int) error {
	runtime.LockOSThread() // until the goroutine ends
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpus[i%len(cpus)])
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin a thread to CPU %d: %w", cpus[i%len(cpus)], err)
	}
	return nil
}

// forward sends on what the port receives, until ctx ends.
func (p *port) forward(ctx context.Context, out *xsk.Queue, batch int) error {
	frames := make([]xsk.Frame, batch)
	for ctx.Err() == nil {
		n, err := p.queue.Receive(frames)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}
		bytes := 0
		for i := range frames[:n] {
			f := &frames[i]
			packet.SwapMACs(f.Data)
			bytes += f.Len()
		}
		sent, err := out.Send(frames[:n]) // all of them, or an error
		for i := range frames[sent:n] {
			bytes -= frames[sent+i].Len()
		}
		p.packets.Add(uint64(sent))
		p.bytes.Add(uint64(bytes))
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *forwarder) show() {
	packets, bytes := uint64(0), uint64(0)
	for _, p := range f.ports {
		packets += p.packets.Load()
		bytes += p.bytes.Load()
	}
	f.meter.Add(int(packets-f.meter.Packets), int(bytes-f.meter.Bytes))
}

// report waits until everything is sent, prints the counts, and checks that each
// packet was forwarded and each frame of the pool is there.
func (f *forwarder) report() error {
	count := f.counts()
	for end := time.Now().Add(time.Second); count.Tx > 0 && time.Now().Before(end); count = f.counts() {
		time.Sleep(time.Millisecond)
		for _, p := range f.ports {
			_, _ = p.queue.TrySend(nil) // takes back what was sent
		}
	}
	received, dropped := uint64(0), uint64(0)
	for _, p := range f.ports {
		s := p.queue.Stats()
		fmt.Printf("%v\n%v\n", p.queue, s)
		received += s.RxPackets
		dropped += s.Dropped
	}
	m := f.meter
	fmt.Printf("forward: received=%d sent=%d dropped=%d seconds=%.3f pps=%.0f\n",
		received, m.Packets-dropped, dropped, m.Seconds(), m.Rate(m.Packets-dropped))
	if received != m.Packets || count.Total() != f.pool.Frames() {
		return fmt.Errorf("%d packets received and %d forwarded; %d frames of %d: %+v",
			received, m.Packets, count.Total(), f.pool.Frames(), count)
	}
	return nil
}

// counts are those of the pool, which any of its queues tells.
func (f *forwarder) counts() xsk.FrameCounts { return f.ports[0].queue.Stats().Frames }
