// Libbpfgo shows how a program that uses libbpfgo already gets AF_XDP: it loads
// and attaches its own XDP program, as before, and registers an xsk.Socket in an
// XSKMAP of that program. Package bpf is not needed.
//
//	sudo go run ./examples/libbpfgo -d eth0
//
// Its own program, udp.bpf.c, counts packets by protocol and redirects UDP.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"
	"unsafe"

	"github.com/aquasecurity/libbpfgo"

	"github.com/go-xsk/xsk"
)

// scripts/build-bpf makes it of udp.bpf.c.
//
//go:embed udp.bpf.o
var object []byte

func main() {
	var o options
	flag.StringVar(&o.device, "d", "", "interface `name`")
	flag.IntVar(&o.queue, "q", 0, "receive queue")
	flag.IntVar(&o.count, "c", 0, "stop after this many `packets`; 0 means no limit")
	seconds := flag.Float64("t", 0, "stop after this many `seconds`; 0 means at Ctrl-C")
	flag.Parse()
	if o.device == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *seconds > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*seconds*float64(time.Second)))
		defer cancel()
	}
	if err := run(ctx, os.Stdout, o); err != nil {
		fmt.Fprintln(os.Stderr, "libbpfgo:", err)
		os.Exit(1)
	}
}

type options struct {
	device string
	queue  int
	count  int
}

// run receives until ctx ends.
func run(ctx context.Context, out io.Writer, o options) (err error) {
	// What such a program has already: a module, and a program that it attaches.
	module, err := load()
	if err != nil {
		return err
	}
	defer module.Close() // detaches
	program, err := module.GetProgram("count_and_steer")
	if err != nil {
		return err
	}
	if _, err = program.AttachXDP(o.device); err != nil {
		return err
	}
	xsksMap, err := module.GetMap("xsks_map")
	if err != nil {
		return err
	}

	// New: memory for packets, all of it given to the kernel to receive into ...
	umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 2048, FillSize: 2048})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, umem.Close()) }()
	frames := make([]xsk.Addr, 2048)
	for i := range frames {
		frames[i] = xsk.Addr(i * umem.FrameSize())
	}
	umem.Fill.Produce(frames)

	// ... a socket on one queue, without libxdp's program ...
	config := xsk.SocketConfig{InhibitProgLoad: true, RxOnly: true, BindFlags: xsk.BindNeedWakeup}
	socket, err := xsk.NewSocket(o.device, o.queue, umem, &config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, socket.Close()) }()

	// ... and its place in the map: *libbpfgo.BPFMap is an xsk.XSKMap.
	if err = socket.UpdateXSKMap(xsksMap); err != nil {
		return err
	}
	fmt.Fprintln(out, socket)

	total, err := receive(ctx, out, umem, socket, o.count)
	if err != nil {
		return err
	}
	stats, err := socket.Stats()
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d packets, %d bytes; %d dropped, %d more for a full ring\n",
		total.packets, total.bytes, stats.RxDropped, stats.RxRingFull)
	return summarize(out, module)
}

type counters struct{ packets, bytes int }

// receive counts packets, up to limit of them unless that is 0, and prints their
// rate once a second.
func receive(ctx context.Context, out io.Writer, umem *xsk.Umem, socket *xsk.Socket, limit int) (counters, error) {
	var total, before counters
	var done []xsk.Addr // frames whose packet is read: back to the kernel with them
	burst := make([]xsk.Desc, 64)
	size := xsk.Addr(umem.FrameSize())
	for last := time.Now(); ctx.Err() == nil && (limit == 0 || total.packets < limit); {
		filled, received, err := socket.RxBurst(done, burst)
		if err != nil {
			return total, err
		}
		done = append(done[:0], done[filled:]...)
		for _, packet := range burst[:received] {
			total.packets++
			total.bytes += len(umem.Bytes(packet)) // umem.Bytes is the packet
			// The kernel leaves room before a packet. Its frame starts here:
			done = append(done, packet.Addr-packet.Addr%size)
		}
		if elapsed := time.Since(last); elapsed >= time.Second {
			fmt.Fprintf(out, "%.0f packets/s, %.1f Mbit/s\n",
				float64(total.packets-before.packets)/elapsed.Seconds(),
				float64(total.bytes-before.bytes)*8/1e6/elapsed.Seconds())
			before, last = total, time.Now()
		}
		if received == 0 {
			if _, err := socket.PollRx(100 * time.Millisecond); err != nil {
				return total, err
			}
		}
	}
	return total, nil
}

// load loads the embedded object, from a file: only there can libbpfgo be told
// to leave RLIMIT_MEMLOCK alone, which not every container may raise.
func load() (*libbpfgo.Module, error) {
	libbpfgo.SetLoggerCbs(libbpfgo.Callbacks{
		LogFilters: []func(int, string) bool{
			func(level int, _ string) bool { return level > libbpfgo.LibbpfWarnLevel },
		},
	})
	file, err := os.CreateTemp("", "udp-*.bpf.o")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err = file.Write(object); err != nil {
		return nil, err
	}
	module, err := libbpfgo.NewModuleFromFileArgs(libbpfgo.NewModuleArgs{
		BPFObjPath:      file.Name(),
		SkipMemlockBump: true,
	})
	if err != nil {
		return nil, err
	}
	if err = module.BPFLoadObject(); err != nil {
		module.Close()
		return nil, err
	}
	return module, nil
}

// summarize prints what the program counted; its maps are used as ever.
func summarize(out io.Writer, module *libbpfgo.Module) error {
	seen, err := module.GetMap("seen")
	if err != nil {
		return err
	}
	for _, protocol := range []struct {
		number uint32
		name   string
	}{{syscall.IPPROTO_UDP, "UDP"}, {syscall.IPPROTO_TCP, "TCP"}, {syscall.IPPROTO_ICMP, "ICMP"}} {
		value, err := seen.GetValue(unsafe.Pointer(&protocol.number))
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "the program saw %d %s packets\n", *(*uint64)(unsafe.Pointer(&value[0])), protocol.name)
	}
	return nil
}
