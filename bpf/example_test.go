package bpf_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// beyond is the network at the other end of eth0: 198.51.100.2, where eth0 is
// 198.51.100.1. The tests have their own addresses.
var beyond *testns.Peer

func plug() (err error) {
	beyond, err = testns.NewPeer("eth0", "198.51.100.1/24", "198.51.100.2/24")
	return err
}

// say sends a datagram from there.
func say(address string) {
	conn, err := beyond.Dial(address)
	if err == nil {
		_, err = fmt.Fprint(conn, "hello")
	}
	if err != nil {
		log.Panic(err)
	}
	_ = conn.Close()
}

// Datagrams to port 4789 go to the sockets, everything else to the kernel.
func ExampleAttach() {
	program, err := bpf.Attach("eth0", bpf.Options{
		Filter: bpf.Filter{UDPPorts: []uint16{4789}},
	})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	fmt.Println(program)

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := program.WaitLink(ctx); err != nil { // many NICs reset their link now
		log.Panic(err)
	}
	// program is the XSKMap of xsk.Open and of (*xsk.Socket).UpdateXSKMap.

	// Output: eth0: native, UDP port 4789, XSKMAP of 1 slot
}

// DNS packets are counted and not taken: without a socket the kernel has them all.
func ExampleProgram_Counters() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{
		UDPPorts: []uint16{53}, UDPSourcePorts: []uint16{53}, // questions and answers
		TCPPorts: []uint16{53}, TCPSourcePorts: []uint16{53},
	}})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()

	server, err := net.ListenPacket("udp", "198.51.100.1:53") // the kernel's own
	if err != nil {
		log.Panic(err)
	}
	defer server.Close()
	say("198.51.100.1:53") // a kernel socket beyond eth0
	if _, _, err := server.ReadFrom(make([]byte, 100)); err != nil {
		log.Panic(err)
	}
	counters, err := program.Counters()
	if err != nil {
		log.Panic(err)
	}
	for _, rule := range counters.Rules {
		fmt.Println(rule.Rule, rule.NoSocket)
	}
	// Output:
	// UDPPorts 1
	// UDPSourcePorts 0
	// TCPPorts 0
	// TCPSourcePorts 0
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
		log.Panic(err)
	}
	fmt.Println(matches)
	// Output:
	// UDP ports 53, 4000-4010 or source 192.0.2.0/24, but not ping
	// true
}

// All of an interface's packets go to the sockets, and ssh goes on.
func ExampleProgram_Update() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{4789}}})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	if err := program.Update(bpf.Filter{All: true, KeepManagement: true}); err != nil {
		log.Print(err) // the old filter goes on
	}
	fmt.Println(program)
	// Output: eth0: native, all packets, but not management, XSKMAP of 1 slot
}
