package split_test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/split"
)

// perFrame is what a frame of the big link receives, so that 64 KiB are 64 fragments.
const perFrame = 1024

// A bigLink is a Queue for packets of up to 64 KiB, and who sends them from the
// kernel's stack at the other end.
type bigLink struct {
	*xsk.Queue
	fd int
}

func newBigLink(t testing.TB, mode bpf.Mode) *bigLink {
	t.Helper()
	far, near := testns.Veth{MTU: 65535}.Make(t)
	program, err := bpf.Attach(near, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	q, err := xsk.Open(near, 0, &xsk.Config{
		XSKMap:       program,
		UmemConfig:   xsk.UmemConfig{Frames: 2048, FrameSize: 2048, Headroom: 2048 - 256 - perFrame},
		SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer},
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	require.Equal(t, perFrame, q.Umem().MaxPacket())
	device, err := net.InterfaceByName(far)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index}))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	return &bigLink{q, fd}
}

// send sends a packet of the length whose every byte depends on it.
func (l *bigLink) send(t testing.TB, length int) {
	t.Helper()
	_, err := unix.Write(l.fd, bigPacket(length))
	require.NoError(t, err)
}

func bigPacket(length int) []byte {
	b := make([]byte, length)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + length)
	}
	copy(b, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5})
	return b
}

// expect receives packets of these lengths, in that order.
func expect(t testing.TB, from receiver, lengths ...int) {
	t.Helper()
	frames, got := make([]xsk.Frame, 8), make([]byte, 1<<17)
	for len(lengths) > 0 {
		n, err := from.Receive(frames)
		require.NoError(t, err)
		for i := range frames[:n] {
			f := &frames[i]
			require.Equal(t, lengths[i], f.CopyTo(got))
			require.Equal(t, string(bigPacket(lengths[i])), string(got[:lengths[i]]), "%d bytes", lengths[i])
			require.Len(t, f.Frags, (lengths[i]-1)/perFrame)
		}
		lengths = lengths[n:]
	}
}

// Packets of 1 to 64 fragments, and of one byte less and more, reach the listener and
// the tap whole; a listener with less room drops those that do not fit, and no others.
func TestPacketsOfAnyNumberOfFragmentsAreSplitWhole(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		for _, depth := range []int{256, 40} {
			t.Run(fmt.Sprintf("depth=%d", depth), func(t *testing.T) {
				l := newBigLink(t, mode)
				s, err := split.New(l.Queue)
				require.NoError(t, err)
				ended := make(chan error, 1)
				go func() { ended <- s.Run() }()
				t.Cleanup(func() {
					assert.NoError(t, s.Close())
					assert.Error(t, <-ended)
				})
				m, err := s.Listen(&split.Options{Depth: depth})
				require.NoError(t, err)
				tap, err := s.Tap(&split.Options{Depth: depth})
				require.NoError(t, err)
				for _, r := range []interface{ SetReadDeadline(time.Time) error }{m, tap} {
					require.NoError(t, r.SetReadDeadline(time.Now().Add(testns.Patience(30*time.Second))))
				}
				dropped := uint64(0)
				both := func(length int) {
					expect(t, m, length)
					expect(t, tap, length)
					_, err := m.TryReceive(nil) // ends the loan
					require.NoError(t, err)
					_, err = tap.TryReceive(nil)
					require.NoError(t, err)
				}
				for parts := 1; parts <= 64; parts++ {
					for _, length := range []int{parts*perFrame - 1, parts * perFrame, parts*perFrame + 1} {
						if l.send(t, length); (length-1)/perFrame < depth {
							both(length)
						} else {
							dropped++
						}
						l.send(t, 100)
						both(100)
					}
				}
				assert.Equal(t, dropped, m.Stats().Dropped)
				assert.Equal(t, dropped, tap.Stats().Dropped)
			})
		}
	})
}

// A packet of more frames than the inbox has room for does not take with it those
// behind it in the same burst.
func TestALargePacketDoesNotStandInTheWayOfOthers(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		l := newBigLink(t, mode)
		s, err := split.New(l.Queue)
		require.NoError(t, err)
		m, err := s.Listen(&split.Options{Depth: 16})
		require.NoError(t, err)
		for range 5 {
			l.send(t, 30000)
			l.send(t, 100)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Run() }() // with all of them in one burst
		require.NoError(t, m.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
		expect(t, m, 100, 100, 100, 100, 100)
		assert.EqualValues(t, 5, m.Stats().Dropped)
		require.NoError(t, s.Close())
		assert.Error(t, <-ended)
	})
}

// Seven packets of 65 fragments wait in the ring when Run begins, and its bursts end
// inside of them.
func TestRunBeginsLateWithLargePackets(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		l := newBigLink(t, mode)
		s, err := split.New(l.Queue)
		require.NoError(t, err)
		m, err := s.Listen(&split.Options{Depth: 512})
		require.NoError(t, err)
		const longest = 65549
		for range 7 {
			l.send(t, longest)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Run() }()
		require.NoError(t, m.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
		expect(t, m, longest, longest, longest, longest, longest, longest, longest)
		require.NoError(t, s.Close())
		assert.Error(t, <-ended)
	})
}
