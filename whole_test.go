package xsk_test

import (
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

const (
	mostMTU    = 65535
	mostLength = mostMTU + 14 // what AF_PACKET sends at that MTU
)

// A source sends packets of any length out of the kernel's stack, one after another
// with rising numbers, and a Queue at the other end receives them.
type source struct {
	fd, next int
	buffer   []byte
}

func newSource(t testing.TB, ifname string) *source {
	i, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // it hears nothing
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index}))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20))
	// A queueing discipline swallows what comes before the link is known to be up.
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	return &source{fd: fd, buffer: make([]byte, mostLength)}
}

// send sends a packet that every byte of shows its number, if it has room for one.
func (s *source) send(t testing.TB, length int) {
	t.Helper()
	b := s.buffer[:max(length, minPacket)]
	fillPacket(b, s.next)
	s.next++
	_, err := unix.Write(s.fd, b[:length])
	require.NoError(t, err)
}

// whole checks that f is packet number, of that length.
func whole(t testing.TB, f *xsk.Frame, n, length int, buffer []byte) {
	t.Helper()
	require.Equal(t, length, f.Len())
	want := buffer[:max(length, minPacket)]
	fillPacket(want, n)
	at := 0
	for i := -1; i < len(f.Frags); i++ {
		part := f.Data
		if i >= 0 {
			part = f.Frags[i].Data
		}
		if string(part) != string(want[at:at+len(part)]) {
			require.Failf(t, "a packet is changed", "number %d of %d bytes, in fragment %d at %d", n, length, i, at)
		}
		at += len(part)
	}
}

// A bigCase is a way to receive large packets.
type bigCase struct {
	mode      mode
	multi     bool
	frameSize int
}

func inEachBigCase(t *testing.T, f func(t *testing.T, c bigCase)) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		for _, multi := range []bool{true, false} {
			for _, size := range []int{2048, 4096} {
				t.Run(fmt.Sprintf("multi=%v,%d", multi, size), func(t *testing.T) { f(t, bigCase{m, multi, size}) })
			}
		}
	})
}

// config is for a Queue with so many frames to receive into.
func (c bigCase) config(rxFrames int) xsk.Config {
	cfg := xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 2 * rxFrames, FrameSize: c.frameSize}, RxFrames: rxFrames}
	if c.multi {
		cfg.SocketConfig.BindFlags = xsk.BindMultiBuffer
	}
	return cfg
}

// Every packet arrives whole or is dropped and counted: of every length that
// AF_PACKET can send at the largest MTU.
func TestPacketsOfEveryLengthArriveWhole(t *testing.T) {
	inEachBigCase(t, func(t *testing.T, c bigCase) {
		far, near := testns.Veth{MTU: mostMTU}.Make(t)
		q, s := openQueue(t, near, c.mode, c.config(1024)), newSource(t, far)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Minute))))
		lengths := everyLength(q.Umem().MaxPacket())
		frames, buffer := make([]xsk.Frame, 8), make([]byte, mostLength)
		dropped := 0
		for at := 0; len(lengths) > 0; at++ {
			n := min(16, len(lengths))
			sent := lengths[:n]
			lengths = lengths[n:]
			first := s.next
			var fit []int
			for i, length := range sent {
				if s.send(t, length); c.multi || length <= q.Umem().MaxPacket() {
					fit = append(fit, i)
				}
			}
			dropped += n - len(fit)
			for len(fit) > 0 {
				got, err := q.Receive(frames[:1+at%len(frames)])
				require.NoError(t, err)
				for i := range frames[:got] {
					whole(t, &frames[i], first+fit[i], sent[fit[i]], buffer)
				}
				fit = fit[got:]
			}
		}
		stats := q.Stats()
		assert.EqualValues(t, s.next-dropped, stats.RxPackets)
		assert.EqualValues(t, dropped, stats.Kernel.RxDropped)
		assert.Zero(t, stats.Kernel.RxRingFull)
	})
}

// everyLength are all lengths, or with less time some two thousand: those around the
// boundaries of frames and pages, and others between.
func everyLength(frame int) (lengths []int) {
	step, near := 1, 0
	switch {
	case xsk.RaceEnabled:
		step, near = 191, 1
	case os.Getenv("XSK_TEST_ALL") == "":
		step, near = 37, 1
	}
	for n := 14; n <= mostLength; n += step {
		lengths = append(lengths, n)
	}
	for _, size := range []int{frame, os.Getpagesize()} {
		for n := size; n <= mostLength && near > 0; n += size {
			for d := -near; d <= near; d++ {
				lengths = append(lengths, n+d)
			}
		}
	}
	lengths = append(lengths, mostLength)
	slices.Sort(lengths)
	return slices.Compact(lengths)
}

