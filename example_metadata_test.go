//go:build !nobpf

package xsk_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// The hash that the device has computed over a packet's addresses keeps each flow
// with one worker. Where there is none, all packets go to the first.
func ExampleFrame_RxMetadata() {
	options := bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}, Metadata: true}
	program, err := bpf.Attach("eth0", options)
	if errors.Is(err, errors.ErrUnsupported) { // the driver, or a kernel before 6.3
		options.Metadata = false
		program, err = bpf.Attach("eth0", options)
	}
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	q, err := xsk.Open("eth0", 0, &xsk.Config{XSKMap: program})
	if err != nil {
		log.Panic(err)
	}
	defer q.Close()

	ask("192.0.2.1:7", "one", "two", "three") // a kernel socket beyond eth0
	frames, workers := make([]xsk.Frame, 64), map[uint32]int{}
	for packets := 0; packets < 3; {
		n, err := q.Receive(frames)
		if err != nil {
			log.Panic(err)
		}
		for i := range frames[:n] {
			worker := uint32(0)
			if m, ok := frames[i].RxMetadata(); ok && m.HasHash {
				worker = m.Hash % 16
			}
			workers[worker]++
		}
		packets += n
	}
	fmt.Println("workers for one flow:", len(workers))
	// Output: workers for one flow: 1
}
