// Package bpf attaches the XDP program that feeds AF_XDP sockets.
//
// An AF_XDP socket receives nothing by itself. A program on the interface must
// send packets its way: it looks at each packet as it arrives, and either hands
// it to the socket that is registered for the packet's queue or leaves it to
// the kernel. Attach puts such a program on an interface:
//
//	program, err := bpf.Attach("eth0", bpf.Options{
//		Filter: bpf.Filter{UDPPorts: []uint16{4789}},
//	})
//	if err != nil {
//		return err
//	}
//	defer program.Close()
//
// The registry is an XSKMAP, a BPF map with one slot per receive queue. The
// Program stands for it: xsk.Config.XSKMap and (*xsk.Socket).UpdateXSKMap take
// a Program as it is. This is the way of a packet, and where Counters counts it:
//
//	packet --> does a rule match? --no---------------------> kernel   Passed
//	                  | yes
//	           does an exception, too? --yes---------------> kernel   Excepted
//	                  | no
//	           has its queue a socket? --no----------------> kernel   NoSocket
//	                  | yes
//	           the socket, which takes it from the kernel             Matched
//
// What stays with the kernel is as if no program were there: remote logins stay
// up. The program is held by a bpf_link, which the kernel removes when the
// process ends in whatever way. A program that is on the interface already is
// never replaced.
//
// With no socket at all a Program only counts: NoSocket is how many packets the
// filter matches, and the kernel has them all the same.
//
// # Filters
//
// A Filter names packets by ports, protocols, addresses, flows, EtherTypes, MAC
// addresses or VLAN: any of them, with exceptions. KeepManagement leaves what a
// login needs to the kernel, so even this does not cut you off:
//
//	bpf.Filter{All: true, KeepManagement: true}
//
// Program.Update changes the filter while packets flow. Filter.Match tells what a
// filter makes of a packet, for tests, without an interface. Program.Counters
// tells rule by rule where the packets went.
//
// The kernel's verifier leaves out of the program what a filter does not use. A
// filter costs the same with one port as with all of them. An IPv4 address is
// looked up in four steps at most, however many prefixes there are; one of IPv6
// takes a step for each eight bits that tell prefixes apart. Each loaded filter
// takes some 400 KB of kernel memory, and a prefix up to 600 bytes besides where many
// are near each other, and 1200 at worst.
//
// XDP does not see a VLAN tag that the NIC has taken out of the packet, and
// neither does the socket: a VLAN rule then finds nothing, and the other rules
// find the packet as if it had no tag. So it is on NICs that strip tags ("ethtool
// -k" says rx-vlan-offload: on; "ethtool -K eth0 rxvlan off" stops that), in
// native and in generic mode, and on veth, if the sender leaves the tag to the
// device ("ethtool -K veth0 txvlan off" at the other end stops that).
//
// # Libraries
//
// The package loads its program through libbpfgo and links the libbpf of the
// system, 1.3 or newer. A process with its own program needs neither: any
// XSKMAP will do, a *libbpfgo.BPFMap as it is.
//
// # What libbpf prints
//
// libbpf has one printer for the whole process. During Attach this package puts
// its own in front, keeps what concerns its own calls for the error, passes on
// the rest, and puts the previous one back. libbpfgo has one logger beside
// that, which prints to standard error whatever libbpf says, down to the
// debugging lines about our own object. So this package's initialization calls
// libbpfgo.SetLoggerCbs with a filter that drops those, and leaves the default
// otherwise. A program that calls SetLoggerCbs itself replaces the filter, and
// its logger is then told about our object too. Only a logger that was set
// before this package is initialized is lost: call SetLoggerCbs in main.
package bpf

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// A Mode is the place where the kernel runs the program.
type Mode int

const (
	// Auto lets the kernel choose: Native if the driver has it, or else Generic.
	// A driver that has it, but refuses it as the interface is configured, is an
	// error that says so.
	Auto Mode = iota
	// Native runs the program in the driver, before the kernel makes anything of
	// the packet. Zero copy needs it. Many drivers reset the link to set it up;
	// see Program.WaitLink. (XDP_FLAGS_DRV_MODE)
	Native
	// Generic runs it in the network stack. Every interface can do that, slowly.
	// (XDP_FLAGS_SKB_MODE)
	Generic
)

