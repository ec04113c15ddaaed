package netstack_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// What is sent by UDP to a neighbour that does not answer is lost without an error, as
// with a kernel, which tells only a socket with IP_RECVERR. The neighbour is asked for
// all the while, and gets what is sent once it is there.
func TestUDPToANeighbourThatDoesNotAnswer(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Native)
	const silent = "192.0.2.99"
	stacks := map[string]func() (net.Conn, error){
		"netstack": func() (net.Conn, error) { return h.Dial(soon(t), "udp", net.JoinHostPort(silent, "9")) },
		"kernel": func() (conn net.Conn, err error) {
			err = p.Do(func() (err error) {
				conn, err = net.Dial("udp", net.JoinHostPort(silent, "9"))
				return err
			})
			return conn, err
		},
	}
	var all sync.WaitGroup
	for name, dial := range stacks {
		conn, err := dial()
		require.NoError(t, err)
		defer conn.Close()
		all.Go(func() {
			for range 8 { // the question is given up after 3 s
				_, err := conn.Write([]byte("x"))
				assert.NoError(t, err, name)
				assert.NoError(t, conn.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
				_, err = conn.Read(make([]byte, 1))
				assert.ErrorContains(t, err, "i/o timeout", name)
			}
		})
	}
	all.Wait()

	require.NoError(t, p.Do(func() error {
		testns.IP(t, "address", "add", silent+"/24", "dev", "eth0")
		return nil
	}))
	var late net.PacketConn
	require.NoError(t, p.Do(func() (err error) {
		late, err = net.ListenPacket("udp", net.JoinHostPort(silent, "9"))
		return err
	}))
	defer late.Close()
	conn, err := stacks["netstack"]()
	require.NoError(t, err)
	defer conn.Close()
	got := make(chan error, 1)
	go func() {
		_ = late.SetReadDeadline(time.Now().Add(testns.Patience(10 * time.Second)))
		_, _, err := late.ReadFrom(make([]byte, 1))
		got <- err
	}()
	for heard := false; !heard; {
		_, err := conn.Write([]byte("x"))
		require.NoError(t, err)
		select {
		case err := <-got:
			require.NoError(t, err)
			heard = true
		case <-time.After(100 * time.Millisecond):
		}
	}
}
