//go:build !nobpf

package xsk_test

import (
	"fmt"
	"log"
	"sync"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// A server that answers with the first four bytes it is sent. A frame is
// trimmed by reslicing Data, and that must happen in the slice that Send gets:
// "for _, f := range frames" would trim copies, and send all the bytes.
func ExampleFrame() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	defer done()

	answer := ask("192.0.2.1:7", "hello, world") // a kernel socket beyond eth0
	frames := make([]xsk.Frame, 64)
	n, err := q.Receive(frames)
	if err != nil {
		log.Panic(err)
	}
	for i := range frames[:n] {
		f := &frames[i]
		f.Data = f.Data[:headers+4]
		reply(f.Data)
	}
	if _, err := q.Send(frames[:n]); err != nil {
		log.Panic(err)
	}
	fmt.Println(<-answer)
	// Output: hell
}

// Frames that outlive the burst they came in: the receiving goroutine keeps
// them, and whoever has one then sends it, or frees it.
func ExampleFrame_Keep() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	defer done()

	jobs := make(chan xsk.Frame)
	var workers sync.WaitGroup
	for range 4 {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for f := range jobs {
				reply(f.Data)
				if n, err := q.Send([]xsk.Frame{f}); n == 0 {
					log.Print(err)
					f.Free() // what was not sent is still ours
				}
			}
		}()
	}

	answers := ask("192.0.2.1:7", "one", "two", "three") // a kernel socket beyond eth0
	frames := make([]xsk.Frame, 64)
	for received := 0; received < 3; {
		n, err := q.Receive(frames) // takes back what was not kept
		if err != nil {
			log.Panic(err)
		}
		for i := range frames[:n] {
			frames[i].Keep()
			jobs <- frames[i]
		}
		received += n
	}
	for answer := range answers {
		fmt.Println(answer)
	}
	close(jobs)
	workers.Wait()
	fmt.Println(q.Stats().Frames.User, "frames are kept")
	// Unordered output:
	// one
	// two
	// three
	// 0 frames are kept
}

// Two interfaces on one Umem: what comes in on one is sent out of the other
// from the frame it is in, and no byte is copied. This is how to forward.
func ExampleOpen_sharedUmem() {
	umem, err := xsk.NewUmem(nil)
	if err != nil {
		log.Panic(err)
	}
	defer umem.Close()

	var queues xsk.Queues
	for _, ifname := range []string{"eth0", "eth1"} {
		// All means all: do not try this on the interface you are logged in over.
		program, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}})
		if err != nil {
			log.Panic(err)
		}
		defer program.Close()
		q, err := xsk.Open(ifname, 0, &xsk.Config{XSKMap: program, Umem: umem})
		if err != nil {
			log.Panic(err)
		}
		defer q.Close()
		queues = append(queues, q)
	}

	forward := func(from, to *xsk.Queue) {
		frames := make([]xsk.Frame, 64)
		for {
			n, err := from.Receive(frames)
			if err != nil {
				return // os.ErrClosed at the end
			}
			if _, err := to.Send(frames[:n]); err != nil {
				return
			}
		}
	}
	go forward(queues[0], queues[1])
	go forward(queues[1], queues[0])

	fmt.Println(<-ask("192.0.2.3:7", "hello")) // from the kernel beyond eth0 to the one beyond eth1
	// Output: hello
}

// A packet of the program's own. This one tells all stations who has the
// address 192.0.2.9, in a gratuitous ARP. This is how to send.
func ExampleQueue_Alloc() {
	q, err := xsk.Open("eth0", 0, &xsk.Config{
		SocketConfig: xsk.SocketConfig{TxOnly: true}, // so it needs no program
	})
	if err != nil {
		log.Panic(err)
	}
	defer q.Close()

	frames := make([]xsk.Frame, 1)
	if _, err := q.Alloc(frames); err != nil {
		log.Panic(err)
	}
	f := &frames[0]
	f.Data = append(f.Data, "\xff\xff\xff\xff\xff\xff"+"\x02\x00\x00\x00\x00\x09"+"\x08\x06"+
		"\x00\x01\x08\x00\x06\x04\x00\x01"+
		"\x02\x00\x00\x00\x00\x09"+"\xc0\x00\x02\x09"+
		"\x00\x00\x00\x00\x00\x00"+"\xc0\x00\x02\x09"...)
	n, err := q.Send(frames)
	fmt.Println(n, err)
	// Output: 1 <nil>
}

// A VLAN tag, put into the room before the packet: the MAC addresses move to the
// front, and the tag stands behind them.
func ExampleFrame_Prepend() {
	q, done := listen() // bpf.Attach and xsk.Open, for UDP port 7 of eth0
	defer done()

	ask("192.0.2.1:7", "hello") // a kernel socket beyond eth0
	frames := make([]xsk.Frame, 64)
	if _, err := q.Receive(frames); err != nil {
		log.Panic(err)
	}
	f := &frames[0]
	if !f.Prepend(4) {
		log.Panic("no room")
	}
	copy(f.Data, f.Data[4:16])
	copy(f.Data[12:], "\x81\x00\x00\x05") // VLAN 5
	fmt.Printf("% x\n", f.Data[12:18])
	// Output: 81 00 00 05 08 00
}
