package netstack_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/netip"
	"time"

	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// beyond is the kernel at the other end of eth0: 198.51.100.2, where the kernel here
// is 198.51.100.1. The tests have their own addresses.
var beyond *testns.Peer

func plug() (err error) {
	beyond, err = testns.NewPeer("eth0", "198.51.100.1/24", "198.51.100.2/24")
	return err
}

// answer answers each connection with what it says.
func answer(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // net.ErrClosed at the end
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// ask says a line and returns the answer.
func ask(conn net.Conn, line string) string {
	defer conn.Close()
	if _, err := fmt.Fprintln(conn, line); err != nil {
		log.Panic(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		log.Panic(err)
	}
	return line
}

// A host of its own beside the kernel on eth0 listens, and dials.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	host, err := netstack.Open(ctx, "eth0", &netstack.Config{
		Addresses: []netip.Prefix{netip.MustParsePrefix("198.51.100.10/24")},
	})
	if err != nil {
		log.Panic(err)
	}
	defer host.Close()

	listener, err := host.Listen("tcp", ":7")
	if err != nil {
		log.Panic(err)
	}
	defer listener.Close()
	go answer(listener)
	client, err := fromPeer(beyond)("tcp", "198.51.100.10:7") // net.Dial on another machine
	if err != nil {
		log.Panic(err)
	}
	fmt.Print(ask(client, "hello, host"))

	kernels, err := onPeer(beyond)("tcp", ":7") // net.Listen there
	if err != nil {
		log.Panic(err)
	}
	defer kernels.Close()
	go answer(kernels)
	conn, err := host.Dial(ctx, "tcp", "198.51.100.2:7")
	if err != nil {
		log.Panic(err)
	}
	fmt.Print(ask(conn, "hello, kernel"))
	// Output:
	// hello, host
	// hello, kernel
}
