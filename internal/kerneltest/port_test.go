package kerneltest

import (
	"errors"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A port is a Socket with memory of its own, worked by its rings, as each end is
// in the kernel's suite.
type port struct {
	*xsk.Socket
	umem  *xsk.Umem
	shift xsk.Addr // of what is posted, from where frames begin
}

// A wire is what a scenario needs: a port that sends and one that receives, on
// the two ends of a veth pair.
type wire struct {
	umem    xsk.UmemConfig
	rx, tx  xsk.SocketConfig
	mtu     int
	program string // of scenario.bpf.c; "" redirects everything
	delta   int32
	shift   xsk.Addr

	from, to string    // the interfaces, once it is laid
	scenario *scenario // the program, if it is one of those
}

// lay makes the pair and the ports, the receiver's ready to receive.
func (w *wire) lay(t testing.TB, m mode) (tx, rx *port) {
	t.Helper()
	return w.layOn(t, m, w.umem)
}

// layOn is lay, with a receiver on memory that u describes.
func (w *wire) layOn(t testing.TB, m mode, u xsk.UmemConfig) (tx, rx *port) {
	t.Helper()
	w.from, w.to = testns.Veth{MTU: w.mtu}.Make(t)
	xsks := w.attach(t, w.to, m)
	rx, tx = w.portOn(t, w.to, w.rx, u), w.port(t, w.from, w.tx)
	require.NoError(t, rx.UpdateXSKMap(xsks))
	rx.post(t)
	return tx, rx
}

func (w *wire) attach(t testing.TB, ifname string, m mode) xsk.XSKMap {
	t.Helper()
	if w.program == "" {
		return attach(t, ifname, m)
	}
	w.scenario = attachScenario(t, w.program, ifname, m, w.delta)
	return w.scenario
}

// port opens one on the interface, with nothing posted.
func (w *wire) port(t testing.TB, ifname string, c xsk.SocketConfig) *port {
	t.Helper()
	return w.portOn(t, ifname, c, w.umem)
}

func (w *wire) portOn(t testing.TB, ifname string, c xsk.SocketConfig, on xsk.UmemConfig) *port {
	t.Helper()
	u, err := xsk.NewUmem(&on)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, u.Close()) })
	c.InhibitProgLoad = true
	s, err := xsk.NewSocket(ifname, 0, u, &c)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.Close()) })
	return &port{s, u, w.shift}
}

// at is where frame i begins.
func (p *port) at(i int) xsk.Addr { return xsk.Addr(i * p.umem.FrameSize()) }

// post gives the kernel the upper half of the frames to receive into; the lower
// half is to send from.
func (p *port) post(t testing.TB) {
	t.Helper()
	n := p.umem.Frames() / 2
	if p.shift > 0 {
		n-- // the last one would end outside
	}
	addrs := make([]xsk.Addr, min(n, p.umem.Config().FillSize))
	for i := range addrs {
		addrs[i] = p.at(p.umem.Frames()/2+i) + p.shift
	}
	require.Equal(t, len(addrs), p.Fill.Produce(addrs))
}

// A parcel is a packet to send: its descriptors, and whether the kernel is to
// refuse it.
type parcel struct {
	descs   []xsk.Desc
	invalid bool
}

func (p parcel) len() (n int) {
	for _, d := range p.descs {
		n += int(d.Len)
	}
	return n
}

// plain are n valid packets of one descriptor each, in frames of their own.
func (p *port) plain(n, length int) []parcel {
	all := make([]parcel, n)
	for i := range all {
		all[i].descs = []xsk.Desc{{Addr: p.at(i), Len: uint32(length)}}
	}
	return all
}

// write puts packet number k into the sender's memory.
func (p *port) write(k int, one parcel) {
	bytes := make([]byte, one.len())
	fill(bytes, k)
	for _, d := range one.descs {
		bytes = bytes[copy(p.umem.Bytes(d), bytes):]
	}
}

