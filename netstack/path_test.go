package netstack_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// many transfers size bytes on each of n connections from b to a.
func many(t *testing.T, a, b *netstack.Host, n int, size int64) {
	t.Helper()
	l, err := a.Listen("tcp", net.JoinHostPort(ours4, "0"))
	require.NoError(t, err)
	defer l.Close()
	errs := make(chan error, 2*n)
	for i := range n {
		go func() {
			conn, err := l.Accept()
			if err == nil {
				err = receiveRandom(conn, size)
				conn.Close()
			}
			errs <- err
		}()
		go func() {
			conn, err := b.Dial(soon(t), "tcp", l.Addr().String())
			if err == nil {
				err = sendRandom(conn, size, uint64(i))
				conn.Close()
			}
			errs <- err
		}()
	}
	for range 2 * n {
		require.NoError(t, <-errs)
	}
}

func TestTransferBetweenHostsOverFourQueues(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		a, b := hosts(t, testns.Veth{Queues: 4}, mode, netstack.Options{})
		many(t, a, b, 16, 1<<20)
		used := strings.Count(b.String(), ": copy, rx ")
		assert.Equal(t, 4, used, b.String())
		assert.Zero(t, a.Endpoint().Stats().RxBad)
		// Both ways at once, IPv6.
		transfer(t, a.Listen, net.JoinHostPort(ours6, "0"), fromHost(t, b), 3<<20, true)
	})
}

func TestFlowsGoByTheQueueTheyHashTo(t *testing.T) {
	testns.Kernel(t)
	near, far := testns.Veth{Queues: 4}.Make(t)
	a := open(t, near, &netstack.Config{Addresses: prefixes(ours4)})
	program, err := bpf.Attach(far, bpf.Options{Filter: bpf.Filter{Hosts: hostsOf(second4)}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	queues, err := xsk.OpenAll(far, &xsk.Config{XSKMap: program})
	require.NoError(t, err)
	b := hostOn(t, queues, far, second4)
	many(t, a, b, 32, 100_000)
	for i, q := range queues {
		s := q.Stats()
		assert.NotZero(t, s.TxPackets, "queue %d", i)
		assert.NotZero(t, s.RxPackets, "queue %d", i)
	}
}

func TestJumboPacketsSpanFrames(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		if mode == bpf.Generic {
			testns.Need(t, "6.9 generic multi-buffer")
		}
		a, b := hosts(t, testns.Veth{MTU: 9000}, mode, netstack.Options{})
		assert.Equal(t, uint32(9000), a.Endpoint().MTU())
		transfer(t, a.Listen, net.JoinHostPort(ours4, "0"), fromHost(t, b), 10<<20, false)
		transfer(t, a.Listen, net.JoinHostPort(ours6, "0"), fromHost(t, b), 10<<20, false)
		s := a.Endpoint().Stats()
		assert.Less(t, s.RxPackets, uint64(20<<20)/4500, "they were longer than a frame, also if some came twice")
		p, err := a.ListenPacket("udp", net.JoinHostPort(ours4, "7"))
		require.NoError(t, err)
		defer p.Close()
		conn, err := b.Dial(soon(t), "udp", net.JoinHostPort(ours4, "7"))
		require.NoError(t, err)
		defer conn.Close()
		for _, n := range []int{100, 5000, 8972, 8973, 30000} {
			echo(t, p, conn, n)
		}
	})
}

func TestLinkFlapRecovers(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		near, far := testns.Veth{}.Make(t)
		a := open(t, near, &netstack.Config{Addresses: prefixes(ours4), Mode: mode})
		b := open(t, far, &netstack.Config{Addresses: prefixes(second4), Mode: mode})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 2 {
				time.Sleep(50 * time.Millisecond)
				testns.IP(t, "link", "set", far, "down")
				time.Sleep(100 * time.Millisecond)
				testns.IP(t, "link", "set", far, "up")
			}
		}()
		for range 3 {
			transfer(t, a.Listen, net.JoinHostPort(ours4, "0"), fromHost(t, b), 10<<20, false)
		}
		<-done
		transfer(t, a.Listen, net.JoinHostPort(ours4, "0"), fromHost(t, b), 1<<20, false)
		assert.NoError(t, a.Endpoint().Err())
		assert.NoError(t, b.Endpoint().Err())
	})
}

func TestKernelKeepsItsOwnAddress(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		require.NoError(t, testns.IPv6(p.Near))
		testns.IP(t, "address", "add", "2001:db8::1/64", "dev", p.Near, "nodad")
		h := openOurs(t, p.Near, mode)
		stop, logins := make(chan struct{}), make(chan error, 2)
		for _, kernels := range []string{"192.0.2.1", "2001:db8::1"} {
			l, err := net.Listen("tcp", net.JoinHostPort(kernels, "22"))
			require.NoError(t, err)
			defer l.Close()
			go func() { logins <- login(l, fromPeer(p), stop) }()
		}
		transfer(t, onPeer(p), net.JoinHostPort(peer4, "0"), fromHost(t, h), 4<<20, true)
		transfer(t, h.Listen, net.JoinHostPort(ours6, "22"), fromPeer(p), 4<<20, true)
		close(stop)
		require.NoError(t, <-logins)
		require.NoError(t, <-logins)
	})
}

