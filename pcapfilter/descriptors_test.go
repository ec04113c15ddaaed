package pcapfilter_test

import (
	"os"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/pcapfilter"
)

// TestFewDescriptorsLeft has Attach work, or say what is missing and leave nothing,
// with 0 to 30 descriptors left to open. No garbage collector closes what it forgets.
func TestFewDescriptorsLeft(t *testing.T) {
	near, _ := testns.Veth{}.Make(t)
	open := func() (n int) {
		entries, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(entries) - 1 // without the folder's own
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	for ifname, mode := range map[string]bpf.Mode{near: bpf.Native, "lo": bpf.Auto} {
		worked := 31
		for left := range 31 {
			before := open()
			var limit unix.Rlimit
			require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
			few := unix.Rlimit{Cur: uint64(before + left), Max: limit.Max}
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &few))
			p, err := pcapfilter.Attach(ifname, pcapfilter.Options{Filter: "udp port 53", Mode: mode})
			if err == nil {
				err = p.Close()
				worked = min(worked, left)
			} else {
				assert.ErrorIs(t, err, syscall.EMFILE, "with %d left", left)
				assert.Greater(t, worked, left, "it worked with fewer")
			}
			require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
			require.Equal(t, before, open(), "with %d left: %v", left, err)
		}
		assert.Less(t, worked, 31)
	}
}
