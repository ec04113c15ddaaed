package xsk_test

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestNewSocketSaysWhichRuleIsBroken(t *testing.T) {
	a, _ := testns.Veth{Queues: 2}.Make(t)
	u := newUmem(t, &small)
	for _, c := range []struct {
		ifname string
		queue  int
		cfg    xsk.SocketConfig
		want   error
		rule   string
	}{
		{"nosuch0", 0, xsk.SocketConfig{}, syscall.ENODEV, "xsk: bind nosuch0 queue 0: no interface nosuch0"},
		{"", 0, xsk.SocketConfig{}, syscall.EINVAL, `"" is no interface name`},
		{"lo\n", 0, xsk.SocketConfig{}, syscall.EINVAL, `"lo\n" is no interface name`},
		{"a-name-that-is-too-long", 0, xsk.SocketConfig{}, syscall.EINVAL, "is no interface name"},
		{a, 2, xsk.SocketConfig{}, syscall.EINVAL, "xsk: bind " + a + " queue 2: " + a + " has 2 queues, numbered from 0"},
		{a, -1, xsk.SocketConfig{}, syscall.EINVAL, "numbered from 0"},
		{a, 0, xsk.SocketConfig{RxSize: 100}, syscall.EINVAL, "RxSize 100 is not a power of two"},
		{a, 0, xsk.SocketConfig{TxSize: -1}, syscall.EINVAL, "TxSize -1 is not a power of two"},
		{a, 0, xsk.SocketConfig{RxOnly: true, TxOnly: true}, syscall.EINVAL, "RxOnly and TxOnly together"},
		{a, 0, xsk.SocketConfig{BindFlags: xsk.BindCopy | xsk.BindZeroCopy}, syscall.EINVAL, "exclude each other"},
		{a, 0, xsk.SocketConfig{BindFlags: 1}, syscall.EINVAL, "BindFlags 0x1 has unknown bits 0x1"},
		{a, 0, xsk.SocketConfig{XDPFlags: 1 << 10}, syscall.EINVAL, "XDPFlags 0x400 has unknown bits"},
		{a, 0, xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode | xsk.XDPDrvMode}, syscall.EINVAL, "more than one of"},
		{a, 0, xsk.SocketConfig{BindFlags: xsk.BindZeroCopy, InhibitProgLoad: true}, syscall.EOPNOTSUPP, "no zero copy"},
	} {
		s, err := xsk.NewSocket(c.ifname, c.queue, u, &c.cfg)
		require.ErrorIs(t, err, c.want, c.rule)
		assert.ErrorContains(t, err, c.rule)
		assert.Nil(t, s)
	}
	_, err := xsk.NewSocket(a, 0, nil, nil)
	assert.ErrorIs(t, err, syscall.EINVAL)
	// None of it has spent the Umem.
	newSocket(t, a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
}

func TestCountQueues(t *testing.T) {
	a, _ := testns.Veth{Queues: 3}.Make(t)
	n, err := xsk.CountQueues(a)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = xsk.CountQueues("lo") // has no channels, so /sys tells
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	_, err = xsk.CountQueues("nosuch0")
	assert.ErrorIs(t, err, syscall.ENODEV)
	assert.ErrorContains(t, err, "xsk: count queues: no interface nosuch0")
}

func TestInterfaceWithoutNativeXDPSpendsTheUmem(t *testing.T) {
	u := newUmem(t, &small)
	_, err := xsk.NewSocket("lo", 0, u, nil)
	require.ErrorIs(t, err, syscall.EOPNOTSUPP)
	assert.ErrorContains(t, err, "the driver has no native XDP; SocketConfig.XDPFlags: XDPSKBMode")
	_, err = xsk.NewSocket("lo", 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "close it and make a new one")
	require.NoError(t, u.Close())
	newEnd(t, "lo", &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
}

func TestLibxdpsProgramNeedsCapabilities(t *testing.T) {
	a, b := vethPair(t)
	// libbpf asks the kernel once what it can do, and keeps what it heard: a process
	// that asks without capabilities first could load no program with BTF later.
	newEnd(t, b, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	u := newUmem(t, &small)
	without(t, func() {
		_, err := xsk.NewSocket(a, 0, u, nil)
		assert.ErrorIs(t, err, syscall.EPERM)
		assert.ErrorContains(t, err, "CAP_NET_ADMIN and CAP_BPF")
	}, unix.CAP_NET_ADMIN, unix.CAP_SYS_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON)
}

func TestForeignProgramIsNotReplaced(t *testing.T) {
	a, _ := vethPair(t)
	newEnd(t, a, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	for _, more := range []xsk.XDPFlags{0, xsk.XDPUpdateIfNoExist, xsk.XDPReplace} { // libxdp takes the mode alone
		_, err := xsk.NewSocket(a, 0, newUmem(t, &small), &xsk.SocketConfig{XDPFlags: xsk.XDPDrvMode | more})
		assert.ErrorIs(t, err, syscall.EBUSY)
	}
}

func TestUmemWithLivingSocketsDoesNotClose(t *testing.T) {
	tx, rx := newPair(t, modes[0], small)
	err := rx.umem.Close()
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "xsk: close umem: 1 socket still open on it")
	rx.Fill.Produce(rx.frames(0, 4)) // and nothing has changed
	tx.send(t, 1, 1, 60)
	assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))
}

