package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
)

// The payload of a numbered packet is its number, eight bytes big-endian, and
// then a pattern that follows from the number and fills the packet: the eight
// bytes of number*spread, again and again. So each byte tells whether it
// belongs to this packet.

// spread is 2^64 divided by the golden ratio, an odd number: no two numbers
// have the same pattern, and neighbours' differ in every byte.
const spread = 0x9e3779b97f4a7c15

const numberLen = 8

// A Template builds numbered packets of one flow and one size.
type Template struct {
	flow   Flow
	size   int
	fixed  uint64 // sum of all words that the number does not change
	repeat uint64 // how often the pattern fits
	tail   uint64 // the bits of it that fit once more
	turn   int    // how many bits that is
}

// NewTemplate makes a Template for frames of size bytes, at least MinSize.
func NewTemplate(f Flow, size int) *Template {
	t := &Template{flow: f, size: size}
	frame := make([]byte, size)
	t.Prepare(frame)
	t.fixed = pseudoSum(frame) + sum(frame[udpStart:HeaderLen])
	fill := size - HeaderLen - numberLen
	t.repeat = uint64(fill / 8)
	t.turn = 8 * (fill % 8)
	t.tail = ^(^uint64(0) >> t.turn)
	return t
}

// Size is the length of its frames in bytes.
func (t *Template) Size() int { return t.size }

// Prepare writes what is the same in every packet. Do it once for each frame
// that is used again and again.
func (t *Template) Prepare(frame []byte) { t.flow.putHeaders(frame[:t.size]) }

// Number makes packet n of a prepared frame: it writes the payload, and the UDP
// checksum. That needs no second pass over the payload, because the sum of a
// repeated pattern is a product.
func (t *Template) Number(frame []byte, n uint64) {
	pattern := n * spread
	payload := frame[HeaderLen:t.size]
	binary.BigEndian.PutUint64(payload, n)
	at, last := numberLen, len(payload)-8
	for ; at < last && at < 64; at += 8 {
		binary.BigEndian.PutUint64(payload[at:], pattern)
	}
	for at < last {
		at += copy(payload[at:last], payload[numberLen:at])
	}
	// The rest is shorter than a word, so one that ends with the frame is
	// laid over what is there.
	binary.BigEndian.PutUint64(payload[last:], bits.RotateLeft64(pattern, t.turn))
	putUDPChecksum(frame, t.fixed+half(n)+t.repeat*half(pattern)+half(pattern&t.tail))
}

// PacketNumber is the number in a payload, without a look at the rest of it.
func PacketNumber(payload []byte) (uint64, bool) {
	if len(payload) < numberLen {
		return 0, false
	}
	return binary.BigEndian.Uint64(payload), true
}

// A Checker checks numbered packets of one sender, in the order they arrive.
type Checker struct {
	Lost    uint64 // numbers that were skipped
	Corrupt uint64 // packets that Check returned an error for

	next  uint64
	begun bool
}

// Check checks headers, checksums, number and every byte of the payload. The
// first packet may have any number, and number 0 begins anew. Any other number
// that was to come earlier is an error too: the packet is a duplicate, or came
// too late and was counted as lost.
func (c *Checker) Check(frame []byte) error {
	err := c.check(frame)
	if err != nil {
		c.Corrupt++
	}
	return err
}

func (c *Checker) check(frame []byte) error {
	_, payload, err := Parse(frame)
	if err != nil {
		return err
	}
	if err := checkSums(frame, len(payload)); err != nil {
		return err
	}
	n, ok := PacketNumber(payload)
	if !ok {
		return errors.New("the payload is too short for a number")
	}
	if err := checkPattern(payload[numberLen:], n*spread); err != nil {
		return fmt.Errorf("packet %d: %w", n, err)
	}
	if c.begun && n != 0 && n < c.next {
		return fmt.Errorf("packet %d came again or late: %d was to be next", n, c.next)
	}
	if c.begun && n != 0 {
		c.Lost += n - c.next
	}
	c.begun, c.next = true, n+1
	return nil
}

func checkPattern(fill []byte, pattern uint64) error {
	var want [8]byte
	binary.BigEndian.PutUint64(want[:], pattern)
	at := 0
	for ; at+8 <= len(fill) && binary.BigEndian.Uint64(fill[at:]) == pattern; at += 8 {
	}
	for ; at < len(fill); at++ {
		if fill[at] != want[at%8] {
			return fmt.Errorf("payload byte %d is %#02x, not %#02x", numberLen+at, fill[at], want[at%8])
		}
	}
	return nil
}
