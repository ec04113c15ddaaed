package kerneltest

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/testns"
)

// unaligned describes memory of frames of any size, which straddle pages.
func unaligned(size int) xsk.UmemConfig {
	return xsk.UmemConfig{Frames: 1024, FrameSize: size, Flags: xsk.UmemUnalignedChunk}
}

func one(addr xsk.Addr, length int) parcel {
	return parcel{descs: []xsk.Desc{{Addr: addr, Len: uint32(length)}}}
}

func bad(addr xsk.Addr, length int) parcel {
	p := one(addr, length)
	p.invalid = true
	return p
}

// *_INV_DESC*: descriptors that the kernel must refuse, among good ones, which
// arrive all the same.
func invalidDescs(c xsk.UmemConfig) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		w := wire{umem: c}
		tx, rx := w.lay(t, m)
		config := tx.umem.Config()
		size := config.FrameSize
		end := xsk.Addr(size * config.Frames)
		across := func(boundary xsk.Addr) parcel {
			if c.Flags&xsk.UmemUnalignedChunk == 0 && int(boundary)%size == 0 {
				return bad(boundary-32, 64)
			}
			return one(boundary-32, 64)
		}
		all := []parcel{
			one(0, 64),
			bad(^xsk.Addr(1), 64), // two bytes before the memory
			one(xsk.Addr(8*size), 64),
			bad(xsk.Addr(9*size), size+1), // longer than a frame
			bad(xsk.Addr(9*size), 0),
			bad(xsk.Addr(9*size), 1<<31),
			one(end-64, 64),
			bad(end, 64),
			bad(end-32, 64),
			bad(1<<47, 64),
			across(4 * 4096),
			across(5*4096 + 2048),
			across(xsk.Addr(20 * size)),
			bad(xsk.Addr(21*size), 64),
			one(xsk.Addr(22*size), 64),
		}
		all[13].descs[0].Options = 1 << 8 // one that nobody knows
		if !kernel.AtLeast("6.6 a descriptor of length 0 is refused") {
			all = slices.Delete(all, 4, 5) // taken, and dropped as too short
		}
		exchange(t, tx, rx, len(all), all)
		for i := range all { // and one by one
			exchange(t, tx, rx, 2, []parcel{all[i], one(xsk.Addr(30*size), 64)})
		}
	}
}

// chain makes a packet of the frames from frame first on, each with length bytes.
func (p *port) chain(first, n, length int) parcel {
	var c parcel
	for i := range n {
		c.descs = append(c.descs, xsk.Desc{Addr: p.at(first + i), Len: uint32(length), Options: xsk.PktContd})
	}
	c.descs[n-1].Options = 0
	return c
}

// multi is a wire for packets of several buffers.
func multi(t *testing.T, c xsk.UmemConfig) wire {
	testns.Need(t, "6.9 generic multi-buffer")
	s := xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}
	return wire{umem: c, tx: s, rx: s, mtu: 9000}
}

// *_INV_DESC_MULTI_BUFF: a bad fragment spoils its packet and no other. Here each bad
// packet ends; in the kernel's suite one is left open before the next, and before a
// good one of two fragments, which Linux 6.18 loses: that follows, to the letter.
func invalidChains(c xsk.UmemConfig) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		w := multi(t, c)
		tx, rx := w.lay(t, m)
		size := tx.umem.FrameSize()
		for what, spoil := range map[string]func(d *xsk.Desc){
			"length 0":     func(d *xsk.Desc) { d.Len = 0 },
			"too long":     func(d *xsk.Desc) { d.Len = uint32(size + 1) },
			"outside":      func(d *xsk.Desc) { d.Addr = xsk.Addr(size * tx.umem.Frames()) },
			"bad option":   func(d *xsk.Desc) { d.Options |= 1 << 8 },
			"past the end": func(d *xsk.Desc) { d.Addr = xsk.Addr(size*tx.umem.Frames() - 50) },
		} {
			for fragment := range 3 {
				t.Log(what, fragment)
				spoilt := tx.chain(10, fragment+1, 100)
				spoilt.invalid = true
				spoil(&spoilt.descs[fragment])
				exchange(t, tx, rx, 4, []parcel{tx.chain(0, 2, 100), spoilt, tx.chain(20, 3, 100), one(tx.at(30), 64)})
			}
			for fragment := range 2 {
				spoilt := tx.chain(10, 3, 100)
				spoilt.invalid = true
				spoil(&spoilt.descs[fragment])
				midst(t, tx, rx, spoilt)
			}
		}
		toTheLetter(t, tx, rx, 5, suitesChains(tx, c.Flags&xsk.UmemUnalignedChunk != 0))
	}
}

