package xsk_test

import (
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// redirect attaches a program that redirects every packet through its map.
func redirect(t testing.TB, ifname string, m mode) xsk.XSKMap {
	t.Helper()
	p, err := bpf.Attach(ifname, bpf.Options{
		Filter: bpf.Filter{All: true},
		Mode:   map[string]bpf.Mode{"generic": bpf.Generic, "native": bpf.Native}[m.name],
	})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, p.Close()) })
	return p
}

// newXSKMap makes an XSKMAP that no program uses.
func newXSKMap(t *testing.T, entries uint32) xsk.MapFD {
	t.Helper()
	create := struct{ kind, keySize, valueSize, entries uint32 }{unix.BPF_MAP_TYPE_XSKMAP, 4, 4, entries}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_CREATE, uintptr(unsafe.Pointer(&create)), unsafe.Sizeof(create))
	require.Zero(t, errno)
	t.Cleanup(func() { assert.NoError(t, unix.Close(int(fd))) })
	return xsk.MapFD(fd)
}

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
	a, _ := vethPair(t)
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
	u := newUmem(t, &small)
	_, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPDrvMode})
	assert.ErrorIs(t, err, syscall.EBUSY)
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

func TestRegisteredSocketTakesTheSlotAndGivesItBack(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		slot := redirect(t, b, m)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 16))
		tx.send(t, 0, 1, 60)
		rx.quiet(t)
		require.NoError(t, rx.UpdateXSKMap(slot))
		require.NoError(t, rx.UpdateXSKMap(slot), "again is no harm")
		tx.send(t, 1, 1, 60)
		assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))

		// A second socket takes the slot over; the first one's Close leaves it.
		second := &end{newSocket(t, b, 0, rx.umem, nil), rx.umem}
		require.NoError(t, second.UpdateXSKMap(slot))
		tx.send(t, 2, 1, 60)
		assert.Equal(t, 2, number(t, rx.umem.Bytes(second.receive(t, 1)[0])))
		require.NoError(t, rx.Socket.Close())
		tx.send(t, 3, 1, 60)
		assert.Equal(t, 3, number(t, rx.umem.Bytes(second.receive(t, 1)[0])))

		_, err := unix.FcntlInt(uintptr(slot.FileDescriptor()), unix.F_GETFD, 0)
		assert.NoError(t, err, "the map's descriptor stays the caller's")
	})
}

// The first socket's descriptor is the Umem's, so the kernel does not take its
// entry out before that closes.
func TestClosedSocketLeavesItsPacketsToTheKernel(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		a, b := vethPair(t)
		slot := redirect(t, b, m)
		tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
		rx.Fill.Produce(rx.frames(0, 16))
		require.NoError(t, rx.UpdateXSKMap(slot))
		kernel := packetSocket(t, b)
		tx.send(t, 1, 1, 60)
		rx.receive(t, 1)
		require.NoError(t, rx.Socket.Close())
		tx.send(t, 2, 1, 60)
		got := make([]byte, 100)
		n, _, err := unix.Recvfrom(kernel, got, 0)
		require.NoError(t, err)
		assert.Equal(t, 2, number(t, got[:n]), "and not 1")
	})
}

// packetSocket receives what the kernel's own stack gets on ifname.
func packetSocket(t *testing.T, ifname string) int {
	t.Helper()
	i, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: i.Index, Protocol: all}))
	require.NoError(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}))
	return fd
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
	assert.ErrorContains(t, err, `XDP program "xsk_redirect" is on the interface, and was not replaced`)
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
		assert.ErrorIs(t, err, os.ErrClosed, "closed while it waited")
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

func TestAMapServesOneInterface(t *testing.T) {
	a, b := vethPair(t)
	program := redirect(t, a, modes[0])
	receiver := openQueue(t, a, modes[0], xsk.Config{XSKMap: program})
	_, err := xsk.Open(b, 0, &xsk.Config{XSKMap: program})
	assert.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "the XDP program of the XSKMap is on another interface: "+a+": generic")
	_, err = xsk.Open(b, 0, &xsk.Config{XSKMap: xsk.MapFD(program.FileDescriptor())})
	assert.ErrorIs(t, err, syscall.EBUSY)
	assert.ErrorContains(t, err, "entry 0 of the XSKMAP is the socket's of "+a+" queue 0")

	sender := openQueue(t, b, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}})
	sendPackets(t, sender, 7, 1, 60)
	frames := make([]xsk.Frame, 1)
	require.NoError(t, receiver.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err = receiver.Receive(frames)
	require.NoError(t, err, "the first one still receives")
	assert.Equal(t, 7, number(t, frames[0].Data))
}

func TestUpdateXSKMapRefusesWhatCannotWork(t *testing.T) {
	a, b := testns.Veth{Queues: 2}.Make(t)
	slot := newXSKMap(t, 1)
	served := newEnd(t, a, &small, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
	err := served.UpdateXSKMap(slot)
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "xsk: update XSKMAP for "+a+" queue 0: libxdp's own program serves this socket")

	u := newUmem(t, &small)
	s := newSocket(t, b, 1, u, &xsk.SocketConfig{InhibitProgLoad: true})
	assert.ErrorIs(t, s.UpdateXSKMap(nil), syscall.EINVAL)
	assert.ErrorIs(t, s.UpdateXSKMap(xsk.MapFD(-1)), syscall.EBADF)
	null, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer null.Close()
	err = s.UpdateXSKMap(xsk.MapFD(null.Fd()))
	require.ErrorIs(t, err, syscall.EINVAL)
	assert.ErrorContains(t, err, "is not an XSKMAP")
	err = s.UpdateXSKMap(slot)
	require.ErrorIs(t, err, syscall.E2BIG)
	assert.ErrorContains(t, err, "the XSKMAP has no entry 1")
}

func TestLibxdpIsSilentUntilAsked(t *testing.T) {
	a, _ := vethPair(t)
	bind := func() {
		u, err := xsk.NewUmem(&small)
		require.NoError(t, err)
		s, err := xsk.NewSocket(a, 0, u, &xsk.SocketConfig{XDPFlags: xsk.XDPSKBMode})
		require.NoError(t, err)
		require.NoError(t, s.Close())
		require.NoError(t, u.Close())
	}
	assert.NotContains(t, stderrOf(t, bind), "libxdp")
	var mu sync.Mutex
	lines := map[string]int{}
	count := func(library string) func(xsk.LogLevel, string) {
		return func(_ xsk.LogLevel, text string) {
			mu.Lock()
			defer mu.Unlock()
			assert.NotEmpty(t, text)
			lines[library]++
		}
	}
	xsk.SetLogger(count("libxdp"))
	require.NoError(t, xsk.SetLibbpfLogger(count("libbpf")))
	assert.Empty(t, stderrOf(t, bind))
	assert.NotZero(t, lines["libxdp"])
	assert.NotZero(t, lines["libbpf"])
	// A hook may do what it likes, also start a process and call the library.
	u := newUmem(t, &small)
	xsk.SetLogger(func(xsk.LogLevel, string) {
		_ = exec.Command("true").Run()
		u.FD()
	})
	bind()
	xsk.SetLogger(nil)
	require.NoError(t, xsk.SetLibbpfLogger(nil))
	clear(lines)
	bind()
	assert.Empty(t, lines)
}

// stderrOf is what f makes the process print to its standard error.
func stderrOf(t *testing.T, f func()) string {
	t.Helper()
	kept, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	file, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, unix.Dup3(int(file.Fd()), 2, 0))
	f()
	require.NoError(t, unix.Dup3(kept, 2, 0))
	require.NoError(t, unix.Close(kept))
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	return string(text)
}