// transmit sends parcels, which must fit the ring, and returns when the kernel has
// taken them all and given back the valid ones. It may give an invalid one back too.
func (p *port) transmit(t testing.TB, parcels []parcel) {
	t.Helper()
	var descs []xsk.Desc
	out, strange := map[xsk.Addr]int{}, map[xsk.Addr]int{}
	for _, one := range parcels {
		for _, d := range one.descs {
			descs = append(descs, d)
			if one.invalid {
				strange[d.Addr]++
			} else {
				out[d.Addr]++
			}
		}
	}
	all, queued := p.Tx.Free(), 0
	done := make([]xsk.Addr, len(descs))
	within(t, patience, func() bool {
		q, c, err := p.TxBurst(descs[queued:], done)
		if !errors.Is(err, syscall.EBUSY) { // a native receiver was slow: it is counted as lost
			require.NoError(t, err)
		}
		for _, a := range done[:c] {
			if out[a] == 0 && strange[a] == 0 {
				a |= 1 // Linux 6.18 clears the lowest bit
			}
			switch {
			case out[a] > 1:
				out[a]--
			case out[a] == 1:
				delete(out, a)
			default:
				require.Positive(t, strange[a], "%#x came back, and was not out", uint64(a))
				strange[a]--
			}
		}
		queued += q
		return queued == len(descs) && p.Tx.Free() == all && len(out) == 0
	}, "%v: %d of %d queued", p.Socket, queued, len(descs))
}

// receive takes n packets in order of arrival and posts their frames again. Each
// must begin where the kernel puts one: behind the headroom of what was posted.
func (p *port) receive(t testing.TB, n int) (packets [][]byte) {
	t.Helper()
	c := p.umem.Config()
	room := uint64(256 + c.Headroom)
	descs, posted := make([]xsk.Desc, 64), make([]xsk.Addr, 0, 64)
	var packet []byte
	within(t, patience, func() bool {
		filled, got, err := p.RxBurst(posted, descs[:min(n-len(packets), len(descs))])
		require.NoError(t, err)
		posted = append(posted[:0], posted[filled:]...)
		for _, d := range descs[:got] {
			start := uint64(d.Addr.Base())
			if c.Flags&xsk.UmemUnalignedChunk != 0 {
				require.Equal(t, room, d.Addr.Offset())
			} else {
				start -= room
			}
			require.EqualValues(t, p.shift, start%uint64(c.FrameSize), "%#x", uint64(d.Addr))
			packet = append(packet, p.umem.Bytes(d)...)
			if posted = append(posted, d.Addr.Base()); d.Options&xsk.PktContd == 0 {
				packets, packet = append(packets, packet), nil
			}
		}
		return len(packets) >= n
	}, "%d of %d packets", len(packets), n)
	require.Len(t, packets, n)
	require.Empty(t, packet)
	if len(posted) > 0 {
		require.Equal(t, len(posted), p.Fill.Produce(posted))
	}
	return packets
}

// exchange sends the parcels a few at a time, the invalid ones among them, and
// expects the valid ones: once each, in order, every byte.
func exchange(t testing.TB, tx, rx *port, burst int, parcels []parcel) {
	t.Helper()
	var descs uint64
	before := tx.stats(t).TxInvalidDescs
	for k := 0; k < len(parcels); k += burst {
		now := parcels[k:min(k+burst, len(parcels))]
		var valid []int
		for i, one := range now {
			if one.invalid {
				descs += uint64(len(one.descs))
				continue
			}
			tx.write(k+i, one)
			valid = append(valid, i)
		}
		tx.transmit(t, now)
		for i, b := range rx.receive(t, len(valid)) {
			require.Equal(t, k+valid[i], number(b))
			require.Len(t, b, now[valid[i]].len())
		}
	}
	require.Equal(t, descs, tx.stats(t).TxInvalidDescs-before)
	silent(t, rx)
}

// silent asserts that no more has come, and that nothing was lost.
func silent(t testing.TB, rx *port) {
	t.Helper()
	require.Zero(t, rx.Rx.Consume(make([]xsk.Desc, 1)))
	s := rx.stats(t)
	s.TxRingEmpty, s.TxInvalidDescs = 0, 0
	require.Equal(t, xsk.Stats{}, s)
}

func (p *port) stats(t testing.TB) xsk.Stats {
	t.Helper()
	s, err := p.Stats()
	require.NoError(t, err)
	return s
}

// kick is one kick, where Socket.WakeTx would go on.
func (p *port) kick() error {
	return unix.Send(p.FD(), nil, unix.MSG_DONTWAIT)
}
