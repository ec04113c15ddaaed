// Package pcapfilter sends the packets that a tcpdump expression matches to
// AF_XDP sockets. It is package bpf with another filter:
//
//	program, err := pcapfilter.Attach("eth0", pcapfilter.Options{
//		Filter: "udp port 53 or icmp",
//	})
//	if err != nil {
//		return err
//	}
//	defer program.Close()
//
// Like a bpf.Program, the Program is an xsk.XSKMap. What the expression does not
// match goes on to the kernel, and so does everything on a queue without a
// socket. A bpf_link holds the program, so the kernel removes it when the process
// ends in whatever way; a program that is on the interface already is never
// replaced.
//
// # What the expression sees
//
// The packet as the driver has it, from the Ethernet header on, as it arrived:
// nothing that this host sends. That is not always what tcpdump shows:
//
//   - A VLAN tag counts if it is in the packet. Then "vlan" and what follows it
//     match as pcap-filter(7) says, and an expression about IP that does not
//     say "vlan" does not match. But most NICs take the tag out before the
//     program runs, and a veth carries beside the packet what a VLAN interface
//     over its peer has put on: then the packet is an untagged one. ethtool -K
//     IFACE rxvlan off leaves the tag in; for a veth it is txvlan off, at the peer.
//   - Of a packet in several buffers (jumbo frames in native mode) it sees the
//     first, which holds the headers. What is beyond counts as missing, and
//     "len", "greater" and "less" are about the first buffer. In generic mode the
//     kernel makes one buffer of each packet, and the expression sees all of it.
//   - A fragment is a packet of its own. As in tcpdump, ports match in the first
//     one only; the others stay with the kernel, which then cannot put the
//     datagram together, nor can the program. "ip[6:2] & 0x1fff != 0" matches them.
//   - A packet too short for a byte that the expression looks at does not
//     match, also under "not", as in tcpdump.
//   - Behind IPv6 extension headers libpcap does not look for ports, and for
//     protocols behind that of a fragment only. "protochain" would, but is a
//     loop and an error here, and so is what asks for the kernel's own
//     knowledge ("inbound", "ifname").
//
// Filter.Match runs the program on a packet in the kernel, without an interface.
//
// # Dependencies
//
// The module is one of its own because it brings these:
//
//   - libpcap, through gopacket's cgo binding: the compiler that tcpdump itself
//     uses, so the language is whole and its errors are familiar. The compilers
//     in pure Go know part of the language. It needs libpcap-dev to build and
//     libpcap0.8 to run, and is linked dynamically: Debian's libpcap.a lacks what
//     it depends on, so there is no xsk_static here.
//   - cloudflare/cbpfc translates libpcap's classic BPF into code that the
//     kernel's verifier accepts, as Cloudflare uses it against floods. It comes
//     with cilium/ebpf, whose instructions it makes; so that also loads and
//     attaches the program, and libbpf has no part in this package. Its objects
//     are closed by the garbage collector unless held: this package holds them.
//   - package bpf, for its Mode and WaitLink.
package pcapfilter

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/closed"
)

// Options say what Attach attaches, and how.
type Options struct {
	Filter Filter   // what goes to the sockets; empty is an error
	Mode   bpf.Mode // default bpf.Auto
}

// A Program is attached to an interface and owns the XSKMAP where the sockets
// of that interface register. Its methods may be called from any goroutine.
//
// A Program lasts until Close or the end of the process; the garbage collector
// does not end it.
type Program struct {
	ifname  string
	ifindex int
	mode    bpf.Mode
	filter  Filter

	mu   sync.Mutex // guards the rest, which Close takes away
	xsks *ebpf.Map
	prog *ebpf.Program
	link link.Link
}

// alive keeps Programs from the garbage collector.
var alive sync.Map

// Attach compiles the expression, loads the program and attaches it to the
// interface, in the network namespace of the calling thread. It needs
// CAP_NET_ADMIN, CAP_BPF and, for most expressions, CAP_PERFMON. A native attach
// may take a second or so while the driver rebuilds its queues, and the link may
// be down after it: see WaitLink. The XSKMAP has as many slots as the interface
// can have queues.
//
// Errors wrap the errno: EINVAL for an expression that libpcap refuses, with
// libpcap's words, ENODEV for an unknown interface, EPERM without the
// capabilities, EBUSY if another program is attached, EOPNOTSUPP, ERANGE or
// ENOSPC if the driver refuses Native. errors.ErrUnsupported is wrapped for an
// expression of which no XDP program can be made, and for an interface whose
// packets have no Ethernet header.
func Attach(ifname string, o Options) (*Program, error) {
	p, err := attach(ifname, o)
	if err != nil {
		return nil, fmt.Errorf("pcapfilter: attach %s: %w", ifname, err)
	}
	alive.Store(p, nil)
	return p, nil
}

