// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_xdp.h>
#include <xdp/libxdp.h>
#include <xdp/xsk.h>

#include "xsk_cgo.h"
#include "xsk_internal.h"

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
