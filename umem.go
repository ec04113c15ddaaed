package xsk

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// UmemConfig describes a Umem. The zero value asks for libxdp's defaults
// (struct xsk_umem_config).
type UmemConfig struct {
	Frames         int       // number of frames; default 4096
	FrameSize      int       // bytes per frame: 2048 or 4096, or any number between with UmemUnalignedChunk; default 4096
	Headroom       int       // bytes kept free before a received packet, beside the kernel's 256; default 0; see NewUmem
	FillSize       int       // entries of the fill ring, a power of two; default 2048
	CompletionSize int       // entries of the completion ring, a power of two; default 2048
	Flags          UmemFlags // default 0
	HugePages      bool      // ask for huge pages (MAP_HUGETLB); see Umem.HugePages
	Area           []byte    // use this memory instead: page aligned, writable, outside the Go heap
	TxMetadataLen  int       // bytes before each packet for a TxRequest: 24, or a multiple of 8 from 16 to 248; default 0: none
	File           *os.File  // use this AF_XDP socket; default: open one, which takes CAP_NET_RAW
}

// xdpHeadroom is what the kernel keeps before every packet for an XDP program
// to grow into, beside the configured headroom (XDP_PACKET_HEADROOM).
const xdpHeadroom = 256

// smallestFrame is the kernel's XDP_UMEM_MIN_CHUNK_SIZE.
const smallestFrame = 2048

// A Umem is memory shared with the kernel, cut into frames that hold packets
// (struct xsk_umem). Its memory lies outside the Go heap.
//
// Bytes and the plain getters may be called from any goroutine, Bytes not beside
// Close; the rings from one at a time. The Umem belongs to the network namespace
// it was made in, where its first socket must be bound.
type Umem struct {
	// The rings of the first socket's queue. They exist before any socket, so
	// that frames can be posted first: some drivers want them at bind.
	Fill       *FillRing
	Completion *CompletionRing

	layout
	area     []byte
	headroom int
	txMeta   uint64              // TxMetadataLen
	mapped   []byte              // what Close unmaps; nil for the caller's Area
	heir     func(mapped []byte) // or leaves to the pool of the Queues on it
	huge     bool

	binding sync.Mutex // held by NewSocket, also while it waits
	mu      sync.Mutex // guards the rest, and libxdp's own state of the umem
	c       uintptr    // struct xsk_umem; 0 after Close
	fd      int
	netns   uint64
	leaked  bool          // libxdp counts a socket that it could not open
	queues  []*queueRings // those with living sockets, the first socket's first
	own     *queueRings   // Fill and Completion
	config  UmemConfig    // complete
	flags   BindFlags     // of the first bind, which later sockets inherit
	spent   error         // why no further socket can be bound
	tried   [2]int        // RX and TX ring sizes that a failed first bind has set up for good
	sockets int
}

// A queueKey tells queues apart: an interface may be renamed, and its index
// belongs to a network namespace.
type queueKey struct {
	netns   uint64 // the namespace's cookie
	ifindex int
	queue   int
}

// A queueRings is the fill and completion ring of one interface queue, shared
// by all sockets of one Umem on it. libxdp calls it a context.
type queueRings struct {
	c          uintptr // struct xskgo_rings
	fill       *FillRing
	completion *CompletionRing
	queueKey
	sockets int
	bound   bool // a socket has been bound with them
	program bool // libxdp's own program serves the queue
	closed  bool
}

func newQueueRings() *queueRings {
	q := &queueRings{c: newRings(), fill: new(FillRing), completion: new(CompletionRing)}
	q.fill.c, q.completion.c = ringsFill(q.c), ringsCompletion(q.c)
	return q
}

// close waits for the last ring call; libxdp unmaps the rings next.
func (q *queueRings) close() {
	if q.closed {
		return
	}
	q.closed = true
	q.fill.gate.close()
	q.completion.gate.close()
}

