// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <xdp/libxdp.h>
#include <xdp/xsk.h>

#include "xsk_cgo.h"
#include "_cgo_export.h"

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef XDP_TX_METADATA
#define XDP_TX_METADATA (1 << 1) /* Linux 6.8 */
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.0 */
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

static inline uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Set-up and teardown ---------------------------------------------------- */

/* libxdp opens its sockets without SOCK_CLOEXEC. The caller holds Go's fork
 * lock, so no child can start between the create and this.
 */
static int close_on_exec(int fd)
{
	return fcntl(fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

/* xsk_umem__create_with_fd came with libxdp 1.4.0. */
typedef int create_with_fd_fn(struct xsk_umem **umem, int fd, void *area, __u64 size,
			      struct xsk_ring_prod *fill, struct xsk_ring_cons *comp,
			      const struct xsk_umem_config *config);

/* A program built with an older libxdp finds it at run time. In a static one
 * there is nothing to look in.
 */
static create_with_fd_fn *find_create_with_fd(void)
{
#if defined(XSKGO_STATIC) && defined(xsk_umem_opts__last_field)
	return xsk_umem__create_with_fd;
#else
	return (create_with_fd_fn *)dlsym(RTLD_DEFAULT, "xsk_umem__create_with_fd");
#endif
}

/* fd is a socket that somebody opened, or 0. It is libxdp's from here on, which
 * closes it when it fails and with the umem. -ENOSYS: this libxdp takes none.
 */
int xskgo_umem_create(uintptr_t *umem, int fd, void *area, uint64_t size,
		      uintptr_t rings, const struct xsk_umem_config *config)
{
	create_with_fd_fn *create_with_fd = fd ? find_create_with_fd() : NULL;
	struct xskgo_rings *r = (struct xskgo_rings *)rings;
	struct xsk_umem *u = NULL;
	int err;

	if (fd && !create_with_fd) {
		close(fd);
		return -ENOSYS;
	}
	if (fd)
		err = create_with_fd(&u, fd, area, size, &r->fill, &r->comp, config);
	else
		err = xsk_umem__create(&u, area, size, &r->fill, &r->comp, config);
	if (err)
		return -abs(err);
	*umem = (uintptr_t)u;
	return close_on_exec(xsk_umem__fd(u));
}

/* struct xsk_umem_opts of libxdp 1.5.0, which the header here may not have yet. */
struct umem_opts {
	size_t sz;
	int fd;
	__u64 size;
	__u32 fill_size;
	__u32 comp_size;
	__u32 frame_size;
	__u32 frame_headroom;
	__u32 flags;
	__u32 tx_metadata_len;
	size_t : 0;
};

typedef struct xsk_umem *create_opts_fn(void *area, struct xsk_ring_prod *fill,
					struct xsk_ring_cons *comp, struct umem_opts *opts);

#ifdef xsk_umem_opts__last_field
_Static_assert(sizeof(struct umem_opts) == sizeof(struct xsk_umem_opts) &&
	       offsetof(struct umem_opts, tx_metadata_len) == offsetof(struct xsk_umem_opts, tx_metadata_len) &&
	       offsetof(struct umem_opts, size) == offsetof(struct xsk_umem_opts, size), "struct xsk_umem_opts");
#endif

/* As find_create_with_fd. */
static create_opts_fn *find_create_opts(void)
{
#if defined(XSKGO_STATIC) && defined(xsk_umem_opts__last_field)
	return (create_opts_fn *)xsk_umem__create_opts;
#else
	return (create_opts_fn *)dlsym(RTLD_DEFAULT, "xsk_umem__create_opts");
#endif
}

/* The same with room for TX metadata; -ENOSYS with a libxdp before 1.5.0. */
int xskgo_umem_create_opts(uintptr_t *umem, int fd, void *area, uint64_t size, uintptr_t rings,
			   const struct xsk_umem_config *config, uint32_t tx_metadata_len)
{
	struct xskgo_rings *r = (struct xskgo_rings *)rings;
	create_opts_fn *create = find_create_opts();
	struct umem_opts opts = {
		.sz = sizeof(opts),
		.fd = fd,
		.size = size,
		.fill_size = config->fill_size,
		.comp_size = config->comp_size,
		.frame_size = config->frame_size,
		.frame_headroom = config->frame_headroom,
		.flags = config->flags,
		.tx_metadata_len = tx_metadata_len,
	};
	struct xsk_umem *u;

	if (!create) {
		if (fd)
			close(fd);
		return -ENOSYS;
	}
	u = create(area, &r->fill, &r->comp, &opts);
	if (!u)
		return -abs(errno);
	*umem = (uintptr_t)u;
	return close_on_exec(xsk_umem__fd(u));
}

int xskgo_umem_fd(uintptr_t umem)
{
	return xsk_umem__fd((struct xsk_umem *)umem);
}

int xskgo_umem_delete(uintptr_t umem)
{
	return -abs(xsk_umem__delete((struct xsk_umem *)umem));
}

/* Without rings it is the umem's first socket and takes the umem's own; a
 * first socket must not go through create_shared, which unmaps the umem's
 * rings when the bind fails. libxdp 1.5.0 to 1.5.2 return +errno. reserve is a
 * descriptor that makes room for libxdp's at the last moment.
 */
int xskgo_socket_create(uintptr_t socket, const char *ifname, uint32_t queue,
			uintptr_t umem, uintptr_t rings, int reserve,
			const struct xskgo_socket_config *config)
{
	struct xskgo_socket *s = (struct xskgo_socket *)socket;
	struct xskgo_rings *r = (struct xskgo_rings *)rings;
	struct xsk_umem *u = (struct xsk_umem *)umem;
	struct xsk_ring_cons *rx = config->rx_size ? &s->rx : NULL;
	struct xsk_ring_prod *tx = config->tx_size ? &s->tx.ring : NULL;
	struct xsk_socket_config c = {
		.rx_size = config->rx_size,
		.tx_size = config->tx_size,
		.libbpf_flags = config->libxdp_flags,
		.xdp_flags = config->xdp_flags,
		.bind_flags = config->bind_flags,
	};
	int err;

	close(reserve);
	if (r)
		err = xsk_socket__create_shared(&s->xsk, ifname, queue, u, rx, tx,
						&r->fill, &r->comp, &c);
	else
		err = xsk_socket__create(&s->xsk, ifname, queue, u, rx, tx, &c);
	if (err)
		return -abs(err);
	return close_on_exec(xsk_socket__fd(s->xsk));
}

int xskgo_socket_fd(uintptr_t socket)
{
	return xsk_socket__fd(((struct xskgo_socket *)socket)->xsk);
}

void xskgo_socket_delete(uintptr_t socket)
{
	xsk_socket__delete(((struct xskgo_socket *)socket)->xsk);
}

uintptr_t xskgo_socket_rx(uintptr_t socket)
{
	return (uintptr_t)&((struct xskgo_socket *)socket)->rx;
}

uintptr_t xskgo_socket_tx(uintptr_t socket)
{
	return (uintptr_t)&((struct xskgo_socket *)socket)->tx;
}

uintptr_t xskgo_rings_fill(uintptr_t rings)
{
	return (uintptr_t)&((struct xskgo_rings *)rings)->fill;
}

uintptr_t xskgo_rings_comp(uintptr_t rings)
{
	return (uintptr_t)&((struct xskgo_rings *)rings)->comp;
}

void xskgo_release(uintptr_t handle)
{
	free((void *)handle);
}

/* One ioctl on an interface. if_nametoindex loses the errno. */
static int interface_ioctl(const char *ifname, unsigned long op, struct ifreq *request)
{
	int fd, err;

	strncpy(request->ifr_name, ifname, IFNAMSIZ - 1);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	err = ioctl(fd, op, request) ? -errno : 0;
	close(fd);
	return err;
}

int xskgo_ifindex(const char *ifname)
{
	struct ifreq request = { .ifr_ifindex = 0 };
	int err = interface_ioctl(ifname, SIOCGIFINDEX, &request);

	return err ? err : request.ifr_ifindex;
}

/* Interface indices repeat in every network namespace; its cookie does not. */
uint64_t xskgo_netns(int fd)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);

	getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len);
	return cookie;
}

