// Rxdrop receives UDP packets through AF_XDP and drops them: the least that a
// receiver can do, to see how fast packets come in. It shows the rings at work:
//
//	sudo rxdrop -d eth0 -udp 9000
//
// With -verify it checks every byte of what udpgen sends, and with -ack it tells
// udpgen -window how far it has come, so that nothing on the way overflows.
//
// The last line counts as lost what -verify missed in the sequence, without it
// what the kernel had for the socket and dropped.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

// Frames to receive into, as many as the fill ring can hold: then it always has
// room for what comes back. The acknowledgements have a few of their own.
const (
	rxFrames  = xsk.DefaultRingSize
	ackFrames = 64
)

func main() {
	flags := cmdline.New("rxdrop", "receives UDP packets and drops them", 3840)
	verify := flags.Bool("verify", false, "check all that udpgen puts into a packet; exit status 1 if something was wrong")
	linger := flags.Duration("linger", 50*time.Microsecond, "let packets gather for so long, up to 1ms: a wake-up costs as much as many packets")
	ack := flags.Bool("ack", false, "acknowledge to udpgen -window")
	options := flags.Parse()
	corrupt, err := run(options, *linger, *verify, *ack)
	if err != nil {
		fmt.Fprintln(os.Stderr, "rxdrop:", err)
	}
	if err != nil || corrupt {
		os.Exit(1)
	}
}

func run(o *cmdline.Options, linger time.Duration, verify, ack bool) (corrupt bool, err error) {
	ctx, stop := o.Context()
	defer stop()

	umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: rxFrames + ackFrames, FrameSize: o.FrameSize()})
	if err != nil {
		return false, err
	}
	defer umem.Close()

	// The kernel gets its frames before the bind: some drivers want them then.
	frameSize := xsk.Addr(umem.FrameSize())
	empty := make([]xsk.Addr, rxFrames)
	for i := range empty {
		empty[i] = xsk.Addr(i) * frameSize
	}
	empty = empty[:copy(empty, empty[umem.Fill.Produce(empty):])]

	socket, err := xsk.NewSocket(o.Interface, o.Queue, umem, &xsk.SocketConfig{
		RxOnly:          !ack,
		BindFlags:       o.BindFlags(),
		InhibitProgLoad: true, // package bpf's is attached instead
	})
	if err != nil {
		return false, err
	}
	defer socket.Close()

	program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
	if err != nil {
		return false, err
	}
	defer program.Close()
	if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
		return false, err
	}
	if err := socket.UpdateXSKMap(program); err != nil {
		return false, err
	}
	fmt.Println(socket)
	fmt.Printf("rxdrop: ready mode=%v\n", program.Mode())

	var acks *acker
	patience := 100 * time.Millisecond // how soon Ctrl-C is noticed
	if ack {
		if acks, err = newAcker(o, socket, umem); err != nil {
			return false, err
		}
		patience = 10 * time.Millisecond
	}
	checker := new(packet.Checker)
	meter := cmdline.NewMeter("rxdrop")
	rx := make([]xsk.Desc, o.Batch)
	var stopped atomic.Bool // cheaper to ask than ctx
	defer context.AfterFunc(ctx, func() { stopped.Store(true) })()
	for !stopped.Load() && (o.Count == 0 || meter.Packets < o.Count) {
		want := len(rx)
		if o.Count > 0 {
			want = int(min(uint64(want), o.Count-meter.Packets))
		}
		// One crossing gives back the frames of the last round, waits if it must,
		// and takes the packets of this one.
		filled, n, err := socket.RxBurstWait(empty, rx[:want], patience, linger)
		if err != nil && !cmdline.Passing(err) {
			return false, err
		}
		empty = empty[:copy(empty, empty[filled:])]

		bytes := 0
		for _, d := range rx[:n] {
			bytes += int(d.Len)
			// The packet begins somewhere inside its frame.
			empty = append(empty, d.Addr-d.Addr%frameSize)
		}
		if verify {
			for _, d := range rx[:n] {
				if err := checker.Check(umem.Bytes(d)); err != nil && checker.Corrupt <= 5 {
					fmt.Println("rxdrop: corrupt:", err)
				}
			}
		}
		meter.Add(n, bytes)
		if acks == nil {
			continue
		}
		if n == 0 {
			err = acks.idle()
		} else {
			err = acks.received(rx[:n], n < min(want, 64))
		}
		if err != nil {
			return false, err
		}
	}
	if acks != nil {
		if err := acks.received(nil, true); err != nil {
			return false, err
		}
	}
	fmt.Println(cmdline.Filtered(program))
	return checker.Corrupt > 0, summary(socket, umem, meter, checker, verify)
}

