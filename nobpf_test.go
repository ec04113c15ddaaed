//go:build nobpf

package xsk_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
)

// With this tag the tests do without package bpf, whose libbpf is newer than
// Debian 12's own. What needs that package is left out.

// ownMap is the XSKMAP of a program of three instructions.
type ownMap struct{ fd, link int }

func (m *ownMap) FileDescriptor() int { return m.fd }

func (m *ownMap) Close() error {
	if m.fd < 0 {
		return os.ErrClosed
	}
	err := unix.Close(m.link)
	if err == nil {
		err = unix.Close(m.fd)
	}
	m.fd = -1
	return err
}

// acceptsFrags is BPF_F_XDP_HAS_FRAGS, Linux 5.18.
const acceptsFrags = 1 << 5

// redirect attaches a program that redirects every packet through its map.
func redirect(t testing.TB, ifname string, m mode) xsk.XSKMap {
	t.Helper()
	xsks := mapOf(t, 64)
	prog := loadProgram(t, unix.BPF_PROG_TYPE_XDP, acceptsFrags, []uint64{
		insn(load, 2, 1, 16, 0), // rx_queue_index
		insn(wide, 1, 1, 0, int32(xsks)), 0,
		insn(set, 3, 0, 0, 2),   // XDP_PASS
		insn(call, 0, 0, 0, 51), // bpf_redirect_map
		insn(exit, 0, 0, 0, 0),
	})
	p := &ownMap{xsks, linkProgram(t, prog, ifname, unix.BPF_XDP, uint32(m.flags))}
	t.Cleanup(func() {
		if p.fd >= 0 {
			assert.NoError(t, p.Close())
		}
	})
	return p
}