/* The kernel looks at the socket's state before it looks for the device, so binding
 * to an interface that cannot exist tells the two apart. Before either it wants the
 * interface that SO_BINDTODEVICE names, and there a socket with a umem must not be
 * shared: that bind cannot succeed.
 */
int xskgo_is_bound(int fd)
{
	struct sockaddr_xdp nowhere = {
		.sxdp_family = AF_XDP,
		.sxdp_flags = XDP_SHARED_UMEM,
		.sxdp_ifindex = INT_MAX,
		.sxdp_shared_umem_fd = fd,
	};
	int device = 0;
	socklen_t len = sizeof(device);

	if (!getsockopt(fd, SOL_SOCKET, SO_BINDTOIFINDEX, &device, &len) && device)
		nowhere.sxdp_ifindex = device;
	return bind(fd, (struct sockaddr *)&nowhere, sizeof(nowhere)) && errno == EBUSY;
}

int xskgo_setup_xdp_prog(uint32_t ifindex, int *map_fd)
{
	return -abs(xsk_setup_xdp_prog(ifindex, map_fd));
}

/* libbpf's struct bpf_xdp_query_opts. Older ones ignore the fields at its end
 * that they do not know, and leave them 0.
 */
struct query_opts {
	size_t sz;
	uint32_t prog_id;
	uint32_t drv_prog_id;
	uint32_t hw_prog_id;
	uint32_t skb_prog_id;
	uint8_t attach_mode;
	uint64_t feature_flags; /* libbpf 1.2 */
	uint32_t xdp_zc_max_segs; /* libbpf 1.3 */
	size_t end;
};

