// Package wire is the packets of the benchmark: UDP without a checksum, whose
// payload is a number, eight bytes, eight that follow from it, and then for each
// byte its place. c/wire.c has the same in C.
package wire

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

const (
	// Headers is the length of the Ethernet, IPv4 and UDP headers together.
	Headers = 14 + 20 + 8
	// Port is where all packets come from and go to.
	Port = 9000
	// Sample is how many packets one of is checked whole.
	Sample = 1024
	// Spread times the number is what follows it.
	Spread = 0x9e3779b97f4a7c15

	numbers = 16 // bytes of the payload that are not for their place
)

// A Flow is what the packets of one sender have in common.
type Flow struct {
	SrcMAC, DstMAC net.HardwareAddr
	SrcIP, DstIP   netip.Addr
}

// Make writes a packet that fills frame, and only lacks its number.
func (f *Flow) Make(frame []byte) {
	clear(frame[:Headers])
	copy(frame[0:], f.DstMAC)
	copy(frame[6:], f.SrcMAC)
	binary.BigEndian.PutUint16(frame[12:], 0x0800)
	ip := frame[14:34]
	src, dst := f.SrcIP.As4(), f.DstIP.As4()
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 17
	binary.BigEndian.PutUint16(ip[2:], uint16(len(frame)-14))
	copy(ip[12:], src[:])
	copy(ip[16:], dst[:])
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	binary.BigEndian.PutUint16(frame[34:], Port)
	binary.BigEndian.PutUint16(frame[36:], Port)
	binary.BigEndian.PutUint16(frame[38:], uint16(len(frame)-34))
	for i := range frame[Headers:] {
		frame[Headers+i] = byte(i)
	}
}

func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum + sum>>16)
}

// Number makes it packet n.
func Number(frame []byte, n uint64) {
	payload := frame[Headers : Headers+numbers]
	binary.BigEndian.PutUint64(payload, n)
	binary.BigEndian.PutUint64(payload[8:], n*Spread)
}

// Check checks a whole packet of size bytes.
func Check(frame []byte, size int) error {
	if len(frame) != size || size < Headers+numbers {
		return fmt.Errorf("%d bytes came, not %d", len(frame), size)
	}
	return CheckPayload(frame[Headers:])
}

// CheckPayload checks all that follows the headers.
func CheckPayload(payload []byte) error {
	if len(payload) < numbers {
		return fmt.Errorf("%d bytes are too few for a payload", len(payload))
	}
	n := binary.BigEndian.Uint64(payload)
	if follows := binary.BigEndian.Uint64(payload[8:]); follows != n*Spread {
		return fmt.Errorf("packet %d: %#x follows", n, follows)
	}
	for i := numbers; i < len(payload); i++ {
		if payload[i] != byte(i) {
			return fmt.Errorf("packet %d: payload byte %d is %#02x", n, i, payload[i])
		}
	}
	return nil
}

// TurnAround makes a packet its own answer; the checksum stays right.
func TurnAround(frame []byte) {
	swap(frame[0:12])
	swap(frame[26:34])
	swap(frame[34:38])
}

// swap exchanges the halves of b.
func swap(b []byte) {
	half := len(b) / 2
	for i := range half {
		b[i], b[half+i] = b[half+i], b[i]
	}
}
