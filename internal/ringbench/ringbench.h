/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The four rings of a socket over plain memory, and the receive and send loops
 * that a C program would run on them.
 */
#ifndef RINGBENCH_H
#define RINGBENCH_H

#include <stdint.h>
#include <stdlib.h>
#include <xdp/xsk.h>

/* libxdp's ring structs, as Go's ring calls take them, and scratch space of the
 * C loops.
 */
struct ringbench {
	struct xsk_ring_prod fill;
	struct xsk_ring_cons comp;
	struct xsk_ring_cons rx;
	struct xsk_ring_prod tx;
	uint64_t *addrs;
	struct xdp_desc *descs;
};

int ringbench_init(struct ringbench *b, uint32_t size);
void ringbench_free(struct ringbench *b);
uint32_t ringbench_receive(struct ringbench *b, uint32_t bursts, uint32_t n);
uint32_t ringbench_send(struct ringbench *b, uint32_t bursts, uint32_t n);
void ringbench_nothing(void);

#endif
