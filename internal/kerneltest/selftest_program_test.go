package kerneltest

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// XDP_PROG_CLEANUP: a second socket takes over the slot of the map, and from then
// on the packets.
func progCleanup(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	w.from, w.to = testns.Veth{}.Make(t)
	xsks := w.attach(t, w.to, m)
	tx, first := w.port(t, w.from, w.tx), w.port(t, w.to, w.rx)
	require.NoError(t, first.UpdateXSKMap(xsks))
	first.post(t)
	exchange(t, tx, first, 64, tx.plain(256, 64))
	// The queue has one owner, so the second shares its memory.
	s, err := xsk.NewSocket(w.to, 0, first.umem, &xsk.SocketConfig{InhibitProgLoad: true})
	require.NoError(t, err)
	second := &port{Socket: s, umem: first.umem}
	require.NoError(t, second.UpdateXSKMap(xsks))
	exchange(t, tx, second, 64, tx.plain(256, 64))
	silent(t, first)
	require.NoError(t, first.Close())
	exchange(t, tx, second, 64, tx.plain(256, 64))
	require.NoError(t, second.Close())
}

// A Queue that is closed leaves the slot, and the next one takes it.
func queueProgCleanup(t *testing.T, m mode) {
	nameA, nameB := testns.Veth{}.Make(t)
	program := attach(t, nameB, m)
	a := open(t, nameA, 0, config(nil))
	for range 3 {
		b := open(t, nameB, 0, config(program))
		queueExchange(t, a, b, 128, 64, 64)
		settled(t, 0, a, b)
		require.NoError(t, b.Close())
	}
}

// XDP_DROP_HALF: the program drops every other packet.
func dropHalf(t *testing.T, m mode) {
	w := wire{umem: xsk4K, program: "half"}
	tx, rx := w.lay(t, m)
	all := tx.plain(64, 64)
	for i := range all {
		tx.write(i, all[i])
	}
	tx.transmit(t, all)
	for i, b := range rx.receive(t, 32) {
		require.Equal(t, 2*i, number(b))
	}
	silent(t, rx)
}

// scenarioPair opens a Queue that sends and one that a program of scenario.bpf.c
// serves.
func scenarioPair(t *testing.T, m mode, c xsk.Config, program string, mtu int, delta int32) (a, b *xsk.Queue, on *scenario) {
	nameA, nameB := testns.Veth{MTU: mtu}.Make(t)
	on = attachScenario(t, program, nameB, m, delta)
	c.XSKMap = on
	b = open(t, nameB, 0, c)
	c.XSKMap, c.SocketConfig.TxOnly = nil, true
	return open(t, nameA, 0, c), b, on
}

func queueDropHalf(t *testing.T, m mode) {
	a, b, _ := scenarioPair(t, m, xsk.Config{UmemConfig: small}, "half", 0, 0)
	send(t, a, 0, 64, 64)
	each(t, b, 32, func(i int, f *xsk.Frame) { require.Equal(t, 2*i, number(f.Data)) })
	require.Zero(t, drain(t, b))
	settled(t, 0, a, b)
}

// XDP_SHARED_UMEM: two sockets on one queue, and the program picks one by the
// packet's address.
func sharedUmem(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	w.from, w.to = testns.Veth{}.Make(t)
	xsks := attachScenario(t, "mac", w.to, m, 0)
	sender, receiver := w.port(t, w.from, w.tx), w.port(t, w.to, w.rx)
	second := func(p *port, ifname string) *port {
		s, err := xsk.NewSocket(ifname, 0, p.umem, &xsk.SocketConfig{InhibitProgLoad: true})
		require.NoError(t, err)
		require.Same(t, p.Fill, s.Fill)
		require.Same(t, p.Completion, s.Completion)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		return &port{Socket: s, umem: p.umem}
	}
	senders := []*port{sender, second(sender, w.from)}
	receivers := []*port{receiver, second(receiver, w.to)}
	for i, p := range receivers {
		require.NoError(t, p.UpdateXSKMapKey(xsks, i))
	}
	receiver.post(t)
	for round := range 8 {
		for i, from := range senders {
			all := from.plain(32, 64)
			for k, one := range all {
				from.write(k, one)
				from.umem.Bytes(one.descs[0])[5] = byte(k)
			}
			from.transmit(t, all)
			for odd, to := range receivers {
				for k, b := range to.receive(t, 16) {
					require.EqualValues(t, 2*k+odd, b[5], "round %d sender %d", round, i)
					b[5] = 0xff
					require.Equal(t, 2*k+odd, number(b))
				}
				silent(t, to)
			}
		}
	}
}