// suitesChains are the descriptors of the kernel's invalid_desc_mb.
func suitesChains(tx *port, unaligned bool) []parcel {
	const large, contd = 3 << 10, xsk.PktContd
	size := tx.umem.FrameSize()
	bad := func(descs ...xsk.Desc) parcel { return parcel{descs: descs, invalid: true} }
	straddles := xsk.Desc{Addr: tx.at(82) - 32, Len: 64}
	across := parcel{descs: []xsk.Desc{{Addr: tx.at(80), Len: large, Options: contd}, straddles}, invalid: !unaligned}
	return []parcel{
		one(tx.at(0), 64),
		bad(xsk.Desc{Addr: tx.at(10), Len: large, Options: contd}, xsk.Desc{Addr: tx.at(11), Len: large, Options: contd},
			xsk.Desc{Addr: tx.at(12)}), // of length 0
		bad(xsk.Desc{Addr: tx.at(20), Len: large, Options: contd},
			xsk.Desc{Addr: xsk.Addr(size * tx.umem.Frames()), Len: large, Options: contd}), // outside, and goes on
		bad(xsk.Desc{Addr: tx.at(30), Len: large, Options: contd},
			xsk.Desc{Addr: tx.at(31), Len: uint32(size + 1), Options: contd}), // too long, and goes on
		bad(xsk.Desc{Addr: tx.at(40), Len: large, Options: contd},
			xsk.Desc{Addr: tx.at(41), Len: large, Options: 0xffff}), // options that nobody knows, and goes on
		{descs: []xsk.Desc{{Addr: tx.at(50), Len: uint32(size), Options: contd}, {Addr: tx.at(51), Len: uint32(size)}}},
		across,
		one(tx.at(90), 64),
	}
}

// midst sends a packet with a bad fragment in its midst, between two good ones.
// What follows the bad fragment is lost with it since Linux 6.18, and a packet of
// its own before.
func midst(t *testing.T, tx, rx *port, spoilt parcel) {
	all := []parcel{tx.chain(0, 2, 100), spoilt, one(tx.at(30), 64)}
	tx.write(0, all[0])
	tx.write(2, all[2])
	tx.transmit(t, all)
	require.Equal(t, 0, number(rx.receive(t, 1)[0]))
	b := rx.receive(t, 1)[0]
	if number(b) != 2 {
		require.NotZero(t, len(b)%64, "the rest of the spoilt packet")
		b = rx.receive(t, 1)[0]
	}
	require.Equal(t, 2, number(b))
	silent(t, rx)
}

// TOO_MANY_FRAGS: 18 fit, 19 do not, and what comes next is not touched.
//
// In the kernel's suite the packet that is too long has 18 descriptors that all say
// that it goes on, and a good packet follows. Linux 6.18 takes that one for the end of
// the bad one and loses it, also when nothing but sendto is at work. So this has both
// shapes: one that ends by itself, and the suite's to the letter.
func tooManyFrags(t *testing.T, m mode) {
	w := multi(t, xsk4K)
	tx, rx := w.lay(t, m)
	much := tx.chain(100, mostFrags+1, 100)
	much.invalid = true
	exchange(t, tx, rx, 4, []parcel{tx.chain(0, mostFrags, 100), much, one(tx.at(50), 64), tx.chain(60, mostFrags, 200)})

	open := tx.chain(100, mostFrags, 64)
	open.descs[mostFrags-1].Options = xsk.PktContd
	open.invalid = true
	toTheLetter(t, tx, rx, 3, []parcel{one(tx.at(0), 64), tx.chain(10, mostFrags, 64), open, one(tx.at(50), 64)})
}

// toTheLetter sends parcels as the kernel's suite has them. The one with the number
// lost is good, but stands behind descriptors that say that a bad packet goes on: it
// arrives whole or not at all. Everything else does as ever, and so does what is sent
// afterwards.
func toTheLetter(t *testing.T, tx, rx *port, lost int, all []parcel) {
	t.Helper()
	var want []int
	sent := make([]parcel, len(all))
	for i, one := range all {
		if sent[i] = one; one.invalid {
			continue
		}
		tx.write(i, one)
		if sent[i].invalid = i == lost; i != lost { // if it does not leave it may not come back
			want = append(want, i)
		}
	}
	tx.transmit(t, sent)
	arrived := false
	take := func() ([]byte, int) {
		b := rx.receive(t, 1)[0]
		return b, number(b)
	}
	after := one(tx.at(200), 77)
	tx.write(200, after)
	tx.transmit(t, []parcel{after})
	for _, k := range append(want, 200) {
		b, n := take()
		if n == lost && !arrived && k > lost {
			require.Equal(t, all[lost].len(), len(b), "bytes")
			arrived = true
			b, n = take()
		}
		require.Equal(t, k, n)
		if k < len(all) {
			require.Equal(t, all[k].len(), len(b), "bytes")
		}
	}
	t.Logf("the good packet behind the bad one arrived: %t", arrived)
	silent(t, rx)
	require.Positive(t, tx.stats(t).TxInvalidDescs)
}

// mostFrags are the descriptors of a packet in copy mode (MAX_SKB_FRAGS + 1).
const mostFrags = 18

func queueTooManyFrags(t *testing.T, m mode) {
	testns.Need(t, "6.9 generic multi-buffer")
	a, b := jumboPair(t, m, xsk4K)
	frames := write(t, a, 0, mostFrags+1, 100)
	whole := make([]byte, 100*mostFrags)
	fill(whole, 5)
	for i := range mostFrags {
		copy(frames[i].Data, whole[100*i:])
	}
	much, just := frames[0], frames[0]
	much.Frags, just.Frags = frames[1:], frames[1:mostFrags]
	n, err := a.Send([]xsk.Frame{much})
	assert.Zero(t, n)
	assert.ErrorContains(t, err, "and its fragments are 19, 18 make a packet at most")
	n, err = a.Send([]xsk.Frame{just, frames[mostFrags]})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	each(t, b, 1, func(_ int, f *xsk.Frame) {
		all := make([]byte, 9000)
		require.Equal(t, 5, number(all[:f.CopyTo(all)]))
		require.Equal(t, len(whole), f.Len())
	})
	expect(t, b, mostFrags, 1)
	settled(t, 0, a, b)
	assert.Zero(t, must(a.Socket().Stats()).TxInvalidDescs)
}
