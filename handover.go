package xsk

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
)

// socket is a descriptor of c.File for libxdp to keep and to close, or 0, which
// makes it open one.
func (c *UmemConfig) socket() (int, error) {
	if c.File == nil {
		return 0, nil
	}
	raw, err := c.File.SyscallConn()
	if err != nil {
		return 0, explained(err, "File")
	}
	var socket, domain int
	var failure error
	err = raw.Control(func(fd uintptr) {
		if domain, failure = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN); failure == nil && domain == unix.AF_XDP {
			socket, failure = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 1) // libxdp takes 0 for none
		}
	})
	switch {
	case err != nil:
		return 0, explained(closed.Err, "File %s", c.File.Name())
	case failure == unix.ENOTSOCK, failure == nil && domain != unix.AF_XDP:
		return 0, invalid("File %s is not an AF_XDP socket", c.File.Name())
	}
	return socket, failure
}

// explainFile says why libxdp made no Umem on a socket that was handed over.
func explainFile(err error, f *os.File) error {
	if err == syscall.ENOSYS {
		return explained(err, "File needs libxdp 1.4.0 (xsk_umem__create_with_fd); with an older one the program needs CAP_NET_RAW")
	}
	return explained(err, "File %s has a Umem already; each needs a socket of its own", f.Name())
}

// elsewhere explains a bind that the kernel refuses because a socket that was
// handed over is for another interface; nil if it is not.
func elsewhere(fd int, ifname string, err error) error {
	device, _ := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE)
	if err != syscall.EINVAL || device == "" || device == ifname {
		return nil
	}
	return explained(err, "the Umem's socket is for %s only (SO_BINDTODEVICE)", device)
}
