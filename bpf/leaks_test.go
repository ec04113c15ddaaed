package bpf_test

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestFailuresLeakNothing takes every way out of Attach, Update, Match and
// RemoveStale, again and again, without a garbage collector that would close what
// they forget.
func TestFailuresLeakNothing(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	occupied, _ := testns.Veth{}.Make(t)
	foreign(t, occupied, "drop_all", 0)
	gone, _ := testns.Veth{}.Make(t)
	removed := attach(t, gone, everything)
	testns.IP(t, "link", "del", gone)
	p := attach(t, a, everything)
	broken, _ := testns.Veth{}.Make(t)
	unloadable := attach(t, broken, everything)
	bpf.BreakUpdate(unloadable)

	attaching := func(ifname string, o bpf.Options) func() error {
		return func() error {
			_, err := bpf.Attach(ifname, o)
			return err
		}
	}
	matching := func(f bpf.Filter, packet []byte) func() error {
		return func() error {
			_, err := f.Match(packet)
			return err
		}
	}
	unprivileged := func(do func() error) func() error {
		return func() (err error) {
			without(t, func() { err = do() }, unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN)
			return err
		}
	}
	ports, packet := udpPorts(53), make([]byte, 64)
	for _, c := range []struct {
		name   string
		broken bool // the program does not load
		do     func() error
	}{
		{"Attach, options", false, attaching(a, bpf.Options{})},
		{"Attach, no interface", false, attaching("none0", ports)},
		{"Attach, another program", false, attaching(occupied, ports)},
		{"Attach, ours", false, attaching(a, ports)},
		{"Attach, capabilities", false, unprivileged(attaching(a, ports))},
		{"Attach, no native mode", false, attaching("lo", bpf.Options{Filter: ports.Filter, Mode: bpf.Native})},
		{"Attach, no metadata", false, attaching("lo", bpf.Options{Filter: ports.Filter, Metadata: true})},
		{"Attach, load", true, attaching("lo", ports)},
		{"Update, filter", false, func() error { return p.Update(bpf.Filter{}) }},
		{"Update, capabilities", false, unprivileged(func() error { return p.Update(ports.Filter) })},
		{"Update, interface gone", false, func() error { return removed.Update(ports.Filter) }},
		{"Update, load", false, func() error { return unloadable.Update(ports.Filter) }},
		{"Match, filter", false, matching(bpf.Filter{}, packet)},
		{"Match, packet", false, matching(ports.Filter, packet[:13])},
		{"Match, too long", false, matching(ports.Filter, make([]byte, 1<<20))},
		{"Match, capabilities", false, unprivileged(matching(ports.Filter, packet))},
		{"RemoveStale, no interface", false, func() error { return bpf.RemoveStale("none0") }},
		{"RemoveStale, another program", false, func() error { return bpf.RemoveStale(occupied) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.broken {
				bpf.BreakProgram(t)
			}
			require.Error(t, c.do())
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			before := openFiles(t)
			for range 5 {
				require.Error(t, c.do())
			}
			assert.Equal(t, before, openFiles(t))
		})
	}
}

// openFiles is what each descriptor is, as /proc tells.
func openFiles(t *testing.T) map[string]string {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	open := map[string]string{}
	for _, e := range entries {
		if file, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // not the directory's own
			open[e.Name()] = file
		}
	}
	return open
}
