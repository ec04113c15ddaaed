package netstack_test

import (
	"net"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/testns"
)

// detach takes the program off an interface, as "bpftool link detach" does.
func detach(t *testing.T, ifname string) {
	t.Helper()
	device, err := net.InterfaceByName(ifname)
	require.NoError(t, err)
	next := struct{ id, next, flags uint32 }{}
	for {
		_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_GET_NEXT_ID, uintptr(unsafe.Pointer(&next)), unsafe.Sizeof(next))
		require.Zero(t, errno, "no link is on %s", ifname)
		next.id = next.next
		get := struct{ id, next, flags uint32 }{id: next.id}
		fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_LINK_GET_FD_BY_ID, uintptr(unsafe.Pointer(&get)), unsafe.Sizeof(get))
		if errno != 0 {
			continue // it is gone
		}
		info := struct{ kind, id, program, _, ifindex, _ uint32 }{}
		about := struct {
			fd, size uint32
			info     unsafe.Pointer
		}{uint32(fd), uint32(unsafe.Sizeof(info)), unsafe.Pointer(&info)}
		testns.BPF(t, unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&about), unsafe.Sizeof(about))
		ours := info.kind == unix.BPF_LINK_TYPE_XDP && int(info.ifindex) == device.Index
		if ours {
			link := struct{ fd uint32 }{uint32(fd)}
			testns.BPF(t, unix.BPF_LINK_DETACH, unsafe.Pointer(&link), unsafe.Sizeof(link))
		}
		require.NoError(t, unix.Close(int(fd)))
		if ours {
			return
		}
	}
}

func TestAHostKnowsWhetherItIsServed(t *testing.T) {
	inEachMode(t, func(t *testing.T, mode bpf.Mode) {
		p := makePeer(t)
		h := openOurs(t, p.Near, mode)
		require.NoError(t, h.Check())
		detach(t, p.Near)
		err := h.Check()
		require.ErrorIs(t, err, xsk.ErrNotServed)
		assert.ErrorContains(t, err, "no XDP program is on the interface")
		assert.NoError(t, h.Err())
		testns.IP(t, "link", "del", p.Near)
		standIn(t, p)
		require.ErrorIs(t, h.Check(), syscall.ENODEV)
		require.NoError(t, h.Close())
		require.ErrorIs(t, h.Check(), net.ErrClosed)
	})
}
