package split_test

import (
	"bytes"
	"fmt"
	"log"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/split"
)

// open gives the UDP packets for ports 7 and 9 of eth0 to a Queue.
func open() (*bpf.Program, *xsk.Queue) {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7, 9}}})
	if err != nil {
		log.Panic(err)
	}
	queue, err := xsk.Open("eth0", 0, &xsk.Config{XSKMap: program})
	if err != nil {
		log.Panic(err)
	}
	return program, queue
}

// services runs two services, each with the packets that are for it.
func services(queue *xsk.Queue) (*split.Splitter, error) {
	s, err := split.New(queue)
	if err != nil {
		return nil, err
	}
	isEcho, err := bpf.Filter{UDPPorts: []uint16{7}}.Func()
	if err != nil {
		return nil, err
	}
	echo, err := s.Listen(&split.Options{Match: isEcho, Name: "echo"})
	if err != nil {
		return nil, err
	}
	shout, err := s.Listen(&split.Options{Name: "shout"}) // the rest
	if err != nil {
		return nil, err
	}
	go serve(echo, func([]byte) {})
	go serve(shout, func(payload []byte) { copy(payload, bytes.ToUpper(payload)) })
	go s.Run() // until s.Close
	return s, nil
}

// serve answers packets until the Member is closed, as it would on a Queue.
func serve(m *split.Member, change func(payload []byte)) {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := m.Receive(frames) // lends what is for m, until the next Receive
		if err != nil {
			return // os.ErrClosed at the end
		}
		for i := range frames[:n] {
			f := &frames[i]
			turnRound(f.Data)
			f.Data[40], f.Data[41] = 0, 0 // no UDP checksum
			change(f.Data[42:])
		}
		if _, err := m.Send(frames[:n]); err != nil {
			return
		}
	}
}

// Two services on one interface, each with the packets that are for it.
func Example() {
	program, queue := open()
	defer program.Close()
	defer queue.Close()
	s, err := services(queue)
	if err != nil {
		log.Panic(err)
	}
	defer s.Close()
	fmt.Println(ask("192.0.2.1:7", "hello")) // from a kernel socket beyond eth0
	fmt.Println(ask("192.0.2.1:9", "hello"))
	// Output:
	// hello
	// HELLO
}

// workers shares the packets of a Queue among n goroutines, flow by flow: each sees
// whole conversations, and those of one come in order.
func workers(queue *xsk.Queue, n int) (*split.Splitter, error) {
	s, err := split.New(queue) // or all of an interface: split.New(queues...)
	if err != nil {
		return nil, err
	}
	members, err := s.FanOut(n, &split.Options{Depth: 128})
	if err != nil {
		return nil, err
	}
	for i, m := range members {
		answer := []byte{byte('0' + i)}
		go serve(m, func(payload []byte) { copy(payload, answer) })
	}
	go s.Run()
	return s, nil
}

// Four workers: the questions of one socket all get the answers of one of them.
func ExampleSplitter_FanOut() {
	program, queue := open()
	defer program.Close()
	defer queue.Close()
	s, err := workers(queue, 4)
	if err != nil {
		log.Panic(err)
	}
	defer s.Close()
	worker := ask("192.0.2.1:7", "?")
	fmt.Println(len(worker), "0" <= worker && worker <= "3")
	// Output: 1 true
}

// capture prints what comes in and goes out, until the Tap is closed. However slow
// it is, the packets themselves are not held up: copies are missed, and counted.
func capture(tap *split.Tap, done chan<- bool) {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := tap.Receive(frames)
		for i := range frames[:n] {
			b := frames[i].Data
			fmt.Printf("%v to %v: %s\n", b[26:30], b[30:34], b[42:47])
		}
		if err != nil { // os.ErrClosed at the end
			done <- true
			return
		}
	}
}

// watched answers packets in a loop of its own, and lets the Tap see both directions.
func watched(queue *xsk.Queue, tap *split.Tap) {
	frames := make([]xsk.Frame, 64)
	for {
		n, err := queue.Receive(frames)
		if err != nil {
			return
		}
		tap.Copy(frames[:n])
		for i := range frames[:n] {
			turnRound(frames[i].Data)
		}
		tap.Copy(frames[:n])
		if _, err := queue.Send(frames[:n]); err != nil {
			return
		}
	}
}

// A capture beside a program's own loop.
func ExampleTap() {
	program, queue := open()
	defer program.Close()
	tap, err := split.NewTap(queue, nil)
	if err != nil {
		log.Panic(err)
	}
	done := make(chan bool)
	go capture(tap, done)
	go watched(queue, tap)
	answer := ask("192.0.2.1:7", "hello")
	for tap.Stats().RxPackets < 2 {
		time.Sleep(time.Millisecond)
	}
	_ = tap.Close()
	<-done
	_ = queue.Close()
	fmt.Println(answer)
	// Output:
	// [192 0 2 2] to [192 0 2 1]: hello
	// [192 0 2 1] to [192 0 2 2]: hello
	// hello
}

// turnRound exchanges source and destination of a UDP packet over IPv4 without
// options: MAC addresses, IP addresses, ports.
func turnRound(b []byte) {
	for _, field := range []struct{ at, size int }{{0, 6}, {26, 4}, {34, 2}} {
		for i := field.at; i < field.at+field.size; i++ {
			b[i], b[i+field.size] = b[i+field.size], b[i]
		}
	}
}
