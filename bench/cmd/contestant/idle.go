package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bench/internal/cheap"
)

// Idlers are queues beside the busy one, each with a goroutine that waits for a
// packet: 64 frames of 2048 bytes, rings of 64 entries.
type idlers struct {
	queues []*xsk.Queue
	extra  string // what one of them takes, as key=value
}

const (
	idleFrames = 64
	idleSize   = 2048
)

func openIdle(o *options) (*idlers, error) {
	s := new(idlers)
	before := takeStock()
	for i := range o.idle {
		q, err := xsk.Open(o.in, o.queues+i, &xsk.Config{
			UmemConfig: xsk.UmemConfig{
				Frames: idleFrames, FrameSize: idleSize, FillSize: idleFrames, CompletionSize: idleFrames,
			},
			SocketConfig: xsk.SocketConfig{
				RxSize: idleFrames, TxSize: idleFrames, BindFlags: xsk.BindCopy, InhibitProgLoad: true,
			},
			XSKMap: mapIn,
			Linger: o.linger,
		})
		if err != nil {
			return nil, err
		}
		s.queues = append(s.queues, q)
		go func() { _, _ = q.Receive(make([]xsk.Frame, 1)) }()
	}
	time.Sleep(200 * time.Millisecond) // until all wait
	after := takeStock()
	each := func(a, b uint64) float64 { return float64(int64(b-a)) / float64(o.idle) }
	s.extra = fmt.Sprintf("goheap=%.0f cheap=%.0f umem=%d rings=%.0f",
		each(before.goHeap, after.goHeap), each(before.cHeap, after.cHeap), idleFrames*idleSize,
		each(before.rings, after.rings))
	return s, nil
}

// stock is the memory of the process, in bytes.
type stock struct{ goHeap, cHeap, rings uint64 }

func takeStock() stock {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return stock{goHeap: m.HeapAlloc + m.StackInuse, cHeap: cheap.InUse(), rings: mapped("socket:")}
}

// mapped adds up the mappings whose line in /proc/self/maps has the word.
func mapped(word string) (bytes uint64) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var from, to uint64
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x", &from, &to); err == nil && strings.Contains(lines.Text(), word) {
			bytes += to - from
		}
	}
	return bytes
}
