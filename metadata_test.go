//go:build !nobpf

package xsk_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// described attaches bpf's program with metadata.
func described(t *testing.T, ifname string) *bpf.Program {
	t.Helper()
	testns.Need(t, "6.8 VLAN tag for XDP programs")
	p, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}, Metadata: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// tagger puts tag 5 of priority 3 into what is sent through ifname, in the way
// that leaves it to the device, until the function that it returns is called.
func tagger(t *testing.T, ifname string) (stop func()) {
	t.Helper()
	prog := loadProgram(t, unix.BPF_PROG_TYPE_SCHED_CLS, 0, []uint64{
		insn(set, 2, 0, 0, 0x0081), // htons(0x8100)
		insn(set, 3, 0, 0, 3<<13|5),
		insn(call, 0, 0, 0, 18), // bpf_skb_vlan_push
		insn(set, 0, 0, 0, 0),   // TCX_PASS
		insn(exit, 0, 0, 0, 0),
	})
	const egress = 47 // BPF_TCX_EGRESS, Linux 6.6
	link := linkProgram(t, prog, ifname, egress, 0)
	return func() { require.NoError(t, unix.Close(link)) }
}

// describes asserts what veth tells: a time, which it has not from any clock, a
// hash, and a VLAN tag only if there was one.
func describes(t *testing.T, m xsk.RxMetadata, ok, tag bool) {
	t.Helper()
	require.True(t, ok, "no metadata")
	assert.True(t, m.HasTimestamp)
	assert.Zero(t, m.Timestamp)
	assert.True(t, m.HasHash)
	assert.NotZero(t, m.Hash)
	assert.Equal(t, tag, m.HasVLAN)
	if tag {
		assert.EqualValues(t, 3<<13|5, m.VLANTCI)
		assert.EqualValues(t, 0x8100, m.VLANProto)
	} else {
		assert.Zero(t, m.VLANTCI)
		assert.Zero(t, m.VLANProto)
	}
}

func TestRxMetadataOfAFrame(t *testing.T) {
	a, b := vethPair(t)
	q := openQueue(t, a, modes[1], xsk.Config{XSKMap: described(t, a)})
	frames := make([]xsk.Frame, 4)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	send := rawSender(t, b)
	for i := range 600 { // every frame more than once, some with what a tagged one left
		stop := func() {}
		if i%100 == 50 {
			stop = tagger(t, b)
		}
		send(i)
		n, err := q.Receive(frames)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, i, number(t, frames[0].Data))
		m, ok := frames[0].RxMetadata()
		describes(t, m, ok, i%100 == 50)
		stop()
	}
	f := &frames[0]
	f.Data = f.Data[14:]
	_, ok := f.RxMetadata()
	assert.False(t, ok, "Data begins elsewhere")
	assert.Zero(t, testing.AllocsPerRun(10, func() { frames[0].RxMetadata() }))
}

func TestRxMetadataOfAPacketInFragments(t *testing.T) {
	a, b := testns.Veth{MTU: 9000}.Make(t)
	q := openQueue(t, a, modes[1], xsk.Config{
		XSKMap:       described(t, a),
		SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
	})
	packet := make([]byte, 5000)
	fillPacket(packet, 1)
	_, err := unix.Write(packetSocket(t, b), packet)
	require.NoError(t, err)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = q.Receive(frames)
	require.NoError(t, err)
	m, ok := frames[0].RxMetadata()
	describes(t, m, ok, false)
	got := make([]byte, 6000)
	assert.Equal(t, packet, got[:frames[0].CopyTo(got)])
	assert.NotEmpty(t, frames[0].Frags)
}

func TestRxMetadataOfADescriptor(t *testing.T) {
	a, b := vethPair(t)
	rx := newEnd(t, a, &xsk.UmemConfig{Frames: 64, FrameSize: 2048, Headroom: 64}, &xsk.SocketConfig{InhibitProgLoad: true})
	rx.Fill.Produce(rx.frames(0, 16))
	require.NoError(t, rx.UpdateXSKMap(described(t, a)))
	send := rawSender(t, b)
	send(1)
	defer tagger(t, b)()
	send(2)
	for i, d := range rx.receive(t, 2) {
		assert.Equal(t, i+1, number(t, rx.umem.Bytes(d)))
		m, ok := rx.umem.RxMetadata(d)
		describes(t, m, ok, i == 1)
	}
}

// A packet that another program has sent back is no skb, and veth knows nothing
// of it.
func TestRxMetadataThatTheDeviceLacks(t *testing.T) {
	a, b := vethPair(t)
	q := openQueue(t, a, modes[1], xsk.Config{XSKMap: described(t, a)})
	prog := loadProgram(t, unix.BPF_PROG_TYPE_XDP, 0, []uint64{insn(set, 0, 0, 0, 3), insn(exit, 0, 0, 0, 0)}) // XDP_TX
	defer unix.Close(linkProgram(t, prog, b, unix.BPF_XDP, uint32(xsk.XDPDrvMode)))
	rawSender(t, a)(1)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := q.Receive(frames)
	require.NoError(t, err)
	assert.Equal(t, 1, number(t, frames[0].Data))
	m, ok := frames[0].RxMetadata()
	assert.True(t, ok)
	assert.Equal(t, xsk.RxMetadata{}, m)
}

func TestNoRxMetadataWithoutTheProgramForIt(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		q := openQueue(t, a, m, xsk.Config{})
		frames := make([]xsk.Frame, 1)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
		rawSender(t, b)(1)
		_, err := q.Receive(frames)
		require.NoError(t, err)
		_, ok := frames[0].RxMetadata()
		assert.False(t, ok)
	})
}

func TestRequestsOfForwardedFramesWithMetadata(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	a, b := vethPair(t)
	c := smallQueue
	c.TxMetadataLen = 24
	q := openQueue(t, a, modes[1], xsk.Config{UmemConfig: c, XSKMap: described(t, a)})
	far := openQueue(t, b, modes[1], xsk.Config{})
	require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
	require.NoError(t, far.SetReadDeadline(time.Now().Add(5*time.Second)))
	sendPackets(t, far, 1, 1, 60)
	frames := make([]xsk.Frame, 1)
	_, err := q.Receive(frames)
	require.NoError(t, err)
	f := &frames[0]
	m, ok := f.RxMetadata()
	assert.True(t, ok && m.HasHash)
	require.NoError(t, f.Request(xsk.TxRequest{ID: uint64(m.Hash), Timestamp: true}))
	again, ok := f.RxMetadata()
	assert.True(t, ok, "Send overwrites it, not Request")
	assert.Equal(t, m, again)
	_, err = q.Send(frames)
	require.NoError(t, err)
	assert.EqualValues(t, m.Hash, stamps(t, q, 1)[0].ID)
	_, err = far.Receive(frames)
	require.NoError(t, err)
	assert.Equal(t, 1, number(t, frames[0].Data))
}
