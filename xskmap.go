package xsk

import (
	"math"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// An XSKMap is a BPF map of type XSKMAP, known by its file descriptor.
// *libbpfgo.BPFMap, *bpf.Program and [MapFD] are XSKMaps. One that has a method
// Ifindex() int, as a Program has, is refused for any other interface. Nothing
// else of BPF enters this package: libxdp may bring a libbpf of its own, and only
// file descriptors can cross between two copies of it.
type XSKMap interface{ FileDescriptor() int }

// A MapFD is the file descriptor of an XSKMAP.
type MapFD int

// FileDescriptor is fd itself.
func (fd MapFD) FileDescriptor() int { return int(fd) }

// Close closes the descriptor. Entries of the map stay.
func (fd MapFD) Close() error { return failed("close XSKMAP", unix.Close(int(fd))) }

// OpenXSKMap opens the XSKMAP that is pinned at path, below /sys/fs/bpf as a rule
// (BPF_OBJ_GET). The descriptor is the caller's to close, and close-on-exec.
// Errors wrap ENOENT where nothing is pinned, EACCES and EPERM, and EINVAL for
// what is no XSKMAP.
func OpenXSKMap(path string) (MapFD, error) {
	fd, err := openPinned(path)
	return MapFD(fd), failed("open pinned XSKMAP "+path, err)
}

func openPinned(path string) (int, error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return -1, err
	}
	get := struct {
		path      unsafe.Pointer
		fd, flags uint32
	}{path: unsafe.Pointer(name)}
	fd, err := bpf(unix.BPF_OBJ_GET, unsafe.Pointer(&get), unsafe.Sizeof(get))
	if err != nil {
		return -1, err
	}
	if _, err := mapID(fd); err != nil {
		_ = unix.Close(fd)
		return -1, explained(err, "it is no XSKMAP")
	}
	return fd, nil
}

// UpdateXSKMap registers the Socket in m under its queue number, so that a
// program which redirects through m reaches it (xsk_socket__update_xskmap). m
// stays the caller's and may be closed afterwards. It fails with EINVAL on a
// Socket that libxdp's own program serves, when m is no XSKMAP, and when m is a
// Program of package bpf on another interface; with E2BIG when the queue is
// beyond m's size, and with EBUSY when an open Socket of this process on another
// interface has the entry. Close takes the entry out again, unless another
// Socket of this process has taken its place. A Socket has one entry: to register
// it again takes it out of the one it had.
func (s *Socket) UpdateXSKMap(m XSKMap) error {
	return s.UpdateXSKMapKey(m, s.rings.queue)
}

// UpdateXSKMapKey is UpdateXSKMap for a program that does not look the Socket up
// by its queue number but by another key: two sockets on one queue, chosen by
// address, or one map for many interfaces. The kernel drops what a program
// redirects to a Socket that is not of the packet's interface and queue.
func (s *Socket) UpdateXSKMapKey(m XSKMap, key int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fail("update XSKMAP for", s.updateXSKMap(m, key))
}

func (s *Socket) updateXSKMap(m XSKMap, key int) error {
	switch {
	case key < 0 || key > math.MaxInt32:
		return invalid("%d is no key of an XSKMAP", key)
	case s.closed:
		return closed.Err
	case m == nil:
		return invalid("the XSKMap is nil")
	case s.rings.program:
		return invalid("libxdp's own program serves this socket; make it with InhibitProgLoad")
	}
	fd, err := usable(m, s.rings.ifindex)
	if err != nil {
		return err
	}
	if err := s.registered.enter(fd, key, s); err != nil {
		return err
	}
	s.servedBy, _ = s.programs()
	return nil
}

// usable is the descriptor of m, if it is open and serves the interface.
func usable(m XSKMap, ifindex int) (int, error) {
	fd := m.FileDescriptor()
	if fd < 0 || fd > math.MaxInt32 {
		return -1, explained(syscall.EBADF, "the XSKMap is closed, its descriptor is %d", fd)
	}
	if on, ok := m.(interface{ Ifindex() int }); ok && on.Ifindex() != ifindex {
		return -1, invalid("the XDP program of the XSKMap is on another interface: %v", m)
	}
	return fd, nil
}

// A registration is a socket's entry in an XSKMAP; the zero one is none.
type registration struct{ fd, id, entry int }

// registry knows, by map and entry, the socket of this process that registered
// last. The kernel lets nobody read an XSKMAP, and a socket that closes must not
// take out the entry of the one that replaced it.
var registry = struct {
	sync.Mutex
	owner map[[2]int]*Socket
}{owner: map[[2]int]*Socket{}}

// enter puts s into the map, and takes it out of the one it was in before. An
// entry of another interface is not replaced: that one would go deaf.
func (r *registration) enter(mapFD, entry int, s *Socket) error {
	registry.Lock()
	defer registry.Unlock()
	id, err := mapID(mapFD)
	if err == syscall.EPERM {
		return explained(err, "before Linux 5.19 a program without CAP_BPF may not call bpf(2), unless kernel.unprivileged_bpf_disabled is 0")
	}
	if err != nil {
		return explained(err, "descriptor %d is not an XSKMAP", mapFD)
	}
	fd, err := unix.FcntlInt(uintptr(mapFD), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	next := registration{fd, id, entry}
	if other := registry.owner[next.key()]; other != nil && other.deviceError.Load() == 0 && (other.rings.netns != s.rings.netns || other.rings.ifindex != s.rings.ifindex) {
		_ = unix.Close(fd)
		return explained(syscall.EBUSY, "entry %d of the XSKMAP is the socket's of %s", entry, other.name)
	}
	if err := mapSet(fd, entry, s.fd); err != nil {
		_ = unix.Close(fd)
		if err == syscall.E2BIG {
			return explained(err, "the XSKMAP has no entry %d", entry)
		}
		return err
	}
	registry.owner[next.key()] = s
	if r.key() == next.key() {
		err = unix.Close(r.fd)
	} else {
		err = r.cancel(s)
	}
	*r = next
	return err
}

// leave takes the entry out if it is still the socket's own.
func (r *registration) leave(s *Socket) error {
	registry.Lock()
	defer registry.Unlock()
	return r.cancel(s)
}

func (r *registration) key() [2]int { return [2]int{r.id, r.entry} }

// cancel is leave with the registry locked.
func (r *registration) cancel(s *Socket) (err error) {
	if r.id == 0 {
		return nil
	}
	if registry.owner[r.key()] == s {
		delete(registry.owner, r.key())
		// The kernel takes it out by itself when the socket ends.
		if err = mapClear(r.fd, r.entry); err == syscall.ENOENT {
			err = nil
		}
	}
	_ = unix.Close(r.fd)
	*r = registration{}
	return err
}
