package xsk

/*
#cgo CFLAGS: -O2 -Wall -Wextra
#cgo !xsk_static pkg-config: libxdp
#cgo xsk_static pkg-config: --static libxdp
#cgo xsk_static CFLAGS: -DXSKGO_STATIC
#cgo xsk_static LDFLAGS: -static

#include "xsk_cgo.h"

// Ring calls only: none of them can come back into Go, and noescape has effect
// only beside nocallback. Whatever may print through xskgoLog has neither.
#cgo noescape xskgo_fill
#cgo nocallback xskgo_fill
#cgo noescape xskgo_complete
#cgo nocallback xskgo_complete
#cgo noescape xskgo_rx
#cgo nocallback xskgo_rx
#cgo noescape xskgo_tx
#cgo nocallback xskgo_tx
#cgo noescape xskgo_rx_burst
#cgo nocallback xskgo_rx_burst
#cgo noescape xskgo_rx_burst_wait
#cgo nocallback xskgo_rx_burst_wait
#cgo noescape xskgo_tx_burst
#cgo nocallback xskgo_tx_burst
*/
import "C"

import (
	"math"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// The compiler holds Go's layouts and flags against C's.
var (
	_ [unsafe.Sizeof(Desc{})]byte           = [C.sizeof_struct_xdp_desc]byte{}
	_ [unsafe.Offsetof(Desc{}.Len)]byte     = [unsafe.Offsetof(C.struct_xdp_desc{}.len)]byte{}
	_ [unsafe.Offsetof(Desc{}.Options)]byte = [unsafe.Offsetof(C.struct_xdp_desc{}.options)]byte{}
	_ [unsafe.Sizeof(Addr(0))]byte          = [unsafe.Sizeof(C.uint64_t(0))]byte{}
	_ [unsafe.Sizeof(Stats{})]byte          = [C.sizeof_struct_xdp_statistics]byte{}
	_ [BindCopy]byte                        = [C.XDP_COPY]byte{}
	_ [BindZeroCopy]byte                    = [C.XDP_ZEROCOPY]byte{}
	_ [BindNeedWakeup]byte                  = [C.XDP_USE_NEED_WAKEUP]byte{}
	_ [UmemUnalignedChunk]byte              = [C.XDP_UMEM_UNALIGNED_CHUNK_FLAG]byte{}
	_ [DefaultRingSize]byte                 = [C.XSK_RING_CONS__DEFAULT_NUM_DESCS]byte{}
	_ [DefaultFrameSize]byte                = [C.XSK_UMEM__DEFAULT_FRAME_SIZE]byte{}
)

// inhibitProgLoad is XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD.
const inhibitProgLoad = C.XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD

// errno turns libxdp's and our own -errno into an error.
func errno(result C.int) error {
	if result >= 0 {
		return nil
	}
	return syscall.Errno(-result)
}

// count bounds a slice's length to what a ring index can hold.
func count(n int) C.uint32_t {
	return C.uint32_t(min(n, math.MaxInt32))
}

func addrBuffer(a []Addr) (*C.uint64_t, C.uint32_t) {
	return (*C.uint64_t)(unsafe.Pointer(unsafe.SliceData(a))), count(len(a))
}

func descBuffer(d []Desc) (*C.struct_xdp_desc, C.uint32_t) {
	return (*C.struct_xdp_desc)(unsafe.Pointer(unsafe.SliceData(d))), count(len(d))
}

// newRings allocates a queue's fill and completion ring structs. libxdp keeps
// their addresses until the queue's last socket, or the umem, is deleted, and
// expects them zeroed: C heap, freed by release after that.
func newRings() uintptr {
	return uintptr(C.calloc(1, C.sizeof_struct_xskgo_rings))
}

// newSocketHandle allocates a socket's RX and TX ring structs, which libxdp
// keeps until socketDelete: C heap, freed by release after that.
func newSocketHandle() uintptr {
	return uintptr(C.calloc(1, C.sizeof_struct_xskgo_socket))
}

func release(handle uintptr) { C.xskgo_release(C.uintptr_t(handle)) }

func ringsFill(rings uintptr) uintptr { return uintptr(C.xskgo_rings_fill(C.uintptr_t(rings))) }

func ringsCompletion(rings uintptr) uintptr { return uintptr(C.xskgo_rings_comp(C.uintptr_t(rings))) }

// umemCreate is xsk_umem__create, xsk_umem__create_with_fd with a socket, which it
// takes over, or xsk_umem__create_opts for TX metadata. The fork lock keeps a child
// from inheriting the descriptor before it is close-on-exec.
func umemCreate(socket int, area []byte, rings uintptr, cfg *UmemConfig) (umem uintptr, fd int, err error) {
	config := C.struct_xsk_umem_config{
		fill_size:      C.__u32(cfg.FillSize),
		comp_size:      C.__u32(cfg.CompletionSize),
		frame_size:     C.__u32(cfg.FrameSize),
		frame_headroom: C.__u32(cfg.Headroom),
		flags:          C.__u32(cfg.Flags),
	}
	var handle C.uintptr_t
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	start, size := unsafe.Pointer(unsafe.SliceData(area)), C.uint64_t(len(area))
	var result C.int
	if cfg.TxMetadataLen > 0 {
		result = C.xskgo_umem_create_opts(&handle, C.int(socket), start, size, C.uintptr_t(rings), &config, C.uint32_t(cfg.TxMetadataLen))
	} else {
		result = C.xskgo_umem_create(&handle, C.int(socket), start, size, C.uintptr_t(rings), &config)
	}
	if err := errno(result); err != nil {
		return 0, -1, err
	}
	return uintptr(handle), int(C.xskgo_umem_fd(handle)), nil
}

func umemDelete(umem uintptr) error { return errno(C.xskgo_umem_delete(C.uintptr_t(umem))) }

// socketCreate is xsk_socket__create, or xsk_socket__create_shared with rings. It
// closes the descriptor reserve to make room for its own.
func socketCreate(socket uintptr, ifname string, queue int, umem, rings uintptr, reserve int, cfg *SocketConfig) error {
	sizes := cfg.sizes()
	config := C.struct_xskgo_socket_config{
		rx_size:    C.uint32_t(sizes[0]),
		tx_size:    C.uint32_t(sizes[1]),
		xdp_flags:  C.uint32_t(cfg.XDPFlags),
		bind_flags: C.uint16_t(cfg.BindFlags),
	}
	if cfg.InhibitProgLoad {
		config.libxdp_flags = inhibitProgLoad
	}
	name := C.CString(ifname)
	defer C.free(unsafe.Pointer(name))
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return errno(C.xskgo_socket_create(C.uintptr_t(socket), name, C.uint32_t(queue),
		C.uintptr_t(umem), C.uintptr_t(rings), C.int(reserve), &config))
}

func socketFD(socket uintptr) int { return int(C.xskgo_socket_fd(C.uintptr_t(socket))) }

// socketDelete is xsk_socket__delete, which opens libxdp's folder in bpffs to take a
// program off: hence the fork lock.
func socketDelete(socket uintptr) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	C.xskgo_socket_delete(C.uintptr_t(socket))
}

