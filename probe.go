package xsk

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// CountQueues reports how many queues ifname has, numbered from 0: a Socket
// receives from one of them. It is the number of channels that ethtool shows,
// or where the driver has none that of the queues in /sys. Errors wrap ENODEV
// for an interface that does not exist here, EINVAL for an impossible name.
func CountQueues(ifname string) (int, error) {
	ifindex, err := lookupInterface(ifname)
	if err != nil {
		return 0, failed("count queues", err)
	}
	n, err := countQueues(ifname, ifindex)
	return n, failed("count queues", err)
}

func countQueues(ifname string, ifindex int) (int, error) {
	n, err := channels(ifname)
	switch {
	case err == nil && n > 0:
		return n, nil
	case err != nil && err != syscall.EOPNOTSUPP:
		return 0, err
	}
	// A /sys of another network namespace shows another interface, or none.
	base := "/sys/class/net/" + ifname
	index, err := os.ReadFile(base + "/ifindex")
	if err != nil || strings.TrimSpace(string(index)) != strconv.Itoa(ifindex) {
		return 1, nil
	}
	entries, _ := os.ReadDir(base + "/queues")
	rx, tx := 0, 0
	for _, e := range entries {
		switch {
		case strings.HasPrefix(e.Name(), "rx-"):
			rx++
		case strings.HasPrefix(e.Name(), "tx-"):
			tx++
		}
	}
	return max(rx, tx, 1), nil
}

// lookupInterface returns the index of ifname.
func lookupInterface(ifname string) (int, error) {
	unprintable := func(r rune) bool { return r == '/' || r <= ' ' || r == 0x7f }
	if ifname == "" || len(ifname) >= unix.IFNAMSIZ || strings.ContainsFunc(ifname, unprintable) {
		return 0, invalid("%q is no interface name", ifname)
	}
	index, err := interfaceIndex(ifname)
	if err == syscall.ENODEV {
		err = explained(err, "no interface %s in this network namespace", ifname)
	}
	return index, err
}

// SetupXDPProg attaches libxdp's own program to ifname, in native mode, and
// returns its XSKMAP (xsk_setup_xdp_prog). The program stays attached until it
// is taken off by other means, and the MapFD is the caller's to close.
// Errors wrap ENODEV, EPERM without CAP_NET_ADMIN and CAP_BPF, EOPNOTSUPP
// where the driver has no native mode, EBUSY beside another program.
func SetupXDPProg(ifname string) (MapFD, error) {
	defer holdLog()()
	ifindex, err := lookupInterface(ifname)
	if err == nil {
		var fd int
		if fd, err = setupXDPProg(ifindex); err == nil {
			return MapFD(fd), nil
		}
		err = explainProgram(err, ifindex)
	}
	return -1, failed("set up XDP program on "+ifname, err)
}
