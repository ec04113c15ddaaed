package bpf

/*
#cgo CFLAGS: -O2 -Wall
#cgo !xsk_static pkg-config: libbpf
#cgo xsk_static pkg-config: --static libbpf
#cgo xsk_static LDFLAGS: -static

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#if LIBBPF_MAJOR_VERSION < 1 || (LIBBPF_MAJOR_VERSION == 1 && LIBBPF_MINOR_VERSION < 3)
#error "package bpf needs libbpf 1.3 or newer (Debian 12: apt install libbpf-dev/bookworm-backports libbpf1/bookworm-backports)"
#endif

// One thread at a time captures; the others' messages go on to the printer that
// was there before. The verifier's log is in one message, with the news at its
// end.
static char capture_text[1 << 16];
static __thread bool capturing;
static libbpf_print_fn_t capture_outer;

__attribute__((format(printf, 2, 0)))
static int capture_print(enum libbpf_print_level level, const char *format, va_list args)
{
	libbpf_print_fn_t outer;
	size_t used;

	if (!capturing) {
		outer = __atomic_load_n(&capture_outer, __ATOMIC_ACQUIRE);
		return outer ? outer(level, format, args) : 0;
	}
	if (level != LIBBPF_WARN)
		return 0;
	used = strlen(capture_text);
	return vsnprintf(capture_text + used, sizeof(capture_text) - used, format, args);
}

static void capture_clear(void)
{
	capture_text[0] = 0;
}

static const char *captured(void)
{
	return capture_text;
}

static void capture_resume(void)
{
	libbpf_set_print(capture_print);
}

static void capture_start(void)
{
	// The printer of now may call the one of before until it is replaced.
	libbpf_print_fn_t outer = libbpf_set_print(NULL);

	__atomic_store_n(&capture_outer, outer, __ATOMIC_RELEASE);
	capture_clear();
	capturing = true;
	capture_resume();
}

// Whoever set a printer meanwhile keeps it.
static void capture_stop(void)
{
	libbpf_print_fn_t now = libbpf_set_print(capture_outer);

	capturing = false;
	if (now != capture_print)
		libbpf_set_print(now);
}

// Without the features, which cost four more messages.
static int xdp_query(int ifindex, __u32 *native, __u32 *generic)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, opts);
	int err;

	opts.sz = offsetof(struct bpf_xdp_query_opts, feature_flags);
	err = bpf_xdp_query(ifindex, 0, &opts);
	*native = opts.drv_prog_id;
	*generic = opts.skb_prog_id;
	return err;
}

static __u64 xdp_features(int ifindex)
{
	LIBBPF_OPTS(bpf_xdp_query_opts, opts);

	return bpf_xdp_query(ifindex, 0, &opts) ? 0 : opts.feature_flags;
}

// Needs CAP_SYS_ADMIN, so there may be no name.
static void prog_name(__u32 id, char name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	name[0] = 0;
	if (fd < 0)
		return;
	if (!bpf_prog_get_info_by_fd(fd, &info, &len))
		memcpy(name, info.name, BPF_OBJ_NAME_LEN);
	close(fd);
}

// prog_open returns a descriptor of program id and its name. Needs CAP_SYS_ADMIN.
static int prog_open(__u32 id, char name[BPF_OBJ_NAME_LEN])
{
	struct bpf_prog_info info = {};
	__u32 len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id), err;

	if (fd < 0)
		return fd;
	err = bpf_prog_get_info_by_fd(fd, &info, &len);
	if (err) {
		close(fd);
		return err;
	}
	memcpy(name, info.name, BPF_OBJ_NAME_LEN);
	return fd;
}

// verdict_of runs the program on an empty packet of one queue of the interface.
static int verdict_of(int prog, __u32 ifindex, __u32 queue)
{
	char packet[64] = {}, out[64];
	struct xdp_md context = {
		.data_end = sizeof(packet),
		.ingress_ifindex = ifindex,
		.rx_queue_index = queue,
	};
	LIBBPF_OPTS(bpf_test_run_opts, opts,
		.data_in = packet,
		.data_size_in = sizeof(packet),
		.data_out = out,
		.data_size_out = sizeof(out),
		.ctx_in = &context,
		.ctx_size_in = sizeof(context),
		.repeat = 1,
	);
	int err;

	do
		err = bpf_prog_test_run_opts(prog, &opts);
	while (err == -EINTR);
	return err ? err : (int)opts.retval;
}

// xdp_detach takes this program and no other off.
static int xdp_detach(int ifindex, int prog, __u32 flags)
{
	LIBBPF_OPTS(bpf_xdp_attach_opts, opts, .old_prog_fd = prog);

	return bpf_xdp_detach(ifindex, flags | XDP_FLAGS_REPLACE, &opts);
}

static int map_create(enum bpf_map_type type, const char *name, __u32 value_size, __u32 entries)
{
	return bpf_map_create(type, name, sizeof(__u32), value_size, entries, NULL);
}

static int link_create(int prog, int ifindex, __u32 flags)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = flags);

	return bpf_link_create(prog, ifindex, BPF_XDP, &opts);
}

#ifndef BPF_F_XDP_HAS_FRAGS
#define BPF_F_XDP_HAS_FRAGS (1U << 5)
#endif
#ifndef BPF_F_XDP_DEV_BOUND_ONLY
#define BPF_F_XDP_DEV_BOUND_ONLY (1U << 6)
#endif

// The interface that this thread opens the metadata program for.
static __thread __u32 metadata_ifindex;

static int metadata_bind(struct bpf_program *prog, long cookie)
{
	(void)cookie;
	bpf_program__set_ifindex(prog, metadata_ifindex);
	return bpf_program__set_flags(prog, BPF_F_XDP_HAS_FRAGS | BPF_F_XDP_DEV_BOUND_ONLY);
}

static void metadata_for(__u32 ifindex)
{
	metadata_ifindex = ifindex;
}

// libbpfgo neither binds a program to a device nor shows libbpf's struct of it;
// but libbpf asks the handler of a program's section when it opens the object.
static int metadata_section(const char *name)
{
	LIBBPF_OPTS(libbpf_prog_handler_opts, opts, .prog_setup_fn = metadata_bind);

	return libbpf_register_prog_handler(name, BPF_PROG_TYPE_XDP, BPF_XDP, &opts);
}

// match_of runs the program once on a packet.
static int match_of(int prog, void *packet, __u32 size)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = size, .repeat = 1);
	int err;

	do
		err = bpf_prog_test_run_opts(prog, &opts);
	while (err == -EINTR);
	return err ? err : (int)opts.retval;
}

// lookup_all reads the first count values, of every possible CPU each, of a
// per-CPU array; kernel 5.13.
static int lookup_all(int map, __u32 count, void *keys, void *values)
{
	__u32 next;
	__u32 found = count;
	int err = bpf_map_lookup_batch(map, NULL, &next, keys, values, &found, NULL);

	return err == -ENOENT && found == count ? 0 : err; // there are no more
}
*/
import "C"

