// L2fwd forwards Ethernet frames between two interfaces through AF_XDP, without
// copying them: a frame received on one is sent on the other, from the Umem that
// both share.
//
//	sudo l2fwd -d eth0 -d2 eth1
//
// With one interface it swaps the MAC addresses and sends everything back. It
// takes all packets of the queue, so do not log in over that interface.
package main

import (
	"context"
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

// framesPerPort are as many as a fill ring can hold: then it always has room
// for what comes back.
const framesPerPort = xsk.DefaultRingSize

func main() {
	flags := cmdline.New("l2fwd", "forwards Ethernet frames", 3840)
	second := flags.String("d2", "", "the other `interface`; without it packets go back where they came from")
	flags.DefaultAll()
	options := flags.Parse()
	if *second == options.Interface {
		flags.Fail(fmt.Errorf("-d and -d2 are both %s; leave -d2 out to send packets back", *second))
	}
	if err := run(options, *second); err != nil {
		fmt.Fprintln(os.Stderr, "l2fwd:", err)
		os.Exit(1)
	}
}

func run(o *cmdline.Options, second string) error {
	ctx, stop := o.Context()
	defer stop()
	names := []string{o.Interface}
	if second != "" {
		names = append(names, second)
	}
	umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: len(names) * framesPerPort, FrameSize: o.FrameSize()})
	if err != nil {
		return err
	}
	defer umem.Close()
	sockets := make([]*xsk.Socket, len(names))
	for i, name := range names {
		sockets[i], err = xsk.NewSocket(name, o.Queue, umem, &xsk.SocketConfig{
			BindFlags:       o.BindFlags(),
			InhibitProgLoad: true, // package bpf's is attached instead
		})
		if err != nil {
			return err
		}
		defer sockets[i].Close()
		fmt.Println(sockets[i])
	}

	// From each socket to the other one, or back to itself.
	counts := &counters{limit: o.Count, enough: stop}
	ways := make([]*way, len(sockets))
	for i, in := range sockets {
		out := sockets[len(sockets)-1-i]
		ways[i] = newWay(in, out, umem, i*framesPerPort, o.Batch, counts)
		ways[i].fill()
	}
	programs := make([]*bpf.Program, len(names))
	for i, name := range names {
		program, err := bpf.Attach(name, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
		if err != nil {
			return err
		}
		defer program.Close()
		if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
			return err
		}
		if err := sockets[i].UpdateXSKMap(program); err != nil {
			return err
		}
		programs[i] = program
		fmt.Printf("l2fwd: ready %s mode=%v\n", name, program.Mode())
	}

	// One goroutine per way. Each is the only one that receives from its in and
	// sends to its out, so they share nothing and need no lock.
	meter := cmdline.NewMeter("l2fwd")
	errs := make([]error, len(ways))
	var running sync.WaitGroup
	for i, w := range ways {
		running.Add(1)
		go func() {
			defer running.Done()
			defer stop() // an error on one way ends the other
			errs[i] = w.run(ctx)
		}()
	}
	for tick := time.Tick(50 * time.Millisecond); ctx.Err() == nil; {
		select {
		case <-tick:
		case <-ctx.Done():
		}
		counts.show(meter)
	}
	running.Wait()
	counts.show(meter)

	drops := uint64(0) // by the devices
	for i, w := range ways {
		drops += sockets[i].KickStats().Dropped
		fmt.Printf("l2fwd: %s: %s\n", names[i], cmdline.Filtered(programs[i]))
		if errs[i] == nil {
			errs[i] = w.account()
		}
		if stats, err := sockets[i].Stats(); err == nil {
			for _, line := range cmdline.Explain(stats, umem.MaxPacket()) {
				fmt.Printf("l2fwd: %s: %s\n", names[i], line)
			}
		}
	}
	sent := counts.completed.Load() - min(drops, counts.completed.Load())
	fmt.Printf("l2fwd: received=%d sent=%d dropped=%d seconds=%.3f pps=%.0f\n",
		meter.Packets, sent, counts.noRoom.Load()+drops, meter.Seconds(), meter.Rate(sent))
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// counters are those of all ways together.
type counters struct {
	received, bytes, completed, noRoom atomic.Uint64

	limit  uint64 // 0: none
	enough func() // called when limit packets have been received
}

