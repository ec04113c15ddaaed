package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// start runs the example until t ends.
func start(t *testing.T, p *testns.Peer, mode bpf.Mode) {
	t.Helper()
	o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{7}}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- run(ctx, o) }()
	t.Cleanup(func() { stop(); assert.NoError(t, <-done) })
}

// ask sends what to address from a kernel socket until it comes back.
func ask(t *testing.T, p *testns.Peer, address string, what []byte) {
	t.Helper()
	conn, err := p.Dial(address)
	require.NoError(t, err)
	defer conn.Close()
	got := make([]byte, 2000)
	require.Eventually(t, func() bool {
		if _, err := conn.Write(what); err != nil {
			return false // refused by the kernel: the example has not begun
		}
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		n, err := conn.Read(got)
		return err == nil && assert.Equal(t, what, got[:n])
	}, 10*time.Second, time.Millisecond)
}

func TestKernelSocketGetsItsOwnWords(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			start(t, p, mode)
			for _, size := range []int{1, 17, 1000, 1472} {
				ask(t, p, "192.0.2.1:7", bytes.Repeat([]byte{byte(size)}, size))
			}
		})
	}
}

func TestKernelSocketIsAnsweredOverIPv6(t *testing.T) {
	p := testns.MakePeer(t)
	address := func(ifname, address string) {
		testns.IP(t, "address", "add", address, "dev", ifname, "nodad")
	}
	require.NoError(t, testns.IPv6(p.Near))
	address(p.Near, "2001:db8::1/64")
	require.NoError(t, p.Do(func() error {
		if err := testns.IPv6("eth0"); err != nil {
			return err
		}
		address("eth0", "2001:db8::2/64")
		return nil
	}))
	start(t, p, bpf.Native)
	ask(t, p, "[2001:db8::1]:7", []byte("hello over IPv6"))
}
