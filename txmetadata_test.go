package xsk_test

import (
	"encoding/binary"
	"errors"
	"math"
	"net"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// withTxMetadata is what a test of TX metadata needs: small, and 24 bytes.
func withTxMetadata(flags xsk.UmemFlags) xsk.UmemConfig {
	c := small
	c.TxMetadataLen, c.Flags = 24, flags
	return c
}

// libxdpMinor is 5 if libxdp 1.5.x is loaded, whichever this was built with. One
// that is linked in is taken for a new one.
func libxdpMinor(t testing.TB) int {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	version := regexp.MustCompile(`libxdp\.so\.1\.(\d+)\.`).FindSubmatch(maps)
	if version == nil {
		return math.MaxInt
	}
	minor, err := strconv.Atoi(string(version[1]))
	require.NoError(t, err)
	return minor
}

// hasTxMetadata reports whether libxdp and the kernel have TX metadata. An older
// libxdp must be named by the error, and then the test is over.
func hasTxMetadata(t *testing.T) bool {
	t.Helper()
	testns.Need(t, "6.11 XDP_UMEM_TX_METADATA_LEN")
	if libxdpMinor(t) >= 5 {
		return true
	}
	c := withTxMetadata(0)
	_, err := xsk.NewUmem(&c)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "xsk: create umem: TxMetadataLen needs libxdp 1.5.0 or newer")
	_, err = xsk.Open("lo", 0, &xsk.Config{UmemConfig: c, SocketConfig: xsk.SocketConfig{TxOnly: true, TxSize: 64}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "libxdp 1.5.0")
	return false
}

func TestTxMetadataLenIsChecked(t *testing.T) {
	testns.Kernel(t)
	for _, n := range []int{-8, 1, 8, 20, 252, 256} {
		_, err := xsk.NewUmem(&xsk.UmemConfig{TxMetadataLen: n})
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "TxMetadataLen "+strconv.Itoa(n))
	}
	_, err := xsk.NewUmem(&xsk.UmemConfig{Flags: xsk.UmemTxMetadataLen})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "UmemTxMetadataLen")
	if !hasTxMetadata(t) {
		return
	}
	for _, n := range []int{16, 24, 248} {
		u := newUmem(t, &xsk.UmemConfig{Frames: 16, TxMetadataLen: n})
		assert.Equal(t, n, u.Config().TxMetadataLen)
		assert.NotZero(t, u.Config().Flags&xsk.UmemTxMetadataLen)
	}
}

// udpAt is where the UDP header of fillUDP begins.
const udpAt = 14 + 20

// fillUDP makes b a broadcast UDP packet whose checksum is that of its pseudo
// header alone, as offload wants it.
func fillUDP(b []byte, number int) {
	fillPacket(b, number)
	copy(b[12:], []byte{8, 0, 0x45, 0})
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	copy(b[18:], []byte{0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2})
	binary.BigEndian.PutUint16(b[24:], ^onesSum(b[14:34], 0))
	copy(b[34:], []byte{0x12, 0x34, 0, 7})
	binary.BigEndian.PutUint16(b[38:], uint16(len(b)-34))
	binary.BigEndian.PutUint16(b[40:], onesSum(b[26:34], uint32(17+len(b)-34)))
}

// onesSum is the one's complement sum of b.
func onesSum(b []byte, sum uint32) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// checksumIsRight reports whether a receiver would take b.
func checksumIsRight(b []byte) bool {
	return onesSum(b[udpAt:], uint32(onesSum(b[26:34], uint32(17+len(b)-udpAt)))) == 0xffff
}

var udpChecksum = xsk.TxRequest{Checksum: true, ChecksumStart: udpAt, ChecksumOffset: 6}

// udpDesc makes packet number i of an end, in frame i and at an odd place in it.
func (e *end) udpDesc(i, length int) xsk.Desc {
	d := xsk.Desc{Addr: e.frame(i) + 256 + xsk.Addr(i%3), Len: uint32(length)}
	fillUDP(e.umem.Bytes(d), i)
	return d
}

