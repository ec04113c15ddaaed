package xsk

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/kernel"
	"github.com/go-xsk/xsk/internal/rights"
)

// A Device is what Probe found out about an interface: a snapshot, to read and to
// print.
type Device struct {
	Name     string       // of the interface
	Index    int          // ifindex, in this network namespace
	Driver   string       // as ethtool -i says; "" if it says nothing
	MTU      int          // bytes, without the Ethernet header
	Queues   int          // as CountQueues
	Features XDPFeatures  // of the driver, in native mode
	MaxSegs  int          // frames of one packet in zero copy; 1 leaves out BindMultiBuffer; 0: no zero copy, or unknown
	Programs []XDPProgram // on the interface now
	Unknown  error        // what could not be found out, and why; nil if all is known
}

// XDPFeatures are what a driver can do with XDP (NETDEV_XDP_ACT_*).
type XDPFeatures uint64

const (
	FeatureBasic     XDPFeatures = 1 << iota // run a program in native mode
	FeatureRedirect                          // redirect from it, as to a Socket
	FeatureXmit                              // send what is redirected to it
	FeatureZeroCopy                          // zero copy for a Socket
	FeatureOffload                           // run a program on the NIC
	FeatureRxFrags                           // give it packets of several buffers
	FeatureXmitFrags                         // send such packets
)

var featureNames = []string{"native", "redirect", "xmit", "zero copy", "offload", "rx frags", "xmit frags"}

// String lists the features, as in "native, redirect, zero copy".
func (f XDPFeatures) String() string {
	var names []string
	for i, name := range featureNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// An XDPProgram is an XDP program on an interface.
type XDPProgram struct {
	ID         int      // the kernel's, as in ip link and bpftool
	Name       string   // 15 bytes at most; "" without CAP_SYS_ADMIN
	Mode       XDPFlags // XDPDrvMode, XDPSKBMode or XDPHWMode
	Dispatched bool     // libxdp's dispatcher calls it, which stands before it
}

// What libxdp calls its own programs.
const (
	libxdpProgram    = "xsk_def_prog"
	libxdpDispatcher = "xdp_dispatcher"
)

// String describes the program, as in `program 12 "xsk_def_prog", native`.
func (p XDPProgram) String() string {
	name := "(its name takes CAP_SYS_ADMIN)"
	if p.Name != "" {
		name = fmt.Sprintf("%q", p.Name)
	}
	mode := map[XDPFlags]string{XDPDrvMode: "native", XDPSKBMode: "generic", XDPHWMode: "offloaded"}[p.Mode]
	s := fmt.Sprintf("program %d %s, %s", p.ID, name, mode)
	switch {
	case p.Dispatched:
		s += ", behind the dispatcher"
	case p.Name == libxdpProgram:
		s += ", libxdp's own; bpf.RemoveStale takes it off if no socket is left"
	}
	return s
}

// Probe tells what ifname can do and has: it asks ethtool, and the kernel through
// libbpf (bpf_xdp_query). It needs no privileges but for the programs' names, and
// changes nothing. What an old libbpf or kernel cannot say is in Device.Unknown
// and no error. It looks in the network namespace of the calling thread, does not
// block, and may be called from any goroutine. Errors wrap ENODEV for an interface
// that does not exist here, EINVAL for an impossible name.
func Probe(ifname string) (*Device, error) {
	d, err := probe(ifname)
	if err != nil {
		return nil, failed("probe "+ifname, err)
	}
	return d, nil
}

func probe(ifname string) (*Device, error) {
	d := &Device{Name: ifname}
	var err error
	if d.Index, err = lookupInterface(ifname); err != nil {
		return nil, err
	}
	if d.Queues, err = countQueues(ifname, d.Index); err != nil {
		return nil, err
	}
	if i, err := net.InterfaceByIndex(d.Index); err == nil {
		d.MTU = i.MTU
	}
	d.Driver = driver(ifname)
	d.Unknown = d.query()
	return d, nil
}

// driver is the name of the interface's driver, or "".
func driver(ifname string) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return ""
	}
	defer unix.Close(fd)
	info, err := unix.IoctlGetEthtoolDrvinfo(fd, ifname)
	if err != nil {
		return ""
	}
	return unix.ByteSliceToString(info.Driver[:])
}

