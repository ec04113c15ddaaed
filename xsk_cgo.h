/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What crosses between Go and libxdp. Handles travel as uintptr_t and buffers
 * as pointer-free types, so cgo has no pointer to check on any ring call.
 * Every function returns 0 or a count on success and -errno on failure.
 */
#ifndef XSK_CGO_H
#define XSK_CGO_H

#include <stdint.h>
#include <stdlib.h>
#include <xdp/xsk.h>

/* Hidden, so that -fPIC does not keep the bursts from inlining the rings. */
#pragma GCC visibility push(hidden)

/* The fill and completion rings of one interface queue. libxdp keeps their
 * addresses until the last socket on the queue, or the umem, is deleted.
 */
struct xskgo_rings {
	struct xsk_ring_prod fill;
	struct xsk_ring_cons comp;
};

/* A TX ring and what its kicks did. */
struct xskgo_tx {
	struct xsk_ring_prod ring;
	uint64_t kicks;
	uint64_t dropped;
};

/* A socket and its two rings. libxdp keeps their addresses until
 * xsk_socket__delete.
 */
struct xskgo_socket {
	struct xsk_socket *xsk;
	struct xsk_ring_cons rx;
	struct xskgo_tx tx;
};

struct xskgo_socket_config {
	uint32_t rx_size; /* 0: no RX ring */
	uint32_t tx_size; /* 0: no TX ring */
	uint32_t libxdp_flags;
	uint32_t xdp_flags;
	uint16_t bind_flags;
};

/* What a burst did: in was given to the kernel, out came back, err is 0 or
 * -errno of the kick.
 */
struct xskgo_burst {
	uint32_t in;
	uint32_t out;
	int32_t err;
};

/* The same of one that may have waited. */
struct xskgo_wait {
	uint32_t in;
	uint32_t out;
	int32_t err;
	int32_t waited;
};

/* What an interface can do and has. A program's id is 0 where there is none.
 * libbpf is the version that was asked, as in 0x10004 for 1.4.
 */
struct xskgo_query {
	uint64_t features;
	uint32_t zc_max_segs;
	uint32_t native;
	uint32_t generic;
	uint32_t offloaded;
	uint32_t libbpf;
};

/* Set-up and teardown. */
int xskgo_umem_create(uintptr_t *umem, int fd, void *area, uint64_t size,
		      uintptr_t rings, const struct xsk_umem_config *config);
int xskgo_umem_create_opts(uintptr_t *umem, int fd, void *area, uint64_t size, uintptr_t rings,
			   const struct xsk_umem_config *config, uint32_t tx_metadata_len);
int xskgo_umem_fd(uintptr_t umem);
int xskgo_umem_delete(uintptr_t umem);
int xskgo_socket_create(uintptr_t socket, const char *ifname, uint32_t queue,
			uintptr_t umem, uintptr_t rings, int reserve,
			const struct xskgo_socket_config *config);
int xskgo_socket_fd(uintptr_t socket);
void xskgo_socket_delete(uintptr_t socket);
uintptr_t xskgo_socket_rx(uintptr_t socket);
uintptr_t xskgo_socket_tx(uintptr_t socket);
uintptr_t xskgo_rings_fill(uintptr_t rings);
uintptr_t xskgo_rings_comp(uintptr_t rings);
void xskgo_release(uintptr_t handle);
int xskgo_is_bound(int fd);
int xskgo_ifindex(const char *ifname);
uint64_t xskgo_netns(int fd);
int xskgo_setup_xdp_prog(uint32_t ifindex, int *map_fd);
void xskgo_foreign_program(uint32_t ifindex, char *name, uint32_t size);
int xskgo_query(uint32_t ifindex, struct xskgo_query *q);
void xskgo_prog_name(uint32_t id, char *name, uint32_t size);
uint32_t xskgo_dispatched(uint32_t ifindex, uint32_t *ids, uint32_t n);
int xskgo_map_id(int map_fd);
int xskgo_map_set(int map_fd, uint32_t key, int fd);
int xskgo_map_clear(int map_fd, uint32_t key);
int xskgo_queues(const char *ifname);

/* One ring, one direction, one crossing. A zero handle is a ring that a
 * one-way socket lacks: it takes and gives nothing.
 */
uint32_t xskgo_fill(uintptr_t fill, const uint64_t *addrs, uint32_t n);
uint32_t xskgo_complete(uintptr_t comp, uint64_t *addrs, uint32_t n);
uint32_t xskgo_rx(uintptr_t rx, struct xdp_desc *descs, uint32_t n);
uint32_t xskgo_tx(uintptr_t tx, const struct xdp_desc *descs, uint32_t n);
uint32_t xskgo_free(uintptr_t prod);
int xskgo_needs_wakeup(uintptr_t prod);
uintptr_t xskgo_swap_flags(uintptr_t prod, uintptr_t flags);

/* The fused bursts, which tell what they did in *b, and the wake-ups. For a result
 * of its own a call would look twice whether Go's stack has moved.
 */
void xskgo_rx_burst(struct xskgo_burst *b, uintptr_t fill, uintptr_t rx, int fd,
		    const uint64_t *addrs, uint32_t n, struct xdp_desc *descs, uint32_t m);
void xskgo_rx_burst_wait(struct xskgo_wait *b, uintptr_t fill, uintptr_t rx, int fd,
			 const uint64_t *addrs, uint32_t n, struct xdp_desc *descs, uint32_t m,
			 int ms, uint32_t ns, int gather);
void xskgo_tx_burst(struct xskgo_burst *b, uintptr_t tx, uintptr_t comp, int fd,
		    const struct xdp_desc *descs, uint32_t n, uint64_t *done, uint32_t m);
int xskgo_wake_rx(uintptr_t fill, int fd);
int xskgo_wake_tx(uintptr_t tx, int fd);
int xskgo_rx_ready(uintptr_t fill, uintptr_t rx, int fd);
int xskgo_rx_wait(uintptr_t fill, uintptr_t rx, int fd, int ms);
int xskgo_tx_ready(uintptr_t tx, int fd);

void xskgo_kicks(uintptr_t tx, uint64_t *kicks, uint64_t *dropped);
int xskgo_stats(int fd, struct xdp_statistics *stats);
int xskgo_options(int fd, uint32_t *flags);

/* Sleeps for up to ns. */
void xskgo_linger(uint32_t ns);
int xskgo_set_tx_budget(int fd, uint32_t packets);

/* Where libxdp and libbpf print: on sends their text to xskgoLog. */
void xskgo_print_libxdp(int on);
int xskgo_print_libbpf(int on);

#pragma GCC visibility pop

#endif
