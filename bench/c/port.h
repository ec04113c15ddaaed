/* SPDX-License-Identifier: BSD-2-Clause */
/* AF_XDP sockets on libxdp, for the two contestants that use it. */
#ifndef PORT_H
#define PORT_H

#include "contest.h"

struct port {
	struct xsk_socket *xsk;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons comp, rx;
	int fd;
};

extern struct xsk_umem *umem;
extern uint8_t *area;

/* open_umem maps the frames; its rings are the first port's. */
void open_umem(struct port *first);
/* open_port binds queue of an interface, and registers it in an XSKMAP unless
 * that is negative.
 */
void open_port(struct port *p, const char *interface, uint32_t queue, bool rx, bool tx, int map);
/* wait_port sleeps until there is something to do, or for 20 ms. */
void wait_port(struct port *p, short events);

/* The harness hands over the XSKMAPs of -d and -out. */
#define MAP_IN 3
#define MAP_OUT 4

static inline uint64_t frame_of(uint64_t addr)
{
	return addr & ~(uint64_t)(opt.frame_size - 1);
}

#endif
