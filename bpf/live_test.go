package bpf_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestFilterKeepsTheMachineReachable captures everything of an interface, and
// uses it meanwhile: a TCP connection to port 22, ping, and the ARP before both.
func TestFilterKeepsTheMachineReachable(t *testing.T) {
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) { keepsReachable(t, mode) })
	}
}

func keepsReachable(t *testing.T, mode bpf.Mode) {
	peer := testns.MakePeer(t)
	p := attach(t, peer.Near, bpf.Options{Mode: mode, Filter: bpf.Filter{All: true, Except: &bpf.Filter{Ping: true}, KeepManagement: true}})
	require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
	queue, err := xsk.Open(peer.Near, 0, &xsk.Config{XSKMap: p, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindCopy}})
	require.NoError(t, err)
	defer queue.Close()
	testns.IP(t, "neigh", "flush", "dev", peer.Near) // the other end has none yet

	listener, err := net.Listen("tcp", "192.0.2.1:22")
	require.NoError(t, err)
	defer listener.Close()
	go func() {
		if c, err := listener.Accept(); err == nil {
			_, _ = io.Copy(c, c)
			c.Close()
		}
	}()
	lost, err := net.ListenPacket("udp", "192.0.2.1:9") // the kernel's, which stays empty
	require.NoError(t, err)
	defer lost.Close()

	const packets = 50
	require.NoError(t, peer.Do(func() error {
		shell, err := net.DialTimeout("tcp", "192.0.2.1:22", 10*time.Second)
		if err != nil {
			return fmt.Errorf("ssh: %w", err)
		}
		defer shell.Close()
		noise, err := net.Dial("udp", "192.0.2.1:9")
		if err != nil {
			return err
		}
		defer noise.Close()
		_ = shell.SetDeadline(time.Now().Add(20 * time.Second))
		for i := range packets {
			if _, err := fmt.Fprintf(noise, "noise %d", i); err != nil {
				return err
			}
			line := fmt.Sprintf("command %d\n", i)
			if _, err := io.WriteString(shell, line); err != nil {
				return fmt.Errorf("ssh: %w", err)
			}
			echo := make([]byte, len(line))
			if _, err := io.ReadFull(shell, echo); err != nil || string(echo) != line {
				return fmt.Errorf("ssh answers %q, %w", echo, err)
			}
		}
		return ping("192.0.2.1")
	}))

	frames, got := make([]xsk.Frame, 64), 0
	require.NoError(t, queue.SetReadDeadline(time.Now().Add(10*time.Second)))
	for got < packets {
		n, err := queue.Receive(frames)
		require.NoError(t, err, "%d of %d", got, packets)
		for i := range frames[:n] {
			assert.Equal(t, fmt.Sprintf("noise %d", got), string(frames[i].Data[42:]))
			got++
		}
	}
	require.NoError(t, lost.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, _, err = lost.ReadFrom(make([]byte, 99))
	assert.Error(t, err, "a packet reached the kernel as well")
	c, err := p.Counters()
	require.NoError(t, err)
	assert.EqualValues(t, packets, c.Matched, c)
	assert.NotZero(t, ruleCount(c, "KeepManagement"), c)
	assert.NotZero(t, ruleCount(c, "Except.Ping"), c)
}

