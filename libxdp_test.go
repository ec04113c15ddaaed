package xsk_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// own is libxdp's program on the interface; false if there is none.
func own(t *testing.T, ifname string) (xsk.XDPProgram, bool) {
	t.Helper()
	d, err := xsk.Probe(ifname)
	require.NoError(t, err)
	for _, p := range d.Programs {
		if p.Name == "xsk_def_prog" {
			return p, true
		}
	}
	return xsk.XDPProgram{}, false
}

// The scenarios of libxdp's own tests of its program's reference count
// (xsk_prog_refcnt): the program is on the interface as long as a socket wants
// it. A positive step creates that socket, a negative one deletes it.
func TestLibxdpsProgramStaysAsLongAsASocketUsesIt(t *testing.T) {
	for name, steps := range map[string][]int{
		"one":                     {1, -1},
		"one after the other":     {1, -1, 2, -2},
		"deleted in order":        {1, 2, -1, -2},
		"deleted while one comes": {1, 2, -1, 3, -2, -3},
		"three":                   {1, -1, 2, -2, 3, -3},
	} {
		t.Run(name, func(t *testing.T) {
			inEachMode(t, func(t *testing.T, m mode) {
				a, _ := testns.Veth{Queues: 4}.Make(t)
				ends := map[int]*end{}
				for _, step := range steps {
					if step > 0 {
						u, err := xsk.NewUmem(&small)
						require.NoError(t, err)
						s, err := xsk.NewSocket(a, step, u, &xsk.SocketConfig{XDPFlags: m.flags})
						require.NoError(t, err)
						ends[step] = &end{s, u}
					} else {
						require.NoError(t, ends[-step].Close())
						require.NoError(t, ends[-step].umem.Close())
						delete(ends, -step)
					}
					p, there := own(t, a)
					require.Equal(t, len(ends) > 0, there, "after step %d", step)
					if there {
						require.Equal(t, m.flags, p.Mode)
					}
				}
			})
		})
	}
}

// A socket may do without the program that it would load, and register in the
// map of one that was set up before.
func TestSetupProgramsMapServesASocket(t *testing.T) {
	a, b := vethPair(t)
	slots, err := xsk.SetupXDPProg(b)
	require.NoError(t, err)
	t.Cleanup(func() { testns.IP(t, "link", "set", b, "xdp", "off") })
	tx := newEnd(t, a, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	rx := newEnd(t, b, &small, &xsk.SocketConfig{InhibitProgLoad: true})
	rx.Fill.Produce(rx.frames(0, 16))
	require.NoError(t, rx.UpdateXSKMap(slots))
	tx.send(t, 1, 1, 60)
	assert.Equal(t, 1, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])))
	_, err = unix.FcntlInt(uintptr(slots), unix.F_GETFD, 0)
	assert.NoError(t, err, "the map's descriptor stays the caller's")
	require.NoError(t, slots.Close())
	tx.send(t, 2, 1, 60)
	assert.Equal(t, 2, number(t, rx.umem.Bytes(rx.receive(t, 1)[0])), "the program keeps its map")
}
