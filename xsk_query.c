// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/ethtool.h>
#include <linux/if_xdp.h>
#include <linux/sockios.h>
#include <xdp/libxdp.h>
#include <xdp/xsk.h>

#include "xsk_cgo.h"
#include "xsk_internal.h"

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