/* Asks libbpf's bpf_xdp_query, in the copy that libxdp brought. -ENOSYS: the
 * program hides it.
 */
int xskgo_query(uint32_t ifindex, struct xskgo_query *q)
{
	int (*query)(int, int, struct query_opts *) = dlsym(RTLD_DEFAULT, "bpf_xdp_query");
	uint32_t (*major)(void) = dlsym(RTLD_DEFAULT, "libbpf_major_version");
	uint32_t (*minor)(void) = dlsym(RTLD_DEFAULT, "libbpf_minor_version");
	struct query_opts opts;
	int err;

	if (!query || !major || !minor)
		return -ENOSYS;
	memset(&opts, 0, sizeof(opts));
	opts.sz = offsetof(struct query_opts, end);
	err = query(ifindex, 0, &opts);
	if (err)
		return -abs(err);
	*q = (struct xskgo_query){
		.features = opts.feature_flags,
		.zc_max_segs = opts.xdp_zc_max_segs,
		.native = opts.drv_prog_id,
		.generic = opts.skb_prog_id,
		.offloaded = opts.hw_prog_id,
		.libbpf = major() << 16 | minor(),
	};
	return 0;
}

static int bpf(int command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

/* The name of a BPF program; "" without CAP_SYS_ADMIN. */
void xskgo_prog_name(uint32_t id, char *name, uint32_t size)
{
	struct bpf_prog_info info;
	union bpf_attr attr;
	int fd;

	name[0] = 0;
	memset(&attr, 0, sizeof(attr));
	attr.prog_id = id;
	fd = bpf(BPF_PROG_GET_FD_BY_ID, &attr);
	if (fd < 0)
		return;
	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	if (!bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
		snprintf(name, size, "%s", info.name);
	close(fd);
}

/* The programs that libxdp's dispatcher on the interface calls, in that order. */
uint32_t xskgo_dispatched(uint32_t ifindex, uint32_t *ids, uint32_t n)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex(ifindex);
	struct xdp_program *prog = NULL;
	uint32_t found = 0;

	if (libxdp_get_error(mp))
		return 0;
	while (!xdp_multiprog__is_legacy(mp) && found < n && (prog = xdp_multiprog__next_prog(prog, mp)))
		ids[found++] = xdp_program__id(prog);
	xdp_multiprog__close(mp);
	return found;
}

/* Copies what the XDP program on the interface is, unless it is one that libxdp
 * can join: a dispatcher or its own.
 */
void xskgo_foreign_program(uint32_t ifindex, char *name, uint32_t size)
{
	struct xdp_multiprog *mp = xdp_multiprog__get_from_ifindex(ifindex);
	struct xdp_program *prog;

	name[0] = 0;
	if (libxdp_get_error(mp))
		return;
	prog = xdp_multiprog__is_legacy(mp) ? xdp_multiprog__main_prog(mp) : NULL;
	if (prog && xdp_program__name(prog) && strcmp(xdp_program__name(prog), "xsk_def_prog"))
		snprintf(name, size, "%u \"%s\", in %s mode", xdp_program__id(prog), xdp_program__name(prog),
			 xdp_multiprog__attach_mode(mp) == XDP_MODE_SKB ? "generic" : "native");
	xdp_multiprog__close(mp);
}

/* What xsk_socket__update_xskmap does, without letting libxdp keep map_fd: it
 * would close the caller's descriptor once its own program had been loaded on
 * the same queue.
 */
int xskgo_map_set(int map_fd, uint32_t key, int fd)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	attr.key = (uintptr_t)&key;
	attr.value = (uintptr_t)&fd;
	return bpf(BPF_MAP_UPDATE_ELEM, &attr) ? -errno : 0;
}

