package netstack_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
)

// An answer carries the acknowledgment of its request: no packet goes out for that
// alone.
func TestAnAnswerIsOnePacket(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		l, err := h.Listen("tcp", net.JoinHostPort(ours4, "7"))
		require.NoError(t, err)
		go func() {
			if conn, err := l.Accept(); err == nil {
				_, _ = io.Copy(onlyWriter{conn, io.Discard}, onlyReader{conn})
			}
		}()
		conn, err := fromPeer(p)("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()

		const trips = 300
		request, reply := []byte("what is the time?"), make([]byte, 17)
		before := h.Endpoint().Stats().TxPackets
		for range trips {
			_, err := conn.Write(request)
			require.NoError(t, err)
			_, err = io.ReadFull(conn, reply)
			require.NoError(t, err)
		}
		// One more each time that an answer took longer than an acknowledgment waits.
		assert.Less(t, h.Endpoint().Stats().TxPackets-before, uint64(trips*5/4))
	})
}

// Little data that nobody answers is acknowledged before the other side sends it
// again, but not with a packet for each piece.
func TestLittleDataIsAcknowledgedInTime(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		l, err := h.Listen("tcp", net.JoinHostPort(ours4, "7"))
		require.NoError(t, err)
		conn, err := fromPeer(p)("tcp", l.Addr().String())
		require.NoError(t, err)
		defer conn.Close()
		ours, err := l.Accept()
		require.NoError(t, err)
		defer ours.Close()

		const pieces = 100
		before := h.Endpoint().Stats().TxPackets
		for range pieces {
			_, err := conn.Write([]byte{1})
			require.NoError(t, err)
			time.Sleep(time.Millisecond)
		}
		require.Eventually(t, func() bool { return infoOf(t, conn).Unacked == 0 }, 5*time.Second, time.Millisecond)
		assert.Zero(t, infoOf(t, conn).Total_retrans)
		assert.Less(t, h.Endpoint().Stats().TxPackets-before, uint64(pieces/2))
	})
}

// infoOf is what the kernel tells of a connection of its own.
func infoOf(t *testing.T, conn net.Conn) (info *unix.TCPInfo) {
	t.Helper()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}))
	require.NoError(t, err)
	return info
}
