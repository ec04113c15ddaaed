package xsk_test

import (
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

func TestAClosedUmemStaysForTheProgramsFrames(t *testing.T) {
	a, _ := vethPair(t)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 16384})
	require.NoError(t, err)
	before := mapped(t)
	q, err := xsk.Open(a, 0, &xsk.Config{Umem: u, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 2)
	_, err = q.Alloc(frames)
	require.NoError(t, err)
	require.NoError(t, q.Close())
	require.NoError(t, u.Close())
	for i := range frames {
		f := &frames[i]
		f.Data = append(f.Data, "still there"...)
		assert.EqualValues(t, "still there", f.Data)
	}
	frames[0].Free()
	assert.Greater(t, mapped(t), before-1024, "one is left")
	frames[1].Free()
	assert.Less(t, mapped(t), before-60*1024, "KiB of shared mappings")
}

func TestAQueuesOwnUmemCanBeShared(t *testing.T) {
	a, b := vethPair(t)
	txOnly := xsk.SocketConfig{TxOnly: true}
	owner, err := xsk.Open(a, 0, &xsk.Config{UmemConfig: smallQueue, SocketConfig: txOnly})
	require.NoError(t, err)
	guest, err := xsk.Open(b, 0, &xsk.Config{Umem: owner.Umem(), SocketConfig: txOnly})
	require.NoError(t, err)
	frames := make([]xsk.Frame, 512)
	n, err := owner.Alloc(frames[:256])
	require.NoError(t, err)
	m, err := guest.Alloc(frames[n:])
	require.NoError(t, err)
	require.Equal(t, 512, n+m)
	assert.Equal(t, 512, guest.Stats().Frames.User, "no frame twice")
	assert.ErrorIs(t, owner.Close(), syscall.EBUSY)
	for i := range frames {
		f := &frames[i]
		f.Data = append(f.Data, "still there"...)
	}
	xsk.Free(frames)
	require.NoError(t, guest.Close())
	require.NoError(t, owner.Close())
	require.NoError(t, owner.Close())
}

func TestQueuesMayBeOpenedAtOnceOnAFreshUmem(t *testing.T) {
	a, fromA := vethPair(t)
	b, fromB := vethPair(t)
	programs := []xsk.XSKMap{redirect(t, a, modes[0]), redirect(t, b, modes[0])}
	senders := []*xsk.Queue{
		openQueue(t, fromA, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}}),
		openQueue(t, fromB, modes[0], xsk.Config{SocketConfig: xsk.SocketConfig{TxOnly: true}}),
	}
	for range 5 {
		u, err := xsk.NewUmem(&smallQueue)
		require.NoError(t, err)
		var opened [2]*xsk.Queue
		var both sync.WaitGroup
		for i, ifname := range []string{a, b} {
			both.Add(1)
			go func() {
				defer both.Done()
				var err error
				opened[i], err = xsk.Open(ifname, 0, &xsk.Config{Umem: u, XSKMap: programs[i], RxFrames: 128})
				assert.NoError(t, err)
			}()
		}
		both.Wait()
		frames := make([]xsk.Frame, 8)
		for i, q := range opened {
			require.NotNil(t, q)
			sendPackets(t, senders[i], i, 1, 60)
			require.NoError(t, q.SetReadDeadline(time.Now().Add(5*time.Second)))
			_, err := q.Receive(frames)
			require.NoError(t, err)
			assert.Equal(t, i, number(t, frames[0].Data))
			assert.Zero(t, q.Strange())
		}
		for _, q := range opened {
			require.NoError(t, q.Balance())
			require.NoError(t, q.Close())
		}
		require.NoError(t, u.Close())
	}
}

