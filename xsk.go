// Package xsk binds AF_XDP, the Linux socket family that hands raw frames from
// a network driver straight to a program, past the kernel's network stack. It
// wraps libxdp's xsk_umem and xsk_socket, and moves a whole burst of packets
// with every crossing into C.
//
// # AF_XDP in one screen
//
// A [Umem] is memory that program and kernel share, cut into frames of equal
// size. A [Socket] is bound to one queue of one interface. Between the two sides
// lie four rings, and what travels through them is the address of a frame, never
// its bytes:
//
//	      packets in                               packets out
//	          |                                         ^
//	+---------v--------------- kernel ------------------|---------+
//	|   XDP program --- not for a Socket ---> stack     |         |
//	|         | redirected, by an XSKMAP                |         |
//	|   written into an empty frame              sent from it     |
//	+----^----|-----------------------------------------^----|----+
//	     |    |                                         |    |
//	   Fill   Rx        addresses of frames            Tx   Completion
//	     |    |                                         |    |
//	+----|----v-----------------------------------------|----v----+
//	|                          program                            |
//	|     Umem:  | frame 0 | frame 1 | frame 2 | frame 3 | ...    |
//	+-------------------------------------------------------------+
//
// The life of a frame:
//
//  1. The program posts the address of an empty frame to the [FillRing].
//  2. A packet arrives on the queue. The XDP program of the interface redirects it
//     to the Socket, and the kernel copies it into the frame; in zero copy the NIC
//     has written it there.
//  3. Its [Desc], address and length, comes out of the [RxRing]. The program reads
//     and changes the bytes ([Umem.Bytes]), and posts the frame again (1) or sends it.
//  4. To send a frame, received or not, it queues a Desc on the [TxRing] and kicks
//     the kernel.
//  5. Once it is sent, its address comes back on the [CompletionRing], and all
//     begins again.
//
// So a frame has one owner at a time, the program or the kernel. Whoever posts an
// address twice, or writes to a frame the kernel owns, corrupts a packet.
//
// The XDP program decides which packets come: no program, no packets. It runs in
// the driver (native mode), or in the network stack before all else (generic mode),
// which every interface can do. Package [github.com/go-xsk/xsk/bpf] attaches one
// that takes what a filter names. A packet that a Socket gets is taken from the
// kernel; what the host itself sends never comes.
//
// # Queues
//
// A [Queue] does all of these steps, and keeps the owner of every frame, so that
// none is lost or used by two. This counts what comes to UDP port 4789:
//
//	program, err := bpf.Attach("eth0", bpf.Options{Filter: bpf.Filter{UDPPorts: []uint16{4789}}})
//	// ...
//	q, err := xsk.Open("eth0", 0, &xsk.Config{XSKMap: program})
//	// ...
//	for frames := make([]xsk.Frame, 64); ; {
//		n, err := q.Receive(frames) // waits for a packet, lends what came
//		// ...
//		packets += n
//	}
//
// [Queue.Receive] lends packets as [Frame] values until the next Receive,
// [Queue.Send] takes frames away, [Queue.Alloc] gives empty ones, and [Frame.Keep]
// and [Free] end a loan. Nothing else happens to a frame while the Queue is open:
//
//	            program                   |  kernel
//	free --Alloc--> user -------Send------+-> tx ----> NIC
//	                 ^                    |
//	                 | Keep               |
//	                loan -------Send------+-> tx ----> NIC
//	                 ^ |                  |
//	                 | +---next Receive---+-> rx (fill ring)
//	                 +---------Receive----+-- rx <---- NIC
//	free ---------------inside Receive----+-> rx (fill ring)
//	free <---Free-- user, loan            |
//	free <------------inside Send, Alloc--+-- tx, once it is sent (completion ring)
//
// Whoever hands received frames on lends them with a [Loan], on the same terms.
//
// # Rings
//
// Below the Queue are libxdp's own nouns, one Go name for each C name.
// [Socket.RxBurst] and [Socket.TxBurst] do one direction's steps in a single
// crossing; the rings do each step by itself. Neither ever blocks;
// [Socket.PollRx] and [Socket.PollTx] wait in Go's own poller, which holds no
// thread. Any XSKMAP will do, see [Socket.UpdateXSKMap], and [NewSocket] lets
// libxdp attach its own program unless told not to.
//
// # Metadata
//
// The bytes before a packet can carry what the device knows of it and what it is
// to do with it. A received packet has there what the XDP program wrote: with
// bpf.Options.Metadata the time, the hash and the VLAN tag ([Frame.RxMetadata],
// [Umem.RxMetadata]), with a program of one's own anything ([Frame.Metadata],
// [Umem.Metadata]). A packet to be sent has there a [TxRequest]: a checksum to fill
// in, a timestamp to give back, a time to be sent at ([Frame.Request] and
// [Queue.TxTimestamps], [Umem.SetTxMetadata] and [Umem.TxTimestamp]); that takes
// [UmemConfig.TxMetadataLen], libxdp 1.5 and Linux 6.11.
//
// # Rules
//
// Each ring, and each direction of a Socket, belongs to one goroutine at a time,
// and misuse shows under the race detector. Receive of a Queue does, too, but there
// it does not show; its other methods may be called from any. Close may be called
// from anywhere, and after it every method answers [os.ErrClosed] or zero; only
// bytes that [Umem.Bytes] returned must not be in use when the Umem is closed.
//
// Nothing is released by the garbage collector, because the NIC may still write
// there: close sockets first, then their Umem. The package prints nothing, starts
// no goroutine and changes no resource limit. (libbpf may print, when libxdp
// attaches its own program; see [SetLibbpfLogger].)
//
// Errors name the operation, the interface, the queue and the rule that was
// broken, and wrap the kernel's errno for [errors.Is]. What this kernel or libxdp
// lacks wraps [errors.ErrUnsupported] and names the version that has it. The error after
// Close is [os.ErrClosed] and [net.ErrClosed] alike.
//
// # What the interface does
//
// A NIC drops what is addressed to another station before any program sees it: for
// a bridge or a mirror switch the interface to promiscuous yourself (ip link set
// DEV promisc on). The other way round, a packet from a local veth or virtio sender
// may have an unfinished checksum, which no receiver beyond will take: switch that
// sender's offload off (ethtool -K DEV tx off).
//
// While an interface is down, sending waits, and what is in the TX ring goes out
// when it is up again. While it is up without a carrier the driver drops what it
// is given, which counts as Dropped. Receiving just waits, both times. When it is
// removed or moved to another namespace, everything answers ENODEV.
//
// The pages under docs answer more: troubleshooting.md what goes wrong, nic.md how
// a NIC is set up, porting.md where each name of xsk.h went.
package xsk

