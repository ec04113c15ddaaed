//go:build !nobpf

package xsk_test

import (
	"fmt"
	"iter"
	"log"

	"github.com/go-xsk/xsk"
)

// packets are those that q receives. A frame is the loop's until the loop asks
// for the next, unless the loop keeps it; a loop that breaks off drops the rest
// of the burst.
func packets(q *xsk.Queue) iter.Seq2[*xsk.Frame, error] {
	return func(yield func(*xsk.Frame, error) bool) {
		for frames := make([]xsk.Frame, 64); ; {
			n, err := q.Receive(frames)
			for i := range frames[:n] {
				if !yield(&frames[i], nil) {
					return
				}
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// A Queue as a sequence of packets: a dozen lines on top of Receive.
func ExampleQueue_Receive_iterator() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	defer done()

	ask("192.0.2.1:7", "one", "two", "three") // a kernel socket beyond eth0
	for f, err := range packets(q) {
		if err != nil {
			log.Panic(err)
		}
		word := string(f.Data[headers:f.Len()])
		fmt.Println(word)
		reply(f.Data)
		if _, err := q.Send([]xsk.Frame{*f}); err != nil {
			log.Panic(err)
		}
		if word == "three" {
			break
		}
	}
	// Output:
	// one
	// two
	// three
}