func socketRx(socket uintptr) uintptr { return uintptr(C.xskgo_socket_rx(C.uintptr_t(socket))) }

func socketTx(socket uintptr) uintptr { return uintptr(C.xskgo_socket_tx(C.uintptr_t(socket))) }

func netns(fd int) uint64 { return uint64(C.xskgo_netns(C.int(fd))) }

func interfaceIndex(ifname string) (int, error) {
	name := C.CString(ifname)
	defer C.free(unsafe.Pointer(name))
	index := C.xskgo_ifindex(name)
	return int(index), errno(index)
}

func isBound(fd int) bool { return C.xskgo_is_bound(C.int(fd)) != 0 }

func setupXDPProg(ifindex int) (fd int, err error) {
	var mapFD C.int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := errno(C.xskgo_setup_xdp_prog(C.uint32_t(ifindex), &mapFD)); err != nil {
		return -1, err
	}
	return int(mapFD), nil
}

// queryXDP asks libbpf about an interface.
func queryXDP(ifindex int) (q C.struct_xskgo_query, err error) {
	err = errno(C.xskgo_query(C.uint32_t(ifindex), &q))
	return q, err
}

func programName(id int) string {
	var name [64]C.char
	C.xskgo_prog_name(C.uint32_t(id), &name[0], C.uint32_t(len(name)))
	return C.GoString(&name[0])
}

