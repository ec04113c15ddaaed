//go:build !nobpf

package xsk_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// Packets for one UDP port, looked at and thrown away: a frame that is neither kept
// nor sent goes back by itself.
func ExampleQueue_Receive() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
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
	frames := make([]xsk.Frame, 64)
	for packets := 0; packets < 3; {
		n, err := q.Receive(frames)
		if err != nil {
			log.Panic(err)
		}
		for i := range frames[:n] {
			fmt.Printf("%s\n", frames[i].Data[headers:])
		}
		packets += n
	}
	// Output:
	// one
	// two
	// three
}

// A loop that looks up from time to time: for a signal, a ticker, a context.
func ExampleQueue_SetReadDeadline() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	defer done()

	frames := make([]xsk.Frame, 64)
	for range 3 {
		if err := q.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
			log.Panic(err)
		}
		_, err := q.Receive(frames)
		fmt.Println(errors.Is(err, os.ErrDeadlineExceeded))
	}
	// Output:
	// true
	// true
	// true
}

// A NIC spreads packets over its queues, and a Queue hears one of them. Here is
// each with a goroutine of its own; closing them all ends the goroutines.
func ExampleOpenAll() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	queues, err := xsk.OpenAll("eth0", &xsk.Config{XSKMap: program})
	if err != nil {
		log.Panic(err)
	}
	ended := make(chan error)
	for _, q := range queues {
		go func() { ended <- echo(q) }()
	}

	fmt.Println(<-ask("192.0.2.1:7", "hello")) // a kernel socket beyond eth0
	if err := queues.Close(); err != nil {
		log.Panic(err)
	}
	for range queues {
		fmt.Println(<-ended)
	}
	// Output:
	// hello
	// xsk: receive eth0 queue 0: already closed
}

// Where are my packets? The program's counters tell what the filter made of them,
// the Queue's what became of those that it was given. A ring or a frame that was
// missing shows in Kernel.
func ExampleQueue_Stats() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
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
	frames := make([]xsk.Frame, 64)
	for q.Stats().RxPackets < 3 {
		if _, err := q.Receive(frames); err != nil {
			log.Panic(err)
		}
	}
	counters, err := program.Counters() // printed whole, it names the rules, too
	if err != nil {
		log.Panic(err)
	}
	s := q.Stats() // printed whole, it explains each drop
	fmt.Println("matched:", counters.Matched, "without a socket:", counters.NoSocket)
	fmt.Println("received:", s.RxPackets, "frames:", s.Frames.Total())
	fmt.Println("dropped:", s.Kernel.RxDropped, "ring full:", s.Kernel.RxRingFull)
	// Output:
	// matched: 3 without a socket: 0
	// received: 3 frames: 4096
	// dropped: 0 ring full: 0
}
