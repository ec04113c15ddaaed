package netstack_test

import (
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
	"github.com/go-xsk/xsk/netstack"
)

// A SYN that there is no way back for makes gVisor log a line, which is for the hook
// and not for standard error.
func TestTheStackDoesNotPrint(t *testing.T) {
	testns.Kernel(t)
	p := makePeer(t)
	h := openOurs(t, p.Near, bpf.Generic)
	l, err := h.Listen("tcp", ":80")
	require.NoError(t, err)
	defer l.Close()
	r := newRaw(t, p)
	var mu sync.Mutex
	var lines []string
	netstack.SetLogger(func(text string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, text)
	})
	defer netstack.SetLogger(nil)
	printed := standardError(t, func() {
		require.Eventually(t, func() bool {
			r.send(&segment{src: [4]byte{198, 51, 100, 1}, sport: 5, dport: 80, flags: header.TCPFlagSyn, window: 1000})
			mu.Lock()
			defer mu.Unlock()
			return len(lines) > 0
		}, 10*time.Second, 50*time.Millisecond, "the hook has it")
		netstack.SetLogger(nil)
		for range 30 { // it logs a line a second
			r.send(&segment{src: [4]byte{198, 51, 100, 1}, sport: 5, dport: 80, flags: header.TCPFlagSyn, window: 1000})
			time.Sleep(50 * time.Millisecond)
		}
	})
	assert.Empty(t, printed)
	mu.Lock()
	defer mu.Unlock()
	assert.Contains(t, strings.Join(lines, "\n"), "198.51.100.1")
	assert.Less(t, len(lines), 5, "nil ends it")
}

// standardError is what f has the process print there.
func standardError(t *testing.T, f func()) string {
	t.Helper()
	read, write, err := os.Pipe()
	require.NoError(t, err)
	before, err := unix.Dup(2)
	require.NoError(t, err)
	require.NoError(t, unix.Dup3(int(write.Fd()), 2, 0))
	func() {
		defer func() { assert.NoError(t, unix.Dup3(before, 2, 0)) }()
		f()
	}()
	unix.Close(before)
	write.Close()
	text, err := io.ReadAll(read)
	require.NoError(t, err)
	read.Close()
	return string(text)
}
