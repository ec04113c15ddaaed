//go:build !nobpf

package xsk_test

import (
	"encoding/binary"
	"errors"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

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