func TestOpenFillsInWhatFitsTheMemory(t *testing.T) {
	a, b := vethPair(t)
	u, err := xsk.NewUmem(&xsk.UmemConfig{Frames: 8192, FrameSize: 2048})
	require.NoError(t, err)
	q := openQueue(t, a, modes[0], xsk.Config{Umem: u})
	assert.Equal(t, 2048, q.Stats().Frames.Rx, "what the fill ring holds")
	require.NoError(t, q.Close())
	require.NoError(t, u.Close())

	closed := redirect(t, b, modes[0])
	require.NoError(t, closed.(io.Closer).Close())
	for _, c := range []struct {
		config xsk.Config
		says   string
	}{
		{xsk.Config{XSKMap: closed}, "the XSKMap is closed"},
		{xsk.Config{Linger: time.Second}, "Linger 1s is not between 0 and 1ms"},
		{xsk.Config{LingerBurst: -1}, "LingerBurst -1 is not between 0 and 256"},
		{xsk.Config{LingerBurst: 257}, "LingerBurst 257 is not between 0 and 256"},
		{xsk.Config{UmemConfig: xsk.UmemConfig{Frames: 4 << 20}, RxFrames: 2 << 20}, "RxFrames 2097152 is more than the fill ring's 1048576 entries"},
	} {
		if c.config.XSKMap == nil {
			c.config.XSKMap = newXSKMap(t, 1)
		}
		_, err := xsk.Open(a, 0, &c.config)
		assert.ErrorContains(t, err, c.says)
	}
	_, err = xsk.OpenAll(a, &xsk.Config{Queues: []int{0, 0}})
	assert.ErrorContains(t, err, "Queues names queue 0 twice")
	all, err := xsk.OpenAll(a, &xsk.Config{Queues: []int{}, SocketConfig: xsk.SocketConfig{TxOnly: true}})
	require.NoError(t, err)
	assert.Len(t, all, 1)
	require.NoError(t, all.Close())
	assert.Equal(t, 1, strings.Count(all[0].SetDeadline(time.Now()).Error(), "set deadline"))
}

// A queue is the same whatever its interface is called, and not that of
// another interface that has the name now.
func TestQueueIsKnownByItsInterfaceNotByItsName(t *testing.T) {
	rename := func(from, to string) {
		t.Helper()
		testns.IP(t, "link", "set", from, "down")
		testns.IP(t, "link", "set", from, "name", to)
		testns.IP(t, "link", "set", to, "up")
	}
	first, _ := vethPair(t)
	a, _ := vethPair(t)
	b, _ := vethPair(t)
	t.Cleanup(func() { testns.IP(t, "link", "del", "renamed") })
	u := newUmem(t, &xsk.UmemConfig{Frames: 512, FrameSize: 2048})
	openShared(t, modes[0], u, 64, first)
	program := redirect(t, a, modes[0])
	cfg := xsk.Config{Umem: u, RxFrames: 64, XSKMap: program}
	q := openQueue(t, a, modes[0], cfg)
	rename(a, "renamed")
	_, err := xsk.Open("renamed", 0, &cfg)
	require.ErrorIs(t, err, syscall.EBUSY)
	require.ErrorContains(t, err, "a Queue of this Umem is open on it")

	rename(b, a)
	t.Cleanup(func() { testns.IP(t, "link", "del", a) })
	require.NoError(t, q.Close())
	other := openQueue(t, a, modes[0], xsk.Config{Umem: u, RxFrames: 64})
	assert.Equal(t, 64, other.Stats().Frames.Retired, "of another interface")
	again := openQueue(t, "renamed", modes[0], cfg)
	assert.Zero(t, again.Stats().Frames.Retired)
}

// openShared opens Queues on ends of veth pairs, all on one Umem.
func openShared(t testing.TB, m mode, u *xsk.Umem, rxFrames int, ends ...string) []*xsk.Queue {
	t.Helper()
	var all []*xsk.Queue
	for _, ifname := range ends {
		all = append(all, openQueue(t, ifname, m, xsk.Config{Umem: u, RxFrames: rxFrames}))
	}
	return all
}