import (
	"sync"
	"syscall"
	"unsafe"
)

// capture is held from startCapture to stopCapture, by a locked thread.
var capture sync.Mutex

// startCapture sends what libbpf says on this thread to capturedText.
func startCapture() {
	capture.Lock()
	C.capture_start()
}

// resumeCapture is for after somebody put another printer in.
func resumeCapture() { C.capture_resume() }

func stopCapture() {
	C.capture_stop()
	capture.Unlock()
}

func clearCapture()        { C.capture_clear() }
func capturedText() string { return C.GoString(C.captured()) }

// xdpQuery returns the ids of the programs that are attached, 0 for none.
func xdpQuery(ifindex int) (native, generic uint32, err error) {
	var n, g C.__u32
	err = errno(C.xdp_query(C.int(ifindex), &n, &g))
	return uint32(n), uint32(g), err
}

// xdpFeatures returns what the driver can do (NETDEV_XDP_ACT_*), 0 if the
// kernel, before 6.3, does not say.
func xdpFeatures(ifindex int) uint64 { return uint64(C.xdp_features(C.int(ifindex))) }

// progName returns the name of a program, or "" if it cannot be had.
func progName(id uint32) string {
	var name [C.BPF_OBJ_NAME_LEN]C.char
	C.prog_name(C.__u32(id), &name[0])
	return C.GoString(&name[0])
}