import (
	"fmt"
	"syscall"
)

// libxdp's defaults (XSK_RING_CONS__DEFAULT_NUM_DESCS,
// XSK_UMEM__DEFAULT_FRAME_SIZE), which a zero config field stands for.
const (
	DefaultRingSize  = 2048 // entries of each ring
	DefaultFrameSize = 4096 // bytes of a frame
	DefaultFrames    = 4096 // frames of a Umem
)

// A Desc names one packet, or one fragment of a packet, in a Umem. It is
// struct xdp_desc, bit for bit.
type Desc struct {
	Addr    Addr   // where the packet begins
	Len     uint32 // bytes
	Options uint32 // PktContd, TxMetadata
}

// Options of a Desc.
const (
	PktContd   = 1 << 0 // the packet goes on in the next Desc (XDP_PKT_CONTD)
	TxMetadata = 1 << 1 // metadata stands before the packet (XDP_TX_METADATA)
)

// BindFlags choose how a Socket binds (sxdp_flags of struct sockaddr_xdp).
// None of them lets the kernel use zero copy where the driver has it and copy
// where not. XDP_SHARED_UMEM is missing because libxdp sets it by itself.
type BindFlags uint16

const (
	BindCopy        BindFlags = 1 << 1 // copy mode only (XDP_COPY)
	BindZeroCopy    BindFlags = 1 << 2 // zero copy or an error (XDP_ZEROCOPY)
	BindNeedWakeup  BindFlags = 1 << 3 // the kernel says when it needs a kick (XDP_USE_NEED_WAKEUP)
	BindMultiBuffer BindFlags = 1 << 4 // packets may span frames; kernel 6.6 (XDP_USE_SG)

	allBindFlags = BindCopy | BindZeroCopy | BindNeedWakeup | BindMultiBuffer
)

