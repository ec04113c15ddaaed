package bpf

import (
	"context"
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
	"github.com/go-xsk/xsk/internal/rights"
)

// A device is an interface as the kernel shows it to ioctl. The socket belongs
// to the interface's network namespace, so it shows the right one to every
// thread; /sys may show another.
type device struct {
	name   string
	index  int
	kind   uint16 // ARPHRD_*
	socket int
}

func openDevice(name string) (*device, error) {
	request, err := unix.NewIfreq(name)
	if err != nil || name == "" { // too long for one
		return nil, fmt.Errorf("%w: %q is no interface name", unix.ENODEV, name)
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, rights.Refused(err, "AF_INET")
	}
	d := &device{name: name, socket: socket}
	if err = unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, request); err == nil {
		d.index = int(request.Uint32())
		err = unix.IoctlIfreq(socket, unix.SIOCGIFHWADDR, request)
		d.kind = request.Uint16()
	}
	if err != nil {
		d.close()
		if err == unix.ENODEV {
			err = fmt.Errorf("%w: no interface %s in this network namespace", err, name)
		}
		return nil, err
	}
	return d, nil
}

// fits refuses rules for packets without an Ethernet header, as those of tun and
// WireGuard are: they would find it in whatever else is there, and KeepManagement
// would keep nothing.
func (d *device) fits(f *Filter) error {
	if f.plain() || d.kind == unix.ARPHRD_ETHER || d.kind == unix.ARPHRD_LOOPBACK {
		return nil
	}
	return fmt.Errorf("%w: its packets have no Ethernet header (ARPHRD %d), where a Filter's rules begin; only All and None go without",
		unix.EOPNOTSUPP, d.kind)
}

func (d *device) close() { unix.Close(d.socket) }

// WaitLink waits until the interface can carry packets: it is up, and has its
// carrier. It is for use after Attach, because many drivers reset the link to
// attach in Native mode, and what is sent before it is back is lost. If all is
// well it returns at once.
//
// The error wraps the context's cause when that ends first, ENODEV when the
// interface is gone (deleted, or moved to another network namespace), and
// os.ErrClosed after Close.
func (p *Program) WaitLink(ctx context.Context) error { return waitLink(ctx, p.ifname, p.linkMissing) }

// WaitLink waits until the interface can carry packets, as Program.WaitLink does,
// for a program that somebody else has attached.
func WaitLink(ctx context.Context, ifname string) error {
	d, err := openDevice(ifname)
	if err != nil {
		return fmt.Errorf("bpf: wait for the link of %s: %w", ifname, err)
	}
	defer d.close()
	return waitLink(ctx, ifname, d.linkMissing)
}

func waitLink(ctx context.Context, ifname string, linkMissing func() (string, error)) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		missing, err := linkMissing()
		if err != nil {
			return fmt.Errorf("bpf: wait for the link of %s: %w", ifname, err)
		}
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("bpf: wait for the link of %s: %s: %w", ifname, missing, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
}

func (p *Program) linkMissing() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", closed.Err
	}
	return p.device.linkMissing()
}

// linkMissing says what the link lacks, "" if nothing.
func (d *device) linkMissing() (string, error) {
	// The index stays when somebody renames the interface.
	request, _ := unix.NewIfreq("")
	request.SetUint32(uint32(d.index))
	if err := unix.IoctlIfreq(d.socket, unix.SIOCGIFNAME, request); err != nil {
		return "", err
	}
	name := request.Name()
	if err := unix.IoctlIfreq(d.socket, unix.SIOCGIFFLAGS, request); err != nil {
		return "", err
	}
	flags := request.Uint16()
	if flags&unix.IFF_UP == 0 {
		return "the interface is down", nil
	}
	// IFF_RUNNING can lag a second behind the carrier. ethtool asks the driver.
	carrier := struct{ cmd, data uint32 }{cmd: unix.ETHTOOL_GLINK}
	err := d.ethtool(name, unsafe.Pointer(&carrier))
	if flags&unix.IFF_RUNNING == 0 || err == nil && carrier.data == 0 {
		return "the interface has no carrier", nil
	}
	return "", nil
}

// queues returns how many receive queues the interface can have, at least 1.
// Channels that ethtool -L may add later count.
func (d *device) queues() int {
	var c struct {
		cmd                                   uint32
		maxRx, maxTx, maxOther, maxCombined   uint32
		rxNow, txNow, otherNow, combinedCount uint32
	}
	c.cmd = unix.ETHTOOL_GCHANNELS
	if err := d.ethtool(d.name, unsafe.Pointer(&c)); err == nil {
		if n := max(c.maxCombined+c.maxRx, c.maxTx, c.combinedCount+c.rxNow, c.txNow); n > 0 {
			return int(n)
		}
	}
	return max(d.rtnetlinkQueues(), 1)
}

// rtnetlinkQueues asks the way that works without ethtool in the driver: lo,
// tun, dummy.
func (d *device) rtnetlinkQueues() int {
	table, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return 0
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return 0
	}
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg ||
			int((*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0])).Index) != d.index {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return 0
		}
		for _, a := range attributes {
			if a.Attr.Type == unix.IFLA_NUM_RX_QUEUES && len(a.Value) == 4 {
				return int(*(*uint32)(unsafe.Pointer(&a.Value[0])))
			}
		}
	}
	return 0
}

// ethtool does the command that data begins with.
func (d *device) ethtool(name string, data unsafe.Pointer) error {
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(request.name[:unix.IFNAMSIZ-1], name)
	request.data = data
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(d.socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
