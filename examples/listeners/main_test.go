package main

import (
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

// Many senders are answered, each packet once; run itself checks that none is lost.
func TestEverySenderIsAnswered(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{9000}}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- run(ctx, o, nil, 3) }()
			for i := range 16 {
				conn, err := p.Dial("192.0.2.1:9000")
				require.NoError(t, err)
				defer conn.Close()
				want := []byte{byte(i), 1, 2, 3}
				got := make([]byte, 5)
				require.Eventually(t, func() bool {
					_, _ = conn.Write(want)
					_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
					n, err := conn.Read(got)
					return err == nil && assert.Equal(t, want, got[:n])
				}, 10*time.Second, time.Millisecond)
			}
			stop()
			assert.NoError(t, <-done)
		})
	}
}
