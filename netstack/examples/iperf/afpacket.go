package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// openPacket opens gVisor's endpoint on an AF_PACKET socket, with a buffer of 4
// MiB and recvmmsg, as runsc has it, and segments that are cut late: by gVisor,
// or by the kernel.
func openPacket(_ context.Context, o *options) (network, error) {
	device, err := net.InterfaceByName(o.device)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0) // bound below: no packet comes before
	if err != nil {
		return nil, fmt.Errorf("AF_PACKET socket: %w", err)
	}
	close := func() error { return unix.Close(fd) }
	options := []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4 << 20}, {unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 4 << 20},
	}
	cutter := "gVisor"
	if o.host {
		cutter = "the kernel"
		options = append(options, struct{ level, name, value int }{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1})
	}
	for _, s := range options {
		if err := unix.SetsockoptInt(fd, s.level, s.name, s.value); err != nil {
			return nil, errors.Join(fmt.Errorf("AF_PACKET option %d: %w", s.name, err), close())
		}
	}
	const all = unix.ETH_P_ALL<<8 | unix.ETH_P_ALL>>8 // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all & 0xffff, Ifindex: device.Index}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind AF_PACKET to %s: %w", o.device, err), close())
	}
	link, err := fdbased.New(&fdbased.Options{
		FDs: []int{fd}, MTU: uint32(device.MTU), EthernetHeader: true, Address: tcpip.LinkAddress(device.HardwareAddr),
		GSOMaxSize: stack.GVisorGSOMaxSize, GVisorGSOEnabled: !o.host,
		PacketDispatchMode: fdbased.RecvMMsg, GRO: true, RXChecksumOffload: o.trust,
	})
	if err != nil {
		return nil, errors.Join(err, close())
	}
	what := fmt.Sprintf("%s: gVisor's fdbased endpoint on AF_PACKET, cut by %s", o.device, cutter)
	counter := &packetDrops{fd: fd}
	return onGVisor(what, link, o, counter.count, close)
}

// packetDrops adds up what the kernel forgets when it is asked.
type packetDrops struct {
	fd    int
	mu    sync.Mutex
	total uint64
}

func (d *packetDrops) count() (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := unix.GetsockoptTpacketStats(d.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, fmt.Errorf("PACKET_STATISTICS: %w", err)
	}
	d.total += uint64(s.Drops)
	return d.total, nil
}
