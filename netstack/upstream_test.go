package netstack_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// acceptedOne hands on what a listener accepts.
func acceptedOne(l net.Listener) <-chan net.Conn {
	conns := make(chan net.Conn, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			conns <- conn
		}
	}()
	return conns
}

// When the acknowledgment of our FIN is lost, the FIN is sent again, and the connection
// ends with its acknowledgment. gVisor of 2026-05 took it for a FIN of FIN-WAIT-1, and
// held the connection for a minute.
func TestALostLastAcknowledgmentHoldsNoConnection(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	l, err := h.Listen("tcp", ours4+":7")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	come := acceptedOne(l)
	s := r.connect(1, 7)[0]
	conn := <-come
	s.flags = header.TCPFlagFin | header.TCPFlagAck
	r.send(&s)
	s.seq++
	_, err = conn.Read(make([]byte, 1))
	require.ErrorContains(t, err, "EOF")
	require.NoError(t, conn.Close())
	b, fins := make([]byte, 2048), 0
	for end := time.Now().Add(testns.Patience(5 * time.Second)); fins < 2 && time.Now().Before(end); {
		if got := r.read(b); got != nil && got.flags&header.TCPFlagFin != 0 {
			fins++
			s.ack = got.seq + 1
		}
	}
	require.Equal(t, 2, fins, "a FIN, and the same again")
	s.flags = header.TCPFlagAck
	r.send(&s)
	assert.True(t, live(h, 0, testns.Patience(3*time.Second)), "the connection is still there")
}

// gVisor ignores the last acknowledgment of a handshake when timestamps were agreed on
// and it has none; Linux takes it. Such a peer is accepted with its first data.
func TestUpstreamStillIgnoresAHandshakeWithoutTimestamp(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	l, err := h.Listen("tcp", ours4+":7")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	r.arp(host(0))
	come := acceptedOne(l)
	s := segment{src: host(0), sport: 1024, dport: 7, seq: 1000, flags: header.TCPFlagSyn, window: 65535, stamp: true}
	r.send(&s)
	b := make([]byte, 2048)
	var answer *segment
	for end := time.Now().Add(testns.Patience(5 * time.Second)); answer == nil && time.Now().Before(end); {
		if got := r.read(b); got != nil && got.flags == header.TCPFlagSyn|header.TCPFlagAck {
			answer = got
		}
	}
	require.NotNil(t, answer)
	s.flags, s.seq, s.ack, s.stamp = header.TCPFlagAck, 1001, answer.seq+1, false
	r.send(&s)
	select {
	case conn := <-come:
		_ = conn.Close()
		t.Error("gVisor takes the acknowledgment now: take it out of the package documentation")
	case <-time.After(500 * time.Millisecond):
	}
	s.stamp, s.payload = true, []byte("data")
	r.send(&s)
	select {
	case conn := <-come:
		require.NoError(t, conn.Close())
	case <-time.After(testns.Patience(5 * time.Second)):
		t.Error("its first data is no good either")
	}
}
