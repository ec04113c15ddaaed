//go:build !nobpf

package xsk_test

import (
	"bytes"
	"fmt"

	"github.com/go-xsk/xsk"
)

// A verdict is what is to become of a packet.
type verdict int

const (
	drop verdict = iota
	send
)

// serve lets judge look at every packet, and change it, until q is closed.
func serve(q *xsk.Queue, judge func(*xsk.Frame) verdict) error {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := q.Receive(frames)
		if err != nil {
			return err
		}
		out := frames[:0]
		for i := range frames[:n] {
			if f := &frames[i]; judge(f) == send {
				out = append(out, *f)
			}
		}
		if _, err := q.Send(out); err != nil {
			return err
		}
	}
}

// A callback that judges each packet takes a dozen lines on top of Receive:
// serve. What is not sent goes back at the next Receive.
func ExampleQueue_Receive_verdict() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	ended := make(chan error)
	go func() {
		ended <- serve(q, func(f *xsk.Frame) verdict {
			if bytes.Contains(f.Data, []byte("spam")) {
				return drop
			}
			reply(f.Data)
			return send
		})
	}()

	answers := ask("192.0.2.1:7", "ham", "spam", "eggs") // a kernel socket beyond eth0
	fmt.Println(<-answers)
	fmt.Println(<-answers)
	done()
	fmt.Println(<-ended)
	// Output:
	// ham
	// eggs
	// xsk: receive eth0 queue 0: already closed
}
