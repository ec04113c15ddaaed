package netstack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/go-xsk/xsk"
	"github.com/go-xsk/xsk/bpf"
	"github.com/go-xsk/xsk/internal/rights"
)

// Config says what Open opens.
type Config struct {
	// Addresses are the host's own, with the length of their network's prefix, IPv4
	// and IPv6. The kernel must not have the same ones, on any interface.
	Addresses []netip.Prefix
	// Gateways are where everything else goes: at most one of each family.
	Gateways []netip.Addr
	// DHCP asks for an IPv4 address, routes and name servers, beside Addresses, and
	// keeps the lease until Close gives it back. The Host has a client identifier of
	// its own (option 61), made from the MAC address and the same after a restart. An
	// address that somebody on the link has, by an ARP probe, is declined; one of this
	// machine's kernel is not asked for. A gateway of the lease goes before that of
	// Gateways. The kernel's own DHCP client loses nothing.
	DHCP bool
	// ShareAddresses allows Addresses that the kernel has, too. Without a Filter the
	// kernel loses all that is sent to them; with one, what the Filter takes.
	ShareAddresses bool

	Mode bpf.Mode // of the program; default Auto
	// Filter is what the program takes; nil: all that is for the addresses, with their
	// ARP and neighbour discovery (ND). With a Filter the addresses may be the kernel's,
	// and the Host hears a copy of the ARP and ND that the Filter leaves to the kernel,
	// by a packet socket that is open until Close: it finds its neighbours, and answers
	// for those addresses that the kernel does not have.
	Filter *bpf.Filter
	Queue  xsk.Config // of the queues; see Open
	Options
}

// Open opens the queues of an interface, gives them the traffic of the addresses,
// and starts a Host on them, which owns it all: Host.Close undoes everything.
// ctx bounds the opening only: waiting for the link, and for the first lease.
//
// By default these are all queues, with 16 MiB for each. Single packets are taken at
// once; while bursts are of six and more on average, as in a stream, they gather for
// 200 us, unless there are few frames to gather in (Linger and LingerBurst of
// Config.Queue; a Linger below 0 is none). Open sets XSKMap.
//
// An MTU that is more than a frame holds makes queues with BindMultiBuffer. It needs
// CAP_NET_RAW, CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON. Errors are those of
// bpf.Attach, bpf.Program.WaitLink, xsk.OpenAll, NewEndpoint and NewHost; EADDRINUSE
// for an address that the kernel has, with the interface's name; for DHCP what ended
// ctx, with the reason why the last offer was no good.
func Open(ctx context.Context, ifname string, cfg *Config) (*Host, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	// The network namespace belongs to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h, err := open(ctx, ifname, &c)
	if err != nil {
		return nil, fmt.Errorf("netstack: open %s: %w", ifname, err)
	}
	return h, nil
}

// opened is what Open has made for a Host, beside its Endpoint.
type opened struct {
	config  Config
	program *bpf.Program
	queues  xsk.Queues
	groups  groups
	kernel  *kernelAddresses
	copies  *copies     // nil if nobody wants any
	dhcp    *dhcpClient // nil without DHCP

	mu sync.Mutex // for update
}

func open(ctx context.Context, ifname string, c *Config) (h *Host, err error) {
	if len(c.Addresses) == 0 && !c.DHCP && c.Filter == nil {
		return nil, invalid("nothing would reach the host: name Addresses, set DHCP, or a Filter")
	}
	for _, p := range c.Addresses {
		if err := checkAddress(p); err != nil {
			return nil, err
		}
	}
	device, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, rights.Refused(err, "AF_NETLINK")
	}
	o := &opened{config: *c}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.queues.Close(), o.close())
		}
	}()
	if o.kernel, err = openKernelAddresses(); err != nil {
		return nil, err
	}
	for _, p := range c.Addresses {
		if err = o.mayHave(p.Addr()); err != nil {
			return nil, err
		}
	}
	if o.program, err = bpf.Attach(ifname, bpf.Options{Filter: o.filter(c.Addresses), Mode: c.Mode}); err != nil {
		return nil, err
	}
	if err = o.program.WaitLink(ctx); err != nil {
		return nil, err
	}
	options := c.Options
	if options.MTU == 0 {
		options.MTU = device.MTU
	}
	var ports []Port
	if ports, o.queues, err = openPorts(ifname, o.queueConfig(&options)); err != nil {
		return nil, err
	}
	if err = o.groups.open(device.Index); err != nil {
		return nil, err
	}
	e, err := NewEndpoint(ports, device.HardwareAddr, &options)
	if err != nil {
		return nil, err
	}
	if h, err = newHost(e, c.Addresses, c.Gateways); err != nil {
		return nil, err
	}
	h.opened = o
	if c.DHCP {
		o.dhcp = newDHCPClient(e)
	}
	if err = o.groups.join(c.Addresses); err == nil {
		err = o.openCopies(e, device.Index)
	}
	if err == nil && c.DHCP {
		err = h.startDHCP(ctx)
	}
	if err != nil {
		h.opened = nil // for the deferred function
		return nil, errors.Join(err, h.Close())
	}
	return h, nil
}

