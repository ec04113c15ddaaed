// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>

#include "ringbench.h"

/* The kernel's struct xdp_ring: each index on a cache line of its own, with an
 * empty one between, and the entries behind.
 */
struct memory {
	uint32_t producer __attribute__((aligned(64)));
	uint32_t pad1 __attribute__((aligned(64)));
	uint32_t consumer __attribute__((aligned(64)));
	uint32_t pad2 __attribute__((aligned(64)));
	uint32_t flags;
	uint32_t pad3 __attribute__((aligned(64)));
	char entries[] __attribute__((aligned(64)));
};

#define FRAME_SIZE 2048

static struct memory *map(uint32_t size, size_t entry)
{
	size_t bytes = (sizeof(struct memory) + size * entry + 4095) & ~4095ul;
	struct memory *m = aligned_alloc(4096, bytes);

	return m ? memset(m, 0, bytes) : NULL;
}

/* The two ring structs have the same fields. */
#define SET_UP(r, memory, n)                          \
	do {                                          \
		(r)->mask = (n) - 1;                  \
		(r)->size = (n);                      \
		(r)->producer = &(memory)->producer;  \
		(r)->consumer = &(memory)->consumer;  \
		(r)->flags = &(memory)->flags;        \
		(r)->ring = (memory)->entries;        \
	} while (0)

int ringbench_init(struct ringbench *b, uint32_t size)
{
	struct memory *fill = map(size, sizeof(uint64_t)), *comp = map(size, sizeof(uint64_t));
	struct memory *rx = map(size, sizeof(struct xdp_desc)), *tx = map(size, sizeof(struct xdp_desc));
	uint32_t i;

	memset(b, 0, sizeof(*b));
	b->addrs = calloc(size, sizeof(*b->addrs));
	b->descs = calloc(size, sizeof(*b->descs));
	if (!fill || !comp || !rx || !tx || !b->addrs || !b->descs)
		return -1;
	SET_UP(&b->fill, fill, size);
	SET_UP(&b->comp, comp, size);
	SET_UP(&b->rx, rx, size);
	SET_UP(&b->tx, tx, size);
	b->fill.cached_cons = size; /* as libxdp does */
	b->tx.cached_cons = size;
	for (i = 0; i < size; i++) {
		((uint64_t *)comp->entries)[i] = (uint64_t)i * FRAME_SIZE;
		((struct xdp_desc *)rx->entries)[i] = (struct xdp_desc){
			.addr = (uint64_t)i * FRAME_SIZE + XDP_PACKET_HEADROOM,
			.len = 60,
		};
	}
	return 0;
}

void ringbench_free(struct ringbench *b)
{
	free(b->fill.producer);
	free(b->comp.producer);
	free(b->rx.producer);
	free(b->tx.producer);
	free(b->addrs);
	free(b->descs);
	memset(b, 0, sizeof(*b));
}

/* The kernel, as far as a program sees it: it takes all that was posted and
 * hands over n. Receive and Send in Go are the same two stores.
 */
static inline void kernel(uint32_t *consumer, const uint32_t *posted,
			  uint32_t *producer, const uint32_t *taken, uint32_t n)
{
	__asm__ volatile("" ::: "memory");
	*consumer = *posted;
	*producer = *taken + n;
	__asm__ volatile("" ::: "memory");
}

/* The two-segment ring copies. */

static inline uint32_t room(struct xsk_ring_prod *r, uint32_t n)
{
	uint32_t free = xsk_prod_nb_free(r, n);

	return free < n ? free : n;
}

static inline uint32_t avail(struct xsk_ring_cons *r, uint32_t n)
{
	uint32_t entries = r->cached_prod - r->cached_cons;

	if (entries < n) {
		r->cached_prod = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
		entries = r->cached_prod - r->cached_cons;
	}
	return entries < n ? entries : n;
}