func TestTeardownInEveryOrder(t *testing.T) {
	a, b := testns.Veth{Queues: 2}.Make(t)
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		var sockets []*xsk.Socket
		for _, at := range []struct {
			ifname string
			queue  int
		}{{a, 0}, {a, 1}, {b, 0}} {
			s, err := xsk.NewSocket(at.ifname, at.queue, u, &xsk.SocketConfig{InhibitProgLoad: true})
			require.NoError(t, err)
			sockets = append(sockets, s)
		}
		for _, i := range order {
			require.ErrorIs(t, u.Close(), syscall.EBUSY)
			require.NoError(t, sockets[i].Close())
			for _, s := range sockets {
				_, _, _ = s.RxBurst([]xsk.Addr{0}, make([]xsk.Desc, 1))
				s.Fill.Produce([]xsk.Addr{0})
				s.Completion.Consume(make([]xsk.Addr, 1))
			}
		}
		require.NoError(t, u.Close())
	}
}

func TestSocketsOnDifferentQueuesAndInterfacesShareAUmem(t *testing.T) {
	a, b := testns.Veth{Queues: 2}.Make(t)
	u := newUmem(t, &small)
	first := newSocket(t, b, 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPDrvMode, BindFlags: xsk.BindCopy})
	second := newSocket(t, b, 1, u, &xsk.SocketConfig{XDPFlags: xsk.XDPDrvMode})
	third := newSocket(t, a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	assert.Same(t, u.Fill, first.Fill)
	assert.NotSame(t, first.Fill, second.Fill)
	assert.NotSame(t, first.Completion, third.Completion)
	_, err := xsk.NewSocket(a, 1, u, &xsk.SocketConfig{BindFlags: xsk.BindNeedWakeup, InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "BindFlags 0x8 differ from those of the Umem's first socket, 0x2")
	_, err = xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "only the queue of a Umem's first socket")

	// A frame received on one interface goes out of the other without a copy.
	tx := &end{third, u}
	first.Fill.Produce([]xsk.Addr{10 * 2048})
	second.Fill.Produce([]xsk.Addr{11 * 2048})
	tx.send(t, 3, 1, 60)
	rx := &end{first, u}
	if ready, err := first.PollRx(100e6); err != nil || !ready {
		rx = &end{second, u} // veth chose its other queue
	}
	d := rx.receive(t, 1)[0]
	assert.Equal(t, 3, number(t, u.Bytes(d)))
	back := &end{rx.Socket, u}
	third.Fill.Produce([]xsk.Addr{12 * 2048})
	back.transmit(t, []xsk.Desc{d})
}

func TestSecondSocketOnTheQueueNeverLoadsTheProgram(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		_, b := vethPair(t)
		u := newUmem(t, &small)
		first := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		second := newSocket(t, b, 0, u, &xsk.SocketConfig{XDPFlags: m.flags})
		assert.Same(t, first.Fill, second.Fill)
		assert.Same(t, first.Completion, second.Completion)
		// The interface is still free for a program.
		slot := redirect(t, b, m)
		assert.NoError(t, second.UpdateXSKMap(slot))
		// Each sends on a ring of its own.
		(&end{first, u}).send(t, 2, 3, 60)
		(&end{second, u}).send(t, 3, 3, 60)
		require.NoError(t, first.Close())
		assert.Equal(t, 1, u.Fill.Produce([]xsk.Addr{0}), "the second still uses them")
		(&end{second, u}).send(t, 4, 3, 60)
	})
}

