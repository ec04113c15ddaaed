package xsk

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// openUmems are the Umems of this program, which may hold queues.
var openUmems = struct {
	sync.Mutex
	all map[*Umem]bool
}{all: map[*Umem]bool{}}

func (u *Umem) enlist(open bool) {
	openUmems.Lock()
	defer openUmems.Unlock()
	if delete(openUmems.all, u); open {
		openUmems.all[u] = true
	}
}

// holderOf says who holds a queue that u could not be bound to, for an error, and
// whether anybody was seen that may. It looks into this program first; then it asks
// the kernel, which must have CONFIG_XDP_SOCKETS_DIAG; and then it looks for
// processes that could.
func (u *Umem) holderOf(ifindex, queue int) (holder string, known bool) {
	key := queueKey{u.netns, ifindex, queue}
	openUmems.Lock()
	var all []*Umem
	for u := range openUmems.all {
		all = append(all, u)
	}
	openUmems.Unlock()
	for _, other := range all {
		if text := other.holds(key); text != "" {
			return text, true
		}
	}
	if inode := boundTo(key); inode != 0 {
		socket := fmt.Sprintf("socket:[%d]", inode)
		if maps, _ := os.ReadFile("/proc/self/maps"); mapsRings(maps, socket) {
			return "another socket of this program holds the queue", true
		}
		if who := processesWith(socket); who != "" {
			return who + " holds the queue", true
		}
		return "a socket of a process that is out of sight holds the queue", true
	}
	if who := processesWith(""); who != "" {
		return "another socket holds the queue; other processes with AF_XDP sockets here: " + who, true
	}
	return "another socket holds the queue", false
}

// holds says how u holds a queue, if it does.
func (u *Umem) holds(key queueKey) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range u.queues {
		if q.queueKey == key {
			return "another Socket or Queue of this program holds the queue"
		}
	}
	if u.c != 0 && u.own.bound && u.own.queueKey == key {
		return "a Umem of this program holds the queue, whose first Socket was on it; close the Umem"
	}
	return ""
}

// boundTo is the inode of the socket that is bound to a queue of the thread's
// network namespace, as sock_diag(7) tells it; 0 if it does not.
func boundTo(key queueKey) uint32 {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	const showInfo = 1             // XDP_SHOW_INFO
	request := make([]byte, 16+20) // struct nlmsghdr, xdp_diag_req
	binary.NativeEndian.PutUint32(request, uint32(len(request)))
	binary.NativeEndian.PutUint16(request[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(request[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request[16] = unix.AF_XDP
	binary.NativeEndian.PutUint32(request[24:], showInfo)
	if unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) != nil {
		return 0
	}
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buffer, 0)
		if err != nil || n < 16 {
			return 0
		}
		for b := buffer[:n]; len(b) >= 16; {
			length := int(binary.NativeEndian.Uint32(b))
			if kind := binary.NativeEndian.Uint16(b[4:]); kind != unix.SOCK_DIAG_BY_FAMILY || length < 16 || length > len(b) {
				return 0 // the end, or an error
			}
			if inode := diagnosed(b[16:length], key); inode != 0 {
				return inode
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

// diagnosed is the inode in a struct xdp_diag_msg, if its XDP_DIAG_INFO is about
// the queue.
func diagnosed(b []byte, key queueKey) uint32 {
	if len(b) < 16 {
		return 0
	}
	inode := binary.NativeEndian.Uint32(b[4:])
	for b = b[16:]; len(b) >= 4; {
		length, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if length < 4 || length > len(b) {
			return 0
		}
		if kind == 1 && length >= 12 &&
			int(binary.NativeEndian.Uint32(b[4:])) == key.ifindex && int(binary.NativeEndian.Uint32(b[8:])) == key.queue {
			return inode
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return 0
}

// processesWith are up to three other processes that have mapped the rings of a
// socket, or in this network of any AF_XDP socket, as in "process 4711 (xdpsock)".
func processesWith(socket string) string {
	here, _ := os.Readlink("/proc/thread-self/ns/net")
	var found []string
	maps, _ := filepath.Glob("/proc/[0-9]*/maps")
	for _, path := range maps {
		dir := filepath.Dir(path)
		pid := filepath.Base(dir)
		if pid == strconv.Itoa(os.Getpid()) {
			continue
		}
		if there, err := os.Readlink(dir + "/ns/net"); err != nil || socket == "" && there != here {
			continue
		}
		content, err := os.ReadFile(path)
		if err != nil || !mapsRings(content, socket) {
			continue
		}
		name, _ := os.ReadFile(dir + "/comm")
		if found = append(found, fmt.Sprintf("process %s (%s)", pid, bytes.TrimSpace(name))); len(found) == 3 {
			break
		}
	}
	return strings.Join(found, ", ")
}

// mapsRings looks for a line of /proc/PID/maps with a socket's rings, or with the fill
// ring of any: only AF_XDP maps anything at its offset.
func mapsRings(content []byte, socket string) bool {
	for line := range bytes.Lines(content) {
		if !bytes.Contains(line, []byte("socket:[")) {
			continue // nearly all
		}
		fields := strings.Fields(string(line))
		if len(fields) != 6 {
			continue
		}
		if socket != "" {
			if fields[5] == socket { // one that shares a queue's fill ring has not mapped it
				return true
			}
			continue
		}
		if offset, err := strconv.ParseUint(fields[2], 16, 64); err == nil && offset == unix.XDP_UMEM_PGOFF_FILL_RING {
			return true
		}
	}
	return false
}
