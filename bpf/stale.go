package bpf

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// libxdpProgram is the name of the program that libxdp attaches by itself, and
// libxdpDispatcher that of the one that calls it where libxdp can share an
// interface.
const (
	libxdpProgram    = "xsk_def_prog"
	libxdpDispatcher = "xdp_dispatcher"
)

// RemoveStale takes libxdp's own program off the interface after a process that
// used it (xsk.Config.LibxdpProgram, or any C program) was killed. libxdp
// attaches without a bpf_link, so the program stays, joins whoever uses libxdp
// next, and keeps Attach out with EBUSY. Nothing calls RemoveStale by itself.
//
// It removes the program only if it is libxdp's, by its name, and would hand no
// packet of any queue to a socket: it is asked, in a test run for each queue. A
// process that opens its socket in the same instant is not seen.
//
// No program on the interface is no error. Errors wrap ENODEV for an unknown
// interface, EEXIST if the program is another's, which is named and left
// alone, EBUSY if a living socket is served, and EPERM: it needs CAP_NET_ADMIN
// and CAP_SYS_ADMIN.
func RemoveStale(ifname string) error {
	if err := removeStale(ifname); err != nil {
		return fmt.Errorf("bpf: remove libxdp's program from %s: %w", ifname, err)
	}
	return nil
}

func removeStale(ifname string) error {
	d, err := openDevice(ifname)
	if err != nil {
		return err
	}
	defer d.close()
	native, generic, err := d.programs()
	if err != nil {
		return err
	}
	id, mode := native, Native
	if id == 0 {
		id, mode = generic, Generic
	}
	if id == 0 {
		return nil
	}
	fd, name, err := openProg(id)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil // gone since
	case err != nil:
		return fmt.Errorf("XDP program %d: %w", id, err)
	}
	defer unix.Close(fd)
	switch name {
	case libxdpProgram:
	case libxdpDispatcher:
		return fmt.Errorf("%w: XDP program %d %q is libxdp's dispatcher, which may call programs of others; nothing was removed: xdp-loader status and xdp-loader unload tell them apart",
			unix.EEXIST, id, name)
	default:
		return fmt.Errorf("%w: XDP program %d %q is not libxdp's; nothing was removed", unix.EEXIST, id, name)
	}
	for queue := range d.queues() {
		verdict, err := verdictOf(fd, d.index, queue)
		switch {
		case errors.Is(err, unix.EINVAL) && queue > 0:
			continue // ethtool -L may add it later
		case err != nil:
			return fmt.Errorf("ask XDP program %d %q about queue %d: %w", id, name, queue, err)
		case verdict == xdpRedirect:
			return fmt.Errorf("%w: XDP program %d %q serves a socket on queue %d; nothing was removed", unix.EBUSY, id, name, queue)
		}
	}
	return xdpDetach(d.index, fd, mode)
}
