package xsk_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
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

// listen opens queue 0 of eth0 for UDP port 7.
func listen() (q *xsk.Queue, done func()) {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
	if err != nil {
		panic(err)
	}
	q, err = xsk.Open("eth0", 0, &xsk.Config{XSKMap: program})
	if err != nil {
		panic(err)
	}
	return q, func() {
		if err := errors.Join(q.Balance(), q.Close(), q.Balance(), program.Close()); err != nil {
			panic(err)
		}
	}
}

// headers of Ethernet, IPv4 and UDP.
const headers = 14 + 20 + 8

// reply readdresses a UDP packet to where it came from. The lengths become
// those of b, and the UDP checksum none.
func reply(b []byte) {
	turnRound(b)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	binary.BigEndian.PutUint32(b[38:], uint32(len(b)-34)<<16)
	sum := uint32(0)
	copy(b[24:], []byte{0, 0})
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum>>16+sum))
}
