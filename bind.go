package xsk

import (
	"fmt"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-xsk/xsk/internal/closed"
	"github.com/go-xsk/xsk/internal/rights"
)

// NewSocket binds a Socket to a queue of the interface, on u
// (xsk_socket__create, xsk_socket__create_shared). A nil cfg means the
// defaults. Unless cfg inhibits it, libxdp attaches its own program, in native
// mode if XDPFlags names none.
//
// The first Socket of a Umem uses the Umem's rings. A further one on another
// queue or interface brings its own (XDP_SHARED_UMEM); one on the same queue
// shares the first's and is never served by libxdp's program, nor may the first
// be, because libxdp would free it twice: register both with
// [Socket.UpdateXSKMap]. Later sockets inherit the first one's BindFlags.
//
// A queue that was closed a moment ago is still busy in the kernel, for some 20
// to 40 ms, so NewSocket waits for it up to a second before it answers EBUSY, and says
// who holds it, as far as can be known. If nobody is seen to, a busy machine's kernel
// may be late: then it waits up to 5 seconds. Otherwise it does not block.
//
// Errors wrap ENODEV for an unknown interface, EINVAL for a value that breaks a
// rule, EOPNOTSUPP where the driver has no zero copy or no native mode, EPERM
// with the capability that is missing, os.ErrClosed on a closed Umem.
func NewSocket(ifname string, queue int, u *Umem, cfg *SocketConfig) (*Socket, error) {
	defer holdLog()()
	name := fmt.Sprintf("%s queue %d", ifname, queue)
	var c SocketConfig
	if cfg != nil {
		c = *cfg
	}
	s, err := newSocket(ifname, queue, u, &c)
	if err != nil {
		return nil, failed("bind "+name, err)
	}
	return s, nil
}