// String is "auto", "native" or "generic".
func (m Mode) String() string {
	switch m {
	case Auto:
		return "auto"
	case Native:
		return "native"
	case Generic:
		return "generic"
	}
	return fmt.Sprintf("Mode(%d)", int(m))
}

// MarshalText is String, for flags and configuration files.
func (m Mode) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText takes what String gives, and nothing else (EINVAL); flag.TextVar
// makes a flag of a Mode.
func (m *Mode) UnmarshalText(text []byte) error {
	for mode := Auto; mode <= Generic; mode++ {
		if mode.String() == string(text) {
			*m = mode
			return nil
		}
	}
	return fmt.Errorf("xsk: XDP mode %q is none of auto, native and generic: %w", text, unix.EINVAL)
}

// Options say what Attach attaches, and how.
type Options struct {
	Filter   Filter // what goes to the sockets; empty is an error
	Mode     Mode   // default Auto
	Metadata bool   // write what the device knows of a packet before it; see xsk.Frame.RxMetadata

	// MultiBuffer makes generic mode, too, hand packets over in the buffers that
	// they are in (an "xdp.frags" program; Linux 6.9). Sockets do not need it for
	// large packets: without it the kernel first copies each packet of several
	// buffers into one piece, and a socket with xsk.BindMultiBuffer receives it
	// over several frames all the same. It spares that copy, which can fail for
	// want of memory in one piece (packets of tens of kilobytes; the packet is
	// dropped then). Do not set it on Linux 7.0 and 7.1: with split-lock
	// detection, a raw socket or tcpdump beside such a program can panic them.
	//
	// In native mode it changes nothing: Attach loads such a program there anyway,
	// which an MTU beyond a page needs, or before Linux 5.18 another one. With
	// MultiBuffer that is an error (errors.ErrUnsupported).
	MultiBuffer bool
}

// A Program is attached to an interface and owns the XSKMAP where the sockets
// of that interface register. Its methods may be called from any goroutine.
//
// A Program lasts until Close or the end of the process; the garbage collector
// does not end it.
type Program struct {
	ifname string
	mode   Mode
	queues int
	source source

	mu     sync.Mutex // guards the rest, which Close takes away
	device *device
	maps   *mapSet
	image  *image
	link   link // -1 before there is one
	filter Filter
	closed bool
}

// Attach loads the program and attaches it to the interface, in the network
// namespace of the calling thread. It needs CAP_NET_ADMIN, CAP_BPF and, for every
// Filter but None and an All without exceptions, CAP_PERFMON (before Linux 6.8 for
// these too). A native attach may take a second or so while the
// driver rebuilds its queues, and the link may be down after it: see WaitLink.
//
// The XSKMAP has as many slots as the interface can have queues. A socket on a
// queue beyond that cannot register (E2BIG).
//
// Errors wrap the errno: EINVAL for Options that cannot be, ENODEV for an
// unknown interface, EPERM without the capabilities, EBUSY if another program
// is attached, EOPNOTSUPP, ERANGE or ENOSPC if the driver refuses Native, EMFILE if
// fewer than some 24 descriptors are left; errors.ErrUnsupported if Metadata cannot be had, or if the packets of the
// interface have no Ethernet header and the Filter is no plain All or None.
func Attach(ifname string, o Options) (*Program, error) {
	p, err := attach(ifname, o)
	if err != nil {
		return nil, fmt.Errorf("bpf: attach %s: %w", ifname, err)
	}
	return p, nil
}

func attach(ifname string, o Options) (*Program, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	// Network namespace, capabilities and libbpf's messages belong to a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	startCapture()
	defer stopCapture()

	p := &Program{ifname: ifname, filter: o.Filter.clone(), link: -1}
	var err error
	if p.device, err = openDevice(ifname); err != nil {
		return nil, err
	}
	if err = p.start(o); err != nil {
		p.release()
		return nil, err
	}
	return p, nil
}

