package main

import (
	"context"
	"encoding/binary"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

func start(t *testing.T, p *testns.Peer, to string, mode bpf.Mode) {
	t.Helper()
	o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{9000}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- run(ctx, o, to) }()
	t.Cleanup(func() { stop(); assert.NoError(t, <-done) })
}

// ask sends numbers first, first+1, ... and waits for the answer to each.
func ask(t *testing.T, p *testns.Peer, first, n int) {
	t.Helper()
	conn, err := p.Dial("192.0.2.1:9000")
	require.NoError(t, err)
	defer conn.Close()
	for i := first; i < first+n; i++ {
		payload := binary.BigEndian.AppendUint32(nil, uint32(i))
		require.Eventually(t, func() bool {
			_, _ = conn.Write(payload)
			_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			for got := make([]byte, 5); ; { // past answers that came late
				n, err := conn.Read(got)
				if err != nil || n == 4 && binary.BigEndian.Uint32(got) == uint32(i) {
					return err == nil
				}
			}
		}, 10*time.Second, time.Millisecond)
	}
}

func TestEveryPacketIsAnsweredAndCopied(t *testing.T) {
	const packets = 300
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			to, tap := testns.Veth{}.Make(t)
			copies := sniff(t, tap)
			start(t, p, to, mode)
			ask(t, p, 0, packets)
			missing := map[uint32]bool{}
			for i := range packets {
				missing[uint32(i)] = true
			}
			for len(missing) > 0 {
				select {
				case i := <-copies:
					delete(missing, i)
				case <-time.After(5 * time.Second):
					t.Fatal(len(missing), "copies are missing")
				}
			}
		})
	}
}

// Neither a mirror interface that is down, nor one that is gone, costs an
// answer: more packets than it has frames.
func TestMainPathGoesOnWithoutTheMirror(t *testing.T) {
	p := testns.MakePeer(t)
	to, _ := testns.Veth{}.Make(t)
	start(t, p, to, bpf.Native)
	ask(t, p, 0, 10)
	testns.IP(t, "link", "set", to, "down")
	begin := time.Now()
	ask(t, p, 10, 5000)
	t.Log("5000 answers in", time.Since(begin))
	testns.IP(t, "link", "del", to)
	ask(t, p, 6000, 100)
}

// sniff returns the numbers in the requests that a packet socket sees.
func sniff(t *testing.T, ifname string) <-chan uint32 {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: device.Index, Protocol: 0x0008})) // ETH_P_IP
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}))
	require.NoError(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)) // all, should the reader be late
	numbers := make(chan uint32, 10_000)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for b := make([]byte, 2000); ; {
			select {
			case <-stop:
				return
			default:
			}
			n, err := unix.Read(fd, b)
			if err != nil {
				continue
			}
			if flow, payload, err := packet.Parse(b[:n]); err == nil && flow.DstPort == 9000 && len(payload) == 4 {
				numbers <- binary.BigEndian.Uint32(payload)
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped; _ = unix.Close(fd) })
	return numbers
}
