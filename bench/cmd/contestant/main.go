// Contestant is one of the Go contestants of scripts/bench: -as rings, queue or
// gvisor, each of which sends (-do tx), receives (rx), answers (echo) or forwards
// (forward). The ones in C take the same flags. The harness starts it, with the
// XSKMAPs of its interfaces as descriptors 3 and 4.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bench/internal/turns"
	"github.com/go-xsk/xsk/bench/internal/wire"
)

type options struct {
	as, task  string
	in, out   string
	queues    int
	batch     int
	size      int
	frames    int
	frameSize int
	ring      int
	linger    time.Duration
	spin      bool
	shared    bool
	idle      int
	flow      wire.Flow
}

// The XSKMAPs that the harness hands over.
const (
	mapIn  = xsk.MapFD(3)
	mapOut = xsk.MapFD(4)
)

// patience is how long a ring contestant waits before it looks whether its turn
// is over.
const patience = 20 * time.Millisecond

func main() {
	o := parse()
	w, err := open(o)
	if err == nil {
		err = turns.Serve(w)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "contestant -as %s -do %s: %v\n", o.as, o.task, err)
		os.Exit(1)
	}
}

func parse() *options {
	o := new(options)
	var linger float64
	var unused string
	flag.StringVar(&o.as, "as", "rings", "rings, queue or gvisor")
	flag.StringVar(&o.task, "do", "rx", "tx, rx, echo or forward")
	flag.StringVar(&o.in, "d", "", "interface")
	flag.StringVar(&o.out, "out", "", "interface to forward to")
	flag.IntVar(&o.queues, "queues", 1, "so many queues")
	flag.IntVar(&o.batch, "batch", 64, "packets in a burst")
	flag.IntVar(&o.size, "size", 64, "bytes of a packet")
	flag.IntVar(&o.frames, "frames", 4096, "frames of a umem")
	flag.IntVar(&o.frameSize, "framesize", 4096, "bytes of a frame")
	flag.IntVar(&o.ring, "ring", 2048, "entries of a ring")
	flag.Float64Var(&linger, "linger", 0, "microseconds to gather packets")
	flag.BoolVar(&o.spin, "spin", false, "never wait")
	flag.BoolVar(&o.shared, "shared", false, "one umem for all queues")
	flag.IntVar(&o.idle, "idle", 0, "so many idle queues beside")
	flag.StringVar(&unused, "mode", "", "generic or native; the harness has attached the program")
	flag.Var(&mac{&o.flow.SrcMAC}, "smac", "own MAC address")
	flag.Var(&mac{&o.flow.DstMAC}, "dmac", "the peer's")
	flag.TextVar(&o.flow.SrcIP, "sip", netip.Addr{}, "own IP address")
	flag.TextVar(&o.flow.DstIP, "dip", netip.Addr{}, "the peer's")
	flag.Parse()
	o.linger = time.Duration(linger * float64(time.Microsecond))
	for o.ring > o.frames/2 {
		o.ring /= 2
	}
	return o
}

// mac is a flag.
type mac struct{ addr *net.HardwareAddr }

func (m *mac) String() string { return "" }

func (m *mac) Set(text string) (err error) {
	*m.addr, err = net.ParseMAC(text)
	return err
}

func open(o *options) (turns.Worker, error) {
	switch o.as {
	case "rings":
		return openRings(o)
	case "queue":
		return openQueues(o)
	case "gvisor":
		return openGVisor(o)
	}
	return nil, fmt.Errorf("there is no such contestant")
}

// counted adds n packets, the last of which is given, and checks it if it is
// time to.
func counted(t *turns.Turn, n int, last []byte, size int) {
	before := t.Packets
	t.Packets += uint64(n)
	if n > 0 && before/wire.Sample != t.Packets/wire.Sample {
		t.Checked++
		if wire.Check(last, size) != nil {
			t.Bad++
		}
	}
}
