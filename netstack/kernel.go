package netstack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/rights"
)

// errInUse is EADDRINUSE, as a kernel socket gives it.
var errInUse error = syscall.EADDRINUSE

// kernelAddresses asks the kernel for its own addresses, in the network namespace of
// the thread that called openKernelAddresses, by a netlink socket.
type kernelAddresses struct {
	mu sync.Mutex
	fd int // -1 after close
}

func openKernelAddresses() (*kernelAddresses, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", rights.Refused(err, "AF_NETLINK"))
	}
	timeout := unix.NsecToTimeval(int64(5 * time.Second))
	if err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &kernelAddresses{fd: fd}, nil
}

// lacks fails with EADDRINUSE if the kernel has the address, on whatever interface: its
// sockets would lose what is sent to it. It knows nothing of addresses that the kernel
// gets later.
func (k *kernelAddresses) lacks(a netip.Addr) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return errClosed
	}
	index, err := k.find(a)
	if err != nil {
		return fmt.Errorf("ask for the kernel's addresses: %w", err)
	}
	if index != 0 {
		return fmt.Errorf("%w: this machine's kernel has %v on %s", errInUse, a, k.name(index))
	}
	local, err := k.local(a)
	if err != nil {
		return fmt.Errorf("ask for the kernel's route to %v: %w", a, err)
	}
	if local {
		return fmt.Errorf("%w: this machine's kernel has %v by a local route", errInUse, a)
	}
	return nil
}

// find is the index of the interface that has the address, or 0.
func (k *kernelAddresses) find(a netip.Addr) (found int, err error) {
	request := make([]byte, unix.SizeofIfAddrmsg)
	request[0] = familyOf(a)
	err = k.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, request, func(m syscall.NetlinkMessage) error {
		if len(m.Data) < unix.SizeofIfAddrmsg || m.Header.Type != unix.RTM_NEWADDR {
			return nil
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return err
		}
		// IFA_LOCAL is what an interface with a peer has, whose address is IFA_ADDRESS.
		var own netip.Addr
		for _, attribute := range attributes {
			switch attribute.Attr.Type {
			case unix.IFA_LOCAL:
				own, _ = netip.AddrFromSlice(attribute.Value)
			case unix.IFA_ADDRESS:
				if !own.IsValid() {
					own, _ = netip.AddrFromSlice(attribute.Value)
				}
			}
		}
		if own == a {
			found = int(binary.NativeEndian.Uint32(m.Data[4:]))
		}
		return nil
	})
	return found, err
}

// local reports whether the kernel would take a packet to the address for its own, as
// it does after "ip route add local".
func (k *kernelAddresses) local(a netip.Addr) (local bool, err error) {
	request := make([]byte, unix.SizeofRtMsg, unix.SizeofRtMsg+4+16)
	request[0], request[1] = familyOf(a), uint8(a.BitLen())
	request = binary.NativeEndian.AppendUint16(request, uint16(4+a.BitLen()/8))
	request = binary.NativeEndian.AppendUint16(request, unix.RTA_DST)
	request = append(request, a.AsSlice()...)
	err = k.ask(unix.RTM_GETROUTE, 0, request, func(m syscall.NetlinkMessage) error {
		if m.Header.Type == unix.RTM_NEWROUTE && len(m.Data) >= unix.SizeofRtMsg {
			local = m.Data[7] == unix.RTN_LOCAL
		}
		return nil
	})
	var errno syscall.Errno
	if errors.As(err, &errno) && errno != unix.EAGAIN { // no route, or IPv6 is off
		return false, nil
	}
	return local, err
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// ask sends a request, and calls each for the messages of the answer.
func (k *kernelAddresses) ask(kind, flags uint16, request []byte, each func(syscall.NetlinkMessage) error) error {
	sequence := uint32(time.Now().UnixNano())
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(request))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], sequence)
	if err := unix.Sendto(k.fd, append(b, request...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 1<<16)
	for {
		n, _, err := unix.Recvfrom(k.fd, answer, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(answer[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Seq != sequence: // of a request that was given up
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR:
				if len(m.Data) < 4 {
					return unix.EPROTO
				}
				return errnoOr(-int32(binary.NativeEndian.Uint32(m.Data)))
			default:
				if err := each(m); err != nil {
					return err
				}
				if m.Header.Flags&unix.NLM_F_MULTI == 0 {
					return nil
				}
			}
		}
	}
}

func errnoOr(errno int32) error {
	if errno == 0 {
		return nil
	}
	return syscall.Errno(errno)
}

// name is the interface's, as the socket's namespace has it.
func (k *kernelAddresses) name(index int) string {
	var request struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		_     [20]byte
	}
	request.index = int32(index)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(k.fd), unix.SIOCGIFNAME, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return fmt.Sprintf("interface %d", index)
	}
	return unix.ByteSliceToString(request.name[:])
}

func (k *kernelAddresses) close() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fd < 0 {
		return nil
	}
	err := unix.Close(k.fd)
	k.fd = -1
	return err
}
