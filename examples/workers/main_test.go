package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

// Payloads shorter and longer than the answer come back as their hash, from
// whichever worker, and run itself finds no frame lost.
func TestEveryPayloadIsAnsweredWithItsHash(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		t.Run(mode.String(), func(t *testing.T) {
			p := testns.MakePeer(t)
			o := &cmdline.Options{Interface: p.Near, NeedWakeup: true, Size: 3840, Batch: 64, Mode: mode, Ports: []uint16{9000}}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- run(ctx, o, 4) }()

			conn, err := p.Dial("192.0.2.1:9000")
			require.NoError(t, err)
			defer conn.Close()
			want := map[[32]byte]bool{}
			var payloads [][]byte
			for i := range 500 {
				payload := bytes.Repeat([]byte{1}, 4+i*2)
				binary.BigEndian.PutUint32(payload, uint32(i))
				want[sha256.Sum256(payload)] = true
				payloads = append(payloads, payload)
			}
			require.Eventually(t, func() bool {
				_, _ = conn.Write(payloads[0])
				_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				_, err := conn.Read(make([]byte, 33))
				return err == nil
			}, 10*time.Second, time.Millisecond)
			// The client's socket holds some 250 answers, so no more are on the way.
			const window = 64
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
			got, sent := make([]byte, 33), 0
			for len(want) > 0 {
				for ; sent < len(payloads) && sent+len(want)-len(payloads) < window; sent++ {
					_, err := conn.Write(payloads[sent])
					require.NoError(t, err)
				}
				n, err := conn.Read(got)
				require.NoError(t, err, "%d answers are missing", len(want))
				require.Equal(t, 32, n)
				delete(want, [32]byte(got))
			}
			stop()
			assert.NoError(t, <-done)
		})
	}
}