static inline uint32_t fill_produce(struct xsk_ring_prod *r, const uint64_t *addrs, uint32_t n)
{
	uint64_t *ring = r->ring;
	uint32_t at = r->cached_prod & r->mask, first = r->size - at;

	n = room(r, n);
	if (!n)
		return 0;
	if (first > n)
		first = n;
	memcpy(ring + at, addrs, first * sizeof(*ring));
	if (first < n)
		memcpy(ring, addrs + first, (n - first) * sizeof(*ring));
	r->cached_prod += n;
	xsk_ring_prod__submit(r, n);
	return n;
}

static inline uint32_t comp_consume(struct xsk_ring_cons *r, uint64_t *addrs, uint32_t n)
{
	const uint64_t *ring = r->ring;
	uint32_t at = r->cached_cons & r->mask, first = r->size - at;

	n = avail(r, n);
	if (!n)
		return 0;
	if (first > n)
		first = n;
	memcpy(addrs, ring + at, first * sizeof(*ring));
	if (first < n)
		memcpy(addrs + first, ring, (n - first) * sizeof(*ring));
	r->cached_cons += n;
	xsk_ring_cons__release(r, n);
	return n;
}

static inline uint32_t rx_consume(struct xsk_ring_cons *r, struct xdp_desc *descs, uint32_t n)
{
	const struct xdp_desc *ring = r->ring;
	uint32_t at = r->cached_cons & r->mask, first = r->size - at;

	n = avail(r, n);
	if (!n)
		return 0;
	if (first > n)
		first = n;
	memcpy(descs, ring + at, first * sizeof(*ring));
	if (first < n)
		memcpy(descs + first, ring, (n - first) * sizeof(*ring));
	r->cached_cons += n;
	xsk_ring_cons__release(r, n);
	return n;
}

static inline uint32_t tx_produce(struct xsk_ring_prod *r, const struct xdp_desc *descs, uint32_t n)
{
	struct xdp_desc *ring = r->ring;
	uint32_t at = r->cached_prod & r->mask, first = r->size - at;

	n = room(r, n);
	if (!n)
		return 0;
	if (first > n)
		first = n;
	memcpy(ring + at, descs, first * sizeof(*ring));
	if (first < n)
		memcpy(ring, descs + first, (n - first) * sizeof(*ring));
	r->cached_prod += n;
	xsk_ring_prod__submit(r, n);
	return n;
}

/* What a C program does for each burst received: post empty frames, as many as
 * came last time, wake the kernel if it asks, and take what came.
 */
uint32_t ringbench_receive(struct ringbench *b, uint32_t bursts, uint32_t n)
{
	uint32_t received = n, packets = 0;

	for (; bursts; bursts--) {
		kernel(b->fill.consumer, b->fill.producer, b->rx.producer, b->rx.consumer, n);
		fill_produce(&b->fill, b->addrs, received);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (xsk_ring_prod__needs_wakeup(&b->fill))
			recvfrom(-1, NULL, 0, MSG_DONTWAIT, NULL, NULL);
		received = rx_consume(&b->rx, b->descs, n);
		packets += received;
	}
	return packets;
}

/* And for each burst sent: take sent frames back, queue packets, kick the kernel
 * if it asks, and take back what that sent.
 */
uint32_t ringbench_send(struct ringbench *b, uint32_t bursts, uint32_t n)
{
	uint32_t done, packets = 0;

	for (; bursts; bursts--) {
		kernel(b->tx.consumer, b->tx.producer, b->comp.producer, b->comp.consumer, n);
		done = comp_consume(&b->comp, b->addrs, n);
		packets += tx_produce(&b->tx, b->descs, n);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (xsk_ring_prod__needs_wakeup(&b->tx))
			sendto(-1, NULL, 0, MSG_DONTWAIT, NULL, 0);
		comp_consume(&b->comp, b->addrs + done, n - done);
	}
	return packets;
}

void ringbench_nothing(void)
{
}
