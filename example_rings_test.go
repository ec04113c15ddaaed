//go:build !nobpf

package xsk_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"syscall"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// The rings, step by step as in C, whose names stand beside: an echo that owns its
// frames itself. RxBurst and TxBurst would do each direction's steps at once, and a
// Queue all of them.
func ExampleNewSocket() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	umem, err := xsk.NewUmem(nil) // xsk_umem__create
	if err != nil {
		log.Panic(err)
	}
	defer umem.Close()                                                                 // xsk_umem__delete
	s, err := xsk.NewSocket("eth0", 0, umem, &xsk.SocketConfig{InhibitProgLoad: true}) // xsk_socket__create
	if err != nil {
		log.Panic(err)
	}
	defer s.Close()                                 // xsk_socket__delete
	if err := s.UpdateXSKMap(program); err != nil { // xsk_socket__update_xskmap
		log.Panic(err)
	}
	frames := make([]xsk.Addr, umem.Frames()/2)
	for i := range frames {
		frames[i] = xsk.Addr(i * umem.FrameSize())
	}
	s.Fill.Produce(frames) // xsk_ring_prod__reserve, __fill_addr, __submit

	answer := ask("192.0.2.1:7", "hello") // a kernel socket beyond eth0
	packets, sent := make([]xsk.Desc, 64), 0
	for sent == 0 {
		if _, err := s.PollRx(time.Second); err != nil { // poll
			log.Panic(err)
		}
		n := s.Rx.Consume(packets) // xsk_ring_cons__peek, __rx_desc, __release
		for _, d := range packets[:n] {
			turnRound(umem.Bytes(d)) // xsk_umem__get_data
		}
		sent += s.Tx.Produce(packets[:n])  // xsk_ring_prod__reserve, __tx_desc, __submit
		if err := s.WakeTx(); err != nil { // sendto, if xsk_ring_prod__needs_wakeup
			log.Panic(err)
		}
	}
	fmt.Println(<-answer)
	for back := 0; back < sent; {
		n := s.Completion.Consume(frames[:64]) // xsk_ring_cons__peek, __comp_addr, __release
		s.Fill.Produce(frames[:n])             // and again
		back += n
	}
	// Output: hello
}

// Zero copy where the driver has it, and the reason where not.
func ExampleSocket_Mode() {
	config := xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true, BindFlags: xsk.BindZeroCopy}}
	q, err := xsk.Open("eth0", 0, &config)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		fmt.Fprintln(os.Stderr, err) // says why
		config.SocketConfig.BindFlags = 0
		q, err = xsk.Open("eth0", 0, &config)
	}
	if err != nil {
		log.Panic(err)
	}
	defer q.Close()
	mode, err := q.Socket().Mode() // "copy: the driver veth has no zero copy"
	fmt.Println(mode[:4], err)
	// Output: copy <nil>
}

// What an interface can do, before anything is opened or attached.
func ExampleProbe() {
	d, err := xsk.Probe("eth0")
	if err != nil {
		log.Panic(err)
	}
	fmt.Fprintln(os.Stderr, d) // eth0: veth, 1 queue, MTU 1500, XDP: native, redirect, rx frags
	fmt.Println(d.Driver, d.Queues, d.Features&xsk.FeatureZeroCopy != 0)
	// Output: veth 1 false
}
