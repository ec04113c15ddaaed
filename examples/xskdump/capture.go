package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
)

// A capture brings the packets of all queues into one sink: a goroutine
// receives from each, and they take turns per burst.
type capture struct {
	queues xsk.Queues
	sink   sink
	batch  int
	most   uint64 // packets; 0: no limit
	snap   int    // bytes of each packet
	start  time.Time

	mu             sync.Mutex // guards the rest, and the sink
	end            context.CancelFunc
	packets, bytes uint64
	scratch        []byte // a packet of several buffers, put together
	err            error  // the first
}

func newCapture(c *config, queues xsk.Queues, s sink) *capture {
	return &capture{queues: queues, sink: s, batch: c.Batch, most: c.Count, snap: c.Size, start: time.Now()}
}

// run captures until ctx ends, the limit is reached, or something fails.
func (c *capture) run(ctx context.Context) error {
	ctx, c.end = context.WithCancel(ctx)
	defer c.end()
	defer context.AfterFunc(ctx, func() {
		for _, q := range c.queues {
			_ = q.SetReadDeadline(time.Now())
		}
	})()
	if err := c.sink.begin(c.queues); err != nil {
		return err
	}
	var running sync.WaitGroup
	for i, q := range c.queues {
		running.Add(1)
		go func() {
			defer running.Done()
			if err := c.receive(ctx, q, i); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				c.fail(err)
			}
		}()
	}
	running.Wait()
	return errors.Join(c.err, c.finish())
}

// receive is the loop of one queue; ctx ends it under full load as well.
func (c *capture) receive(ctx context.Context, q *xsk.Queue, number int) error {
	frames := make([]xsk.Frame, c.batch)
	for ctx.Err() == nil {
		n, err := q.Receive(frames)
		if err != nil {
			return err
		}
		if err := c.keep(number, frames[:n], time.Now()); err != nil {
			return err
		}
	}
	return nil
}

// keep hands a burst to the sink, up to the limit.
func (c *capture) keep(queue int, frames []xsk.Frame, at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.most > 0 {
		if left := c.most - c.packets; uint64(len(frames)) >= left {
			frames = frames[:left]
			c.end()
		}
	}
	for i := range frames {
		f := &frames[i]
		data := f.Data
		if len(f.Frags) > 0 {
			c.scratch = slices.Grow(c.scratch[:0], f.Len())[:f.Len()]
			f.CopyTo(c.scratch)
			data = c.scratch
		}
		if err := c.sink.packet(queue, at, data[:min(len(data), c.snap)], len(data)); err != nil {
			return err
		}
		c.packets++
		c.bytes += uint64(len(data))
	}
	return c.sink.flush()
}

func (c *capture) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.end()
}

// finish leaves each queue's counts with the sink.
func (c *capture) finish() error {
	for i, q := range c.queues {
		s := q.Stats()
		dropped := cmdline.KernelDrops(s.Kernel)
		if err := c.sink.counts(i, c.start, s.RxPackets+dropped, dropped); err != nil {
			return err
		}
	}
	return nil
}

// report says where every packet that matched is.
func (c *capture) report(w io.Writer) {
	s := c.queues.Stats()
	fmt.Fprintln(w, s)
	fmt.Fprintf(w, "xskdump: captured=%d bytes=%d received=%d beyond-the-limit=%d kernel-dropped=%d\n",
		c.packets, c.bytes, s.RxPackets, s.RxPackets-c.packets, cmdline.KernelDrops(s.Kernel))
}