func TestTxMetadataFillsInChecksums(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		for name, flags := range map[string]xsk.UmemFlags{"by the kernel": xsk.UmemTxSWCsum, "by the device": 0} {
			t.Run(name, func(t *testing.T) {
				tx, rx := newPair(t, m, withTxMetadata(flags))
				rx.Fill.Produce(rx.frames(0, 64))
				descs := make([]xsk.Desc, 60)
				for i := range descs {
					descs[i] = tx.udpDesc(i, 60+i)
					if i%3 > 0 { // between packets without
						require.NoError(t, tx.umem.SetTxMetadata(&descs[i], udpChecksum))
					}
				}
				tx.transmit(t, descs)
				for _, d := range rx.receive(t, len(descs)) {
					b := rx.umem.Bytes(d)
					assert.Equal(t, len(b)%3 > 0, checksumIsRight(b), "packet %d", len(b)-60)
				}
			})
		}
	})
}

// tai is the kernel's CLOCK_TAI, in ns.
func tai(t *testing.T) uint64 {
	t.Helper()
	var now unix.Timespec
	require.NoError(t, unix.ClockGettime(unix.CLOCK_TAI, &now))
	return uint64(now.Nano())
}

func TestTxMetadataTellsWhenAPacketWasSent(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		tx, rx := newPair(t, m, withTxMetadata(xsk.UmemTxSWCsum))
		rx.Fill.Produce(rx.frames(0, 64))
		for i, r := range []xsk.TxRequest{
			{Timestamp: true},
			{Timestamp: true, Checksum: true, ChecksumStart: udpAt, ChecksumOffset: 6},
			{Timestamp: true, LaunchTime: 1},
			udpChecksum,
			{},
		} {
			if r.LaunchTime > 0 && !launchTimes(t) {
				continue
			}
			d := tx.udpDesc(i, 60)
			require.NoError(t, tx.umem.SetTxMetadata(&d, r))
			before := tai(t)
			tx.transmit(t, []xsk.Desc{d})
			at := tx.umem.TxTimestamp(d.Addr)
			if !r.Timestamp {
				assert.Zero(t, at)
			} else {
				assert.GreaterOrEqual(t, at, before)
				assert.LessOrEqual(t, at, tai(t))
			}
			b := rx.umem.Bytes(rx.receive(t, 1)[0])
			assert.Equal(t, r.Checksum, checksumIsRight(b))
		}
	})
}

// launchTimes reports whether the kernel has launch times; an older one must be
// named by the error.
func launchTimes(t *testing.T) bool {
	t.Helper()
	c := withTxMetadata(0)
	u := newUmem(t, &c)
	err := u.SetTxMetadata(&xsk.Desc{Addr: 256, Len: 60}, xsk.TxRequest{LaunchTime: 1})
	if errors.Is(err, errors.ErrUnsupported) {
		assert.ErrorContains(t, err, "Linux 6.15")
		return false
	}
	require.NoError(t, err)
	return true
}

func TestTxMetadataOfAPacketInFragments(t *testing.T) {
	testns.Need(t, "6.9 generic multi-buffer")
	if !hasTxMetadata(t) {
		return
	}
	a, b := vethPair(t)
	c := withTxMetadata(xsk.UmemTxSWCsum)
	sg := xsk.SocketConfig{InhibitProgLoad: true, BindFlags: xsk.BindMultiBuffer}
	tx, rx := newEnd(t, a, &c, &sg), newEnd(t, b, &small, &sg)
	require.NoError(t, rx.UpdateXSKMap(redirect(t, b, modes[0])))
	rx.Fill.Produce(rx.frames(0, 64))
	whole := make([]byte, 500)
	fillUDP(whole, 1)
	var descs []xsk.Desc
	for i, part := range [][]byte{whole[:200], whole[200:300], whole[300:]} {
		d := xsk.Desc{Addr: tx.frame(i) + 256, Len: uint32(len(part)), Options: xsk.PktContd}
		copy(tx.umem.Bytes(d), part)
		descs = append(descs, d)
	}
	descs[2].Options = 0
	require.NoError(t, tx.umem.SetTxMetadata(&descs[0], xsk.TxRequest{Timestamp: true}))
	before := tai(t)
	tx.transmit(t, descs)
	assert.GreaterOrEqual(t, tx.umem.TxTimestamp(descs[0].Addr), before)
	assert.Equal(t, whole, rx.umem.Bytes(rx.receive(t, 1)[0]))
}

