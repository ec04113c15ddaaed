package xsk

import (
	"errors"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// ErrNotServed is what Check wraps when the interface is there and no packet reaches
// the queue: its XDP program was taken off or replaced, or another socket has the
// queue's entry in the XSKMAP.
var ErrNotServed = errors.New("no packet reaches the queue")

// Check is [Socket.Check] of the Queue's Socket: nil, [ErrNotServed], ENODEV or
// os.ErrClosed. Receive itself does not notice that a program was taken off: it waits.
func (q *Queue) Check() error { return q.sock.Check() }

// Check reports whether packets can still reach the Socket, for a program that has
// received none for a while. It asks the kernel, some 30 us in two to ten system calls,
// and waits for nothing; it may be called from any goroutine. It is nil if so, and
// always for a Socket that only sends while its interface is there. Otherwise it wraps
//
//   - ENODEV when the interface is gone,
//   - [ErrNotServed] when no XDP program is on the interface any more, when another one
//     is that was not there at UpdateXSKMap and does not have the XSKMAP, or when another
//     socket has the entry,
//   - os.ErrClosed after Close.
//
// An entry that somebody deleted from the XSKMAP is put back. Without CAP_SYS_ADMIN, and
// from another network namespace than the interface's, nobody can look into a program:
// then Check takes a program that is there for the right one.
func (s *Socket) Check() error { return s.fail("check", s.check()) }

func (s *Socket) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return closed.Err
	}
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = syscall.Errno(errno)
	}
	if err := s.latch(false, err); err != nil {
		return err
	}
	if offQueue(s.fd) {
		return goneError()
	}
	if s.Rx.c == 0 {
		return nil
	}
	if err := s.registered.renew(s); err != nil {
		return err
	}
	return s.checkProgram()
}

// renew fails when another socket has the entry, and takes it again when it is empty.
func (r *registration) renew(s *Socket) error {
	registry.Lock()
	defer registry.Unlock()
	if r.id == 0 {
		return nil
	}
	taken := ""
	if other := registry.owner[r.key()]; other != s && other != nil {
		taken = " (" + other.name + ")"
	}
	switch mapSetEmpty(r.fd, r.entry, s.fd) {
	case syscall.EEXIST:
		return explained(ErrNotServed, "another socket%s has entry %d of the XSKMAP", taken, r.entry)
	case nil:
		registry.owner[r.key()] = s
	}
	return nil // or nobody can tell: before Linux 5.19 bpf(2) may take CAP_BPF
}

// checkProgram looks at what is on the interface. mu is locked.
func (s *Socket) checkProgram() error {
	there, known := s.programs()
	if !known {
		return nil
	}
	if len(there) == 0 {
		return explained(ErrNotServed, "no XDP program is on the interface")
	}
	for _, p := range there {
		if slices.Contains(s.servedBy, p) || s.mayServe(p) {
			return nil
		}
	}
	return explained(ErrNotServed, "program %d %q, which does not have the queue's XSKMAP, is on the interface", there[0], programName(there[0]))
}

// programs are the ids of what is on the interface, if it can be seen from here.
func (s *Socket) programs() (ids []int, known bool) {
	if !inNetns(s.rings.netns) {
		return nil, false
	}
	q, err := queryXDP(s.rings.ifindex)
	if err != nil {
		return nil, false
	}
	for _, id := range []int{int(q.native), int(q.generic), int(q.offloaded)} {
		if id != 0 {
			ids = append(ids, id)
		}
	}
	return ids, true
}

// mayServe reports whether a program has the Socket's XSKMAP, is libxdp's own for one
// that libxdp serves, or may call another that does: it is so unless it is known not to be.
func (s *Socket) mayServe(id int) bool {
	info, err := programInfo(id)
	switch {
	case err != nil:
		return true
	case info.name == libxdpDispatcher:
		return slices.ContainsFunc(dispatched(s.rings.ifindex), s.mayServe)
	case s.rings.program:
		return info.name == libxdpProgram
	case s.registered.id == 0:
		return true // it may be in a map by other ways
	}
	return slices.ContainsFunc(info.maps, func(m uint32) bool {
		return int(m) == s.registered.id || leadsOn(m)
	})
}

// leadsOn reports whether a map holds programs or maps, so that a program reaches more
// maps than its own list has.
func leadsOn(id uint32) bool {
	get := struct{ id, next, flags uint32 }{id: id}
	fd, err := bpf(unix.BPF_MAP_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	var kind uint32
	if err := objectInfo(fd, unsafe.Pointer(&kind), unsafe.Sizeof(kind)); err != nil {
		return true
	}
	return kind == unix.BPF_MAP_TYPE_PROG_ARRAY || kind == unix.BPF_MAP_TYPE_ARRAY_OF_MAPS || kind == unix.BPF_MAP_TYPE_HASH_OF_MAPS
}

// A progInfo is what the kernel tells of a BPF program.
type progInfo struct {
	name string
	maps []uint32 // ids
}

// programInfo asks for a program by its id, which takes CAP_SYS_ADMIN.
func programInfo(id int) (*progInfo, error) {
	get := struct{ id, next, flags uint32 }{id: uint32(id)}
	fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	maps := make([]uint32, 64) // as many as a program can have
	info := struct {           // struct bpf_prog_info, as far as that
		kind, id      uint32
		tag           [8]byte
		jited, xlated uint32
		code, insns   uint64
		loaded        uint64
		user, maps    uint32
		mapIDs        unsafe.Pointer
		name          [16]byte
	}{maps: uint32(len(maps)), mapIDs: unsafe.Pointer(&maps[0])}
	if err := objectInfo(fd, unsafe.Pointer(&info), unsafe.Sizeof(info)); err != nil {
		return nil, err
	}
	return &progInfo{unix.ByteSliceToString(info.name[:]), maps[:min(int(info.maps), len(maps))]}, nil
}

// objectInfo is BPF_OBJ_GET_INFO_BY_FD.
func objectInfo(fd int, info unsafe.Pointer, size uintptr) error {
	get := struct {
		fd, length uint32
		info       unsafe.Pointer
	}{uint32(fd), uint32(size), info}
	_, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, unsafe.Pointer(&get), unsafe.Sizeof(get))
	return err
}

// mapSetEmpty is mapSet where the entry is empty; EEXIST where it is another's.
func mapSetEmpty(mapFD, key, value int) error {
	k, v := uint32(key), uint32(value)
	set := struct {
		fd         uint64
		key, value unsafe.Pointer
		flags      uint64
	}{uint64(mapFD), unsafe.Pointer(&k), unsafe.Pointer(&v), unix.BPF_NOEXIST}
	_, err := bpf(unix.BPF_MAP_UPDATE_ELEM, unsafe.Pointer(&set), unsafe.Sizeof(set))
	return err
}

// bpf is bpf(2). What it opens is close-on-exec.
func bpf(command int, attributes unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attributes), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// inNetns reports whether the calling thread is in that network namespace.
func inNetns(namespace uint64) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return netns(fd) == namespace
}
