package main

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/examples/internal/cmdline"
	"github.com/go-xsk/xsk/examples/internal/packet"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestMain(m *testing.M) { testns.Main(m) }

func TestClientAndServerPlay(t *testing.T) {
	for _, mode := range []bpf.Mode{bpf.Generic, bpf.Native} {
		for _, spin := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, " spin=", spin), func(t *testing.T) {
				a, b := testns.Veth{}.Make(t)
				o := cmdline.Options{NeedWakeup: true, Size: 64, Batch: 64, Mode: mode, Ports: []uint16{9000}}
				client, server := o, o
				client.Interface, client.Count = a, 300
				server.Interface = b
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() {
					_, err := run(ctx, &server, packet.Flow{}, true, spin)
					done <- err
				}()

				mac, err := packet.InterfaceMAC(b)
				require.NoError(t, err)
				flow := packet.Flow{
					DstMAC: mac, SrcPort: 9000, DstPort: 9000,
					SrcIP: netip.MustParseAddr("192.0.2.1"), DstIP: netip.MustParseAddr("192.0.2.2"),
				}
				trips, err := run(t.Context(), &client, flow, false, spin)
				assert.NoError(t, err)
				assert.GreaterOrEqual(t, trips, 298, "the server may begin a moment later")
				stop()
				assert.NoError(t, <-done)
			})
		}
	}
}