// NewUmem maps memory, unless cfg brings it, and registers it with the kernel
// (xsk_umem__create). A nil cfg means the defaults: 4096 frames of 4096 bytes.
// The most Headroom is what the kernel says: FrameSize-257, or FrameSize-704 where
// it keeps room behind a packet too, as Linux 6.18.44 does.
//
// It does not block. Errors wrap EINVAL for a value that breaks a rule, EPERM
// without CAP_NET_RAW, ENOBUFS when RLIMIT_MEMLOCK is too low for a program
// without CAP_IPC_LOCK, EFAULT for an Area the kernel cannot pin,
// EAFNOSUPPORT on a kernel without AF_XDP or where seccomp refuses the process such
// sockets (RestrictAddressFamilies= of a systemd unit), and errors.ErrUnsupported for a
// TxMetadataLen with libxdp before 1.5 or a kernel before 6.11.
//
// With a File, a socket that a privileged process has opened and handed over, the
// Umem and its first Socket need no capability at all (xsk_umem__create_with_fd,
// libxdp 1.4.0; errors.ErrUnsupported before it). The File stays the caller's:
// the Umem has a descriptor of its own, which Close closes. The queue stays bound
// until every copy is closed, also the other process's, so close the File soon.
// A File serves one Umem with one Socket: another would have to be opened.
func NewUmem(cfg *UmemConfig) (*Umem, error) {
	defer holdLog()()
	u, err := newUmem(cfg)
	if err != nil {
		return nil, failed("create umem", err)
	}
	return u, nil
}