func summary(socket *xsk.Socket, umem *xsk.Umem, meter *cmdline.Meter, checker *packet.Checker, verify bool) error {
	stats, err := socket.Stats()
	if err != nil {
		return err
	}
	lost := cmdline.KernelDrops(stats)
	if verify {
		lost = checker.Lost
	}
	for _, line := range cmdline.Explain(stats, umem.MaxPacket()) {
		fmt.Println("rxdrop:", line)
	}
	fmt.Printf("rxdrop: received=%d bytes=%d lost=%d corrupt=%d seconds=%.3f pps=%.0f\n",
		meter.Packets, meter.Bytes, lost, checker.Corrupt, meter.Seconds(), meter.Rate(meter.Packets))
	return nil
}

// An acker tells one udpgen how far its packets have come. An acknowledgement
// is a UDP packet back to where they came from, with the number that is to come
// next. It goes out every 64 packets and whenever no more are there; since one
// may get lost, the last is repeated for a while.
type acker struct {
	socket  *xsk.Socket
	umem    *xsk.Umem
	mac     packet.MAC
	free    []xsk.Addr // frames to send, last in, first out
	flow    packet.Flow
	next    uint64
	unsent  int // packets since the last acknowledgement
	repeats int
}

const (
	ackEvery   = 64
	ackRepeats = 100
)

func newAcker(o *cmdline.Options, socket *xsk.Socket, umem *xsk.Umem) (*acker, error) {
	mac, err := packet.InterfaceMAC(o.Interface)
	if err != nil {
		return nil, err
	}
	a := &acker{socket: socket, umem: umem, mac: mac, free: make([]xsk.Addr, 0, ackFrames), repeats: ackRepeats}
	for i := range ackFrames {
		a.free = append(a.free, xsk.Addr((rxFrames+i)*umem.FrameSize()))
	}
	return a, nil
}

// received learns of a burst, before its frames go back to the kernel, and
// whether it was the last for now.
func (a *acker) received(rx []xsk.Desc, last bool) error {
	if n := len(rx); n > 0 {
		a.unsent += n
		flow, payload, err := packet.Parse(a.umem.Bytes(rx[n-1]))
		if number, ok := packet.PacketNumber(payload); err == nil && ok {
			a.flow, a.next = flow.Reverse(), number+1
			if a.flow.SrcMAC.IsGroup() {
				a.flow.SrcMAC = a.mac
			}
		}
	}
	if a.unsent >= ackEvery || last && a.unsent > 0 {
		a.unsent, a.repeats = 0, 0
		return a.send()
	}
	return nil
}

// idle repeats the last acknowledgement, in case that it was lost.
func (a *acker) idle() error {
	if a.repeats == ackRepeats {
		return nil
	}
	a.repeats++
	return a.send()
}

func (a *acker) send() error {
	var tx [1]xsk.Desc
	n := 0
	if last := len(a.free) - 1; last >= 0 && a.flow.SrcIP.IsValid() {
		tx[0] = xsk.Desc{Addr: a.free[last], Len: packet.MinSize}
		frame := a.umem.Bytes(tx[0])
		clear(frame)
		binary.BigEndian.PutUint64(frame[packet.HeaderLen:], a.next)
		a.flow.Put(frame)
		a.free, n = a.free[:last], 1
	}
	// Frames that were sent come back on top of the free ones.
	queued, completed, err := a.socket.TxBurst(tx[:n], a.free[len(a.free):cap(a.free)])
	a.free = a.free[:len(a.free)+completed]
	if queued < n {
		a.free = append(a.free, tx[0].Addr)
	}
	if err != nil && !cmdline.Passing(err) {
		return err
	}
	return nil
}
