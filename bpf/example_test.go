package bpf_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"time"

	"github.com/go-xsk/xsk/bpf"
)

// Datagrams to port 4789 go to the sockets, everything else to the kernel.
func ExampleAttach() {
	program, err := bpf.Attach("eth0", bpf.Options{
		Filter: bpf.Filter{UDPPorts: []uint16{4789}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	fmt.Println(program) // eth0: native, UDP port 4789, XSKMAP of 8 slots

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := program.WaitLink(ctx); err != nil {
		log.Print(err)
		return
	}
	// program is the XSKMap of xsk.Open and of (*xsk.Socket).UpdateXSKMap.
}

// A filter is tested without an interface: the program itself decides.
func ExampleFilter_Match() {
	filter := bpf.Filter{
		UDPPorts: append(bpf.Ports(4000, 4010), 53),
		Sources:  []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Except:   &bpf.Filter{Ping: true},
	}
	fmt.Println(filter)
	packet := make([]byte, 64)
	copy(packet[12:], []byte{8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 7, 10, 0, 0, 1, 0, 9, 0, 9, 0, 30})
	matches, err := filter.Match(packet)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(matches)
}

// All of an interface's packets go to the sockets, and ssh goes on.
func ExampleProgram_Update() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{4789}}})
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	if err := program.Update(bpf.Filter{All: true, KeepManagement: true}); err != nil {
		log.Print(err) // the old filter goes on
	}
	counters, err := program.Counters()
	if err != nil {
		log.Print(err)
	}
	fmt.Println(counters) // matched 12 (UDPPorts 12), no socket 0, excepted 0, passed 40
}
