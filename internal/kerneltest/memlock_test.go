package kerneltest

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/internal/testns"
)

// without runs f on a thread that lacks the capability, and then ends it.
func without(t *testing.T, capability int, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for ever: the thread is of no more use
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if !assert.NoError(t, unix.Capget(&header, &data[0])) {
			return
		}
		data[capability/32].Effective &^= 1 << (capability % 32)
		if assert.NoError(t, unix.Capset(&header, &data[0])) {
			f()
		}
	}()
	<-done
}

func TestLowMemlockLimitIsExplained(t *testing.T) {
	inEachMode(t, func(t *testing.T, m mode) {
		const limit = 1 << 20
		var before unix.Rlimit
		require.NoError(t, unix.Getrlimit(unix.RLIMIT_MEMLOCK, &before))
		require.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: limit, Max: before.Max}))
		defer func() { assert.NoError(t, unix.Setrlimit(unix.RLIMIT_MEMLOCK, &before)) }()

		nameA, nameB := testns.Veth{}.Make(t)
		big := config(attach(t, nameB, m))
		big.UmemConfig.Frames = 2048 // 4 MiB
		a := open(t, nameA, 0, config(nil))
		works := func(c xsk.Config) {
			b := open(t, nameB, 0, c)
			send(t, a, 0, 8, 60)
			expect(t, b, 0, 8)
			settled(t, 0, a, b)
			assert.NoError(t, b.Close())
		}
		works(big) // CAP_IPC_LOCK knows no limit
		without(t, unix.CAP_IPC_LOCK, func() {
			q, err := xsk.Open(nameB, 0, &big)
			if !assert.ErrorIs(t, err, syscall.ENOBUFS) {
				_ = q.Close()
				return
			}
			assert.ErrorContains(t, err, "xsk: open "+nameB+" queue 0: ")
			assert.ErrorContains(t, err, "4194304 bytes to lock, RLIMIT_MEMLOCK is 1048576: raise it, or grant CAP_IPC_LOCK")
			little := config(nil)
			little.XSKMap, little.SocketConfig.TxOnly = big.XSKMap, false
			little.UmemConfig.Frames = 64
			q, err = xsk.Open(nameB, 0, &little)
			if assert.NoError(t, err, "below the limit no capability is needed") {
				conserved(t, q)
				assert.NoError(t, q.Close())
			}
		})
		works(big) // the refused one left nothing busy
	})
}
