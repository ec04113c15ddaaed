package main

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// A station is the far end of a port: it sends numbered packets, and checks
// those that come from the port before.
type station struct {
	*xsk.Queue
	checker  packet.Checker
	received uint64
}

func newStation(t *testing.T, ifname string, mode bpf.Mode) *station {
	t.Helper()
	program, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{All: true}, Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	q, err := xsk.Open(ifname, 0, &xsk.Config{
		UmemConfig: xsk.UmemConfig{Frames: 8192, FrameSize: 2048},
		XSKMap:     program,
		RxFrames:   2048,
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.Close()) })
	return &station{Queue: q}
}

// send sends packets first, first+1, ...
func (s *station) send(t *testing.T, template *packet.Template, first, n int) {
	t.Helper()
	frames := make([]xsk.Frame, n)
	got, err := s.Alloc(frames)
	require.NoError(t, err)
	require.Equal(t, n, got)
	for i := range frames {
		f := &frames[i]
		f.Data = f.Data[:template.Size()]
		template.Prepare(f.Data)
		template.Number(f.Data, uint64(first+i))
	}
	_, err = s.Send(frames)
	require.NoError(t, err)
}

// receive takes what has come, and checks every byte.
func (s *station) receive(t *testing.T) {
	t.Helper()
	frames := make([]xsk.Frame, 64)
	n, err := s.TryReceive(frames)
	require.NoError(t, err)
	for i := range frames[:n] {
		require.NoError(t, s.checker.Check(frames[i].Data))
	}
	s.received += uint64(n)
}

// Four ports at once: each packet of each station arrives at the next one, once,
// in order, with every byte, and the pool is whole in the end, which run checks.
func TestFourPortsForwardEveryPacket(t *testing.T) {
	const packets, burst = 20_000, 32
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			var names []string
			var stations []*station
			for range 4 {
				near, far := testns.Veth{}.Make(t)
				names = append(names, near)
				stations = append(stations, newStation(t, far, mode))
			}
			o := &cmdline.Options{Interface: strings.Join(names, ","), NeedWakeup: true, Size: 1500, Batch: 64, Mode: mode}
			f, err := open(t.Context(), o, 1024)
			require.NoError(t, err)
			defer f.close()
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- f.run(ctx, o, nil) }()

			template := packet.NewTemplate(packet.Flow{
				SrcIP: netip.MustParseAddr("192.0.2.1"), DstIP: netip.MustParseAddr("192.0.2.2"), SrcPort: 1, DstPort: 2,
			}, 700)
			limit := time.Now().Add(60 * time.Second)
			for sent := 0; sent < packets; sent += burst {
				for _, s := range stations {
					s.send(t, template, sent, burst)
				}
				// A veth queue holds 256: wait for the burst before.
				for _, s := range stations {
					for s.received+2*burst < uint64(sent+burst) {
						s.receive(t)
						require.True(t, time.Now().Before(limit), "%d of %d", s.received, sent)
					}
				}
			}
			for i, s := range stations {
				for s.received < packets && time.Now().Before(limit) {
					s.receive(t)
				}
				assert.EqualValues(t, packets, s.received, "station %d", i)
				assert.Zero(t, s.checker.Lost)
			}
			stop()
			require.NoError(t, <-done)
			count := f.counts()
			assert.Equal(t, f.pool.Frames(), count.Free+count.Rx+count.Loan)
			var kernel uint64
			for _, p := range f.ports {
				assert.EqualValues(t, packets, p.packets.Load())
				s := p.queue.Stats()
				kernel += s.Dropped + s.Kernel.RxDropped + s.Kernel.RxRingFull + s.Kernel.TxInvalidDescs
			}
			assert.Zero(t, kernel, "dropped")
		})
	}
}

// A Send that ends early, here because the next port is down and takes no more
// than its ring holds, has sent some of the frames: only their bytes count.
func TestOnlyWhatWasSentCounts(t *testing.T) {
	const packets, size = 5000, 700
	var names []string
	var stations []*station
	for range 2 {
		near, far := testns.Veth{}.Make(t)
		names = append(names, near)
		stations = append(stations, newStation(t, far, bpf.Generic))
	}
	o := &cmdline.Options{Interface: strings.Join(names, ","), NeedWakeup: true, Size: 1500, Batch: 48, Mode: bpf.Generic}
	f, err := open(t.Context(), o, 4096)
	require.NoError(t, err)
	defer f.close()
	testns.IP(t, "link", "set", names[1], "down")
	in, out := f.ports[0], f.ports[1].queue
	done := make(chan error, 1)
	go func() { done <- in.forward(t.Context(), out, o.Batch) }()

	template := packet.NewTemplate(packet.Flow{
		SrcIP: netip.MustParseAddr("192.0.2.1"), DstIP: netip.MustParseAddr("192.0.2.2"), SrcPort: 1, DstPort: 2,
	}, size)
	limit := time.Now().Add(60 * time.Second)
	for sent := 0; in.queue.Stats().RxPackets <= xsk.DefaultRingSize; sent += 32 {
		require.Less(t, sent, packets)
		require.True(t, time.Now().Before(limit))
		stations[0].send(t, template, sent, 32)
		time.Sleep(time.Millisecond)
	}
	require.NoError(t, out.SetWriteDeadline(time.Now()))
	require.ErrorIs(t, <-done, os.ErrDeadlineExceeded)
	assert.EqualValues(t, xsk.DefaultRingSize, in.packets.Load())
	assert.EqualValues(t, xsk.DefaultRingSize*size, in.bytes.Load())
}
