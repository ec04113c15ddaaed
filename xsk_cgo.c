// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include <linux/if_xdp.h>
#include <xdp/xsk.h>

#include "xsk_cgo.h"
#include "xsk_internal.h"

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