// TestFilterKeepsLoginsToElsewhere captures everything of an interface over which the
// machine logs in at another.
func TestFilterKeepsLoginsToElsewhere(t *testing.T) {
	for _, mode := range bothModes {
		t.Run(mode.String(), func(t *testing.T) {
			peer := testns.MakePeer(t)
			p := attach(t, peer.Near, bpf.Options{Mode: mode, Filter: bpf.Filter{All: true, KeepManagement: true}})
			require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
			queue, err := xsk.Open(peer.Near, 0, &xsk.Config{XSKMap: p, SocketConfig: xsk.SocketConfig{BindFlags: xsk.BindCopy}})
			require.NoError(t, err)
			defer queue.Close()
			var server net.Listener
			require.NoError(t, peer.Do(func() (err error) {
				server, err = net.Listen("tcp", "192.0.2.2:22")
				return err
			}))
			defer server.Close()
			go func() {
				if c, err := server.Accept(); err == nil {
					_, _ = io.Copy(c, c)
					c.Close()
				}
			}()
			shell, err := net.DialTimeout("tcp", "192.0.2.2:22", 5*time.Second)
			require.NoError(t, err)
			defer shell.Close()
			require.NoError(t, shell.SetDeadline(time.Now().Add(5*time.Second)))
			line := []byte("command")
			_, err = shell.Write(line)
			require.NoError(t, err)
			_, err = io.ReadFull(shell, line)
			require.NoError(t, err)
			assert.Equal(t, "command", string(line))
		})
	}
}

func ruleCount(c bpf.Counters, rule string) uint64 {
	for _, r := range c.Rules {
		if r.Rule == rule {
			return r.Packets
		}
	}
	return 0
}

// ping sends an echo request and waits for its reply.
func ping(address string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(address).To4())}
	request := []byte{8, 0, 0xf7, 0xfc, 0, 1, 0, 2} // type, code, checksum, id 1, number 2
	if err := unix.Sendto(fd, request, 0, &to); err != nil {
		return err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return err
	}
	for reply := make([]byte, 99); ; {
		n, _, err := unix.Recvfrom(fd, reply, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("ping: %w", err)
		}
		if n >= 28 && reply[20] == 0 && reply[25] == 1 {
			return nil
		}
	}
}

// TestOpenAllGetsAllOfTheTraffic sends flows that hash to different queues.
func TestOpenAllGetsAllOfTheTraffic(t *testing.T) {
	const queues, flows, each = 4, 64, 20
	a, b := testns.Veth{Queues: queues}.Make(t)
	wire := openTap(t, b)
	p := attach(t, a, bpf.Options{Filter: bpf.Filter{UDPPorts: bpf.Ports(4000, 4000+flows-1)}, Mode: bpf.Native})
	require.NoError(t, p.WaitLink(timeout(t, 5*time.Second)))
	all, err := xsk.OpenAll(a, &xsk.Config{XSKMap: p})
	require.NoError(t, err)
	defer all.Close()
	require.Len(t, all, queues)

	var mu sync.Mutex
	got := map[string]int{}
	var perQueue [queues]int
	var group sync.WaitGroup
	for i, queue := range all {
		require.NoError(t, queue.SetReadDeadline(time.Now().Add(10*time.Second)))
		group.Add(1)
		go func() {
			defer group.Done()
			for frames := make([]xsk.Frame, 64); ; {
				n, err := queue.Receive(frames)
				if err != nil {
					return
				}
				mu.Lock()
				for j := range frames[:n] {
					got[string(frames[j].Data)]++
				}
				perQueue[i] += n
				done := len(got) == flows*each
				mu.Unlock()
				if done {
					all.Close()
				}
			}
		}()
	}
	want := map[string]int{}
	for i := range flows * each {
		port := uint16(4000 + i%flows)
		packet := packetOf("10.0.0.1", "10.0.0.2", udp, udpTo(port, fmt.Sprint("packet ", i)))
		want[string(packet)] = 1
		wire.send(t, packet)
		if i%64 == 63 {
			time.Sleep(time.Millisecond) // veth holds 256 packets per queue
		}
	}
	group.Wait()
	assert.Equal(t, len(want), len(got), "packets of %v", perQueue)
	assert.Equal(t, want, got)
	for i, n := range perQueue {
		assert.NotZero(t, n, "nothing hashed to queue %d, so the test shows nothing: %v", i, perQueue)
	}
	c, err := p.Counters()
	require.NoError(t, err)
	assert.EqualValues(t, flows*each, c.Matched)
	assert.Zero(t, c.NoSocket)
}