// Eight packets of 60,000 bytes wait in the ring for a receiver that is late, so that
// its bursts end somewhere inside of them.
func TestLargePacketsWaitForALateReceiver(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		far, near := testns.Veth{MTU: mostMTU}.Make(t)
		q, s := openQueue(t, near, m, bigCase{m, true, 2048}.config(1024)), newSource(t, far)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(30*time.Second))))
		buffer := make([]byte, mostLength)
		for round, room := range []int{256, 64, 8, 2, 1, 300} {
			first := s.next
			for range 8 {
				s.send(t, 60000)
			}
			frames := make([]xsk.Frame, room)
			for got := 0; got < 8; {
				receive := q.Receive
				if round%2 == 1 {
					receive = q.TryReceive // the whole packet is there, so it takes no second try
				}
				n, err := receive(frames)
				require.NoError(t, err)
				require.Positive(t, n)
				for i := range frames[:n] {
					whole(t, &frames[i], first+got+i, 60000, buffer)
				}
				got += n
			}
		}
	})
}

// Packets of each number of fragments are the last of a burst, which ends after every
// one of their fragments once.
func TestABurstEndsInsideAPacketOfAnyNumberOfFragments(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		far, near := testns.Veth{MTU: mostMTU}.Make(t)
		q, s := openQueue(t, near, m, bigCase{m, true, 2048}.config(1024)), newSource(t, far)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(30*time.Second))))
		frames, buffer := make([]xsk.Frame, xsk.MaxBurst), make([]byte, mostLength)
		for fragments := 17; fragments <= 37; fragments++ {
			length := min(fragments*(q.Umem().MaxPacket())-100, mostLength)
			for _, before := range []int{0, 1, xsk.MaxBurst - fragments, xsk.MaxBurst - 19, xsk.MaxBurst - 2, xsk.MaxBurst - 1} {
				first := s.next
				for range before {
					s.send(t, 60)
				}
				s.send(t, length)
				for got := 0; got <= before; {
					n, err := q.Receive(frames)
					require.NoError(t, err)
					for i := range frames[:n] {
						want := 60
						if got+i == before {
							want = length
							require.Len(t, frames[i].Frags, fragments-1)
						}
						whole(t, &frames[i], first+got+i, want, buffer)
					}
					got += n
				}
			}
		}
	})
}

// At MTU 1500 a local sender without any privilege makes one packet of 64 KiB with
// UDP_SEGMENT, and generic mode hands it over as it is.
func TestASegmentedDatagramOfALocalSenderArrivesWhole(t *testing.T) {
	testns.Need(t, "6.11 UDP segments without checksum offload")
	p := testns.MakePeer(t)
	q := openQueue(t, p.Near, modes[0], bigCase{modes[0], true, 2048}.config(1024))
	near, err := net.InterfaceByName(p.Near)
	require.NoError(t, err)
	var fd int
	without(t, func() {
		require.NoError(t, p.Do(func() (err error) {
			testns.IP(t, "neigh", "replace", "192.0.2.1", "lladdr", near.HardwareAddr.String(), "dev", "eth0")
			require.NoError(t, testns.TxChecksumOn("eth0"))
			fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			return err
		}))
	}, unix.CAP_NET_RAW, unix.CAP_BPF)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20))
	require.NoError(t, unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, 1400))
	to := &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 1}}
	require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(30*time.Second))))
	frames := make([]xsk.Frame, xsk.MaxBurst)
	within(t, 10*time.Second, func() bool { // what comes before the link is known to be up is lost
		require.NoError(t, unix.Sendto(fd, []byte{0}, 0, to))
		time.Sleep(10 * time.Millisecond)
		n, err := q.TryReceive(frames)
		require.NoError(t, err)
		return n > 0
	})
	payload, got, most := make([]byte, 64*1024), make([]byte, 64*1024+100), 0
	for length := 1; length <= 46*1400; length += 997 {
		for i := range payload[:length] {
			payload[i] = byte(i*7 + length)
		}
		const together = 9
		for range together {
			require.NoError(t, unix.Sendto(fd, payload[:length], 0, to))
		}
		time.Sleep(time.Millisecond) // late
		for left := together; left > 0; {
			n, err := q.Receive(frames)
			require.NoError(t, err)
			for i := range frames[:n] {
				f := &frames[i]
				require.Equal(t, length+14+20+8, f.CopyTo(got))
				require.Equal(t, string(payload[:length]), string(got[42:42+length]))
				most = max(most, 1+len(f.Frags))
			}
			left -= n
		}
	}
	assert.GreaterOrEqual(t, most, 34, "fragments of the largest")
}