// libxdp 1.3.1 to 1.6.3 free the program at the delete of each socket that
// shares the queue, whatever the second socket's flags were.
func TestQueueThatLibxdpsProgramServesIsNotShared(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		tx, rx := newPair(t, m, small)
		for _, inhibit := range []bool{false, true} {
			_, err := xsk.NewSocket(ifname(rx), 0, rx.umem, &xsk.SocketConfig{InhibitProgLoad: inhibit})
			require.ErrorIs(t, err, syscall.EINVAL)
			assert.ErrorContains(t, err, "make its first socket with InhibitProgLoad")
		}
		rx.Fill.Produce(rx.frames(0, 4))
		tx.send(t, 1, 1, 60)
		rx.receive(t, 1)
	})
}

// ifname is the interface that e is bound to.
func ifname(e *end) string {
	name, _, _ := strings.Cut(e.String(), " ")
	return name
}

// Interface indices repeat in every namespace.
func TestOneUmemInTwoNamespaces(t *testing.T) {
	u := newUmem(t, &small)
	testns.IP(t, "link", "add", "here0", "index", "771", "type", "veth", "peer", "name", "here1", "index", "772")
	t.Cleanup(func() { testns.IP(t, "link", "del", "here0") })
	first := newSocket(t, "here0", 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	require.Equal(t, 64, first.Fill.Produce(make([]xsk.Addr, 64)))
	elsewhere(t, func() {
		second, err := xsk.NewSocket("there0", 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		if !assert.NoError(t, err) {
			return
		}
		assert.NotSame(t, first.Fill, second.Fill)
		assert.Equal(t, 256-64, first.Fill.Free())
		assert.Equal(t, 256, second.Fill.Free())
		assert.NoError(t, second.Close())

		newEnd(t, "there1", &small, &xsk.SocketConfig{InhibitProgLoad: true})
	})
	assert.Equal(t, 1, first.Fill.Produce([]xsk.Addr{0}))
}

// elsewhere runs f on a thread in a network namespace of its own, where there0
// has the index that here0 has here.
func elsewhere(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		if !assert.NoError(t, unix.Unshare(unix.CLONE_NEWNET)) {
			return
		}
		testns.IP(t, "link", "add", "there0", "index", "771", "type", "veth", "peer", "name", "there1", "index", "772")
		f()
	}()
	<-done
}

func TestFirstSocketOutsideTheUmemsNamespaceIsExplained(t *testing.T) {
	u := newUmem(t, &small)
	elsewhere(t, func() {
		_, err := xsk.NewSocket("there0", 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		assert.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, "made in another network namespace")
	})
}

func TestForeignProgramIsNamedAsTheCauseOnASharedUmem(t *testing.T) {
	a, _ := testns.Veth{Queues: 2}.Make(t)
	redirect(t, a, modes[1])
	u := newUmem(t, &small)
	newSocket(t, a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	_, err := xsk.NewSocket(a, 1, u, nil)
	require.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, ` "xsk_redirect", in native mode is on the interface, and was not replaced`)
	newSocket(t, a, 1, u, &xsk.SocketConfig{InhibitProgLoad: true})
}

func TestWaitingForAQueueHoldsNobodyUp(t *testing.T) {
	a, b := vethPair(t)
	newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true}) // holds the queue
	u := newUmem(t, &small)
	s := newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	failed := make(chan error)
	go func() {
		_, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
		failed <- err
	}()
	time.Sleep(50 * time.Millisecond)
	u.FD()
	require.NoError(t, s.Close())
	require.NoError(t, u.Close())
	select {
	case err := <-failed:
		if !errors.Is(err, os.ErrClosed) { // it looked between the two
			assert.ErrorContains(t, err, "last socket is closed")
		}
	case <-time.After(5 * time.Second):
		assert.Fail(t, "still waiting")
	}
}

func TestNoDescriptorLeftIsSaid(t *testing.T) {
	a, b := vethPair(t)
	u := newUmem(t, &small)
	newSocket(t, a, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	lowered := limit
	lowered.Cur = 3
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lowered))
	_, err := xsk.NewSocket(b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
	_, umemErr := xsk.NewUmem(&small)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	assert.ErrorIs(t, err, syscall.EMFILE)
	assert.ErrorIs(t, umemErr, syscall.EMFILE)
	newSocket(t, b, 0, u, &xsk.SocketConfig{InhibitProgLoad: true})
}