// A resize is what XDP_ADJUST_TAIL_* do: the program makes packets longer or shorter.
type resize struct {
	program string
	delta   int32
	length  int
}

// resizes are how often each of them is done.
const resizes = 64

func (r resize) rings(t *testing.T, m mode) {
	w := wire{umem: xsk4K}
	if r.length > 4096 {
		w = multi(t, xsk4K)
	}
	w.program, w.delta = r.program, r.delta
	tx, rx := w.lay(t, m)
	for k := range resizes {
		tx.write(k, tx.packet(k, r.length))
		tx.transmit(t, []parcel{tx.packet(k, r.length)})
		r.check(t, w.scenario, k, rx.receive(t, 1)[0])
	}
	silent(t, rx)
}

// packet is one of any length, in as many frames as it takes.
func (p *port) packet(first, length int) (whole parcel) {
	size := p.umem.FrameSize()
	for at := 3 * first; length > 0; at++ {
		n := min(size, length)
		whole.descs = append(whole.descs, xsk.Desc{Addr: p.at(at), Len: uint32(n), Options: xsk.PktContd})
		length -= n
	}
	whole.descs[len(whole.descs)-1].Options = 0
	return whole
}

// check asserts that b is packet k with delta bytes more, which are zero, or less.
//
// Behind a packet of several buffers a driver must have said how much room there is,
// which veth does not: the kernel refuses to make such a packet longer, and its own
// suite skips XDP_ADJUST_TAIL_GROW_MULTI_BUFF. Here each packet must have been refused,
// for that reason, and be as it was; one of the old length without a refusal is wrong.
func (r resize) check(t *testing.T, on *scenario, k int, b []byte) {
	t.Helper()
	said, want := on.state(t), state{seen: k + 1}
	delta := int(r.delta)
	if delta > 0 && strings.HasSuffix(r.program, "_frags") {
		want.refused, want.why, delta = k+1, syscall.EOPNOTSUPP, 0
	}
	require.Equal(t, want, said)
	require.Equal(t, r.length+delta, len(b), "bytes")
	require.Equal(t, k, number(b[:min(r.length, len(b))]))
	if delta > 0 {
		require.Equal(t, make([]byte, delta), b[r.length:])
	}
}

func (r resize) queue(t *testing.T, m mode) {
	c := xsk.Config{UmemConfig: xsk4K}
	mtu := 0
	if r.length > 4096 {
		testns.Need(t, "6.9 generic multi-buffer")
		c.SocketConfig.BindFlags, mtu = xsk.BindMultiBuffer, 9000
	}
	a, b, on := scenarioPair(t, m, c, r.program, mtu, r.delta)
	all := make([]byte, 10000)
	for k := range resizes {
		n, err := a.Send([]xsk.Frame{packet(t, a, k, r.length)})
		require.NoError(t, err)
		require.Equal(t, 1, n)
		each(t, b, 1, func(_ int, f *xsk.Frame) { r.check(t, on, k, all[:f.CopyTo(all)]) })
	}
	settled(t, 0, a, b)
}

// growMulti is XDP_ADJUST_TAIL_GROW_MULTI_BUFF, which veth refuses; and what stands for
// it: a program that takes one buffer sees the whole packet in one in generic mode, can
// make it longer, and the socket gets it in several.
func growMulti(run func(resize, *testing.T, mode)) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		run(resize{"tail_frags", 2047, 6144}, t, m)
		if m.name == "generic" {
			run(resize{"tail", 100, 6144}, t, m)
		}
	}
}

// counted is how many packets XDP_METADATA_COPY* send.
const counted = 4096

// lengthOf is that of packet k: every fourth is a long one.
func lengthOf(k, length int) int {
	if k%4 > 0 {
		return 64
	}
	return length
}

