package split_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/split"
)

// A header writes packets: of IP version 4 or 6, and of a protocol.
type header struct {
	version  int
	protocol byte
	from, to []byte
	ports    [2]uint16
	fragment uint16 // as IPv4 has it: 0x2000 more, and the offset
	tags     int
	extra    []byte // IPv6: an extension header
}

func (h header) bytes() []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}
	for range h.tags {
		b = append(b, 0x81, 0, 0, 7)
	}
	if h.version == 4 {
		return append(append(b, 8, 0), h.network()...)
	}
	return append(append(b, 0x86, 0xdd), h.network()...)
}

func (h header) network() []byte {
	payload := binary.BigEndian.AppendUint16(nil, h.ports[0])
	payload = binary.BigEndian.AppendUint16(payload, h.ports[1])
	payload = append(payload, make([]byte, 16)...)
	if h.version == 4 {
		b := []byte{0x45, 0, 0, byte(20 + len(payload)), 0, 1, byte(h.fragment >> 8), byte(h.fragment), 64, h.protocol, 0, 0}
		return slices.Concat(b, h.from, h.to, payload)
	}
	next := h.protocol
	if h.fragment != 0 {
		field := h.fragment<<3 | h.fragment>>13&1
		payload = append([]byte{next, 0, byte(field >> 8), byte(field), 0, 0, 0, 1}, payload...)
		next = 44
	}
	if h.extra != nil {
		payload = append(append([]byte{next, byte(len(h.extra)/8 - 1)}, h.extra[2:]...), payload...)
		next = 60
	}
	b := []byte{0x60, 0, 0, 0, 0, byte(len(payload)), next, 64}
	return slices.Concat(b, h.from, h.to, payload)
}

func (h header) reverse() header {
	h.from, h.to = h.to, h.from
	h.ports[0], h.ports[1] = h.ports[1], h.ports[0]
	return h
}

func random(version int) header {
	h := header{version: version, protocol: []byte{6, 17, 132}[rand.IntN(3)]}
	n := map[int]int{4: 4, 6: 16}[version]
	h.from, h.to = make([]byte, n), make([]byte, n)
	for i := range n {
		h.from[i], h.to[i] = byte(rand.Uint32()), byte(rand.Uint32())
	}
	h.ports = [2]uint16{uint16(rand.IntN(30000)), uint16(30001 + rand.IntN(30000))}
	return h
}

func TestBothDirectionsOfAFlowAreOne(t *testing.T) {
	for range 2000 {
		for _, version := range []int{4, 6} {
			h := random(version)
			want := split.Flow(h.bytes())
			assert.Equal(t, want, split.Flow(h.reverse().bytes()))
			h.tags = 2
			assert.Equal(t, want, split.Flow(h.reverse().bytes()), "tagged")
			if version == 6 {
				h.extra = make([]byte, 24)
				assert.Equal(t, want, split.Flow(h.bytes()), "an extension header")
			}
			other := h
			other.ports[0]++
			assert.NotEqual(t, want, split.Flow(other.bytes()), "a port")
			assert.Equal(t, split.Addresses(h.bytes()), split.Addresses(other.reverse().bytes()))
			other = h
			other.protocol ^= 1
			assert.NotEqual(t, want, split.Flow(other.bytes()), "the protocol")
			other = h
			other.to = slices.Clone(h.to)
			other.to[len(h.to)-1]++
			assert.NotEqual(t, want, split.Flow(other.bytes()), "an address")
			assert.NotEqual(t, split.Addresses(h.bytes()), split.Addresses(other.bytes()))
			crossed := h
			crossed.ports[0], crossed.ports[1] = h.ports[1], h.ports[0]
			assert.NotEqual(t, want, split.Flow(crossed.bytes()), "ports belong to their addresses")
		}
	}
}

func TestFragmentsOfADatagramAreOne(t *testing.T) {
	for _, version := range []int{4, 6} {
		first := random(version)
		first.fragment = 0x2000
		later := first
		later.fragment, later.ports = 0x2064, [2]uint16{77, 88} // what was bytes
		last := later
		last.fragment = 0x00c8
		want := split.Flow(first.bytes())
		assert.Equal(t, want, split.Flow(later.bytes()))
		assert.Equal(t, want, split.Flow(last.reverse().bytes()))
		whole := first
		whole.fragment = 0
		assert.Equal(t, split.Addresses(whole.bytes()), split.Addresses(last.bytes()))
	}
}

func TestAnICMPErrorGoesWhereItsFlowGoes(t *testing.T) {
	for _, kind := range []byte{3, 11, 12} {
		flow := random(4)
		router := []byte{10, 9, 8, 7}
		about := append([]byte{kind, 0, 0, 0, 0, 0, 0, 0}, flow.network()[:28]...)
		message := slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0},
			[]byte{0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0}, router, flow.from, about)
		assert.Equal(t, split.Flow(flow.bytes()), split.Flow(message))
		assert.Equal(t, split.Addresses(flow.bytes()), split.Addresses(message))
		message[14+20] = 8 // a ping of the same bytes
		assert.NotEqual(t, split.Flow(flow.bytes()), split.Flow(message))
	}
	flow := random(6)
	about := append([]byte{2, 0, 0, 0, 0, 0, 5, 0}, flow.network()...)
	message := slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd},
		[]byte{0x60, 0, 0, 0, 0, byte(len(about)), 58, 64}, random(6).from, flow.from, about)
	assert.Equal(t, split.Flow(flow.bytes()), split.Flow(message))
}

func TestOtherPacketsGoByTheirMACs(t *testing.T) {
	arp := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6}, make([]byte, 46)...)
	back := slices.Clone(arp)
	copy(back, arp[6:12])
	copy(back[6:], arp[:6])
	assert.Equal(t, split.Flow(arp), split.Flow(back))
	back[11]++
	assert.NotEqual(t, split.Flow(arp), split.Flow(back))
}

func TestFlowsSpreadEvenly(t *testing.T) {
	var count [4]int
	for i := range 4000 {
		h := header{version: 4, protocol: 17, from: []byte{10, 0, 0, 1}, to: []byte{10, 0, 0, 2}, ports: [2]uint16{uint16(i), 53}}
		count[split.Flow(h.bytes())>>62]++
	}
	for _, n := range count {
		assert.InDelta(t, 1000, n, 200)
	}
}

// Any bytes have a number, and each prefix of a packet, too.
func FuzzFlow(f *testing.F) {
	f.Add(random(4).bytes())
	f.Add(random(6).bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := range len(b) + 1 {
			require.Equal(t, split.Flow(b[:n]), split.Flow(bytes.Clone(b[:n])))
			split.Addresses(b[:n])
		}
	})
}

func BenchmarkFlow(b *testing.B) {
	for _, version := range []int{4, 6} {
		packet := random(version).bytes()
		b.Run(map[int]string{4: "IPv4", 6: "IPv6"}[version], func(b *testing.B) {
			for range b.N {
				split.Flow(packet)
			}
		})
	}
}