func (c *counters) show(m *cmdline.Meter) {
	packets, bytes := c.received.Load(), c.bytes.Load()
	m.Add(int(packets-m.Packets), int(bytes-m.Bytes))
}

// A way takes packets from one socket and sends them out of another. It has
// frames of its own, and each is in one of four places: in free, with the kernel
// for receiving, with the kernel for sending, or in rx during a round.
type way struct {
	in, out *xsk.Socket
	umem    *xsk.Umem
	counts  *counters

	free   []xsk.Addr // last in, first out
	rx     []xsk.Desc
	frames int
	inFill int // with the kernel for receiving
	inTx   int // with the kernel for sending
}

func newWay(in, out *xsk.Socket, umem *xsk.Umem, first, batch int, counts *counters) *way {
	w := &way{in: in, out: out, umem: umem, counts: counts, frames: framesPerPort}
	w.rx = make([]xsk.Desc, batch)
	w.free = make([]xsk.Addr, framesPerPort)
	for i := range w.free {
		w.free[i] = xsk.Addr((first + i) * umem.FrameSize())
	}
	return w
}

// fill posts every frame before the first packet comes.
func (w *way) fill() {
	n := w.in.Fill.Produce(w.free)
	w.free = w.free[:copy(w.free, w.free[n:])]
	w.inFill += n
}

func (w *way) run(ctx context.Context) error {
	for ctx.Err() == nil {
		n, err := w.round()
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		patience := 100 * time.Millisecond // how soon Ctrl-C is noticed
		if w.inTx > 0 {
			patience = time.Millisecond // nothing tells when they are sent
		}
		if _, err := w.in.PollRx(patience); err != nil {
			return err
		}
	}
	// What was received is sent yet, if the kernel does it soon.
	for end := time.Now().Add(time.Second); w.inTx > 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err := w.send(nil); err != nil {
			return err
		}
	}
	return nil
}

// round receives a burst, gives the kernel its empty frames back, and sends the
// burst on.
func (w *way) round() (int, error) {
	filled, n, err := w.in.RxBurst(w.free, w.rx)
	w.free = w.free[:copy(w.free, w.free[filled:])]
	w.inFill += filled - n
	if err != nil && !cmdline.Passing(err) {
		return n, err
	}
	packets := w.rx[:n]
	bytes := uint64(0)
	for _, d := range packets {
		bytes += uint64(d.Len)
		if w.in == w.out {
			packet.SwapMACs(w.umem.Bytes(d))
		}
	}
	total := w.counts.received.Add(uint64(n))
	w.counts.bytes.Add(bytes)
	if w.counts.limit > 0 && total >= w.counts.limit {
		w.counts.enough()
	}
	if n == 0 && w.inTx == 0 {
		return 0, nil
	}
	return n, w.send(packets)
}

// send queues packets and takes back the frames of those that were sent. A
// packet that the TX ring has no room for is dropped.
func (w *way) send(packets []xsk.Desc) error {
	// What comes back goes on top of the free frames.
	at := len(w.free)
	queued, completed, err := w.out.TxBurst(packets, w.free[at:cap(w.free)])
	w.free = w.free[:at+completed]
	w.inTx += queued - completed
	for _, d := range packets[queued:] {
		w.free = append(w.free, d.Addr)
	}
	w.counts.completed.Add(uint64(completed))
	w.counts.noRoom.Add(uint64(len(packets) - queued))
	if err != nil && !cmdline.Passing(err) {
		return err
	}
	return nil
}

// account checks that no frame was lost on the way, or came back twice.
func (w *way) account() error {
	if w.inTx > 0 {
		fmt.Printf("l2fwd: %v: %d packets are still with the kernel\n", w.out, w.inTx)
	}
	seen := make(map[xsk.Addr]bool, len(w.free))
	for _, addr := range w.free {
		seen[addr-addr%xsk.Addr(w.umem.FrameSize())] = true
	}
	if len(seen) != len(w.free) || len(w.free)+w.inFill+w.inTx != w.frames {
		return fmt.Errorf("%v: %d frames free, %d different ones, %d to receive into, %d to send: together not %d",
			w.in, len(w.free), len(seen), w.inFill, w.inTx, w.frames)
	}
	return nil
}
