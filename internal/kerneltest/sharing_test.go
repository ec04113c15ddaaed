package kerneltest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// A place is where a socket is bound.
type place struct {
	ifname string
	queue  int
}

// sharers binds a socket to each of the places, all on one Umem.
func sharers(t *testing.T, places ...place) (*xsk.Umem, []*xsk.Socket) {
	t.Helper()
	u, err := xsk.NewUmem(&small)
	require.NoError(t, err)
	var all []*xsk.Socket
	for _, p := range places {
		s, err := xsk.NewSocket(p.ifname, p.queue, u, &xsk.SocketConfig{InhibitProgLoad: true})
		require.NoError(t, err)
		all = append(all, s)
	}
	return u, all
}

// permutations of 0 to n-1.
func permutations(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, p := range permutations(n - 1) {
		for at := range n {
			all = append(all, append(append(append([]int{}, p[:at]...), n-1), p[at:]...))
		}
	}
	return all
}

// Same queue, other queue, other interface: sockets that share a Umem are closed
// in every order, and those that are left go on sending by rings that nobody
// closed; sockets on one queue by the same.
func TestSharersAreClosedInEveryOrder(t *testing.T) {
	testns.Kernel(t)
	a, b := testns.Veth{Queues: 2}.Make(t)
	for _, order := range permutations(4) {
		u, all := sharers(t, place{a, 0}, place{a, 0}, place{a, 1}, place{b, 0})
		require.Same(t, all[0].Completion, all[1].Completion)
		require.NotSame(t, all[0].Completion, all[2].Completion)
		require.NotSame(t, all[0].Fill, all[3].Fill)
		for k, i := range order {
			for _, j := range order[k:] {
				p := &port{Socket: all[j], umem: u}
				p.write(j, one(p.at(j), 60))
				p.transmit(t, []parcel{one(p.at(j), 60)})
				require.Equal(t, 1, p.Fill.Produce([]xsk.Addr{p.at(10 + j)}))
			}
			require.ErrorIs(t, u.Close(), syscall.EBUSY)
			require.NoError(t, all[i].Close())
		}
		require.NoError(t, u.Close())
	}
}

func TestIllegalSharesAreRefusedWithTheReason(t *testing.T) {
	testns.Kernel(t)
	a, b := testns.Veth{Queues: 2}.Make(t)
	refused := func(u *xsk.Umem, p place, c xsk.SocketConfig, reason string) {
		t.Helper()
		c.InhibitProgLoad = true
		_, err := xsk.NewSocket(p.ifname, p.queue, u, &c)
		require.ErrorIs(t, err, syscall.EINVAL)
		assert.ErrorContains(t, err, reason)
	}
	u, all := sharers(t, place{a, 0}, place{b, 1})
	refused(u, place{b, 1}, xsk.SocketConfig{}, "the kernel lets only the queue of a Umem's first socket have several")
	refused(u, place{b, 0}, xsk.SocketConfig{BindFlags: xsk.BindZeroCopy}, "which this one inherits")
	refused(u, place{b, 0}, xsk.SocketConfig{BindFlags: xsk.BindMultiBuffer}, "which this one inherits")
	refused(u, place{b, 2}, xsk.SocketConfig{}, "has 2 queues, numbered from 0")
	require.NoError(t, all[0].Close())
	refused(u, place{a, 0}, xsk.SocketConfig{}, "a queue is free again once its Umem is closed")
	require.NoError(t, all[1].Close())
	refused(u, place{a, 1}, xsk.SocketConfig{}, "the Umem's last socket is closed")
	// Another Umem's queue stays its own.
	require.NoError(t, u.Close())
	u, all = sharers(t, place{a, 0})
	other, err := xsk.NewUmem(&small)
	require.NoError(t, err)
	_, err = xsk.NewSocket(a, 0, other, &xsk.SocketConfig{InhibitProgLoad: true})
	require.ErrorIs(t, err, syscall.EBUSY)
	require.NoError(t, all[0].Close())
	require.NoError(t, u.Close())
	require.NoError(t, other.Close())
}

// racing makes the test below run its two goroutines.
const racing = "XSK_KERNELTEST_RACING"

// The rings of a queue that several sockets share are one pair, for one goroutine
// at a time; under the race detector a program that forgets so is told.
func TestTwoGoroutinesOnASharedRingAreARace(t *testing.T) {
	testns.Kernel(t)
	if os.Getenv(racing) != "" {
		a, _ := testns.Veth{}.Make(t)
		_, all := sharers(t, place{a, 0}, place{a, 0})
		spin := func(s *xsk.Socket) func() {
			return func() {
				for range 1000 {
					s.Fill.Produce(nil)
					s.Completion.Consume(nil)
				}
			}
		}
		atOnce(spin(all[0]), spin(all[1]))
		return
	}
	if !raceDetector {
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$")
	for _, variable := range os.Environ() { // with namespaces of its own
		if !strings.HasPrefix(variable, "XSK_TESTNS_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, racing+"=1")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	assert.Contains(t, string(out), "DATA RACE")
	assert.Positive(t, strings.Count(string(out), "(*FillRing).Produce"))
}
