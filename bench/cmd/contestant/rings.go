package main

import (
	"errors"
	"runtime"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bench/internal/turns"
	"github.com/go-xsk/xsk/bench/internal/wire"
)

// A ringWorker works on the rings: one crossing a burst and direction, and the
// frames that came back last go out first.
type ringWorker struct {
	*options
	umem    *xsk.Umem
	in, out *xsk.Socket

	free []xsk.Addr // to send from, last in, first out
	post []xsk.Addr // to receive into
	rx   []xsk.Desc
	tx   []xsk.Desc
	owed int // frames to post for those that were sent

	parts  uint64 // descriptors of a packet
	number uint64
	whole  []byte // a packet of several descriptors, to check
}

func openRings(o *options) (turns.Worker, error) {
	w := &ringWorker{options: o, parts: uint64(1 + (o.size-1)/o.frameSize)}
	flags := xsk.BindNeedWakeup | xsk.BindCopy
	if o.size > o.frameSize-256 {
		flags |= xsk.BindMultiBuffer
	}
	var err error
	w.umem, err = xsk.NewUmem(&xsk.UmemConfig{
		Frames: o.frames, FrameSize: o.frameSize, FillSize: o.ring, CompletionSize: o.ring,
	})
	if err != nil {
		return nil, err
	}
	w.rx, w.tx = make([]xsk.Desc, o.batch), make([]xsk.Desc, 0, o.batch*int(w.parts))
	w.free, w.post = make([]xsk.Addr, 0, o.frames), make([]xsk.Addr, 0, o.frames)
	if o.task == "tx" {
		w.prepare()
	} else {
		w.share()
	}
	config := xsk.SocketConfig{
		RxSize: o.ring, TxSize: o.ring, RxOnly: o.task == "rx" || o.task == "forward", TxOnly: o.task == "tx",
		BindFlags: flags, InhibitProgLoad: true,
	}
	w.in, err = xsk.NewSocket(o.in, 0, w.umem, &config)
	if err != nil {
		return nil, err
	}
	w.out = w.in
	if o.task == "forward" {
		config.RxOnly, config.TxOnly = false, true
		if w.out, err = xsk.NewSocket(o.out, 0, w.umem, &config); err != nil {
			return nil, err
		}
	}
	if o.task == "tx" {
		return w, nil
	}
	return w, w.in.UpdateXSKMap(mapIn)
}

// prepare writes a packet into each frame, or into each group of frames that
// one takes; only first ones are in free.
func (w *ringWorker) prepare() {
	packet := make([]byte, w.size)
	w.flow.Make(packet)
	for i := 0; i+int(w.parts) <= w.frames; i += int(w.parts) {
		first := xsk.Addr(i * w.frameSize)
		w.free = append(w.free, first)
		rest := packet
		for _, d := range w.describe(nil, first) {
			rest = rest[copy(w.umem.Bytes(d), rest):]
		}
	}
}

// share posts half of the frames.
func (w *ringWorker) share() {
	for i := range w.frames {
		addr := xsk.Addr(i * w.frameSize)
		if i < w.frames/2 {
			w.post = append(w.post, addr)
		} else {
			w.free = append(w.free, addr)
		}
	}
	w.post = w.post[:copy(w.post, w.post[w.umem.Fill.Produce(w.post):])]
}

// describe appends the descriptors of the packet that begins at first.
func (w *ringWorker) describe(descs []xsk.Desc, first xsk.Addr) []xsk.Desc {
	for left := w.size; left > 0; left -= w.frameSize {
		d := xsk.Desc{Addr: first, Len: uint32(min(left, w.frameSize))}
		if left > w.frameSize {
			d.Options = xsk.PktContd
		}
		descs, first = append(descs, d), first+xsk.Addr(w.frameSize)
	}
	return descs
}

func (w *ringWorker) Interrupt() {}