/* The kernel refuses a delete that names a value. */
int xskgo_map_clear(int map_fd, uint32_t key)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.map_fd = map_fd;
	attr.key = (uintptr_t)&key;
	return bpf(BPF_MAP_DELETE_ELEM, &attr) ? -errno : 0;
}

int xskgo_map_id(int map_fd)
{
	struct bpf_map_info info;
	union bpf_attr attr;

	memset(&info, 0, sizeof(info));
	memset(&attr, 0, sizeof(attr));
	attr.info.bpf_fd = map_fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &attr))
		return -errno;
	if (info.type != BPF_MAP_TYPE_XSKMAP)
		return -EINVAL;
	return info.id;
}

/* The channels ethtool reports: what the driver really runs, and right in any
 * namespace, unlike a /sys mounted in another one.
 */
int xskgo_queues(const char *ifname)
{
	struct ethtool_channels ch = { .cmd = ETHTOOL_GCHANNELS };
	struct ifreq request = { .ifr_data = (void *)&ch };
	int err = interface_ioctl(ifname, SIOCETHTOOL, &request);

	if (err)
		return err;
	return ch.combined_count +
	       (ch.rx_count > ch.tx_count ? ch.rx_count : ch.tx_count);
}

/* Ring copies ------------------------------------------------------------
 *
 * A batch is at most two runs of the ring: one up to its end, one from its
 * start. An element loop with "& mask" costs 2 ns a packet more.
 */

static inline __attribute__((always_inline)) uint32_t
produce(struct xsk_ring_prod *r, const void *from, uint32_t n, size_t size)
{
	uint32_t at, first;

	n = min(n, xsk_prod_nb_free(r, n));
	if (!n)
		return 0;
	at = r->cached_prod & r->mask;
	first = min(n, r->size - at);
	memcpy((char *)r->ring + at * size, from, first * size);
	if (first < n)
		memcpy(r->ring, (const char *)from + first * size, (n - first) * size);
	r->cached_prod += n;
	xsk_ring_prod__submit(r, n);
	return n;
}

/* xsk_cons_nb_avail looks at the kernel's index only when its own copy has run
 * dry, which would cut a burst short.
 */
static inline uint32_t available(struct xsk_ring_cons *r, uint32_t n)
{
	uint32_t entries = r->cached_prod - r->cached_cons;

	if (entries < n) {
		r->cached_prod = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
		entries = r->cached_prod - r->cached_cons;
	}
	return min(n, entries);
}

static inline __attribute__((always_inline)) uint32_t
consume(struct xsk_ring_cons *r, void *to, uint32_t n, size_t size)
{
	uint32_t at, first;

	n = available(r, n);
	if (!n)
		return 0;
	at = r->cached_cons & r->mask;
	first = min(n, r->size - at);
	memcpy(to, (char *)r->ring + at * size, first * size);
	if (first < n)
		memcpy((char *)to + first * size, r->ring, (n - first) * size);
	r->cached_cons += n;
	xsk_ring_cons__release(r, n);
	return n;
}

uint32_t xskgo_fill(uintptr_t fill, const uint64_t *addrs, uint32_t n)
{
	return n && fill ? produce((void *)fill, addrs, n, sizeof(*addrs)) : 0;
}

uint32_t xskgo_complete(uintptr_t comp, uint64_t *addrs, uint32_t n)
{
	return n && comp ? consume((void *)comp, addrs, n, sizeof(*addrs)) : 0;
}

uint32_t xskgo_rx(uintptr_t rx, struct xdp_desc *descs, uint32_t n)
{
	return n && rx ? consume((void *)rx, descs, n, sizeof(*descs)) : 0;
}