// start loads the program and attaches it. On error the caller releases p.
func (p *Program) start(o Options) error {
	if err := p.device.vacant(); err != nil {
		return err
	}
	if err := p.device.fits(&p.filter); err != nil {
		return err
	}
	if err := privileged(&p.filter); err != nil {
		return err
	}
	p.queues = p.device.queues()
	maps, err := newMaps(p.queues)
	if err != nil {
		return err
	}
	p.maps = &maps
	if err = p.attach(o); err != nil {
		return err
	}
	p.mode, err = p.device.attachedMode()
	return err
}

// attach makes the attempts in turn. On to the next one only if the driver has no
// native mode for this one.
func (p *Program) attach(o Options) error {
	var err error
	for _, a := range o.attempts(p.device) {
		if p.image != nil {
			p.image.close()
		}
		p.source = a.source
		if p.image, err = load(p.source, newTables(&p.filter, false), p.maps); err != nil {
			return err
		}
		var fd int
		if fd, err = linkCreate(p.image.prog.FileDescriptor(), p.device.index, a.mode); err == nil {
			p.link = link(fd)
			return nil
		}
		if !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
	}
	return p.device.explain(err, o.Mode)
}

// An attempt is a program, and a mode for it.
type attempt struct {
	source source
	mode   Mode
}

// attempts are what to attach, in this order while the driver has no native mode
// for it. Generic mode never gets a program for packets of several buffers unless
// it is asked for; so where the kernel may choose generic mode, it gets no such
// program to choose with.
func (o Options) attempts(d *device) []attempt {
	switch {
	case o.Metadata:
		return []attempt{{metadataSource(d), o.Mode}}
	case o.MultiBuffer:
		return []attempt{{multiSource(), o.Mode}}
	case o.Mode == Native:
		return []attempt{{nativeSource(), Native}}
	case o.Mode == Generic:
		return []attempt{{singleSource(), Generic}}
	}
	return []attempt{{nativeSource(), Native}, {singleSource(), Auto}}
}

func (o Options) check() error {
	if o.Mode < Auto || o.Mode > Generic {
		return fmt.Errorf("%w: unknown mode %d; the modes are bpf.Auto, bpf.Native and bpf.Generic", unix.EINVAL, int(o.Mode))
	}
	if o.Metadata && o.Mode == Generic {
		return fmt.Errorf("%w: Metadata needs bpf.Native: in generic mode the device's driver is not asked", unix.EOPNOTSUPP)
	}
	return o.Filter.check()
}

// FileDescriptor returns the XSKMAP's descriptor, which stays the Program's; it
// makes a Program an xsk.XSKMap. After Close, and of a nil Program, it is -1.
func (p *Program) FileDescriptor() int {
	if p == nil {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return -1
	}
	return p.maps.xsks
}

// Ifindex returns the index of the interface that the program is on. Package xsk
// asks for it before it registers a socket of another one.
func (p *Program) Ifindex() int { return p.device.index }

// Mode returns how the kernel attached the program: Native or Generic. After
// Close it is Auto, the zero Mode.
func (p *Program) Mode() Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return Auto
	}
	return p.mode
}

// String describes what is attached, as in
//
//	eth0: native, UDP port 4789, XSKMAP of 8 slots
func (p *Program) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return p.ifname + ": closed"
	}
	with := ""
	if p.source.ifindex != 0 {
		with = ", metadata"
	}
	return fmt.Sprintf("%s: %v, %v%s, XSKMAP of %s", p.ifname, p.mode, p.filter, with, count(p.queues, "slot"))
}

// Close detaches the program and frees it and its XSKMAP. From then on every
// packet goes to the kernel; sockets that were registered receive no more, and
// remain to be closed by their owner. Close may be called again, to no effect.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	if err := p.release(); err != nil {
		return fmt.Errorf("bpf: detach %s: %w", p.ifname, err)
	}
	return nil
}

// release undoes what attach did, as far as it got.
func (p *Program) release() error {
	var err error
	if p.link >= 0 {
		err = p.link.destroy()
	}
	if p.image != nil {
		p.image.close()
	}
	if p.maps != nil {
		p.maps.close()
	}
	p.device.close()
	return err
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
