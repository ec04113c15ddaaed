package main

import (
	"errors"
	"os"
	"sync"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bench/internal/turns"
	"github.com/go-xsk/xsk/bench/internal/wire"
)

// A queueWorker works on Queues, each with a goroutine of its own.
type queueWorker struct {
	*options
	lanes []*lane
	out   *xsk.Queue // to forward to
	idle  *idlers
}

// A lane is one of the Queues, and what its goroutine counts.
type lane struct {
	queue  *xsk.Queue
	frames []xsk.Frame
	number uint64
}

func openQueues(o *options) (turns.Worker, error) {
	w := &queueWorker{options: o}
	umem, err := w.newUmem()
	if err != nil {
		return nil, err
	}
	for i := range o.queues {
		config := w.config(umem)
		if !o.shared && i > 0 {
			if config.Umem, err = w.newUmem(); err != nil {
				return nil, err
			}
		}
		q, err := xsk.Open(o.in, i, config)
		if err != nil {
			return nil, err
		}
		w.lanes = append(w.lanes, &lane{queue: q, frames: make([]xsk.Frame, o.batch)})
	}
	if o.task == "forward" {
		config := w.config(umem)
		config.SocketConfig.TxOnly = true
		if w.out, err = xsk.Open(o.out, 0, config); err != nil {
			return nil, err
		}
	}
	if o.idle > 0 {
		w.idle, err = openIdle(o)
	}
	return w, err
}

// newUmem maps memory for one queue, or for all that share it.
func (w *queueWorker) newUmem() (*xsk.Umem, error) {
	frames := w.frames
	if w.shared {
		frames *= w.queues
	}
	return xsk.NewUmem(&xsk.UmemConfig{
		Frames: frames, FrameSize: w.frameSize, FillSize: w.ring, CompletionSize: w.ring,
	})
}

func (w *queueWorker) config(umem *xsk.Umem) *xsk.Config {
	c := &xsk.Config{
		Umem: umem,
		SocketConfig: xsk.SocketConfig{
			RxSize: w.ring, TxSize: w.ring, BindFlags: xsk.BindCopy, TxOnly: w.task == "tx", InhibitProgLoad: true,
		},
		RxFrames: w.frames / 2,
		Linger:   w.linger,
	}
	if w.task != "tx" {
		c.XSKMap = mapIn
	}
	return c
}

func (w *queueWorker) Interrupt() {
	for _, l := range w.lanes {
		_ = l.queue.SetDeadline(time.Unix(1, 0))
	}
	if w.out != nil {
		_ = w.out.SetDeadline(time.Unix(1, 0))
	}
}

func (w *queueWorker) Work(t *turns.Turn) error {
	for _, l := range w.lanes {
		if err := l.queue.SetDeadline(time.Time{}); err != nil {
			return err
		}
	}
	if w.out != nil {
		if err := w.out.SetDeadline(time.Time{}); err != nil {
			return err
		}
	}
	if w.idle != nil {
		t.Extra = w.idle.extra
	}
	if len(w.lanes) == 1 {
		return w.lanes[0].work(w, t, t)
	}
	var all sync.WaitGroup
	own := make([]turns.Turn, len(w.lanes))
	errs := make([]error, len(w.lanes))
	for i, l := range w.lanes {
		all.Add(1)
		go func() {
			defer all.Done()
			errs[i] = l.work(w, t, &own[i])
		}()
	}
	all.Wait()
	for i := range own {
		t.Packets += own[i].Packets
		t.Checked += own[i].Checked
		t.Bad += own[i].Bad
	}
	return errors.Join(errs...)
}

// work works while on is On, and counts in t.
func (l *lane) work(w *queueWorker, on, t *turns.Turn) error {
	for on.On() {
		var err error
		switch w.task {
		case "tx":
			err = l.send(w, t)
		case "rx":
			_, err = l.receive(w, t)
		default:
			err = l.pass(w, t)
		}
		if err = passing(err); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

func (l *lane) send(w *queueWorker, t *turns.Turn) error {
	n, err := l.queue.Alloc(l.frames)
	if err != nil {
		return err
	}
	frames := l.frames[:n]
	for i := range frames {
		f := &frames[i]
		f.Data = f.Data[:w.size]
		if f.Data[12] != 8 { // it never held a packet
			w.flow.Make(f.Data)
		}
		wire.Number(f.Data, l.number)
		l.number++
	}
	for len(frames) > 0 {
		n, err := l.queue.Send(frames)
		t.Packets += uint64(n)
		frames = frames[n:]
		if err != nil {
			xsk.Free(frames)
			return err
		}
	}
	return nil
}

func (l *lane) receive(w *queueWorker, t *turns.Turn) (n int, err error) {
	if w.spin {
		n, err = l.queue.TryReceive(l.frames)
	} else {
		n, err = l.queue.Receive(l.frames)
	}
	if n > 0 {
		counted(t, n, l.frames[n-1].Data, w.size)
	}
	return n, err
}

func (l *lane) pass(w *queueWorker, t *turns.Turn) error {
	n, err := l.receive(w, t)
	if n == 0 || err != nil {
		return err
	}
	out := w.out
	if out == nil {
		out = l.queue
		for i := range l.frames[:n] {
			wire.TurnAround(l.frames[i].Data)
		}
	}
	for frames := l.frames[:n]; len(frames) > 0; {
		n, err := out.Send(frames)
		if frames = frames[n:]; err != nil {
			return err
		}
	}
	return nil
}
