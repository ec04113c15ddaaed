//go:build !nobpf

package xsk_test

import (
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// A UDP echo on port 7 of eth0, complete. Everything else that comes to eth0
// stays with the kernel.
func Example() {
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
	fmt.Println(q)

	go func() {
		if err := echo(q); !errors.Is(err, os.ErrClosed) {
			log.Panic(err)
		}
	}()
	fmt.Println(<-ask("192.0.2.1:7", "hello")) // a kernel socket beyond eth0
	// Output:
	// eth0 queue 0: copy, rx 2048, tx 2048, 4096 frames of 4096 bytes
	// hello
}

// echo answers until the Queue is closed.
func echo(q *xsk.Queue) error {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := q.Receive(frames)
		if err != nil {
			return err
		}
		for i := range frames[:n] {
			f := &frames[i]
			turnRound(f.Data)
		}
		if _, err := q.Send(frames[:n]); err != nil {
			return err
		}
	}
}

// turnRound exchanges source and destination of a UDP packet over IPv4 without
// options: MAC addresses, IP addresses, ports. The checksums stay right, for
// they are sums.
func turnRound(b []byte) {
	for _, field := range []struct{ at, size int }{{0, 6}, {26, 4}, {34, 2}} {
		for i := field.at; i < field.at+field.size; i++ {
			b[i], b[i+field.size] = b[i+field.size], b[i]
		}
	}
}
