package pcapfilter

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/rights"
)

// A device is an interface as rtnetlink tells of it.
type device struct {
	index  int
	name   string
	kind   uint16   // ARPHRD_*
	queues int      // receive queues that it can have
	mode   bpf.Mode // of the XDP program that is attached; Auto if none
}

// findDevice asks the network namespace of the calling thread.
func findDevice(fits func(*device) bool) (*device, error) {
	table, err := syscall.NetlinkRIB(unix.RTM_GETLINK, unix.AF_UNSPEC)
	if err != nil {
		return nil, rights.Refused(err, "AF_NETLINK")
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if m := &messages[i]; m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			if d := readDevice(m); fits(d) {
				return d, nil
			}
		}
	}
	return nil, unix.ENODEV
}

func deviceNamed(name string) (*device, error) {
	d, err := findDevice(func(d *device) bool { return d.name == name })
	if err == unix.ENODEV {
		err = fmt.Errorf("%w: no interface %s in this network namespace", err, name)
	}
	return d, err
}

func deviceAt(index int) (*device, error) {
	return findDevice(func(d *device) bool { return d.index == index })
}

func readDevice(m *syscall.NetlinkMessage) *device {
	info := (*unix.IfInfomsg)(unsafe.Pointer(&m.Data[0]))
	d := &device{index: int(info.Index), kind: info.Type}
	attributes, _ := syscall.ParseNetlinkRouteAttr(m)
	for _, a := range attributes {
		switch v := a.Value; a.Attr.Type &^ unix.NLA_F_NESTED {
		case unix.IFLA_IFNAME:
			d.name = unix.ByteSliceToString(v)
		case unix.IFLA_NUM_RX_QUEUES:
			d.queues = int(*(*uint32)(unsafe.Pointer(&v[0])))
		case unix.IFLA_XDP:
			d.mode = attachedMode(v)
		}
	}
	return d
}

// attachedMode finds IFLA_XDP_ATTACHED, the first attribute but for a
// descriptor that nobody sends any more.
func attachedMode(nested []byte) bpf.Mode {
	const attrHeader, attached = unix.SizeofRtAttr, 2
	const driver, generic = 1, 2 // XDP_ATTACHED_DRV, XDP_ATTACHED_SKB
	for len(nested) > attrHeader {
		a := (*unix.RtAttr)(unsafe.Pointer(&nested[0]))
		if a.Type == attached {
			switch nested[attrHeader] {
			case driver:
				return bpf.Native
			case generic:
				return bpf.Generic
			}
			return bpf.Auto
		}
		nested = nested[min(max(int(a.Len+3)&^3, attrHeader), len(nested)):]
	}
	return bpf.Auto
}

// checkKind refuses interfaces without an Ethernet header, for which the
// expression would be wrong.
func (d *device) checkKind() error {
	if d.kind == unix.ARPHRD_ETHER || d.kind == unix.ARPHRD_LOOPBACK {
		return nil
	}
	return fmt.Errorf("%w: its packets have no Ethernet header (ARPHRD %d), and the Filter is for those that have", unix.ENOTSUP, d.kind)
}