// login types a line now and then and sees it come back, until stop.
func login(l net.Listener, dial dialer, stop chan struct{}) error {
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	conn, err := dial("tcp", l.Addr().String())
	if err != nil {
		return err
	}
	defer conn.Close()
	for lines := 0; ; lines++ {
		line := []byte(fmt.Sprintf("line %d\n", lines))
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if _, err := conn.Write(line); err != nil {
			return err
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != string(line) {
			return fmt.Errorf("line %d came back as %q: %v", lines, got, err)
		}
		select {
		case <-stop:
			return nil
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func TestHostAnswersPings(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		openOurs(t, p.Near, mode)
		for _, c := range []struct {
			network, address string
			request, reply   byte
		}{{"ip4:icmp", ours4, 8, 0}, {"ip6:ipv6-icmp", ours6, 128, 129}} {
			conn, err := fromPeer(p)(c.network, c.address)
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
			for _, length := range []int{8, 1000, 5000} {
				ping := make([]byte, length)
				ping[0], ping[5], ping[7] = c.request, 9, byte(length)
				if c.request == 8 {
					putChecksum(ping)
				}
				_, err = conn.Write(ping)
				require.NoError(t, err)
				got := make([]byte, 6000)
				for {
					n, _, err := conn.(*net.IPConn).ReadFrom(got)
					require.NoError(t, err)
					if got[0] == c.reply && got[7] == byte(length) {
						assert.Equal(t, ping[4:], got[4:n])
						break
					}
				}
			}
		}
	})
}

// putChecksum is ICMP's, the plain way.
func putChecksum(b []byte) {
	b[2], b[3] = 0, 0
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[2], b[3] = byte(^sum>>8), byte(^sum)
}

func TestCloseWithOpenConnectionsLeavesNothing(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		near, far := testns.Veth{}.Make(t)
		run := func() {
			// Both ends share memory with a queue that stays, to count the frames.
			umem, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 8192, FillSize: 2048, CompletionSize: 2048})
			require.NoError(t, err)
			witness, err := xsk.Open("lo", 0, &xsk.Config{Umem: umem, SocketConfig: xsk.SocketConfig{TxOnly: true}})
			require.NoError(t, err)
			var hosts []*netstack.Host
			for ifname, address := range map[string]string{near: ours4, far: second4} {
				program, err := bpf.Attach(ifname, bpf.Options{Filter: bpf.Filter{Hosts: hostsOf(address)}, Mode: mode})
				require.NoError(t, err)
				defer program.Close()
				q, err := xsk.Open(ifname, 0, &xsk.Config{Umem: umem, XSKMap: program, RxFrames: 2048})
				require.NoError(t, err)
				hosts = append(hosts, hostOn(t, xsk.Queues{q}, ifname, address))
			}
			a, b := hosts[0], hosts[1]
			l, err := a.Listen("tcp", ":80")
			require.NoError(t, err)
			var work, dials sync.WaitGroup
			dials.Add(8)
			for range 8 {
				work.Go(func() {
					conn, err := b.Dial(soon(t), "tcp", a.Addresses()[0].Addr().String()+":80")
					dials.Done()
					if !assert.NoError(t, err) {
						return
					}
					for err == nil { // until the buffers are full, for nobody reads
						_, err = conn.Write(make([]byte, 1<<20))
					}
					isOpError(t, err, net.ErrClosed)
				})
				_, err := l.Accept()
				require.NoError(t, err)
			}
			work.Go(func() {
				_, err := l.Accept()
				isOpError(t, err, net.ErrClosed)
			})
			dials.Wait() // Accept returns before Dial does, which must not see that b is closed
			require.NoError(t, b.Close())
			require.NoError(t, a.Close())
			work.Wait()
			f := witness.Stats().Frames
			assert.Zero(t, f.Loan+f.User, "frames that nobody gave back: %+v", f)
			assert.Equal(t, 8192, f.Total())
			require.NoError(t, witness.Close())
			require.NoError(t, umem.Close())
		}
		run() // what is made once
		left := leavesNothing(t)
		run()
		left()
	})
}

// leavesNothing counts goroutines and descriptors; what it returns fails if there are
// more by then.
func leavesNothing(t *testing.T) func() {
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	return func() {
		t.Helper()
		assert.LessOrEqual(t, openFiles(t), files, "descriptors") // fewer, if another test's went meanwhile
		for range 200 {                                           // timers of the stack may still be running
			if runtime.NumGoroutine() <= goroutines {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		stacks := make([]byte, 1<<16)
		assert.Fail(t, "goroutines are left", "%d before, %d after\n%s", goroutines, runtime.NumGoroutine(), stacks[:runtime.Stack(stacks, true)])
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(all)
}

func hostsOf(addresses ...string) (all []netip.Addr) {
	for _, p := range prefixes(addresses...) {
		all = append(all, p.Addr())
	}
	return all
}

// hostOn makes a Host on queues of the caller's choice.
func hostOn(t testing.TB, queues xsk.Queues, ifname, address string) *netstack.Host {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	e, err := netstack.NewEndpoint(queues, device.HardwareAddr, nil)
	require.NoError(t, err)
	h, err := netstack.NewHost(e, prefixes(address))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	return h
}
