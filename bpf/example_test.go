package bpf_test

import (
	"context"
	"fmt"
	"log"
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
