package zerocopytest

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestProbeKnowsOfZeroCopy(t *testing.T) {
	for _, nic := range []string{left, right} {
		d, err := xsk.Probe(nic)
		require.NoError(t, err)
		require.NoError(t, d.Unknown)
		assert.NotZero(t, d.Features&xsk.FeatureZeroCopy, "%v", d)
		assert.Positive(t, d.MaxSegs, "%v", d)
		assert.Contains(t, d.String(), "zero copy")
		t.Log(d)
	}
}

// refused binds with the flags, which must fail, and returns why.
func refused(t *testing.T, nic string, uc xsk.UmemConfig, flags xsk.BindFlags) error {
	t.Helper()
	s, err := xsk.NewSocket(nic, 0, newUmem(t, uc), &xsk.SocketConfig{BindFlags: flags | xsk.BindZeroCopy, InhibitProgLoad: true})
	if err == nil {
		_ = s.Close()
	}
	require.Error(t, err)
	return err
}

func TestRefusedZeroCopySaysWhy(t *testing.T) {
	d, err := xsk.Probe(left)
	require.NoError(t, err)
	if d.MaxSegs == 1 {
		err := refused(t, left, small, xsk.BindMultiBuffer)
		require.ErrorIs(t, err, syscall.EOPNOTSUPP)
		assert.ErrorContains(t, err, "no zero copy: the driver "+d.Driver+" has no zero copy for packets of several frames, which BindMultiBuffer asks for; BindCopy always works")
	}

	s, err := xsk.NewSocket(left, 0, newUmem(t, small), &xsk.SocketConfig{BindFlags: xsk.BindCopy, InhibitProgLoad: true})
	require.NoError(t, err)
	defer s.Close()
	zero, err := s.ZeroCopy()
	require.NoError(t, err)
	assert.False(t, zero)
	mode, err := s.Mode()
	require.NoError(t, err)
	assert.Equal(t, "copy: BindCopy asks for it", mode)
}

// The kernel falls back to copy by itself when nobody insists; a Queue prints it.
func TestFallingBackToCopySaysWhy(t *testing.T) {
	d, err := xsk.Probe(left)
	require.NoError(t, err)
	q, err := xsk.Open(left, 0, &xsk.Config{UmemConfig: small, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer, TxOnly: true}})
	require.NoError(t, err)
	defer q.Close()
	mode, err := q.Socket().Mode()
	require.NoError(t, err)
	if d.MaxSegs == 1 {
		assert.Equal(t, "copy: the driver "+d.Driver+" has no zero copy for packets of several frames, which BindMultiBuffer asks for", mode)
		assert.Contains(t, q.String(), ": copy, ")
	} else {
		assert.Equal(t, "zero copy", mode)
	}
}

// What the filter does not match goes on to the kernel, out of memory that is the
// program's, and what the kernel sends goes out beside what the program sends.
func TestFilterLeavesTheRestToTheKernel(t *testing.T) {
	eachWay(t, func(t *testing.T, from, to string) {
		const here, there = "192.0.2.1", "192.0.2.2"
		testns.IP(t, "address", "add", there+"/24", "dev", to)
		t.Cleanup(func() { testns.IP(t, "address", "del", there+"/24", "dev", to) })
		a, err := net.InterfaceByName(from)
		require.NoError(t, err)
		b, err := net.InterfaceByName(to)
		require.NoError(t, err)
		testns.IP(t, "neigh", "replace", here, "lladdr", a.HardwareAddr.String(), "dev", to)
		kernel, err := net.ListenPacket("udp", there+":7")
		require.NoError(t, err)
		defer kernel.Close()
		require.NoError(t, kernel.SetDeadline(time.Now().Add(patience)))

		rx := open(t, to, attachFilter(t, to, bpf.Filter{UDPPorts: []uint16{9000}}), xsk.Config{})
		peer := open(t, from, attach(t, from), xsk.Config{})
		frames, text := make([]xsk.Frame, 8), make([]byte, 2000)
		for n := 0; n <= 1472; n += 23 { // bytes of payload
			for _, port := range []uint16{9000, 7} {
				k, err := peer.Alloc(frames[:1])
				require.NoError(t, err)
				require.Equal(t, 1, k)
				f := &frames[0]
				f.Data = f.Data[:udp(f.Data[:cap(f.Data)], a.HardwareAddr, b.HardwareAddr, here, there, port, n)]
				_, err = peer.Send(frames[:1])
				require.NoError(t, err)
			}
			k, err := rx.Receive(frames)
			require.NoError(t, err)
			require.Equal(t, 1, k, "the packet for port 9000 alone")
			want := make([]byte, longest)
			want = want[:udp(want, a.HardwareAddr, b.HardwareAddr, here, there, 9000, n)]
			require.Equal(t, want, frames[0].Data[:len(want)])

			k, asker, err := kernel.ReadFrom(text)
			require.NoError(t, err)
			require.Equal(t, n, k)
			require.Equal(t, want[42:], text[:n], "the same payload")
			_, err = kernel.WriteTo(text[:n], asker)
			require.NoError(t, err)
			k, err = peer.Receive(frames)
			require.NoError(t, err)
			require.Equal(t, 1, k)
			require.Equal(t, text[:n], frames[0].Data[42:42+n], "the kernel's answer")
		}
		require.NoError(t, rx.SetReadDeadline(time.Now()))
		_, err = rx.Receive(frames)
		require.True(t, errors.Is(err, os.ErrDeadlineExceeded), "%v", err)
		settled(t, rx, peer)
	})
}

// udp writes a UDP packet with n bytes of payload, without a UDP checksum, and
// returns its length.
func udp(b []byte, from, to net.HardwareAddr, source, destination string, port uint16, n int) int {
	b = b[:42+n]
	clear(b[:42])
	for i := range b[42:] {
		b[42+i] = byte(i + n)
	}
	copy(b, to)
	copy(b[6:], from)
	b[12] = 8
	copy(b[14:], []byte{0x45, 0})
	binary.BigEndian.PutUint16(b[16:], uint16(28+n))
	b[22], b[23] = 64, 17
	copy(b[26:], netip.MustParseAddr(source).AsSlice())
	copy(b[30:], netip.MustParseAddr(destination).AsSlice())
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum>>16+sum))
	binary.BigEndian.PutUint16(b[34:], 5000)
	binary.BigEndian.PutUint16(b[36:], port)
	binary.BigEndian.PutUint16(b[38:], uint16(8+n))
	return len(b)
}