func (w *ringWorker) Work(t *turns.Turn) error {
	step := map[string]func(*turns.Turn) error{
		"tx": w.send, "rx": w.receive, "echo": w.pass, "forward": w.pass,
	}[w.task]
	seen := time.Now()
	for round := 1; t.On(); round++ {
		if err := step(t); err != nil {
			return err
		}
		if round%64 == 0 && time.Since(seen) > 5*time.Millisecond {
			seen = showUp()
		}
	}
	if w.task == "tx" && w.parts == 1 {
		for range 100 { // what the kernel has yet is this turn's
			if err := w.burst(t, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *ringWorker) send(t *turns.Turn) error {
	if w.parts > 1 {
		return w.sendParts(t)
	}
	return w.burst(t, min(w.batch, len(w.free)))
}

// burst sends n packets of a frame each.
func (w *ringWorker) burst(t *turns.Turn, n int) error {
	top := len(w.free) - n
	tx := w.tx[:n]
	for i, addr := range w.free[top:] {
		tx[i] = xsk.Desc{Addr: addr, Len: uint32(w.size)}
		wire.Number(w.umem.Bytes(tx[i]), w.number)
		w.number++
	}
	queued, completed, err := w.out.TxBurst(tx, w.free[top:cap(w.free)])
	w.free = w.free[:top+completed]
	for _, d := range tx[queued:] {
		w.free = append(w.free, d.Addr)
	}
	t.Packets += uint64(completed)
	if err = passing(err); err == nil && queued == 0 && completed == 0 && n > 0 {
		_, err = w.out.PollTx(patience)
	}
	return err
}

// sendParts sends packets of several frames; a group of frames is free when its
// last one comes back.
func (w *ringWorker) sendParts(t *turns.Turn) error {
	w.tx = w.tx[:0]
	room := w.out.Tx.Free()
	for len(w.free) > 0 && len(w.tx)+int(w.parts) <= min(cap(w.tx), room) {
		first := w.free[len(w.free)-1]
		w.free = w.free[:len(w.free)-1]
		at := len(w.tx)
		w.tx = w.describe(w.tx, first)
		wire.Number(w.umem.Bytes(w.tx[at]), w.number)
		w.number++
	}
	post := w.post[:cap(w.post)]
	queued, completed, err := w.out.TxBurst(w.tx, post)
	if queued < len(w.tx) {
		return errors.New("a packet was cut")
	}
	for _, addr := range post[:completed] {
		if frame := uint64(addr) / uint64(w.frameSize); frame%w.parts == w.parts-1 {
			w.free = append(w.free, xsk.Addr((frame-w.parts+1)*uint64(w.frameSize)))
			t.Packets++
		}
	}
	if err = passing(err); err == nil && queued == 0 && completed == 0 {
		_, err = w.out.PollTx(patience)
	}
	return err
}

// take posts and receives.
func (w *ringWorker) take() (n int, err error) {
	var filled int
	if w.spin {
		filled, n, err = w.in.RxBurst(w.post, w.rx)
	} else {
		filled, n, err = w.in.RxBurstWait(w.post, w.rx, patience, w.linger)
	}
	w.post = w.post[:copy(w.post, w.post[filled:])]
	return n, passing(err)
}

func (w *ringWorker) receive(t *turns.Turn) error {
	n, err := w.take()
	if n == 0 || err != nil {
		return err
	}
	mask := ^xsk.Addr(w.frameSize - 1)
	if w.parts > 1 {
		w.receiveParts(t, w.rx[:n])
	} else {
		counted(t, n, w.umem.Bytes(w.rx[n-1]), w.size)
	}
	for _, d := range w.rx[:n] {
		w.post = append(w.post, d.Addr&mask)
	}
	return nil
}

// receiveParts counts packets of several descriptors.
func (w *ringWorker) receiveParts(t *turns.Turn, rx []xsk.Desc) {
	for _, d := range rx {
		if t.Packets%wire.Sample == 0 {
			w.whole = append(w.whole, w.umem.Bytes(d)...)
		}
		if d.Options&xsk.PktContd != 0 {
			continue
		}
		if t.Packets%wire.Sample == 0 {
			t.Checked++
			if wire.Check(w.whole, w.size) != nil {
				t.Bad++
			}
			w.whole = w.whole[:0]
		}
		t.Packets++
	}
}

// pass answers packets on the socket they came on, or forwards them by the
// other.
func (w *ringWorker) pass(t *turns.Turn) error {
	n, err := w.take()
	if err != nil {
		return err
	}
	if n > 0 {
		counted(t, n, w.umem.Bytes(w.rx[n-1]), w.size)
	}
	if w.task == "echo" {
		for _, d := range w.rx[:n] {
			wire.TurnAround(w.umem.Bytes(d))
		}
	}
	w.owed += n
	for tx := w.rx[:n]; ; {
		queued, completed, err := w.out.TxBurst(tx, w.free[len(w.free):cap(w.free)])
		if err := passing(err); err != nil {
			return err
		}
		w.free = w.free[:len(w.free)+completed]
		mask := ^xsk.Addr(w.frameSize - 1)
		for i := len(w.free) - completed; i < len(w.free); i++ {
			w.free[i] &= mask
		}
		if tx = tx[queued:]; len(tx) == 0 {
			break
		}
		if _, err := w.out.PollTx(patience); err != nil {
			return err
		}
	}
	// Hot ones go to the kernel next.
	for ; w.owed > 0 && len(w.free) > 0; w.owed-- {
		w.post = append(w.post, w.free[len(w.free)-1])
		w.free = w.free[:len(w.free)-1]
	}
	return nil
}

// showUp keeps Go's scheduler from taking the goroutine for stuck, which it does
// with one that it has not seen for 10 ms: it takes the processor away whenever
// that is in C.
func showUp() time.Time {
	runtime.Gosched()
	return time.Now()
}

// passing drops the errors to go on after.
func passing(err error) error {
	if errors.Is(err, syscall.EBUSY) || errors.Is(err, syscall.ENETDOWN) || errors.Is(err, syscall.ENOBUFS) {
		return nil
	}
	return err
}
