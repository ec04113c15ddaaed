// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include <linux/if_xdp.h>
#include <xdp/libxdp.h>
#include <xdp/xsk.h>

#include "xsk_cgo.h"
#include "xsk_internal.h"
#include "_cgo_export.h"

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