func TestTxMetadataInUnalignedFrames(t *testing.T) {
	if !hasTxMetadata(t) {
		return
	}
	tx, rx := newPair(t, modes[0], xsk.UmemConfig{
		Frames: 64, FrameSize: 3000, FillSize: 64, CompletionSize: 64,
		TxMetadataLen: 24, Flags: xsk.UmemUnalignedChunk | xsk.UmemTxSWCsum,
	})
	rx.Fill.Produce(rx.frames(0, 16))
	d := xsk.Desc{Addr: 4096 - 310 | 300<<48, Len: 60} // across a page, metadata and all
	fillUDP(tx.umem.Bytes(d), 1)
	r := udpChecksum
	r.Timestamp = true
	require.NoError(t, tx.umem.SetTxMetadata(&d, r))
	tx.transmit(t, []xsk.Desc{d})
	assert.NotZero(t, tx.umem.TxTimestamp(d.Addr))
	assert.True(t, checksumIsRight(rx.umem.Bytes(rx.receive(t, 1)[0])))
	assert.ErrorContains(t, tx.umem.SetTxMetadata(&xsk.Desc{Addr: 10 | 13<<48, Len: 60}, r), "24 bytes")

	d = xsk.Desc{Addr: 4096 - 10, Len: 60} // without an offset
	fillUDP(tx.umem.Bytes(d), 1)
	require.NoError(t, tx.umem.SetTxMetadata(&d, r))
	tx.transmit(t, []xsk.Desc{d})
	assert.NotZero(t, tx.umem.TxTimestamp(d.Addr))
	assert.True(t, checksumIsRight(rx.umem.Bytes(rx.receive(t, 1)[0])))
}

func TestWrongTxMetadataIsRefusedAtTheDoor(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		if !hasTxMetadata(t) {
			return
		}
		tx, rx := newPair(t, m, withTxMetadata(0))
		rx.Fill.Produce(rx.frames(0, 64))
		for _, c := range []struct {
			addr    xsk.Addr
			length  uint32
			request xsk.TxRequest
			says    string
		}{
			{2048, 60, xsk.TxRequest{}, "packet 0x800: it begins less than the 24 bytes of TxMetadataLen into its frame"},
			{2071, 60, xsk.TxRequest{}, "24 bytes"},
			{2072, 60, xsk.TxRequest{Checksum: true, ChecksumStart: 53, ChecksumOffset: 6}, "outside of a packet of 60 bytes"},
			{2072, 60, xsk.TxRequest{Checksum: true, ChecksumStart: 65535, ChecksumOffset: 65535}, "outside of a packet"},
			{512 * 2048, 60, xsk.TxRequest{}, "it lies outside of the Umem, which has 1048576 bytes"},
			{1 << 30, 60, xsk.TxRequest{}, "outside of the Umem"},
		} {
			d := xsk.Desc{Addr: c.addr, Len: c.length}
			err := tx.umem.SetTxMetadata(&d, c.request)
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, "xsk: set metadata of packet 0x")
			assert.ErrorContains(t, err, c.says)
			assert.Zero(t, d.Options)
		}
		d := tx.udpDesc(1, 60)
		require.NoError(t, tx.umem.SetTxMetadata(&d, xsk.TxRequest{Checksum: true, ChecksumStart: 52, ChecksumOffset: 6}), "the last place")

		// By hand: neither TxBurst nor Produce queues it, nor what follows.
		good := []xsk.Desc{tx.udpDesc(2, 60), tx.udpDesc(3, 60)}
		bad := tx.udpDesc(4, 60)
		bad.Options = xsk.TxMetadata
		binary.NativeEndian.PutUint64(tx.umem.Metadata(bad, 24), 1<<40)
		queued, _, err := tx.TxBurst([]xsk.Desc{good[0], bad, good[1]}, make([]xsk.Addr, 4))
		assert.Equal(t, 1, queued)
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "unknown flags 0x10000000000")
		assert.Equal(t, 1, tx.Tx.Produce([]xsk.Desc{good[1], bad}))
		assert.Equal(t, 0, tx.Tx.Produce([]xsk.Desc{bad}))
		_, _, err = tx.TxBurst([]xsk.Desc{{Addr: 1 << 30, Len: 60, Options: xsk.TxMetadata}}, nil)
		assert.ErrorContains(t, err, "packet 0x40000000: it lies outside of the Umem")
		require.NoError(t, tx.WakeTx())
		for _, d := range rx.receive(t, 2) {
			assert.Contains(t, []byte{2, 3}, rx.umem.Bytes(d)[59]-59)
		}
		rx.quiet(t)
	})
}

