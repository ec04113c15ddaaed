package pcapfilter_test

import (
	"context"
	"fmt"
	"log"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/pcapfilter"
)

// DNS goes to the sockets, on every queue; the rest stays with the kernel.
func ExampleAttach() {
	program, err := pcapfilter.Attach("eth0", pcapfilter.Options{Filter: "udp port 53"})
	if err != nil {
		log.Fatal(err)
	}
	defer program.Close()
	fmt.Println(program) // eth0: native, "udp port 53"
	if err := program.WaitLink(context.Background()); err != nil {
		log.Print(err)
		return
	}
	queues, err := xsk.OpenAll("eth0", &xsk.Config{XSKMap: program})
	if err != nil {
		log.Print(err)
		return
	}
	defer queues.Close()
	fmt.Println(queues)
	// A goroutine for each queue calls its Receive.
}

// A unit test of an expression needs root, but no interface.
func ExampleFilter_Match() {
	arp := make([]byte, 60)
	arp[12], arp[13] = 8, 6 // the EtherType
	matched, err := pcapfilter.Filter("arp").Match(arp)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(matched)
}