// dispatched are the ids of the programs behind libxdp's dispatcher. libxdp looks into
// its folder in bpffs for it, as for foreignProgram: hence the fork lock.
func dispatched(ifindex int) []int {
	var ids [16]C.uint32_t
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n := C.xskgo_dispatched(C.uint32_t(ifindex), &ids[0], C.uint32_t(len(ids)))
	programs := make([]int, n)
	for i := range programs {
		programs[i] = int(ids[i])
	}
	return programs
}

// foreignProgram is id, name and mode of the XDP program on an interface that
// libxdp's cannot join, or "".
func foreignProgram(ifindex int) string {
	var name [160]C.char
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	C.xskgo_foreign_program(C.uint32_t(ifindex), &name[0], C.uint32_t(len(name)))
	return C.GoString(&name[0])
}

func mapID(fd int) (int, error) {
	id := C.xskgo_map_id(C.int(fd))
	return int(id), errno(id)
}

func mapSet(mapFD, key, fd int) error {
	return errno(C.xskgo_map_set(C.int(mapFD), C.uint32_t(key), C.int(fd)))
}

func mapClear(mapFD, key int) error {
	return errno(C.xskgo_map_clear(C.int(mapFD), C.uint32_t(key)))
}

// channels is the interface's queue count by ethtool.
func channels(ifname string) (int, error) {
	name := C.CString(ifname)
	defer C.free(unsafe.Pointer(name))
	n := C.xskgo_queues(name)
	return int(n), errno(n)
}

func fill(ring uintptr, addrs []Addr) int {
	p, n := addrBuffer(addrs)
	return int(C.xskgo_fill(C.uintptr_t(ring), p, n))
}

func complete(ring uintptr, addrs []Addr) int {
	p, n := addrBuffer(addrs)
	return int(C.xskgo_complete(C.uintptr_t(ring), p, n))
}

func receive(ring uintptr, descs []Desc) int {
	p, n := descBuffer(descs)
	return int(C.xskgo_rx(C.uintptr_t(ring), p, n))
}

func transmit(ring uintptr, descs []Desc) int {
	p, n := descBuffer(descs)
	return int(C.xskgo_tx(C.uintptr_t(ring), p, n))
}

func free(ring uintptr) int { return int(C.xskgo_free(C.uintptr_t(ring))) }

func needsWakeup(ring uintptr) bool { return C.xskgo_needs_wakeup(C.uintptr_t(ring)) != 0 }

// swapFlags makes the users of a fill or TX ring look at other flags, 0 for ones
// that always ask for a wake-up, and returns those that they looked at before.
func swapFlags(ring, flags uintptr) uintptr {
	return uintptr(C.xskgo_swap_flags(C.uintptr_t(ring), C.uintptr_t(flags)))
}

// The two below look at rings without crossing: a program that spins asks far more
// often than there is something to do. rxIdle reports whether a burst that posts
// nothing would do nothing, txIdle whether one that sends nothing would.
func rxIdle(fill, rx uintptr) bool {
	return rx != 0 && fill != 0 && empty(rx) && !asksWakeup(producer(fill))
}

func txIdle(tx, completion uintptr) bool {
	if tx == 0 || completion == 0 || !empty(completion) {
		return false
	}
	r := producer(tx)
	return load(r.producer) == load(r.consumer) || !asksWakeup(r)
}

func empty(cons uintptr) bool {
	r := *(**C.struct_xsk_ring_cons)(unsafe.Pointer(&cons))
	return load(r.producer) == load(r.consumer)
}

func producer(prod uintptr) *C.struct_xsk_ring_prod {
	return *(**C.struct_xsk_ring_prod)(unsafe.Pointer(&prod))
}

func asksWakeup(r *C.struct_xsk_ring_prod) bool {
	flags := atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&r.flags))) // SetBusyPoll exchanges it
	return load((*C.__u32)(flags))&C.XDP_RING_NEED_WAKEUP != 0
}

func load(index *C.__u32) uint32 { return atomic.LoadUint32((*uint32)(index)) }

func rxBurst(fill, rx uintptr, fd int, addrs []Addr, descs []Desc) burst {
	a, n := addrBuffer(addrs)
	d, m := descBuffer(descs)
	var b C.struct_xskgo_burst
	C.xskgo_rx_burst(&b, C.uintptr_t(fill), C.uintptr_t(rx), C.int(fd), a, n, d, m)
	return burst{in: int(b.in), out: int(b.out), err: errno(b.err)}
}

