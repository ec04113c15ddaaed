package netstack_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// A connection that nobody reads from takes 16 MiB and not more, either way, beside what
// the kernel at the other end has in its buffers.
func TestDataOfAConnectionIsBounded(t *testing.T) {
	_, conn, other := quiet(t)
	const ours, kernels = 16 << 20, 16 << 20
	for what, c := range map[string]net.Conn{"sent": conn, "received": other} {
		written := 0
		for b := make([]byte, 1<<20); written <= ours+kernels; {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(500*time.Millisecond)))
			n, err := c.Write(b)
			if written += n; err != nil {
				break
			}
		}
		assert.Less(t, written, ours+kernels, what)
		assert.GreaterOrEqual(t, written, 1<<19, what)
	}
}

// A flood for a port that nobody has is answered a thousand times a second at most.
func TestICMPErrorsAreFew(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	var from net.PacketConn
	require.NoError(t, p.Do(func() (err error) {
		from, err = net.ListenPacket("udp", net.JoinHostPort(peer4, "0"))
		return err
	}))
	defer from.Close()
	to := &net.UDPAddr{IP: net.ParseIP(ours4), Port: 9}
	sent, begun := 0, time.Now()
	for time.Since(begun) < 500*time.Millisecond || sent < 10_000 {
		if _, err := from.WriteTo([]byte("x"), to); err == nil {
			sent++
		}
	}
	answers := h.Stack.Stats().ICMP.V4.PacketsSent.DstUnreachable.Value
	require.Eventually(t, func() bool { return answers() > 0 }, testns.Patience(5*time.Second), time.Millisecond)
	time.Sleep(100 * time.Millisecond)
	assert.LessOrEqual(t, answers(), uint64(1000*(1+time.Since(begun).Seconds())))
	assert.Less(t, answers(), uint64(sent/2))
}
