//go:build !nobpf

package xsk_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
)

// The device computes the checksums of what is sent, if libxdp (1.5) and the
// kernel (6.11) can ask it to, and tells when it sent the packet. Otherwise these
// answers go without a checksum, as UDP over IPv4 may.
func ExampleFrame_Request() {
	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{7}}})
	if err != nil {
		log.Panic(err)
	}
	defer program.Close()
	config := xsk.Config{XSKMap: program, UmemConfig: xsk.UmemConfig{TxMetadataLen: 24}}
	q, err := xsk.Open("eth0", 0, &config)
	if errors.Is(err, errors.ErrUnsupported) {
		config.UmemConfig.TxMetadataLen = 0
		q, err = xsk.Open("eth0", 0, &config)
	}
	if err != nil {
		log.Panic(err)
	}
	defer q.Close()

	go func() {
		if err := answer(q, config.UmemConfig.TxMetadataLen > 0); !errors.Is(err, os.ErrClosed) {
			log.Panic(err)
		}
	}()
	fmt.Println(<-ask("192.0.2.1:7", "hello")) // a kernel socket beyond eth0
	// Output: hello
}

// answer echoes UDP until the Queue is closed.
func answer(q *xsk.Queue, offload bool) error {
	frames, times := make([]xsk.Frame, 64), make([]xsk.TxTimestamp, 64)
	for id := uint64(0); ; {
		n, err := q.Receive(frames)
		if err != nil {
			return err
		}
		for i := range frames[:n] {
			f := &frames[i]
			turnRound(f.Data)
			binary.BigEndian.PutUint16(f.Data[40:], 0)
			if !offload {
				continue
			}
			binary.BigEndian.PutUint16(f.Data[40:], pseudoSum(f.Data))
			request := xsk.TxRequest{Checksum: true, ChecksumStart: 34, ChecksumOffset: 6, Timestamp: true, ID: id}
			if err = f.Request(request); err != nil {
				return err
			}
			id++
		}
		if _, err = q.Send(frames[:n]); err != nil {
			return err
		}
		if offload {
			n, err := q.TxTimestamps(times)
			if err != nil {
				return err
			}
			for _, t := range times[:n] {
				_ = t.Time // when packet t.ID was sent
			}
		}
	}
}

// pseudoSum is the sum of the pseudo header of a UDP packet over IPv4: addresses,
// protocol and length.
func pseudoSum(b []byte) uint16 {
	sum := uint32(b[23]) + uint32(binary.BigEndian.Uint16(b[38:]))
	for i := 26; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return uint16(sum>>16 + sum)
}
