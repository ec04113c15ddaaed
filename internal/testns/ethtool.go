package testns

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of <linux/ethtool.h>.
const (
	ethtoolSetTxChecksum = 0x17 // ETHTOOL_STXCSUM
	ethtoolGetFlags      = 0x25 // ETHTOOL_GFLAGS
	ethtoolSetFlags      = 0x26 // ETHTOOL_SFLAGS
	ethtoolTxVLAN        = 1 << 7
)

// txChecksumOff is "ethtool -K ifname tx off".
func txChecksumOff(ifname string) error {
	_, err := ethtool(ifname, ethtoolSetTxChecksum, 0)
	return err
}

// TxChecksumOn is "ethtool -K ifname tx on", as a kernel has it without us: checksums
// are left to the other end of a veth pair.
func TxChecksumOn(ifname string) error {
	_, err := ethtool(ifname, ethtoolSetTxChecksum, 1)
	return err
}

// TxVLANOff is "ethtool -K ifname txvlan off".
func TxVLANOff(t testing.TB, ifname string) {
	t.Helper()
	flags, err := ethtool(ifname, ethtoolGetFlags, 0)
	if err == nil {
		_, err = ethtool(ifname, ethtoolSetFlags, flags&^ethtoolTxVLAN)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ethtool runs a command that takes or gives one value.
func ethtool(ifname string, command, data uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	value := struct{ command, data uint32 }{command, data}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], ifname)
	request.data = unsafe.Pointer(&value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return 0, errno
	}
	return value.data, nil
}
