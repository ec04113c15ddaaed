package netstack_test

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/netstack"
	"github.com/go-xsk/xsk/split"
)

// hostsOnly is a filter of what is for addresses.
func hostsOnly(addresses ...string) (f bpf.Filter) {
	for _, a := range addresses {
		f.Hosts = append(f.Hosts, netip.MustParseAddr(a))
	}
	return f
}

// divide opens queue 0 of an interface for the hosts, and a Splitter of it that runs until
// t ends: no frame is then left anywhere but where it belongs.
func divide(t testing.TB, ifname string, mode bpf.Mode, addresses ...string) (*split.Splitter, *xsk.Queue) {
	t.Helper()
	program, err := bpf.Attach(ifname, bpf.Options{Filter: hostsOnly(addresses...), Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, program.Close()) })
	queue, err := xsk.Open(ifname, 0, &xsk.Config{XSKMap: program})
	require.NoError(t, err)
	s, err := split.New(queue)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Run() }()
	t.Cleanup(func() {
		assert.NoError(t, s.Close())
		assert.ErrorIs(t, <-ended, os.ErrClosed)
		back := func() bool {
			_, err := queue.TrySend(nil)
			require.NoError(t, err)
			f := queue.Stats().Frames
			return f.Free+f.Rx == queue.Umem().Frames()
		}
		assert.Eventually(t, back, 5*time.Second, time.Millisecond, "%v", queue.Stats())
		assert.NoError(t, queue.Close())
	})
	return s, queue
}

// onMembers makes a Host on Members, and closes it when t ends.
func onMembers(t testing.TB, ifname string, members []*split.Member, addresses ...string) *netstack.Host {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	e, err := netstack.NewEndpoint(members, device.HardwareAddr, nil)
	require.NoError(t, err)
	h, err := netstack.NewHost(e, prefixes(addresses...))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, h.Close()) })
	return h
}

// Two stacks with addresses of their own and the kernel share one queue, and a Tap
// looks on.
func TestTwoHostsShareAQueue(t *testing.T) {
	const size = 1 << 20
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		s, queue := divide(t, p.Near, mode, ours4, ours6, second4, second6)
		var stacks []*netstack.Host
		for _, own := range [][]string{{ours4, ours6}, {second4, second6}} {
			match, err := hostsOnly(own...).Func()
			require.NoError(t, err)
			m, err := s.Listen(&split.Options{Match: match})
			require.NoError(t, err)
			stacks = append(stacks, onMembers(t, p.Near, []*split.Member{m}, own...))
		}
		tap, err := s.Tap(nil)
		require.NoError(t, err)
		looked := make(chan error, 1)
		go func() {
			frames := make([]xsk.Frame, 64)
			for {
				if _, err := tap.Receive(frames); err != nil {
					looked <- err
					return
				}
			}
		}()
		for i, addresses := range [][2]string{{ours4, ours6}, {second4, second6}} {
			h := stacks[i]
			transfer(t, onPeer(p), net.JoinHostPort(peer4, "0"), fromHost(t, h), size, true)
			transfer(t, h.Listen, net.JoinHostPort(addresses[0], "0"), fromPeer(p), size, false)
			transfer(t, h.Listen, net.JoinHostPort(addresses[1], "0"), fromPeer(p), size, false)
		}
		transfer(t, net.Listen, "192.0.2.1:0", fromPeer(p), size, false) // the kernel's
		for _, h := range stacks {
			assert.Zero(t, h.Endpoint().Stats().RxBad)
			assert.Zero(t, h.Endpoint().Stats().RxUnwanted, "packets for the other one")
		}
		assert.Zero(t, s.Unclaimed())
		assert.Eventually(t, func() bool {
			st := tap.Stats()
			return st.RxPackets+st.Dropped == queue.Stats().RxPackets
		}, 5*time.Second, time.Millisecond)
		require.NoError(t, tap.Close())
		assert.ErrorIs(t, <-looked, os.ErrClosed)
	})
}

// The three Members of a FanOut are the ports of one stack, as three queues would
// be.
func TestAHostOnAFanOut(t *testing.T) {
	const size = 1 << 20
	p := makePeer(t)
	s, _ := divide(t, p.Near, bpf.Native, ours4, ours6)
	members, err := s.FanOut(3, nil)
	require.NoError(t, err)
	h := onMembers(t, p.Near, members, ours4, ours6)
	busy := func() (n int) {
		for _, m := range members {
			if m.Stats().RxPackets > 1000 {
				n++
			}
		}
		return n
	}
	for range 20 {
		transfer(t, h.Listen, net.JoinHostPort(ours4, "0"), fromPeer(p), size, false)
		if busy() == 3 {
			break
		}
	}
	assert.Equal(t, 3, busy(), "flows spread")
	assert.Zero(t, h.Endpoint().Stats().RxBad)
}
