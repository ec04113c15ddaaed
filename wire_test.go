package xsk_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/go-xsk/xsk/internal/testns"
)

// What the Examples find: eth0, 192.0.2.1, leads to a kernel with 192.0.2.2,
// and eth1 to another one with 192.0.2.3, which echoes UDP on port 7.
var left, right *testns.Peer

func plug() (err error) {
	if left, err = testns.NewPeer("eth0", "192.0.2.1/24", "192.0.2.2/24"); err != nil {
		return err
	}
	if right, err = testns.NewPeer("eth1", "", "192.0.2.3/24"); err != nil {
		return err
	}
	var echo net.PacketConn
	err = right.Do(func() error {
		echo, err = net.ListenPacket("udp", "192.0.2.3:7")
		return err
	})
	if err != nil {
		return err
	}
	go func() {
		for b := make([]byte, 2000); ; {
			n, from, err := echo.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = echo.WriteTo(b[:n], from)
		}
	}()
	return nil
}

var asking net.Conn

// ask sends words to address from a kernel socket beyond eth0, again each
// second until all are answered or somebody else asks, and gives the first
// answer to each.
func ask(address string, words ...string) <-chan string {
	answers := make(chan string, len(words)+1)
	if asking != nil {
		_ = asking.Close()
	}
	conn, err := left.Dial(address)
	if err != nil {
		panic(err)
	}
	asking = conn
	go func() {
		defer close(answers)
		var seen []string
		for range 5 {
			for _, word := range words {
				_, _ = conn.Write([]byte(word))
			}
			_ = conn.SetReadDeadline(time.Now().Add(time.Second))
			for b := make([]byte, 2000); ; {
				n, err := conn.Read(b)
				if errors.Is(err, os.ErrDeadlineExceeded) {
					break
				}
				if err != nil {
					return
				}
				if got := string(b[:n]); !slices.Contains(seen, got) {
					seen = append(seen, got)
					answers <- got
				}
				if len(seen) == len(words) {
					return
				}
			}
		}
		answers <- fmt.Sprintf("only %d answers came from %s", len(seen), address)
	}()
	return answers
}