// XDPFlags choose how libxdp attaches its own program (XDP_FLAGS_*). They have
// no effect with [SocketConfig.InhibitProgLoad]. None of the three modes means
// native mode, as in libxdp.
type XDPFlags uint32

const (
	XDPUpdateIfNoExist XDPFlags = 1 << 0 // never replace a program (XDP_FLAGS_UPDATE_IF_NOEXIST)
	XDPSKBMode         XDPFlags = 1 << 1 // generic mode (XDP_FLAGS_SKB_MODE)
	XDPDrvMode         XDPFlags = 1 << 2 // native mode, in the driver (XDP_FLAGS_DRV_MODE)
	XDPHWMode          XDPFlags = 1 << 3 // offloaded to the NIC (XDP_FLAGS_HW_MODE)
	XDPReplace         XDPFlags = 1 << 4 // replace a known program (XDP_FLAGS_REPLACE)

	xdpModes    = XDPSKBMode | XDPDrvMode | XDPHWMode
	allXDPFlags = XDPUpdateIfNoExist | xdpModes | XDPReplace
)

// UmemFlags choose the layout of a Umem (XDP_UMEM_*).
type UmemFlags uint32

const (
	// Frames of any size from 2048 bytes to a page, at any address
	// (XDP_UMEM_UNALIGNED_CHUNK_FLAG). With zero copy it takes huge pages: a packet
	// across two pages that are apart in memory is not sent (Stats.TxInvalidDescs),
	// a frame across them not received into.
	UmemUnalignedChunk UmemFlags = 1 << 0
	// Copy mode computes a requested checksum in software; kernel 6.8
	// (XDP_UMEM_TX_SW_CSUM).
	UmemTxSWCsum UmemFlags = 1 << 1
	// There is TX metadata; UmemConfig.TxMetadataLen sets it by itself; kernel 6.11
	// (XDP_UMEM_TX_METADATA_LEN).
	UmemTxMetadataLen UmemFlags = 1 << 2

	allUmemFlags = UmemUnalignedChunk | UmemTxSWCsum | UmemTxMetadataLen
)

// failed wraps err, if any, as "xsk: <operation>: <cause>".
func failed(operation string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("xsk: %s: %w", operation, err)
}

// invalid is an EINVAL that says which rule was broken, found before the
// kernel was asked.
func invalid(format string, args ...any) error {
	return explained(syscall.EINVAL, format, args...)
}

// explained puts an explanation before an errno.
func explained(errno error, format string, args ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), errno)
}

// plural is "1 queue" or "2 queues".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// maxRingSize is a bound on bad input: 16 MiB of kernel memory for descriptors.
const maxRingSize = 1 << 20

// ringSize checks *size and gives a zero its default.
func ringSize(name string, size *int) error {
	if *size == 0 {
		*size = DefaultRingSize
	}
	switch {
	case *size < 0 || *size&(*size-1) != 0:
		return invalid("%s %d is not a power of two", name, *size)
	case *size > maxRingSize:
		return invalid("%s %d is more than %d entries; the kernel would allocate them all", name, *size, maxRingSize)
	}
	return nil
}
