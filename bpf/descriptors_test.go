package bpf_test

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// TestFewDescriptorsLeft has Attach, Update, Match and RemoveStale work, or say what
// is missing and leave nothing, with 0 to 40 descriptors left to open. No garbage
// collector closes what they forget.
func TestFewDescriptorsLeft(t *testing.T) {
	a, _ := testns.Veth{}.Make(t)
	updated, _ := testns.Veth{}.Make(t)
	p := attach(t, updated, everything)
	ways := map[string]func() error{
		"attach": func() error {
			p, err := bpf.Attach(a, udpPorts(53))
			if err != nil {
				return err
			}
			return p.Close()
		},
		"attach in generic mode": func() error { // by two attempts
			p, err := bpf.Attach("lo", udpPorts(53))
			if err != nil {
				return err
			}
			return p.Close()
		},
		"update": func() error { return p.Update(bpf.Filter{UDPPorts: []uint16{54}}) },
		"match": func() error {
			_, err := bpf.Filter{UDPPorts: []uint16{53}}.Match(make([]byte, 64))
			return err
		},
		"remove libxdp's program": func() error { return bpf.RemoveStale(a) },
	}
	for name, do := range ways {
		t.Run(name, func(t *testing.T) {
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			require.NoError(t, do())
			before := targets(t)
			worked := 41
			for left := range 41 {
				var err error
				withDescriptors(t, left, func() { err = do() })
				if err == nil {
					worked = min(worked, left)
				} else {
					assert.ErrorIs(t, err, syscall.EMFILE, "with %d left", left)
					if left > 8 {
						assert.ErrorContains(t, err, "descriptors more (RLIMIT_NOFILE)", "with %d left", left)
					}
					assert.Greater(t, worked, left, "it worked with fewer")
				}
				require.Equal(t, before, targets(t), "with %d left", left)
			}
			assert.LessOrEqual(t, worked, 32, "it wants too many")
			require.NoError(t, do(), "libbpf has drawn no lasting conclusion")
		})
	}
}

// targets is what is open, whatever its number is.
func targets(t *testing.T) []string { return slices.Sorted(maps.Values(openFiles(t))) }

// withDescriptors runs f where so many more can be open.
func withDescriptors(t *testing.T, left int, f func()) {
	t.Helper()
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)) }()
	// The limit is on numbers; below it, this fills the holes, and leaves so many.
	all, highest := openFiles(t), 0
	for number := range all {
		var fd int
		_, err := fmt.Sscan(number, &fd)
		require.NoError(t, err)
		highest = max(highest, fd)
	}
	few := unix.Rlimit{Cur: uint64(highest + 1 + left), Max: limit.Max}
	var fill []int
	defer func() {
		for _, fd := range fill {
			unix.Close(fd)
		}
	}()
	for fd := 0; ; {
		var err error
		fd, err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		require.NoError(t, err)
		if fd > highest {
			unix.Close(fd)
			break
		}
		fill = append(fill, fd)
	}
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
	f()
}