// openProg returns a descriptor of program id and its name.
func openProg(id uint32) (fd int, name string, err error) {
	var buffer [C.BPF_OBJ_NAME_LEN]C.char
	result := C.prog_open(C.__u32(id), &buffer[0])
	return int(result), C.GoString(&buffer[0]), errno(result)
}

const xdpRedirect = C.XDP_REDIRECT

// verdictOf returns what the program does with a packet of the queue.
func verdictOf(prog, ifindex, queue int) (int, error) {
	result := C.verdict_of(C.int(prog), C.__u32(ifindex), C.__u32(queue))
	return int(result), errno(result)
}

// modeFlags are the XDP_FLAGS of a forced mode; Auto has none.
var modeFlags = map[Mode]C.__u32{Native: C.XDP_FLAGS_DRV_MODE, Generic: C.XDP_FLAGS_SKB_MODE}

// xdpDetach takes the program off the interface if it is still on it.
func xdpDetach(ifindex, prog int, mode Mode) error {
	return errno(C.xdp_detach(C.int(ifindex), C.int(prog), modeFlags[mode]))
}

// linkCreate is bpf_link_create for XDP.
func linkCreate(prog, ifindex int, mode Mode) (fd int, err error) {
	result := C.link_create(C.int(prog), C.int(ifindex), modeFlags[mode])
	return int(result), errno(result)
}

// linkUpdate puts another program in the place of the link's.
func linkUpdate(fd, prog int) error {
	return errno(C.bpf_link_update(C.int(fd), C.int(prog), nil))
}

// createXSKMap makes an XSKMAP.
func createXSKMap(slots int) (fd int, err error) {
	return createMap(C.BPF_MAP_TYPE_XSKMAP, xsksMap, 4, slots)
}

// createCounters makes the map of counterValues.
func createCounters() (fd int, err error) {
	return createMap(C.BPF_MAP_TYPE_PERCPU_ARRAY, countersMap, 8, len(counterValues{}))
}

func createMap(kind uint32, name string, valueSize, entries int) (int, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	result := C.map_create(kind, text, C.__u32(valueSize), C.__u32(entries))
	return int(result), errno(result)
}

// updateBatch puts count entries into a map. libbpfgo's own UpdateBatch returns
// one value in v0.6 and two in v0.8.
func updateBatch(fd int, keys, values unsafe.Pointer, count int) error {
	n := C.__u32(count)
	return errno(C.bpf_map_update_batch(C.int(fd), keys, values, &n, nil))
}

// readCounters reads the map and adds up what its CPUs have.
func readCounters(fd int) (sum counterValues, err error) {
	cpus := C.libbpf_num_possible_cpus()
	if cpus < 0 {
		return sum, errno(cpus)
	}
	var keys [len(sum)]uint32
	values := make([]uint64, len(sum)*int(cpus))
	err = errno(C.lookup_all(C.int(fd), C.__u32(len(sum)), unsafe.Pointer(&keys), unsafe.Pointer(&values[0])))
	for i, n := range values {
		sum[i/int(cpus)] += n
	}
	return sum, err
}

// matchOf runs a program on a packet.
func matchOf(prog int, packet []byte) (action int, err error) {
	result := C.match_of(C.int(prog), unsafe.Pointer(&packet[0]), C.__u32(len(packet)))
	return int(result), errno(result)
}

// linkDetach is bpf_link_detach.
func linkDetach(fd int) error { return errno(C.bpf_link_detach(C.int(fd))) }

// registerSection makes libbpf bind the programs of that section to the device
// that bindTo has named last on the thread. libbpf guards its list of handlers with
// no lock, so this is for a package's initialization.
func registerSection(name string) error {
	text := C.CString(name) // libbpf keeps a copy
	defer C.free(unsafe.Pointer(text))
	return errno(C.metadata_section(text))
}

func bindTo(ifindex int) { C.metadata_for(C.__u32(ifindex)) }

// errno turns libbpf's -errno into an error.
func errno(result C.int) error {
	if result >= 0 {
		return nil
	}
	return syscall.Errno(-result)
}
