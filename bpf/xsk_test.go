package bpf_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

var _ xsk.XSKMap = (*bpf.Program)(nil)

// open binds a socket; the queue may still be busy from the test before.
func open(t testing.TB, ifname string, queue int) (*xsk.Umem, *xsk.Socket) {
	t.Helper()
	umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 64, FillSize: 64, CompletionSize: 64})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, umem.Close()) })
	addrs := make([]xsk.Addr, 64)
	for i := range addrs {
		addrs[i] = xsk.Addr(i * umem.FrameSize())
	}
	require.Equal(t, 64, umem.Fill.Produce(addrs))
	var socket *xsk.Socket
	require.Eventually(t, func() bool {
		socket, err = xsk.NewSocket(ifname, queue, umem, &xsk.SocketConfig{InhibitProgLoad: true, BindFlags: xsk.BindNeedWakeup})
		return !errors.Is(err, syscall.EBUSY)
	}, 2*time.Second, 5*time.Millisecond)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, socket.Close()) })
	return umem, socket
}

func TestMatchedPacketsReachTheirSocket(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Native, bpf.Generic} {
		t.Run(mode.String(), func(t *testing.T) {
			a, b := testns.Veth{}.Make(t)
			kernel, wire := openTap(t, a), openTap(t, b)
			p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{4789}}, Mode: mode})
			require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
			umem, socket := open(t, a, 0)
			require.NoError(t, socket.UpdateXSKMap(p))

			var want, got []string
			for i := range 20 {
				matched := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(4789, fmt.Sprint("packet ", i))))
				want = append(want, string(matched))
				wire.send(t, matched)
				other := ethernet(typeIPv4, ipv4(udp, 0, nil, udpTo(4790, fmt.Sprint("packet ", i))))
				wire.send(t, other)
				assert.True(t, kernel.sees(t, other, 2*time.Second), "the kernel lost packet %d", i)
			}
			for len(got) < len(want) {
				ready, err := socket.PollRx(2 * time.Second)
				require.NoError(t, err)
				require.True(t, ready, "only %d packets came", len(got))
				descs := make([]xsk.Desc, 64)
				_, n, err := socket.RxBurst(nil, descs)
				require.NoError(t, err)
				for _, d := range descs[:n] {
					got = append(got, string(umem.Bytes(d)))
				}
			}
			assert.Equal(t, want, got)
		})
	}
}

// TestAttachPutsTheLibbpfLoggerBack, although libbpfgo sets one of its own. libbpf has
// something to say of libxdp's objects.
func TestAttachPutsTheLibbpfLoggerBack(t *testing.T) {
	a, b := testns.Veth{}.Make(t)
	var lines atomic.Int32
	require.NoError(t, xsk.SetLibbpfLogger(func(xsk.LogLevel, string) { lines.Add(1) }))
	defer func() { require.NoError(t, xsk.SetLibbpfLogger(nil)) }()
	p := attach(t, a, everything)
	require.NoError(t, p.Update(bpf.Filter{None: true}))
	assert.Zero(t, lines.Load(), "that is ours")
	q, err := xsk.Open(b, 0, &xsk.Config{LibxdpProgram: true})
	require.NoError(t, err)
	defer q.Close()
	assert.NotZero(t, lines.Load())
}