// What the kernel refuses all the same must not stay at the head of the ring: on a
// Umem without metadata, which every libxdp has, and when it is changed later.
func TestWrongTxMetadataNeverBlocksTheRing(t *testing.T) {
	testns.Need(t, "6.8 TX metadata")
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		rx.Fill.Produce(rx.frames(0, 128))
		var descs []xsk.Desc
		for i := range 50 {
			d := xsk.Desc{Addr: tx.frame(i) + 256, Len: 60}
			if fillPacket(tx.umem.Bytes(d), i); i%7 == 3 {
				d.Options = xsk.TxMetadata
			}
			descs = append(descs, d)
		}
		queued, _, err := tx.TxBurst(descs, make([]xsk.Addr, 64))
		assert.Equal(t, 50, queued)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "metadata")
		for _, d := range rx.receive(t, 50) {
			number(t, rx.umem.Bytes(d)) // they went without
		}
		if !hasTxMetadata(t) {
			return
		}
		tx, rx = newPair(t, m, withTxMetadata(0))
		rx.Fill.Produce(rx.frames(0, 64))
		descs = []xsk.Desc{tx.udpDesc(1, 60), tx.udpDesc(2, 60)}
		require.NoError(t, tx.umem.SetTxMetadata(&descs[0], xsk.TxRequest{}))
		require.Equal(t, 2, tx.Tx.Produce(descs))
		binary.NativeEndian.PutUint64(tx.umem.Metadata(descs[0], 24), 1<<40)
		assert.ErrorIs(t, tx.WakeTx(), syscall.EINVAL)
		assert.NoError(t, tx.WakeTx())
		rx.receive(t, 2)
	})
}

func TestSetTxMetadataKnowsItsUmem(t *testing.T) {
	u := newUmem(t, &small)
	assert.ErrorContains(t, u.SetTxMetadata(&xsk.Desc{Addr: 256, Len: 60}, xsk.TxRequest{}), "UmemConfig.TxMetadataLen")
	assert.Zero(t, u.TxTimestamp(256))
	if !hasTxMetadata(t) {
		return
	}
	c := withTxMetadata(0)
	c.TxMetadataLen = 16
	u = newUmem(t, &c)
	d := xsk.Desc{Addr: 16, Len: 60}
	assert.ErrorContains(t, u.SetTxMetadata(&d, xsk.TxRequest{LaunchTime: 1}), "LaunchTime needs a TxMetadataLen of 24")
	assert.NoError(t, u.SetTxMetadata(&d, xsk.TxRequest{Timestamp: true}))
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = u.SetTxMetadata(&d, udpChecksum) }))
	assert.Zero(t, u.TxTimestamp(16), "not asked for")
	r := udpChecksum
	r.Timestamp = true
	assert.NoError(t, u.SetTxMetadata(&d, r))
	assert.Zero(t, u.TxTimestamp(16), "not sent yet")
	assert.Zero(t, u.TxTimestamp(1<<40))
	require.NoError(t, u.Close())
	assert.ErrorIs(t, u.SetTxMetadata(&d, xsk.TxRequest{}), net.ErrClosed)
	assert.Zero(t, u.TxTimestamp(16))
}
