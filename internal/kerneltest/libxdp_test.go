package kerneltest

import (
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// served opens a Socket that libxdp's own program serves, on memory of its own.
func served(t testing.TB, ifname string, queue int, m mode) *port {
	u, err := xsk.NewUmem(&small)
	if !assert.NoError(t, err) {
		return nil
	}
	s, err := xsk.NewSocket(ifname, queue, u, &xsk.SocketConfig{XDPFlags: m.xdp})
	if !assert.NoError(t, err) {
		return nil
	}
	return &port{Socket: s, umem: u}
}

func (p *port) shut(t testing.TB) {
	assert.NoError(t, p.Close())
	assert.NoError(t, p.umem.Close())
}

// mustDispatch, in the environment, says that the kernel takes libxdp's dispatcher.
const mustDispatch = "XSK_TEST_DISPATCHER"

// test_xsk_prog_refcnt_bpffs: behind its dispatcher, which keeps what it knows in a
// bpffs, libxdp's program is on the interface as long as a socket needs it, however they
// come and go. Some kernels refuse the programs that the dispatcher is made of (freplace),
// and libxdp attaches its program by itself: this says so, and scripts/ci/vm-test has a
// kernel that does not.
func TestLibxdpsProgramBehindTheDispatcherStaysAsLongAsASocketNeedsIt(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		refused := ""
		xsk.SetLogger(func(_ xsk.LogLevel, text string) {
			if strings.Contains(text, "without dispatcher") {
				refused = text
			}
		})
		defer xsk.SetLogger(nil)
		_, ifname := testns.Veth{}.Make(t)
		probe := served(t, ifname, 0, m)
		on := attached(t, ifname)
		probe.shut(t)
		if refused != "" && os.Getenv(mustDispatch) == "" {
			t.Log("the kernel takes no dispatcher: ", refused)
			require.Contains(t, on, " xsk_def_prog ")
			return
		}
		programStays(t, m, " xdp_dispatcher ")
	})
}

// test_xsk_prog_refcnt_legacy: the same without a dispatcher.
func TestLibxdpsProgramStaysAsLongAsASocketNeedsIt(t *testing.T) {
	t.Setenv("LIBXDP_SKIP_DISPATCHER", "1")
	inEachMode(t, func(t *testing.T, m mode) { programStays(t, m, " xsk_def_prog ") })
}

// programStays opens and closes sockets in many orders. name is the program's, as it is
// attached.
func programStays(t *testing.T, m mode, name string) {
	_, ifname := testns.Veth{Queues: 3}.Make(t)
	on := func() { t.Helper(); require.Contains(t, attached(t, ifname), name) }
	off := func() { t.Helper(); require.Empty(t, attached(t, ifname)) }
	off()
	// One.
	a := served(t, ifname, 0, m)
	on()
	a.shut(t)
	off()
	// Two, one after the other.
	for queue := range 2 {
		a = served(t, ifname, queue, m)
		on()
		a.shut(t)
		off()
	}
	// Two, closed in the order they came, and the other way round.
	for _, first := range []int{0, 1} {
		both := []*port{served(t, ifname, 0, m), served(t, ifname, 1, m)}
		on()
		both[first].shut(t)
		on()
		both[1-first].shut(t)
		off()
	}
	// Two, closed at once.
	a, b := served(t, ifname, 0, m), served(t, ifname, 1, m)
	atOnce(func() { a.shut(t) }, func() { b.shut(t) })
	off()
	// One comes while another goes.
	a = served(t, ifname, 0, m)
	atOnce(func() { a.shut(t) }, func() { b = served(t, ifname, 1, m) })
	if b != nil {
		on()
		b.shut(t)
	}
	off()
	// Three, each before the last one goes.
	a, b = served(t, ifname, 0, m), served(t, ifname, 1, m)
	a.shut(t)
	on()
	c := served(t, ifname, 2, m)
	b.shut(t)
	on()
	c.shut(t)
	off()
}

func atOnce(all ...func()) {
	var group sync.WaitGroup
	for _, f := range all {
		group.Add(1)
		go func() {
			defer group.Done()
			f()
		}()
	}
	group.Wait()
}