func newUmem(cfg *UmemConfig) (*Umem, error) {
	var c UmemConfig
	if cfg != nil {
		c = *cfg
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	u := &Umem{
		layout:   newLayout(c.Frames, c.FrameSize, c.Flags),
		headroom: c.Headroom,
		txMeta:   uint64(c.TxMetadataLen),
	}
	if err := u.mapArea(&c); err != nil {
		return nil, err
	}
	socket, err := c.socket()
	if err != nil {
		u.unmap()
		return nil, err
	}
	u.own = newQueueRings()
	if u.c, u.fd, err = umemCreate(socket, u.area, u.own.c, &c); err != nil {
		release(u.own.c)
		u.unmap()
		return nil, explainUmem(err, &c)
	}
	u.Fill, u.Completion, u.config, u.netns = u.own.fill, u.own.completion, c, netns(u.fd)
	u.enlist(true)
	return u, nil
}

// complete fills in the defaults and checks every rule the kernel has, so that
// its bare EINVAL is never what the caller sees.
func (c *UmemConfig) complete() error {
	page := os.Getpagesize()
	if c.FrameSize == 0 {
		c.FrameSize = DefaultFrameSize
	}
	unaligned := c.Flags&UmemUnalignedChunk != 0
	switch {
	case c.Flags&^allUmemFlags != 0:
		return invalid("Flags %#x has unknown bits %#x", uint32(c.Flags), uint32(c.Flags&^allUmemFlags))
	case c.FrameSize < smallestFrame || c.FrameSize > page:
		return invalid("FrameSize %d is outside %d to %d, the page size", c.FrameSize, smallestFrame, page)
	case !unaligned && c.FrameSize&(c.FrameSize-1) != 0:
		return invalid("FrameSize %d is not a power of two; other sizes need UmemUnalignedChunk", c.FrameSize)
	case c.Headroom < 0 || c.Headroom >= c.FrameSize-xdpHeadroom:
		return invalid("Headroom %d leaves no room for a packet: a frame of %d holds %d for XDP and the rest",
			c.Headroom, c.FrameSize, xdpHeadroom)
	}
	if err := c.completeTxMetadata(); err != nil {
		return err
	}
	if err := ringSize("FillSize", &c.FillSize); err != nil {
		return err
	}
	if err := ringSize("CompletionSize", &c.CompletionSize); err != nil {
		return err
	}
	return c.completeArea(page)
}

func (c *UmemConfig) completeArea(page int) error {
	if c.Area == nil {
		if c.Frames == 0 {
			c.Frames = DefaultFrames
		}
		if c.Frames < 0 || c.Frames > (1<<addrOffsetShift)/c.FrameSize {
			return invalid("Frames %d is not a number of frames", c.Frames)
		}
		return nil
	}
	n := len(c.Area) / c.FrameSize
	switch start := uintptr(unsafe.Pointer(unsafe.SliceData(c.Area))); {
	case c.HugePages:
		return invalid("HugePages goes with memory that NewUmem maps, not with Area")
	case start%uintptr(page) != 0:
		return invalid("Area begins at %#x, which is not a multiple of the page size %d", start, page)
	case n == 0:
		return invalid("Area of %d bytes is smaller than a frame of %d", len(c.Area), c.FrameSize)
	case len(c.Area)%c.FrameSize != 0 && c.Flags&UmemUnalignedChunk == 0:
		return invalid("Area of %d bytes is not a multiple of FrameSize %d", len(c.Area), c.FrameSize)
	case c.Frames != 0 && c.Frames != n:
		return invalid("Frames is %d, but Area holds %d frames of %d bytes", c.Frames, n, c.FrameSize)
	}
	c.Frames = n
	return nil
}

// hugePage is the size MAP_HUGETLB rounds to on amd64 and arm64.
const hugePage = 2 << 20

// mapArea maps shared memory, so that a forked child never takes a page the
// kernel has pinned away from its parent.
func (u *Umem) mapArea(c *UmemConfig) error {
	if c.Area != nil {
		u.area = c.Area
		return nil
	}
	var err error
	if u.mapped, u.huge, err = mapFrames(c); err != nil {
		return err
	}
	size := c.Frames * c.FrameSize
	u.area = u.mapped[:size:size]
	return nil
}

// mapFrames maps memory for the frames, in huge pages if c asks for them and
// there are any.
func mapFrames(c *UmemConfig) (mapping []byte, huge bool, err error) {
	const prot, flags = unix.PROT_READ | unix.PROT_WRITE, unix.MAP_SHARED | unix.MAP_ANONYMOUS | unix.MAP_POPULATE
	size := c.Frames * c.FrameSize
	if c.HugePages {
		rounded := (size + hugePage - 1) &^ (hugePage - 1)
		if mapping, err = unix.Mmap(-1, 0, rounded, prot, flags|unix.MAP_HUGETLB); err == nil {
			return mapping, true, nil
		}
	}
	if mapping, err = unix.Mmap(-1, 0, size, prot, flags); err != nil {
		return nil, false, explained(err, "map %d frames of %d bytes", c.Frames, c.FrameSize)
	}
	return mapping, false, nil
}

func (u *Umem) unmap() {
	if u.mapped != nil {
		_ = unix.Munmap(u.mapped)
	}
	u.area, u.mapped = nil, nil
}

// explainUmem says what the kernel's answer to XDP_UMEM_REG means.
func explainUmem(err error, c *UmemConfig) error {
	switch {
	case c.File != nil && (err == syscall.ENOSYS && c.TxMetadataLen == 0 || err == syscall.EBUSY):
		return explainFile(err, c.File)
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EAFNOSUPPORT):
		return explainSocket(err, ", or UmemConfig.File: one from a process that has it"+alsoToLock(c.Frames*c.FrameSize))
	case errors.Is(err, syscall.ENOBUFS):
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit)
		return fmt.Errorf("%s: %w", tooMuchToLock(c.Frames*c.FrameSize, limit.Cur), err)
	case errors.Is(err, syscall.EFAULT) && c.Area != nil:
		return explained(err, "the kernel cannot pin Area: it must be writable, and not a shared mapping of a file on disk")
	case c.TxMetadataLen > 0 && unsupportedTxMetadata(err) != nil:
		return unsupportedTxMetadata(err)
	case errors.Is(err, syscall.EINVAL):
		return explained(err, "refused by the kernel: Headroom %d may be too much for a frame of %d on this kernel, or Flags %#x too new for it",
			c.Headroom, c.FrameSize, uint32(c.Flags))
	}
	return err
}