// query asks libbpf, and returns what that could not say.
func (d *Device) query() error {
	q, err := queryXDP(d.Index)
	switch {
	case err == syscall.ENOSYS:
		return explained(err, "XDP features and programs: the program hides libbpf's bpf_xdp_query")
	case err != nil:
		return explained(rights.Refused(err, "AF_NETLINK"), "XDP features and programs")
	}
	d.Features, d.MaxSegs = XDPFeatures(q.features), int(q.zc_max_segs)
	d.add(int(q.native), XDPDrvMode)
	d.add(int(q.generic), XDPSKBMode)
	d.add(int(q.offloaded), XDPHWMode)
	return unknownTo(int(q.libbpf), d.Features)
}

// unknownTo tells what the libbpf of that version and this kernel leave out.
func unknownTo(libbpf int, features XDPFeatures) error {
	var version string
	switch {
	case libbpf < 1<<16|2:
		version = "XDP features: they take libbpf 1.2"
	case libbpf < 1<<16|3:
		version = "frames of one packet in zero copy: they take libbpf 1.3"
	case features == 0 && !kernel.AtLeast("6.3 XDP features"):
		return explained(errors.ErrUnsupported, "XDP features: they take Linux 6.3")
	default:
		return nil
	}
	return explained(errors.ErrUnsupported, "%s, and libxdp brings %d.%d", version, libbpf>>16, libbpf&0xffff)
}

// add enters a program and, if it is libxdp's dispatcher, those that it calls.
func (d *Device) add(id int, mode XDPFlags) {
	if id == 0 {
		return
	}
	p := XDPProgram{ID: id, Name: programName(id), Mode: mode}
	d.Programs = append(d.Programs, p)
	if p.Name != libxdpDispatcher {
		return
	}
	for _, id := range dispatched(d.Index) {
		d.Programs = append(d.Programs, XDPProgram{ID: id, Name: programName(id), Mode: mode, Dispatched: true})
	}
}

// String prints it all, in a line for the interface and one for each program, as
// in
//
//	eth0: mlx5_core, 8 queues, MTU 1500, XDP: native, redirect, zero copy (1 frame a packet)
//	eth0: program 12 "xsk_def_prog", native
func (d *Device) String() string {
	var b strings.Builder
	name := d.Driver
	if name == "" {
		name = "unknown driver"
	}
	fmt.Fprintf(&b, "%s: %s, %s, MTU %d, XDP: %v", d.Name, name, plural(d.Queues, "queue"), d.MTU, d.Features)
	if d.Features&FeatureZeroCopy != 0 && d.MaxSegs > 0 {
		fmt.Fprintf(&b, " (%s a packet in zero copy)", plural(d.MaxSegs, "frame"))
	}
	for _, p := range d.Programs {
		fmt.Fprintf(&b, "\n%s: %v", d.Name, p)
	}
	if d.Unknown != nil {
		fmt.Fprintf(&b, "\n%s: unknown: %v", d.Name, d.Unknown)
	}
	return b.String()
}

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
	switch err {
	case syscall.ENODEV:
		err = explained(err, "no interface %s in this network namespace", ifname)
	case syscall.EAFNOSUPPORT, syscall.EPERM, syscall.EACCES: // the ioctl needs no right
		err = rights.Refused(err, "AF_INET")
	}
	return index, err
}

// SetupXDPProg attaches libxdp's own program to ifname, in native mode, and
// returns its XSKMAP (xsk_setup_xdp_prog). The program stays attached until it
// is taken off by other means, and the MapFD is the caller's to close. libxdp
// 1.3.1 keeps some 5 KiB of memory for each call.
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