// What takes more frames than a Queue receives into, or than its ring has entries, is
// dropped by the kernel, counted and explained, and what follows arrives.
func TestAPacketOfMoreFragmentsThanTheQueueHasRoomFor(t *testing.T) {
	for name, narrow := range map[string]func(*xsk.Config){
		"frames": func(c *xsk.Config) { c.RxFrames = 16 },
		"ring":   func(c *xsk.Config) { c.SocketConfig.RxSize = 16 },
	} {
		t.Run(name, func(t *testing.T) {
			inEachMode(t, func(t *testing.T, m mode) {
				testns.Need(t, "6.9 generic multi-buffer")
				far, near := testns.Veth{MTU: mostMTU}.Make(t)
				cfg := bigCase{m, true, 2048}.config(64)
				narrow(&cfg)
				q, s := openQueue(t, near, m, cfg), newSource(t, far)
				require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
				frames, buffer := make([]xsk.Frame, 4), make([]byte, mostLength)
				const rounds = 20
				for range rounds {
					for _, length := range []int{60000, 16 * q.Umem().MaxPacket(), 16*q.Umem().MaxPacket() + 1, 60} {
						s.send(t, length)
						if length == 60000 || length == 16*q.Umem().MaxPacket()+1 {
							continue
						}
						n, err := q.Receive(frames)
						require.NoError(t, err, "%d bytes, %v", length, q.Stats())
						require.Equal(t, 1, n)
						whole(t, &frames[0], s.next-1, length, buffer)
						_, err = q.TryReceive(nil) // ends the loan
						require.NoError(t, err)
					}
				}
				stats := q.Stats()
				if name == "ring" {
					assert.EqualValues(t, 2*rounds, stats.Kernel.RxRingFull)
					assert.Contains(t, stats.String(), "dropped 40 at the full RX ring: ")
				} else {
					assert.EqualValues(t, 2*rounds, stats.Kernel.RxDropped-stats.Kernel.RxFillRingEmpty)
					assert.Contains(t, stats.String(), "dropped 40 as too long: it takes all of a packet's frames at once, 37 for 64 KiB")
				}
				assert.Zero(t, stats.RxIncomplete)
			})
		})
	}
}

// The kernel shows only whole packets. Should a driver lose the end of one, then it
// costs that packet and the next, which seems to be its rest, and never a frame.
func TestAPacketWithoutAnEndIsDroppedAndCounted(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		testns.Need(t, "6.9 generic multi-buffer")
		far, near := testns.Veth{MTU: mostMTU}.Make(t)
		cfg := bigCase{m, true, 2048}.config(512)
		q, s := openQueue(t, near, m, cfg), newSource(t, far)
		require.NoError(t, q.SetReadDeadline(time.Now().Add(testns.Patience(10*time.Second))))
		frames, buffer := make([]xsk.Frame, 8), make([]byte, mostLength)
		empty := make([]xsk.Frame, 1024)
		spare, err := q.Alloc(empty) // so that there is nothing to fall back on
		require.NoError(t, err)
		require.Equal(t, 512, spare)
		lost := uint64(0)
		for round, joined := range []int{1, 400, 512, 20, 512} {
			_, err := q.TryReceive(nil) // ends the loan
			require.NoError(t, err)
			for range joined {
				s.send(t, 60)
			}
			require.Equal(t, joined, q.LoseEnds())
			n, err := q.TryReceive(frames[:1+round])
			require.NoError(t, err)
			require.Zero(t, n)
			require.EqualValues(t, 512, q.Stats().Frames.Rx)
			if lost++; joined < 512 {
				s.send(t, 60) // ends it
				n, err := q.Receive(frames)
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Len(t, frames[0].Frags, joined)
				lost--
			} else {
				_, err = q.TryReceive(frames)
				require.NoError(t, err)
				s.send(t, 3000) // seems to be the rest
				lost++
				n, err := q.TryReceive(frames)
				require.NoError(t, err)
				require.Zero(t, n)
			}
			require.Equal(t, lost, q.Stats().RxIncomplete)
			s.send(t, 60000)
			n, err = q.Receive(frames)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			whole(t, &frames[0], s.next-1, 60000, buffer)
			require.NoError(t, q.Balance())
		}
		assert.Contains(t, q.Stats().String(), "dropped 4 as incomplete: ")
		xsk.Free(empty[:spare])

		// Closed in the middle of one, and none of its frames is lost.
		s.send(t, 60)
		require.Equal(t, 1, q.LoseEnds())
		n, err := q.TryReceive(frames)
		require.NoError(t, err)
		require.Zero(t, n)
		require.NoError(t, q.Close())
		_, err = q.Receive(frames)
		require.ErrorIs(t, err, net.ErrClosed)
		require.False(t, q.Mapped())
	})
}
