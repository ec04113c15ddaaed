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
	"github.com/go-xsk/xsk/netstack"
)

// An answer carries the acknowledgment of its request: no packet goes out for that
// alone.
func TestAnAnswerIsOnePacket(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		h, theirs, ours := connected(t, mode)
		before := h.Endpoint().Stats().TxPackets
		const trips = 300
		haveAnswered(t, theirs, ours, trips)
		// One more each time that an answer took longer than an acknowledgment waits,
		// and until it is known that answers come.
		assert.Less(t, h.Endpoint().Stats().TxPackets-before, uint64(trips*5/4))
	})
}

// Where nobody answers any more little data is acknowledged all the same, in time.
func TestLittleDataIsAcknowledgedInTime(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		_, theirs, ours := connected(t, mode)
		haveAnswered(t, theirs, ours, 100)
		before := infoOf(t, theirs).Total_retrans
		for range 20 { // more than the window that a connection begins with
			_, err := theirs.Write([]byte{1})
			require.NoError(t, err)
			require.Eventually(t, func() bool { return infoOf(t, theirs).Unacked == 0 }, 5*time.Second, time.Millisecond)
		}
		assert.Equal(t, before, infoOf(t, theirs).Total_retrans)
	})
}

// The other side hears that its last word has come, also if we are gone the next
// moment.
func TestTheLastAcknowledgmentIsSent(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		h, theirs, ours := connected(t, mode)
		haveAnswered(t, theirs, ours, 100)
		require.NoError(t, ours.(*netstack.TCPConn).CloseWrite())
		_, err := io.ReadFull(theirs, make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		require.NoError(t, theirs.(*net.TCPConn).CloseWrite())
		_, err = io.ReadFull(ours, make([]byte, 1))
		require.ErrorIs(t, err, io.EOF)
		h.Endpoint().Close()
		require.Eventually(t, func() bool { return infoOf(t, theirs).State == unix.BPF_TCP_CLOSE }, 5*time.Second, time.Millisecond)
	})
}

// connected is a connection from a kernel to a Host.
func connected(t *testing.T, mode bpf.Mode) (h *netstack.Host, theirs, ours net.Conn) {
	t.Helper()
	p := makePeer(t)
	h = openOurs(t, p.Near, mode)
	l, err := h.Listen("tcp", net.JoinHostPort(ours4, "7"))
	require.NoError(t, err)
	theirs, err = fromPeer(p)("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { theirs.Close() })
	ours, err = l.Accept()
	require.NoError(t, err)
	return h, theirs, ours
}

// haveAnswered has us answer requests.
func haveAnswered(t *testing.T, theirs, ours net.Conn, trips int) {
	t.Helper()
	done := make(chan error)
	go func() {
		_, err := io.CopyN(onlyWriter{ours, io.Discard}, onlyReader{ours}, int64(17*trips))
		done <- err
	}()
	request, reply := []byte("what is the time?"), make([]byte, 17)
	for range trips {
		_, err := theirs.Write(request)
		require.NoError(t, err)
		_, err = io.ReadFull(theirs, reply)
		require.NoError(t, err)
	}
	require.NoError(t, <-done)
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