// What a queue's 16 MiB are cut into where a packet fits: many small frames, for a
// burst that comes while the program does not run is lost if there are too few.
const (
	smallFrame  = 2048
	smallFrames = 8192
	largeFrame  = 4096 // xsk's default
	longRing    = 4096
	xdpHeadroom = 256 // that the kernel keeps free

	// While packets come in a stream they gather: an acknowledgment, which wakes the
	// other side, is for 130 packets in place of 20.
	gathering = 200 * time.Microsecond
	stream    = 6    // packets of a burst, on average
	roomy     = 1024 // frames to receive into: five million packets a second, for so long
)

// queueConfig is the caller's, with what else is needed.
func (o *opened) queueConfig(options *Options) *xsk.Config {
	q := o.config.Queue
	q.XSKMap = o.program
	u := &q.UmemConfig
	if options.ChecksumOffload && u.TxMetadataLen == 0 {
		u.TxMetadataLen = 24
	}
	const withTag = ethernet + 4
	packet := options.MTU + withTag
	if u.FrameSize == 0 && u.Frames == 0 && packet <= smallFrame-u.Headroom-xdpHeadroom {
		u.FrameSize, u.Frames = smallFrame, smallFrames
		if u.FillSize == 0 {
			u.FillSize = longRing
		}
		if q.SocketConfig.RxSize == 0 {
			q.SocketConfig.RxSize = longRing
		}
	}
	memory := *u
	if q.Umem != nil {
		memory = q.Umem.Config()
	}
	size, headroom := cmp.Or(memory.FrameSize, largeFrame), memory.Headroom
	if packet > size-headroom-xdpHeadroom {
		q.SocketConfig.BindFlags |= xsk.BindMultiBuffer
	}
	switch {
	case q.Linger < 0:
		q.Linger = 0
	case q.Linger == 0 && cmp.Or(q.RxFrames, cmp.Or(memory.Frames, roomy*2)/2) >= roomy:
		q.Linger, q.LingerBurst = gathering, cmp.Or(q.LingerBurst, stream)
	}
	return &q
}

// filter is what is to come to the sockets.
func (o *opened) filter(addresses []netip.Prefix) bpf.Filter {
	if o.config.Filter != nil {
		return *o.config.Filter
	}
	var f bpf.Filter
	for _, p := range addresses {
		f.Hosts = append(f.Hosts, p.Addr())
	}
	if len(f.Hosts) == 0 {
		f.None = true
	}
	return f
}

// mayHave fails for an address that the Host must not have, because it is the kernel's.
func (o *opened) mayHave(a netip.Addr) error {
	if o.config.Filter != nil || o.config.ShareAddresses {
		return nil
	}
	if err := o.kernel.lacks(a); err != nil {
		return fmt.Errorf("%w; Config.ShareAddresses takes it nevertheless", err)
	}
	return nil
}

// update makes the program take what is for the addresses that h has by then: of
// several calls at once the last one knows all.
func (o *opened) update(h *Host) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	addresses := h.Addresses()
	if err := o.groups.join(addresses); err != nil {
		return err
	}
	o.copies.know(addresses)
	if o.config.Filter != nil {
		return nil
	}
	return o.program.Update(o.filter(addresses))
}

// String says what was bound.
func (o *opened) String() string {
	lines := []string{o.program.String()}
	for _, q := range o.queues {
		lines = append(lines, q.String())
	}
	return strings.Join(lines, "\n")
}

// stop ends the goroutine that keeps the lease.
func (o *opened) stop() { o.dhcp.stop() }

// close undoes the rest.
func (o *opened) close() error {
	err := errors.Join(o.groups.close(), o.copies.close(), o.kernel.close())
	if o.program != nil {
		err = errors.Join(err, o.program.Close())
	}
	return err
}