// Bytes returns the packet, or the fragment, that d names (xsk_umem__get_data);
// its capacity ends where its frame ends. Writing to it is the caller's right only
// while the caller owns the frame, and using it after Close faults. Bytes
// panics if d does not lie inside one frame, and returns nil after Close.
func (u *Umem) Bytes(d Desc) []byte {
	start, end := u.packet(d, len(u.area))
	if start > end || end > uint64(len(u.area)) || uint64(d.Len) > end-start {
		return u.outside(d)
	}
	return u.area[start : start+uint64(d.Len) : end]
}

// outside is Bytes for a descriptor that names no packet of u.
func (u *Umem) outside(d Desc) []byte {
	if u.area == nil {
		return nil
	}
	panic(fmt.Sprintf("xsk: Umem.Bytes: %d bytes at %#x are not inside one frame of a Umem of %d frames of %d bytes",
		d.Len, uint64(d.Addr), u.frames, u.frameSize))
}

// FrameSize is the size of a frame in bytes.
func (u *Umem) FrameSize() int { return int(u.frameSize) }

// Frames is the number of frames. Frame i begins at Addr(i * FrameSize).
func (u *Umem) Frames() int { return u.frames }

// MaxPacket is the largest packet, in bytes, that one frame can receive: the
// frame less the headroom and the 256 bytes that the kernel keeps for XDP. A
// longer one is dropped (Stats.RxDropped), or with [BindMultiBuffer] spread
// over several frames.
func (u *Umem) MaxPacket() int { return int(u.frameSize) - u.headroom - xdpHeadroom }

// HugePages reports whether the memory lies in huge pages. When
// [UmemConfig.HugePages] asks for them and the machine has none free, NewUmem
// falls back to ordinary pages, and this says so.
func (u *Umem) HugePages() bool { return u.huge }

// Config is the Umem's configuration with the defaults filled in.
func (u *Umem) Config() UmemConfig { return u.config }

// FD is the Umem's file descriptor (xsk_umem__fd), -1 after Close. It stays the
// Umem's; do not close it.
func (u *Umem) FD() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.c == 0 {
		return -1
	}
	return u.fd
}

// unbound reports whether no socket was ever bound to u.
func (u *Umem) unbound() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.own.bound
}

// String describes the Umem, as in "4096 frames of 2048 bytes, huge pages".
func (u *Umem) String() string {
	s := fmt.Sprintf("%d frames of %d bytes", u.frames, u.frameSize)
	if u.huge {
		s += ", huge pages"
	}
	return s
}

// Close ends the Umem and unmaps its memory, unless that came by
// [UmemConfig.Area] (xsk_umem__delete). While a Socket uses it Close fails with
// EBUSY and changes nothing. Memory with frames that were lent by a Queue or are
// the program's stays until they have come back. Close may be called again, and
// then does nothing. The kernel frees the queue of the first Socket some 20 to
// 40 ms later.
func (u *Umem) Close() error {
	defer holdLog()()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.c == 0 {
		return nil
	}
	if u.sockets > 0 {
		return failed("close umem", explained(syscall.EBUSY, "%s still open on it", plural(u.sockets, "socket")))
	}
	if u.leaked {
		return failed("close umem", explained(syscall.EBUSY, "libxdp lost count of its sockets when the process had no descriptor left for one"))
	}
	u.own.close()
	if err := umemDelete(u.c); err != nil {
		return failed("close umem", err)
	}
	u.c, u.fd = 0, -1
	u.enlist(false)
	release(u.own.c)
	if u.heir != nil && u.mapped != nil {
		u.heir(u.mapped)
		u.area, u.mapped = nil, nil
	}
	u.unmap()
	return nil
}