func attach(ifname string, o Options) (*Program, error) {
	if _, known := modeFlags[o.Mode]; !known {
		return nil, fmt.Errorf("%w: unknown mode %v; the modes are bpf.Auto, bpf.Native and bpf.Generic", unix.EINVAL, o.Mode)
	}
	// The network namespace and the capabilities belong to a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	d, err := deviceNamed(ifname)
	if err != nil {
		return nil, err
	}
	if err = d.checkKind(); err != nil {
		return nil, err
	}
	p := &Program{ifname: ifname, ifindex: d.index, filter: o.Filter}
	for _, a := range attempts[o.Mode] {
		if p.prog, p.xsks, err = o.Filter.load(max(d.queues, 1), xdpPass, a.frags); err != nil {
			return nil, err
		}
		p.link, err = link.AttachXDP(link.XDPOptions{Program: p.prog, Interface: d.index, Flags: modeFlags[a.mode]})
		if err == nil {
			break
		}
		p.release()
		if !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
	}
	if err != nil {
		return nil, d.explain(err, o.Mode)
	}
	if d, err = deviceAt(p.ifindex); err != nil {
		p.release()
		return nil, err
	}
	p.mode = d.mode
	return p, nil
}

// An attempt is a mode, and whether its program is for packets of several buffers.
type attempt struct {
	mode  bpf.Mode
	frags bool
}

// attempts are made in this order while the driver has no native mode for it. A
// program for packets of several buffers is for native mode only, where a large MTU
// takes it; in generic mode, on Linux 7.0 and 7.1, it can panic the machine.
var attempts = map[bpf.Mode][]attempt{
	bpf.Auto:    {{bpf.Native, true}, {bpf.Auto, false}},
	bpf.Native:  {{bpf.Native, true}},
	bpf.Generic: {{bpf.Generic, false}},
}

var modeFlags = map[bpf.Mode]link.XDPAttachFlags{
	bpf.Auto:    0,
	bpf.Native:  link.XDPDriverMode,
	bpf.Generic: link.XDPGenericMode,
}

// explain adds to the errno of an attach what the user can do about it.
func (d *device) explain(err error, mode bpf.Mode) error {
	hint := ""
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: an XDP program is attached already (ip link show %s); nothing was replaced", unix.EBUSY, d.name)
	case mode == bpf.Generic:
	case errors.Is(err, unix.EOPNOTSUPP):
		hint = "the driver has no native XDP, or refuses it as the interface is configured; bpf.Generic needs none"
	case errors.Is(err, unix.ERANGE):
		hint = "the MTU is too large for native XDP in this driver; lower it (on veth the peer's), or use bpf.Generic"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.ENOMEM):
		hint = "the driver has too few queues for native XDP; change them with ethtool -L, or use bpf.Generic"
	}
	if hint == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, hint)
}

// FileDescriptor returns the XSKMAP's descriptor, which stays the Program's; it
// makes a Program an xsk.XSKMap. After Close, and of a nil Program, it is -1.
func (p *Program) FileDescriptor() int {
	if p == nil {
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.xsks == nil {
		return -1
	}
	return p.xsks.FD()
}

// Ifindex returns the index of the interface that the program is on. Package xsk
// asks for it before it registers a socket of another one.
func (p *Program) Ifindex() int { return p.ifindex }

// Mode returns how the kernel attached the program: bpf.Native or bpf.Generic.
// After Close it is bpf.Auto, the zero Mode.
func (p *Program) Mode() bpf.Mode {
	if p.FileDescriptor() < 0 {
		return bpf.Auto
	}
	return p.mode
}

// WaitLink waits until the interface can carry packets: it is up, and has its
// carrier. It is for use after Attach, because many drivers reset the link to
// attach in native mode, and what is sent before it is back is lost.
//
// The error wraps the context's cause when that ends first, ENODEV when the
// interface is gone (deleted, renamed, or moved to another network namespace),
// and os.ErrClosed after Close.
func (p *Program) WaitLink(ctx context.Context) error {
	if p.FileDescriptor() < 0 {
		return fmt.Errorf("pcapfilter: wait for the link of %s: %w", p.ifname, closed.Err)
	}
	return bpf.WaitLink(ctx, p.ifname)
}

// String describes what is attached, as in
//
//	eth0: native, "udp port 53 or icmp"
func (p *Program) String() string {
	if p.FileDescriptor() < 0 {
		return p.ifname + ": closed"
	}
	return fmt.Sprintf("%s: %v, %q", p.ifname, p.mode, string(p.filter))
}

// Close detaches the program and frees it and its XSKMAP. From then on every
// packet goes to the kernel; sockets that were registered receive no more, and
// remain to be closed by their owner. Close may be called again, to no effect.
func (p *Program) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.xsks == nil {
		return nil
	}
	alive.Delete(p)
	if err := p.release(); err != nil {
		return fmt.Errorf("pcapfilter: detach %s: %w", p.ifname, err)
	}
	return nil
}

// release undoes what attach did, as far as it got.
func (p *Program) release() error {
	var err error
	if p.link != nil {
		// Detached first, for a child between fork and exec may hold it open.
		err = errors.Join(p.link.Detach(), p.link.Close())
	}
	err = errors.Join(err, p.prog.Close(), p.xsks.Close())
	p.link, p.prog, p.xsks = nil, nil, nil
	return err
}