uint32_t xskgo_tx(uintptr_t tx, const struct xdp_desc *descs, uint32_t n)
{
	return n && tx ? produce((void *)tx, descs, n, sizeof(*descs)) : 0;
}

/* Entries the kernel has not taken yet. It touches no cached index, so any
 * thread may ask.
 */
static uint32_t pending(const struct xsk_ring_prod *r)
{
	return __atomic_load_n(r->producer, __ATOMIC_RELAXED) -
	       __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
}

uint32_t xskgo_free(uintptr_t prod)
{
	const struct xsk_ring_prod *r = (void *)prod;

	return r ? r->size - pending(r) : 0;
}

int xskgo_needs_wakeup(uintptr_t prod)
{
	const struct xsk_ring_prod *r = (void *)prod;

	return r && (__atomic_load_n(r->flags, __ATOMIC_RELAXED) & XDP_RING_NEED_WAKEUP);
}

/* Makes a ring's users look at other flags, and returns where they looked before.
 * 0 are flags that always ask for a wake-up: for a socket that busy polls the call
 * is what polls the driver, and the bursts need not ask anything more for it.
 */
uintptr_t xskgo_swap_flags(uintptr_t prod, uintptr_t flags)
{
	static uint32_t always = XDP_RING_NEED_WAKEUP;
	struct xsk_ring_prod *r = (void *)prod;

	return (uintptr_t)__atomic_exchange_n(&r->flags, flags ? (uint32_t *)flags : &always,
					      __ATOMIC_RELAXED);
}

/* Wake-ups ---------------------------------------------------------------
 *
 * The kernel sets need-wakeup and then looks at the producer index once more;
 * we store the index and then look at the flag. That store and that load are
 * what release ordering leaves free to swap, so a full fence stands between
 * them: without it both sides can miss each other and the ring sleeps.
 */

static int poke_rx(uintptr_t fill, int fd)
{
	if (!xskgo_needs_wakeup(fill))
		return 0;
	if (recvfrom(fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) >= 0)
		return 0;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

int xskgo_wake_rx(uintptr_t fill, int fd)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return poke_rx(fill, fd);
}

/* Takes the metadata off the first packet in the ring that has some, for the
 * kernel has refused it: with EINVAL, and the packet stays at the head for ever.
 * An old kernel publishes the consumer index late, so the first may have been sent
 * already; then the next call finds another.
 */
static bool drop_metadata(struct xsk_ring_prod *r)
{
	uint32_t at = __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
	uint32_t end = __atomic_load_n(r->producer, __ATOMIC_RELAXED);

	for (; at != end; at++) {
		struct xdp_desc *d = (struct xdp_desc *)r->ring + (at & r->mask);

		if (d->options & XDP_TX_METADATA) {
			d->options &= ~XDP_TX_METADATA;
			return true;
		}
	}
	return false;
}

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* Kicks until the kernel has taken the whole TX ring or stops making progress.
 * Copy mode takes 32 descriptors a kick and answers EAGAIN; it stops at each
 * packet the device dropped, with EBUSY, and at each bad descriptor, with 0.
 * Old kernels publish the consumer index only once they have seen the ring
 * empty. Hence the patience: 256 packets need 8 kicks. Returns 0, -EAGAIN for
 * no progress (the completion ring or the send buffer is full), -EBUSY when
 * the device dropped a packet, -EINVAL when one had metadata that the kernel
 * refused and went without, or the error that ended it.
 */
