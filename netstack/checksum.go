package netstack

import (
	"encoding/binary"
	"math/bits"
)

// A sum is an unfinished Internet checksum (RFC 1071), of 64 bits with the carry
// added in at the end. Its bytes are in the machine's memory order, in which
// addition is the same: only reading and writing the result swaps them.
//
// Everything added has an even number of bytes, but for the last.
type sum uint64

// fold makes it 16 bits, in the order in which a header holds them.
func (s sum) fold() uint16 {
	v := uint64(s)
	v = v>>32 + v&0xffffffff
	v = v>>32 + v&0xffffffff
	v = v>>16 + v&0xffff
	v = v>>16 + v&0xffff
	return uint16(v>>16 + v&0xffff)
}

// plus adds two sums.
func (s sum) plus(other sum) sum {
	v, carry := bits.Add64(uint64(s), uint64(other), 0)
	return sum(v + carry)
}

// swapped is what s would be if its first byte stood at an odd place.
func (s sum) swapped() sum { return sum(bits.ReverseBytes16(s.fold())) }

// word is the sum of a number of 16 bits as it stands in a header.
func word(v uint16) sum {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return sum(binary.NativeEndian.Uint16(b[:]))
}

// valid reports whether the sum over a header with its checksum is right.
func (s sum) valid() bool { return s.fold() == 0xffff }

// put writes the checksum that s calls for into a header.
func (s sum) put(b []byte) { binary.NativeEndian.PutUint16(b, ^s.fold()) }

// sumOf adds up b.
func sumOf(b []byte) sum {
	var v, carry, carries uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		// A chain of additions with carry must not cross the loop: there the carry
		// would have to leave the processor's flag.
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[0:]), 0)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[8:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[16:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[24:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[32:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[40:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[48:]), carry)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(p[56:]), carry)
		carries += carry
		b = b[64:]
	}
	for len(b) >= 8 {
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(b), 0)
		carries += carry
		b = b[8:]
	}
	if len(b) > 0 {
		var tail [8]byte
		copy(tail[:], b)
		v, carry = bits.Add64(v, binary.NativeEndian.Uint64(tail[:]), 0)
		carries += carry
	}
	return sum(v).plus(sum(carries))
}

// copySum copies src to dst, which is as long at least, and adds it up while it is
// in the first cache. One loop that does both has too few registers for the
// compiler: it took 260 ns for 1448 bytes, and this takes 165.
func copySum(dst, src []byte) sum {
	dst = dst[:copy(dst, src)]
	return sumOf(dst)
}

// pseudo adds up the pseudo header of a transport protocol: the addresses as they
// stand in the IP header, the protocol, and the length of its header and payload.
func pseudo(addresses []byte, protocol uint8, length int) sum {
	return sumOf(addresses).plus(word(uint16(protocol))).plus(word(uint16(length)))
}