func newSocket(ifname string, queue int, u *Umem, c *SocketConfig) (*Socket, error) {
	if u == nil {
		return nil, invalid("the Umem is nil")
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	ifindex, err := lookupInterface(ifname)
	if err != nil {
		return nil, err
	}
	n, err := countQueues(ifname, ifindex)
	if err != nil {
		return nil, err
	}
	if queue < 0 || queue >= n {
		return nil, invalid("%s has %s, numbered from 0", ifname, plural(n, "queue"))
	}
	u.binding.Lock()
	defer u.binding.Unlock()
	patience := busyPatience
	for start := time.Now(); ; time.Sleep(busyPause) {
		s, busy, err := u.bind(ifname, ifindex, queue, *c)
		if !busy {
			return s, err
		}
		if time.Since(start) < patience {
			continue
		}
		holder, known := u.holderOf(ifindex, queue)
		if known || patience == closePatience {
			return nil, explained(syscall.EBUSY, "%s; waited %v for it", holder, patience)
		}
		patience = closePatience
	}
}

// complete fills in the defaults and checks what the kernel would refuse with a
// bare EINVAL.
func (c *SocketConfig) complete() error {
	if err := ringSize("RxSize", &c.RxSize); err != nil {
		return err
	}
	if err := ringSize("TxSize", &c.TxSize); err != nil {
		return err
	}
	mode := c.XDPFlags & xdpModes
	switch {
	case c.RxOnly && c.TxOnly:
		return invalid("RxOnly and TxOnly together leave no ring")
	case c.BindFlags&^allBindFlags != 0:
		return invalid("BindFlags %#x has unknown bits %#x", uint16(c.BindFlags), uint16(c.BindFlags&^allBindFlags))
	case c.BindFlags&BindCopy != 0 && c.BindFlags&BindZeroCopy != 0:
		return invalid("BindCopy and BindZeroCopy exclude each other")
	case c.XDPFlags&^allXDPFlags != 0:
		return invalid("XDPFlags %#x has unknown bits %#x", uint32(c.XDPFlags), uint32(c.XDPFlags&^allXDPFlags))
	case mode&(mode-1) != 0:
		return invalid("XDPFlags %#x names more than one of XDPSKBMode, XDPDrvMode and XDPHWMode", uint32(c.XDPFlags))
	}
	return nil
}

// ringsFor finds the rings that a socket on the queue uses, or makes them, and
// refuses what libxdp and the kernel cannot do.
func (u *Umem) ringsFor(key queueKey, c *SocketConfig) (*queueRings, error) {
	if u.c == 0 {
		return nil, explained(closed.Err, "the Umem")
	}
	if u.spent != nil {
		return nil, u.spent
	}
	if !u.own.bound {
		if err := u.sameSizes(c); err != nil {
			return nil, err
		}
		if key.netns != u.netns {
			return nil, invalid("the Umem was made in another network namespace; its first socket must be bound there")
		}
		u.own.queueKey = key
		return u.own, nil
	}
	if c.BindFlags != 0 && c.BindFlags != u.flags {
		return nil, invalid("BindFlags %#x differ from those of the Umem's first socket, %#x, which this one inherits",
			uint16(c.BindFlags), uint16(u.flags))
	}
	c.BindFlags = u.flags
	for _, q := range u.queues {
		if q.queueKey != key {
			continue
		}
		if q != u.own {
			return nil, invalid("the kernel lets only the queue of a Umem's first socket have several")
		}
		// Sockets on one queue share libxdp's record of its program, and each
		// delete frees what that holds: no program may come into it.
		if q.program {
			return nil, invalid("libxdp's own program serves this queue, and libxdp would free it twice; to share a queue, make its first socket with InhibitProgLoad")
		}
		c.InhibitProgLoad = true
		return q, nil
	}
	if u.own.queueKey == key {
		return nil, invalid("the Umem's first socket was on this queue and is closed; a queue is free again once its Umem is closed")
	}
	q := newQueueRings()
	q.queueKey = key
	return q, nil
}

// sameSizes holds c against an earlier bind of the Umem's first socket that
// failed: the rings it made stay, with the sizes they have.
func (u *Umem) sameSizes(c *SocketConfig) error {
	for i, size := range c.sizes() {
		if made := u.tried[i]; made != 0 && size != 0 && size != made {
			return invalid("ring size %d: an earlier attempt to bind this Umem has made that ring with %d entries; keep it, or make a new Umem",
				size, made)
		}
	}
	return nil
}

// sizes are the entries of the RX and the TX ring; 0 for a ring left out.
func (c *SocketConfig) sizes() [2]int {
	sizes := [2]int{c.RxSize, c.TxSize}
	if c.TxOnly {
		sizes[0] = 0
	}
	if c.RxOnly {
		sizes[1] = 0
	}
	return sizes
}

// How long NewSocket waits for a queue that the kernel has not freed yet. It
// frees one from a work queue, 20 to 40 ms after the last close.
const (
	busyPatience  = time.Second
	closePatience = 5 * time.Second // where nobody is seen to hold the queue
	busyPause     = 2 * time.Millisecond
)

// bind makes one attempt to create the socket. busy means that the queue is held
// by another, which may pass.
func (u *Umem) bind(ifname string, ifindex, queue int, c SocketConfig) (s *Socket, busy bool, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	reserve, err := u.reserve()
	if err != nil {
		return nil, false, explainBind(err, ifindex, &c)
	}
	rings, err := u.ringsFor(queueKey{netns(reserve), ifindex, queue}, &c)
	if err != nil {
		_ = unix.Close(reserve)
		return nil, false, err
	}
	s = &Socket{
		name:   fmt.Sprintf("%s queue %d", ifname, queue),
		ifname: ifname,
		umem:   u,
		rings:  rings,
		c:      newSocketHandle(),
	}
	if busy, err = u.create(s, ifname, reserve, &c); err != nil || busy {
		release(s.c)
		if rings.sockets == 0 && rings != u.own {
			release(rings.c)
		}
		return nil, busy, err
	}
	u.add(s, &c)
	return s, false, nil
}

// reserve opens a socket to hold the place of libxdp's, and to tell the network
// namespace. libxdp counts a socket before it opens one, and does not count it
// back if that fails: the Umem could never be closed. So there must be room, and
// the right to do it. Only the first socket of a Umem is open already.
func (u *Umem) reserve() (int, error) {
	if !u.own.bound {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == syscall.EAFNOSUPPORT { // libxdp needs one, too
			err = rights.Refused(err, "AF_UNIX")
		}
		return fd, err
	}
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err == syscall.EAFNOSUPPORT || err == syscall.EACCES {
		err = explainSocket(err, "")
	}
	return fd, err
}

// create calls libxdp and makes sense of its answer.
func (u *Umem) create(s *Socket, ifname string, reserve int, c *SocketConfig) (busy bool, err error) {
	shared := u.own.bound
	rings := s.rings.c
	if !shared {
		rings = 0
	}
	err = socketCreate(s.c, ifname, s.rings.queue, u.c, rings, reserve, c)
	switch {
	case err == nil:
		return false, nil
	case shared && (err == syscall.EMFILE || err == syscall.ENFILE):
		u.leaked = true
	case shared && err == syscall.EBUSY && !c.InhibitProgLoad && foreignProgram(s.rings.ifindex) != "":
		return false, explainProgram(err, s.rings.ifindex)
	case shared && err == syscall.EBUSY:
		return true, nil
	case shared:
	case isBound(u.fd):
		// libxdp binds before it attaches its program, and leaves the Umem's
		// socket bound when that fails.
		u.spent = invalid("an earlier attempt bound this Umem and then failed; close it and make a new one")
		return false, explainProgram(err, s.rings.ifindex)
	case err != syscall.EMFILE && err != syscall.ENFILE && err != syscall.ENOMEM && err != syscall.ENOBUFS:
		for i, size := range c.sizes() {
			u.tried[i] = max(u.tried[i], size)
		}
	}
	if err == syscall.EBUSY {
		return true, nil
	}
	if other := elsewhere(u.fd, ifname, err); other != nil {
		return false, other
	}
	if c.BindFlags&BindZeroCopy != 0 && (err == syscall.EOPNOTSUPP || err == syscall.ENOENT || err == syscall.EINVAL && c.BindFlags&BindMultiBuffer == 0) {
		return false, explained(err, "no zero copy: %s; BindCopy always works", u.whyCopy(s.rings.ifindex, c.BindFlags))
	}
	return false, explainBind(err, s.rings.ifindex, c)
}

// add enters a bound socket into the Umem's books. Called with u.mu held.
func (u *Umem) add(s *Socket, c *SocketConfig) {
	q := s.rings
	if q.sockets == 0 {
		u.queues = append(u.queues, q)
	}
	if !u.own.bound {
		u.own.bound, u.flags = true, c.BindFlags
	}
	q.sockets++
	u.sockets++
	q.program = !c.InhibitProgLoad
	s.fd = socketFD(s.c)
	s.Fill, s.Completion = q.fill, q.completion
	s.Rx, s.Tx = new(RxRing), new(TxRing)
	if u.txMeta > 0 {
		s.Tx.checked = u
	}
	s.about = "copy"
	if zc, err := zeroCopy(s.fd); err == nil && zc {
		s.about = "zero copy"
	}
	sizes := c.sizes()
	if sizes[0] != 0 {
		s.Rx.c = socketRx(s.c)
		s.about += fmt.Sprintf(", rx %d", sizes[0])
	}
	if sizes[1] != 0 {
		s.Tx.c, s.txSize = socketTx(s.c), sizes[1]
		s.about += fmt.Sprintf(", tx %d", sizes[1])
	}
}

// remove deletes a socket whose own rings are closed. Called with u.mu held.
func (u *Umem) remove(s *Socket) {
	q := s.rings
	q.sockets--
	u.sockets--
	if q.sockets == 0 {
		q.close()
		for i := range u.queues {
			if u.queues[i] == q {
				u.queues = append(u.queues[:i], u.queues[i+1:]...)
				break
			}
		}
	}
	socketDelete(s.c)
	release(s.c)
	if q.sockets == 0 && q != u.own {
		release(q.c)
	}
	if u.sockets == 0 {
		u.spent = invalid("the Umem's last socket is closed, and libxdp binds no other to it; close it and make a new one")
	}
}

// explainBind says what the kernel's answer to a bind means.
func explainBind(err error, ifindex int, c *SocketConfig) error {
	switch {
	case (err == syscall.EPERM || err == syscall.EAFNOSUPPORT || err == syscall.EACCES) && c.InhibitProgLoad:
		return explainSocket(err, "")
	case err == syscall.EPERM:
		return explained(err, "an AF_XDP socket needs CAP_NET_RAW, and libxdp's program CAP_NET_ADMIN and CAP_BPF")
	case err == syscall.EINVAL && c.BindFlags&BindMultiBuffer != 0:
		return explained(err, "refused by the kernel: BindMultiBuffer needs Linux 6.6")
	case err == syscall.EMFILE, err == syscall.ENFILE:
		return explained(err, "no file descriptor left for the socket")
	case err == syscall.EBADF:
		return explained(err, "the interface of the Umem's first socket is gone; make a new Umem")
	case c.InhibitProgLoad:
		return err
	}
	return explainProgram(err, ifindex)
}

// explainProgram says why libxdp could not attach its program.
func explainProgram(err error, ifindex int) error {
	switch err {
	case syscall.EPERM:
		return explained(err, "libxdp's program needs CAP_NET_ADMIN and CAP_BPF")
	case syscall.EAFNOSUPPORT:
		return rights.Refused(err, "AF_NETLINK")
	case syscall.EOPNOTSUPP:
		return explained(err, "libxdp's program: the driver has no native XDP; SocketConfig.XDPFlags: XDPSKBMode attaches it in generic mode")
	case syscall.EBUSY, syscall.EEXIST:
		return explained(err, "libxdp's program: XDP program %s is on the interface, and was not replaced", foreignProgram(ifindex))
	case syscall.ENOENT:
		return explained(err, "libxdp's program: its object file is not installed (package libxdp1)")
	case syscall.ERANGE:
		return explained(err, "libxdp's program: it takes no packets of several buffers; lower the MTU")
	case syscall.EBADFD:
		return explained(err, "libxdp's program: one without its map was left over; take it off with ip link set dev IF xdp off (or xdpgeneric off)")
	}
	return err
}
