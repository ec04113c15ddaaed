// Udpgen sends numbered UDP packets through AF_XDP as fast as it can. It shows
// the sending rings at work:
//
//	sudo udpgen -d eth0 -dmac 02:00:00:00:00:02 -dip 192.0.2.2 -udp 9000
//
// It attaches no program, for it only sends. With -window N it keeps at most N
// packets unacknowledged by rxdrop -ack, so that nothing on the way overflows;
// then it receives too.
//
// The last line counts as sent what the kernel completed and the device did not
// drop, and as dropped what it did, if its driver says so (EBUSY).
package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
)

// Frames to send from, as many as the TX ring holds, and to receive
// acknowledgements into.
const (
	txFrames = xsk.DefaultRingSize
	rxFrames = 512
)

// How long udpgen waits for what does not come: acknowledgements, and at the
// end completions.
const patience = time.Second

func main() {
	flags := cmdline.New("udpgen", "sends numbered UDP packets", 64)
	flow := packet.Flow{DstMAC: packet.Broadcast}
	flags.TextVar(&flow.SrcMAC, "smac", packet.MAC{}, "source `MAC` address (default the interface's own)")
	flags.TextVar(&flow.DstMAC, "dmac", packet.Broadcast, "destination `MAC` address")
	flags.TextVar(&flow.SrcIP, "sip", netip.MustParseAddr("192.0.2.1"), "source IPv4 `address`")
	flags.TextVar(&flow.DstIP, "dip", netip.MustParseAddr("192.0.2.2"), "destination IPv4 `address`")
	limit := flags.Int("window", 0, "most `packets` that rxdrop -ack has not acknowledged; 0: do not wait for it")
	options := flags.Parse()
	switch {
	case !flow.SrcIP.Is4() || !flow.DstIP.Is4():
		flags.Fail(errors.New("-sip and -dip take IPv4 addresses"))
	case len(options.Ports) != 1:
		flags.Fail(errors.New("-udp takes one port, which packets go from and to"))
	case *limit < 0:
		flags.Fail(fmt.Errorf("-window %d is no number of packets", *limit))
	}
	flow.SrcPort, flow.DstPort = options.Ports[0], options.Ports[0]
	if err := run(options, flow, *limit); err != nil {
		fmt.Fprintln(os.Stderr, "udpgen:", err)
		os.Exit(1)
	}
}

func run(o *cmdline.Options, flow packet.Flow, limit int) error {
	ctx, stop := o.Context()
	defer stop()
	if flow.SrcMAC.IsZero() {
		var err error
		if flow.SrcMAC, err = packet.InterfaceMAC(o.Interface); err != nil {
			return err
		}
	}
	umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: txFrames + rxFrames, FrameSize: o.FrameSize()})
	if err != nil {
		return err
	}
	defer umem.Close()
	s := &sender{umem: umem, size: uint32(o.Size), template: packet.NewTemplate(flow, o.Size)}
	s.prepare(o.Batch)
	if limit > 0 {
		s.window = newWindow(umem, flow.Reverse(), limit)
	}
	socket, err := xsk.NewSocket(o.Interface, o.Queue, umem, &xsk.SocketConfig{
		TxOnly:          limit == 0,
		BindFlags:       o.BindFlags(),
		InhibitProgLoad: true,
	})
	if err != nil {
		return err
	}
	defer socket.Close()
	fmt.Println(socket)
	s.socket = socket

	if limit > 0 {
		s.window.socket = socket
		program, err := bpf.Attach(o.Interface, bpf.Options{Filter: o.Filter(), Mode: o.Mode})
		if err != nil {
			return err
		}
		defer program.Close()
		if err := cmdline.WaitLink(ctx, program, os.Stderr); err != nil {
			return err
		}
		if err := socket.UpdateXSKMap(program); err != nil {
			return err
		}
		fmt.Println(program)
	}

	meter := cmdline.NewMeter("udpgen")
	meter.FromNow()
	err = s.send(ctx, o.Count, meter)
	dropped := socket.KickStats().Dropped
	if left := s.number - meter.Packets; left > 0 {
		fmt.Printf("udpgen: %d packets are still with the kernel\n", left)
	}
	sent := meter.Packets - min(dropped, meter.Packets)
	fmt.Printf("udpgen: sent=%d dropped=%d seconds=%.3f pps=%.0f\n", sent, dropped, meter.Seconds(), meter.Rate(sent))
	return err
}

// A sender sends packets number 0, 1, 2 and so on.
type sender struct {
	socket   *xsk.Socket
	umem     *xsk.Umem
	size     uint32
	template *packet.Template
	window   *window // nil without -window

	free   []xsk.Addr // frames to send, last in, first out
	tx     []xsk.Desc
	number uint64 // the next packet's
}

// prepare writes a packet into each frame, so that sending only has to number
// it.
func (s *sender) prepare(batch int) {
	s.tx = make([]xsk.Desc, batch)
	s.free = make([]xsk.Addr, txFrames)
	for i := range s.free {
		s.free[i] = xsk.Addr(i * s.umem.FrameSize())
		s.template.Prepare(s.umem.Bytes(xsk.Desc{Addr: s.free[i], Len: s.size}))
	}
}