// XDP_METADATA_COPY*: the program writes a number before each packet, another each
// time, and it arrives with that packet, whatever was in the frame before.
func metadataCopy(program string, length int) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		w := wire{umem: xsk4K}
		if length > 4096 {
			w = multi(t, xsk4K)
		}
		w.program = program
		tx, rx := w.lay(t, m)
		descs := make([]xsk.Desc, 64)
		for k := 0; k < counted; k += 16 {
			var all []parcel
			for i := range 16 {
				all = append(all, tx.packet(i, lengthOf(k+i, length)))
				tx.write(k+i, all[i])
			}
			tx.transmit(t, all)
			first := true
			for got := 0; got < 16; {
				within(t, patience, func() bool { return rx.Rx.Consume(descs[:1]) == 1 })
				d := descs[0]
				if first {
					require.EqualValues(t, k+got, binary.NativeEndian.Uint32(rx.umem.Metadata(d, 4)))
					require.EqualValues(t, k+got, binary.BigEndian.Uint32(rx.umem.Bytes(d)[14:]))
				}
				if first = d.Options&xsk.PktContd == 0; first {
					got++
				}
				require.Equal(t, 1, rx.Fill.Produce([]xsk.Addr{d.Addr.Base()}))
			}
		}
		silent(t, rx)
	}
}

func queueMetadataCopy(program string, length int) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		c, mtu := xsk.Config{UmemConfig: xsk4K}, 0
		if length > 4096 {
			testns.Need(t, "6.9 generic multi-buffer")
			c.SocketConfig.BindFlags, mtu = xsk.BindMultiBuffer, 9000
		}
		a, b, _ := scenarioPair(t, m, c, program, mtu, 0)
		frames, all := make([]xsk.Frame, 16), make([]byte, 10000)
		for k := 0; k < counted; k += 16 {
			for i := range frames {
				frames[i] = packet(t, a, k+i, lengthOf(k+i, length))
			}
			n, err := a.Send(frames)
			require.NoError(t, err)
			require.Equal(t, 16, n)
			each(t, b, 16, func(i int, f *xsk.Frame) {
				require.EqualValues(t, k+i, binary.NativeEndian.Uint32(f.Metadata(4)))
				n := f.CopyTo(all)
				require.Equal(t, lengthOf(k+i, length), n)
				require.Equal(t, k+i, number(all[:min(n, 64)]))
			})
		}
		settled(t, 0, a, b)
	}
}

// SEND_RECEIVE_9K_PACKETS: 9000 bytes and more, over several frames.
func sendReceive9K(c xsk.UmemConfig) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		w := multi(t, c)
		tx, rx := w.lay(t, m)
		var all []parcel
		for k := range 128 {
			all = append(all, tx.packet(k, 9000+k%15))
		}
		exchange(t, tx, rx, 16, all)
	}
}

// jumboPair opens a Queue that sends and one that receives packets of several buffers.
func jumboPair(t *testing.T, m mode, u xsk.UmemConfig) (a, b *xsk.Queue) {
	nameA, nameB := testns.Veth{MTU: 9000}.Make(t)
	c := xsk.Config{UmemConfig: u}
	c.SocketConfig.BindFlags = xsk.BindMultiBuffer
	c.XSKMap = attach(t, nameB, m)
	b = open(t, nameB, 0, c)
	c.XSKMap, c.SocketConfig.TxOnly = nil, true
	return open(t, nameA, 0, c), b
}

func queueSendReceive9K(u xsk.UmemConfig) func(*testing.T, mode) {
	return func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		a, b := jumboPair(t, m, u)
		frames, all := make([]xsk.Frame, 16), make([]byte, 10000)
		for k := 0; k < 128; k += 16 {
			for i := range frames {
				frames[i] = packet(t, a, k+i, 9000+k%15)
			}
			n, err := a.Send(frames)
			require.NoError(t, err)
			require.Equal(t, 16, n)
			each(t, b, 16, func(i int, f *xsk.Frame) {
				require.Equal(t, k+i, number(all[:f.CopyTo(all)]))
				require.Equal(t, 9000+k%15, f.Len())
			})
		}
		settled(t, 0, a, b)
	}
}
