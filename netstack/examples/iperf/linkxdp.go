package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/xdp"

	"github.com/go-xsk/xsk/bpf"
)

// openLinkXDP opens gVisor's own AF_XDP endpoint. It attaches no XDP program;
// this one sends it all that queue 0 receives.
func openLinkXDP(ctx context.Context, o *options) (network, error) {
	device, err := net.InterfaceByName(o.device)
	if err != nil {
		return nil, err
	}
	program, err := bpf.Attach(o.device, bpf.Options{Filter: bpf.Filter{All: true}, Mode: o.mode})
	if err != nil {
		return nil, err
	}
	if err := program.WaitLink(ctx); err != nil {
		return nil, errors.Join(err, program.Close())
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("AF_XDP socket: %w", err), program.Close())
	}
	close := func() error { return errors.Join(program.Close(), unix.Close(fd)) }
	link, err := xdp.New(&xdp.Options{
		FD: fd, Address: tcpip.LinkAddress(device.HardwareAddr), InterfaceIndex: device.Index, Bind: true,
		RXChecksumOffload: o.trust, GRO: true,
	})
	if err == nil {
		err = register(program.FileDescriptor(), fd)
	}
	if err != nil {
		return nil, errors.Join(err, close())
	}
	what := fmt.Sprintf("%s queue 0: gVisor's link/xdp, %v", o.device, program.Mode())
	return onGVisor(what, link, o, func() (uint64, error) { return droppedByXDP(fd) }, close)
}

// register puts a socket into place 0 of an XSKMAP (BPF_MAP_UPDATE_ELEM).
func register(xskmap, socket int) error {
	key, value := uint32(0), uint32(socket)
	update := struct {
		fd, _      uint32
		key, value unsafe.Pointer
		flags      uint64
	}{fd: uint32(xskmap), key: unsafe.Pointer(&key), value: unsafe.Pointer(&value)}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_MAP_UPDATE_ELEM, uintptr(unsafe.Pointer(&update)), unsafe.Sizeof(update))
	if errno != 0 {
		return fmt.Errorf("update XSKMAP: %w", errno)
	}
	return nil
}

// droppedByXDP are a socket's XDP_STATISTICS that stand for a lost packet.
func droppedByXDP(fd int) (uint64, error) {
	var s unix.XDPStatistics
	size := uint32(unsafe.Sizeof(s))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, unix.XDP_STATISTICS,
		uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, fmt.Errorf("XDP_STATISTICS: %w", errno)
	}
	return s.Rx_dropped + s.Rx_ring_full + s.Tx_invalid_descs, nil
}