func rxBurstWait(fill, rx uintptr, fd int, addrs []Addr, descs []Desc, limit, linger time.Duration, gather bool) (b burst, waited bool) {
	a, n := addrBuffer(addrs)
	d, m := descBuffer(descs)
	var first C.int
	if gather {
		first = 1
	}
	var w C.struct_xskgo_wait
	C.xskgo_rx_burst_wait(&w, C.uintptr_t(fill), C.uintptr_t(rx), C.int(fd), a, n, d, m,
		C.int(limit.Milliseconds()), C.uint32_t(linger), first)
	return burst{in: int(w.in), out: int(w.out), err: errno(w.err)}, w.waited != 0
}

func txBurst(tx, completion uintptr, fd int, descs []Desc, done []Addr) burst {
	d, n := descBuffer(descs)
	a, m := addrBuffer(done)
	var b C.struct_xskgo_burst
	C.xskgo_tx_burst(&b, C.uintptr_t(tx), C.uintptr_t(completion), C.int(fd), d, n, a, m)
	return burst{in: int(b.in), out: int(b.out), err: errno(b.err)}
}

func wakeRx(fill uintptr, fd int) error { return errno(C.xskgo_wake_rx(C.uintptr_t(fill), C.int(fd))) }

func wakeTx(tx uintptr, fd int) error { return errno(C.xskgo_wake_tx(C.uintptr_t(tx), C.int(fd))) }

func rxReady(fill, rx uintptr, fd int) (bool, error) {
	result := C.xskgo_rx_ready(C.uintptr_t(fill), C.uintptr_t(rx), C.int(fd))
	return result > 0, errno(result)
}

func rxWait(fill, rx uintptr, fd int, limit time.Duration) bool {
	return C.xskgo_rx_wait(C.uintptr_t(fill), C.uintptr_t(rx), C.int(fd), C.int(limit.Milliseconds())) != 0
}

func txReady(tx uintptr, fd int) (bool, error) {
	result := C.xskgo_tx_ready(C.uintptr_t(tx), C.int(fd))
	return result > 0, errno(result)
}

func kickStats(tx uintptr) KickStats {
	var kicks, dropped C.uint64_t
	C.xskgo_kicks(C.uintptr_t(tx), &kicks, &dropped)
	return KickStats{uint64(kicks), uint64(dropped)}
}

func socketStats(fd int) (s Stats, err error) {
	err = errno(C.xskgo_stats(C.int(fd), (*C.struct_xdp_statistics)(unsafe.Pointer(&s))))
	return s, err
}

func zeroCopy(fd int) (bool, error) {
	var flags C.uint32_t
	err := errno(C.xskgo_options(C.int(fd), &flags))
	return flags&C.XDP_OPTIONS_ZEROCOPY != 0, err
}

// yield is runtime.Gosched for the goroutines of this processor only: it does not
// wake an idle thread to look for work, which cost a receiver 3 % of its time. The
// runtime keeps the name for gVisor and others.
//
//go:linkname yield runtime.goyield
func yield()

// sleep sleeps for up to d, far more exactly than time.Sleep.
func sleep(d time.Duration) { C.xskgo_linger(C.uint32_t(d)) }

func setTxBudget(fd, packets int) error {
	return errno(C.xskgo_set_tx_budget(C.int(fd), C.uint32_t(packets)))
}

// libxdp prints to stderr unless told otherwise. It belongs to this package,
// so it starts out silent; libbpf, which the whole process shares, is left as
// it is until SetLibbpfLogger.
func init() { C.xskgo_print_libxdp(0) }

func setLogger(source int, hook func(level LogLevel, text string)) error {
	loggers.Lock()
	defer loggers.Unlock()
	on := C.int(0)
	if hook != nil {
		on = 1
	}
	loggers.hook[source] = hook
	if source == logLibxdp {
		C.xskgo_print_libxdp(on)
		return nil
	}
	return errno(C.xskgo_print_libbpf(on))
}

//export xskgoLog
func xskgoLog(source, level C.int, text *C.char, n C.int) {
	loggers.Lock()
	line := logLine{loggers.hook[source], LogLevel(level), C.GoStringN(text, n)}
	hold := loggers.busy > 0
	if hold && line.hook != nil {
		loggers.held = append(loggers.held, line)
	}
	loggers.Unlock()
	if !hold && line.hook != nil {
		line.hook(line.level, line.text)
	}
}
