// Tcpecho answers TCP connections with what they say, straight from AF_XDP: the
// TCP/IP stack is in this program, and the kernel sees none of it.
//
//	sudo tcpecho -d eth0 -ip 192.0.2.10/24 -p 7
//
// From another machine "nc 192.0.2.10 7" shows the echo, and ping gets its
// answers. The interface keeps its own address with the kernel.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"github.com/go-xsk/xsk/netstack/examples/internal/cmdline"
)

func main() {
	options := cmdline.New("tcpecho", "answers TCP connections with what they say", 7).Parse()
	ctx, stop := options.Context()
	defer stop()
	if _, err := run(ctx, options, nil); err != nil {
		fmt.Fprintln(os.Stderr, "tcpecho:", err)
		os.Exit(1)
	}
}

// An echoed counts what was answered.
type echoed struct {
	mu                 sync.Mutex
	connections, bytes int64
}

// run serves until ctx ends. It tells ready, if any, when connections may come.
func run(ctx context.Context, o *cmdline.Options, ready chan<- net.Addr) (did *echoed, err error) {
	network, err := o.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, network.Close()) }()
	listener, err := network.Listen("tcp", fmt.Sprintf(":%d", o.Port))
	if err != nil {
		return nil, err
	}
	fmt.Println(network)
	fmt.Printf("tcpecho: ready on %v\n", listener.Addr())
	if ready != nil {
		ready <- listener.Addr()
	}
	did = &echoed{}
	if err := did.serve(ctx, listener); err != nil {
		return nil, err
	}
	fmt.Println(cmdline.Counts(network))
	fmt.Printf("tcpecho: connections=%d bytes=%d\n", did.connections, did.bytes)
	return did, nil
}

// serve ends, and ends all connections, when ctx does.
func (e *echoed) serve(ctx context.Context, listener net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			n, err := io.Copy(conn, conn)
			if err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "tcpecho: %v: %v\n", conn.RemoteAddr(), err)
			}
			_ = conn.Close()
			e.mu.Lock()
			defer e.mu.Unlock()
			e.connections++
			e.bytes += n
		})
	}
}