static int poke_tx(struct xskgo_tx *tx, int fd)
{
	uint32_t left = pending(&tx->ring), patience = left / 32 + 8;
	int dropped = 0, refused = 0;

	while (left && xskgo_needs_wakeup((uintptr_t)tx)) {
		int err = sendto(fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
		uint32_t before = left;

		left = pending(&tx->ring);
		count(&tx->kicks);
		if (err == EBUSY) {
			count(&tx->dropped);
			dropped = -EBUSY;
		} else if (err == EINVAL && drop_metadata(&tx->ring)) {
			refused = -EINVAL;
			continue;
		} else if (err && err != EAGAIN && err != EINTR) {
			return -err;
		} else if (!err && left == before) {
			break;
		}
		if ((!err || left == before) && !--patience)
			return refused ? refused : dropped ? dropped : -EAGAIN;
	}
	return refused ? refused : dropped;
}

int xskgo_wake_tx(uintptr_t tx, int fd)
{
	int err;

	if (!tx)
		return 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	err = poke_tx((void *)tx, fd);
	return err == -EAGAIN ? 0 : err;
}

/* Lingering --------------------------------------------------------------
 *
 * Go's timers are a millisecond coarse in an idle program. The kernel's have
 * slack, 50 us by default, and it wakes nobody before all of that is over unless
 * it has something else to do: so a sleep is asked to end early by the slack. One
 * that is shorter needs a smaller slack, for two system calls more.
 */
void xskgo_linger(uint32_t ns)
{
	static long usual; /* the slack of the first that lingered; 0: none has */
	long slack = __atomic_load_n(&usual, __ATOMIC_RELAXED);
	struct timespec end;
	bool tight;

	if (!slack) {
		slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
		slack = slack > 0 ? slack : 50000;
		__atomic_store_n(&usual, slack, __ATOMIC_RELAXED);
	}
	tight = ns < slack;
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += tight ? ns : ns - slack;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	if (tight)
		prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
	if (tight)
		prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0);
}

/* The bursts ------------------------------------------------------------- */

void xskgo_rx_burst(struct xskgo_burst *b, uintptr_t fill, uintptr_t rx, int fd,
		    const uint64_t *addrs, uint32_t n, struct xdp_desc *descs, uint32_t m)
{
	*b = (struct xskgo_burst){ .in = xskgo_fill(fill, addrs, n) };
	if (b->in)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	b->err = poke_rx(fill, fd);
	b->out = xskgo_rx(rx, descs, m);
}

/* The same, but it waits for a packet for ms if there is none, and then lingers
 * for ns so that more gather, unless there are m. With gather it lingers before
 * it waits: packets come so fast that there will be some. The kernel's poll wakes
 * a driver that waits for frames by itself.
 */
void xskgo_rx_burst_wait(struct xskgo_wait *b, uintptr_t fill, uintptr_t rx, int fd,
			 const uint64_t *addrs, uint32_t n, struct xdp_desc *descs, uint32_t m,
			 int ms, uint32_t ns, int gather)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct xsk_ring_cons *r = (void *)rx;
	uint32_t there = available(r, m);

	*b = (struct xskgo_wait){ .in = n && fill ? produce((void *)fill, addrs, n, sizeof(*addrs)) : 0 };
	if (b->in)
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	b->err = poke_rx(fill, fd);
	if (ns && there < m && (there || gather) && !b->err) {
		xskgo_linger(ns);
		there = available(r, m);
		b->waited = 1;
	}
	if (!there && m && !b->err) {
		b->waited = 1;
		if (poll(&p, 1, ms) > 0 && ns)
			xskgo_linger(ns);
	}
	b->out = m ? consume(r, descs, m, sizeof(*descs)) : 0;
}

/* Reap, queue, kick, reap again, and queue the rest into the room that made.
 * Every further round has queued a descriptor of descs or filled an entry of
 * done, so the two lengths bound it.
 */
void xskgo_tx_burst(struct xskgo_burst *b, uintptr_t tx, uintptr_t comp, int fd,
		    const struct xdp_desc *descs, uint32_t n, uint64_t *done, uint32_t m)
{
	uint32_t queued, reaped;
	int told = 0; /* the graver of what passed by */

	*b = (struct xskgo_burst){ .out = xskgo_complete(comp, done, m) };
	if (!tx)
		return;
	queued = xskgo_tx(tx, descs, n);
	b->in = queued;
	do {
		if (queued)
			__atomic_thread_fence(__ATOMIC_SEQ_CST);
		b->err = poke_tx((void *)tx, fd);
		if (b->err == -EINVAL || (b->err == -EBUSY && !told))
			told = b->err;
		reaped = xskgo_complete(comp, done + b->out, m - b->out);
		queued = xskgo_tx(tx, descs + b->in, n - b->in);
		b->out += reaped;
		b->in += queued;
	} while (queued || (reaped && b->err == -EAGAIN));
	if (!b->err || b->err == -EAGAIN)
		b->err = told;
}