func (s *sender) send(ctx context.Context, count uint64, meter *cmdline.Meter) error {
	for round := 1; ctx.Err() == nil && (count == 0 || s.number < count); round++ {
		// Go's scheduler takes a goroutine that it has not seen for 10 ms for
		// stuck, and its processor away whenever it is in C. So show up.
		if round%64 == 0 {
			runtime.Gosched()
		}
		n := len(s.tx)
		if count > 0 {
			n = int(min(uint64(n), count-s.number))
		}
		if s.window != nil {
			room, err := s.window.room(s.number)
			if err != nil {
				return err
			}
			if n = min(n, room); n == 0 {
				if err := s.window.wait(s.number); err != nil {
					return err
				}
			}
		}
		if err := s.burst(n, meter); err != nil {
			return err
		}
	}
	// The kernel may hold packets still, and rxdrop may not have acknowledged
	// all: both get a while.
	for end := time.Now().Add(patience); meter.Packets < s.number && time.Now().Before(end); {
		if err := s.burst(0, meter); err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	for s.window != nil && s.window.acked < s.number {
		if _, err := s.window.room(s.number); err != nil {
			return err
		}
		if err := s.window.wait(s.number); err != nil {
			return err
		}
	}
	return nil
}

// burst sends up to n packets and takes back the frames of those that the
// kernel has sent.
func (s *sender) burst(n int, meter *cmdline.Meter) error {
	// The frames on top of the stack were used last and are in the cache yet.
	n = min(n, len(s.free))
	top := len(s.free) - n
	for i, addr := range s.free[top:] {
		s.tx[i] = xsk.Desc{Addr: addr, Len: s.size}
		s.template.Number(s.umem.Bytes(s.tx[i]), s.number+uint64(i))
	}
	// What comes back goes right on top of the stack, and what the TX ring had
	// no room for again on top of that.
	queued, completed, err := s.socket.TxBurst(s.tx[:n], s.free[top:cap(s.free)])
	s.free = s.free[:top+completed]
	for _, d := range s.tx[queued:n] {
		s.free = append(s.free, d.Addr)
	}
	s.number += uint64(queued)
	meter.Add(completed, completed*int(s.size))
	if err != nil && !cmdline.Passing(err) {
		return err
	}
	if queued == 0 && completed == 0 && n > 0 {
		_, err := s.socket.PollTx(patience / 10)
		return err
	}
	return nil
}

// A window bounds how many packets are on their way to rxdrop -ack.
type window struct {
	socket   *xsk.Socket
	umem     *xsk.Umem
	flow     packet.Flow // that acknowledgements come by
	limit    uint64
	acked    uint64 // packets below this number are off the way
	progress time.Time
	silent   int // how often patience has run out since the last acknowledgement

	empty []xsk.Addr
	rx    []xsk.Desc
}

func newWindow(umem *xsk.Umem, flow packet.Flow, limit int) *window {
	w := &window{umem: umem, flow: flow, limit: uint64(limit), progress: time.Now()}
	w.rx = make([]xsk.Desc, 64)
	w.empty = make([]xsk.Addr, rxFrames)
	for i := range w.empty {
		w.empty[i] = xsk.Addr((txFrames + i) * umem.FrameSize())
	}
	// The kernel gets its frames before the bind: some drivers want them then.
	w.empty = w.empty[:copy(w.empty, w.empty[umem.Fill.Produce(w.empty):])]
	return w
}

// room takes the acknowledgements that are there, and tells how many packets
// may follow number.
func (w *window) room(number uint64) (int, error) {
	filled, n, err := w.socket.RxBurst(w.empty, w.rx)
	if err != nil && !cmdline.Passing(err) {
		return 0, err
	}
	w.empty = w.empty[:copy(w.empty, w.empty[filled:])]
	for _, d := range w.rx[:n] {
		w.empty = append(w.empty, d.Addr-d.Addr%xsk.Addr(w.umem.FrameSize()))
		flow, payload, err := packet.Parse(w.umem.Bytes(d))
		next, ok := packet.PacketNumber(payload)
		// Another run's acknowledgements may be about still.
		if err == nil && ok && w.expects(flow) && next > w.acked && next <= number {
			w.acked, w.progress, w.silent = next, time.Now(), 0
		}
	}
	return int(w.limit - min(w.limit, number-w.acked)), nil
}

func (w *window) expects(f packet.Flow) bool {
	return f.SrcIP == w.flow.SrcIP && f.DstIP == w.flow.DstIP && f.SrcPort == w.flow.SrcPort && f.DstPort == w.flow.DstPort
}

// wait waits for an acknowledgement. After a second without any it takes the
// packets for lost, and after ten such seconds the receiver.
func (w *window) wait(number uint64) error {
	ready, err := w.socket.PollRx(patience / 20)
	if ready || err != nil || time.Since(w.progress) < patience {
		return err
	}
	if w.acked < number {
		fmt.Printf("udpgen: no acknowledgement for %v: %d packets taken for lost\n", patience, number-w.acked)
		w.acked, w.progress = number, time.Now()
		w.silent++
	}
	if w.silent == 10 {
		return errors.New("nobody acknowledges; does rxdrop -ack run on the other side?")
	}
	return nil
}