/* Readiness --------------------------------------------------------------
 *
 * Nothing wakes a poller when the interface goes away; SO_ERROR says it once,
 * as ENETDOWN, and a kick as ENXIO. While the link is down a wake-up answers
 * ENETDOWN too, but that passes.
 */
static int device_error(int fd)
{
	int err = 0;
	socklen_t len = sizeof(err);

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len))
		return -errno;
	return -err;
}

static int received(uintptr_t rx)
{
	const struct xsk_ring_cons *r = (void *)rx;

	return __atomic_load_n(r->producer, __ATOMIC_ACQUIRE) !=
	       __atomic_load_n(r->consumer, __ATOMIC_RELAXED);
}

int xskgo_rx_ready(uintptr_t fill, uintptr_t rx, int fd)
{
	int err = xskgo_wake_rx(fill, fd);

	if (received(rx))
		return 1;
	return err == -ENXIO ? err : device_error(fd);
}

/* Waits for a packet for ms. The kernel's poll wakes a driver that waits for
 * frames by itself.
 */
int xskgo_rx_wait(uintptr_t fill, uintptr_t rx, int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (received(rx))
		return 1;
	xskgo_wake_rx(fill, fd);
	poll(&p, 1, ms);
	return received(rx);
}

/* Half the ring, as for the kernel's POLLOUT. Go's poller never polls a parked
 * socket again, which is what drives TX in copy mode, so this kicks.
 */
int xskgo_tx_ready(uintptr_t tx, int fd)
{
	const struct xsk_ring_prod *r = (void *)tx;
	int err = xskgo_wake_tx(tx, fd);

	if (pending(r) <= r->size / 2)
		return 1;
	if (err && err != -EBUSY && err != -ENOBUFS && err != -ENETDOWN)
		return err;
	return device_error(fd);
}

/* Counters --------------------------------------------------------------- */

void xskgo_kicks(uintptr_t tx, uint64_t *kicks, uint64_t *dropped)
{
	const struct xskgo_tx *t = (void *)tx;

	*kicks = __atomic_load_n(&t->kicks, __ATOMIC_RELAXED);
	*dropped = __atomic_load_n(&t->dropped, __ATOMIC_RELAXED);
}

int xskgo_stats(int fd, struct xdp_statistics *stats)
{
	socklen_t len = sizeof(*stats);

	return getsockopt(fd, SOL_XDP, XDP_STATISTICS, stats, &len) ? -errno : 0;
}

int xskgo_options(int fd, uint32_t *flags)
{
	struct xdp_options options = { 0 };
	socklen_t len = sizeof(options);

	if (getsockopt(fd, SOL_XDP, XDP_OPTIONS, &options, &len))
		return -errno;
	*flags = options.flags;
	return 0;
}

#ifndef XDP_MAX_TX_SKB_BUDGET
#define XDP_MAX_TX_SKB_BUDGET 9
#endif

/* How many packets copy mode sends a kick; 32 before Linux 6.17. */
int xskgo_set_tx_budget(int fd, uint32_t packets)
{
	return setsockopt(fd, SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &packets, sizeof(packets)) ? -errno : 0;
}

/* Printing --------------------------------------------------------------- */

static int to_go(int source, int level, const char *format, va_list args)
{
	char text[1024];
	int n = vsnprintf(text, sizeof(text), format, args);

	if (n > 0)
		xskgoLog(source, level, text, min(n, sizeof(text) - 1));
	return n;
}

static int print_libxdp(enum libxdp_print_level level, const char *format, va_list args)
{
	return to_go(0, level, format, args);
}

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	return to_go(1, level, format, args);
}

void xskgo_print_libxdp(int on)
{
	libxdp_set_print(on ? print_libxdp : NULL);
}

/* libbpf is the program's, not ours: it is found at run time in the copy that
 * libxdp brought, and its printer is given back when ours leaves.
 */
int xskgo_print_libbpf(int on)
{
	static libbpf_print_fn_t before;
	libbpf_print_fn_t (*set)(libbpf_print_fn_t) = dlsym(RTLD_DEFAULT, "libbpf_set_print");
	libbpf_print_fn_t now;

	if (!set)
		return -ENOSYS;
	now = set(on ? print_libbpf : before);
	if (on && now != print_libbpf)
		before = now;
	if (!on && now != print_libbpf)
		set(now); /* somebody else's by now */
	return 0;
}
