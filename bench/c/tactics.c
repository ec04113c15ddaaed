// SPDX-License-Identifier: BSD-2-Clause
/*
 * AF_XDP on libxdp with what package xsk does: frames that came back last are the
 * first to go out, so that a few hot ones do; the kernel is kicked for as long as
 * it takes packets; and whoever waits lets packets gather.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "port.h"

#define MAX_QUEUES 64

static struct port ports[MAX_QUEUES];
static uint64_t *stack, *post; /* free frames; frames to be posted */
static uint32_t nfree, nposts;
static uint64_t number;

static uint32_t give_back(struct port *p)
{
	uint32_t n = xsk_prod_nb_free(&p->fill, nposts), at, i;

	if (n > nposts)
		n = nposts;
	if (n && xsk_ring_prod__reserve(&p->fill, n, &at)) {
		for (i = 0; i < n; i++)
			*xsk_ring_prod__fill_addr(&p->fill, at + i) = post[i];
		xsk_ring_prod__submit(&p->fill, n);
		nposts -= n;
		memmove(post, post + n, nposts * sizeof(*post));
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	if (xsk_ring_prod__needs_wakeup(&p->fill) &&
	    recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && !passing(errno))
		die(errno, "wake");
	return n;
}

void tactics_open(void)
{
	bool sends = !strcmp(opt.task, "tx"), forwards = !strcmp(opt.task, "forward");
	bool answers = !strcmp(opt.task, "echo");
	uint32_t i;

	open_umem(&ports[0]);
	stack = calloc(opt.frames, sizeof(*stack));
	post = calloc(opt.frames, sizeof(*post));
	if (!stack || !post)
		die(ENOMEM, "frames");
	for (i = 0; i < opt.frames; i++) {
		uint64_t addr = (uint64_t)i * opt.frame_size;

		if (sends || i >= opt.frames / 2)
			stack[nfree++] = addr;
		else
			post[nposts++] = addr;
		if (sends)
			make_packet(area + addr, opt.size);
	}
	if (!sends)
		give_back(&ports[0]);
	open_port(&ports[0], opt.in, 0, !sends, sends || answers, sends ? -1 : MAP_IN);
	if (forwards)
		open_port(&ports[1], opt.out, 0, false, true, -1);
	for (i = 1; sends && i < opt.queues; i++)
		open_port(&ports[i], opt.in, i, false, true, -1);
}

static uint32_t pending(const struct xsk_ring_prod *r)
{
	return __atomic_load_n(r->producer, __ATOMIC_RELAXED) - __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
}

/* Copy mode takes 32 packets a kick and answers EAGAIN. */
static void kick(struct port *p)
{
	uint32_t left, patience;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	left = pending(&p->tx);
	patience = left / 32 + 2;
	while (left && xsk_ring_prod__needs_wakeup(&p->tx)) {
		int err = sendto(p->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
		uint32_t more = pending(&p->tx);

		if (!err || (more == left && !--patience))
			return;
		if (!passing(err))
			die(err, "kick");
		left = more;
	}
}

/* reap puts frames that were sent on the stack. */
static uint32_t reap(struct port *p)
{
	uint32_t at, n = xsk_ring_cons__peek(&p->comp, opt.frames - nfree, &at), i;

	for (i = 0; i < n; i++)
		stack[nfree++] = frame_of(*xsk_ring_cons__comp_addr(&p->comp, at + i));
	xsk_ring_cons__release(&p->comp, n);
	return n;
}

static void send_burst(struct port *p, uint32_t n)
{
	uint32_t at, done = reap(p), room, i;

	if (n > nfree)
		n = nfree;
	room = xsk_prod_nb_free(&p->tx, n);
	if (n > room)
		n = room;
	n = xsk_ring_prod__reserve(&p->tx, n, &at);
	for (i = 0; i < n; i++) {
		uint64_t addr = stack[--nfree];

		number_packet(area + addr, number++);
		*xsk_ring_prod__tx_desc(&p->tx, at + i) = (struct xdp_desc){ .addr = addr, .len = opt.size };
	}
	xsk_ring_prod__submit(&p->tx, n);
	kick(p);
	done += reap(p);
	count(done);
	if (!n && !done)
		wait_port(p, POLLOUT);
}

/* Packets there; libxdp's xsk_cons_nb_avail looks only once it knows of none. */
static uint32_t available(struct xsk_ring_cons *r)
{
	r->cached_prod = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
	return r->cached_prod - r->cached_cons;
}

static void linger(void)
{
	static bool exact;
	struct timespec end;

	if (!exact)
		exact = !prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += opt.linger * 1000L;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

/* await_packets waits for a burst, or those of the time to linger. After a burst
 * it lingers before it waits in poll: there will be some.
 */
static void await_packets(struct port *p, bool gather)
{
	uint32_t there = available(&p->rx);

	if (opt.spin)
		return;
	if (opt.linger && there < opt.batch && (there || gather)) {
		linger();
		there = available(&p->rx);
	}
	if (there)
		return;
	wait_port(p, POLLIN);
	if (opt.linger && available(&p->rx) < opt.batch)
		linger();
	available(&p->rx);
}

static uint32_t receive_burst(struct port *p, uint32_t before)
{
	uint32_t at, n, i;
	const struct xdp_desc *d = NULL;

	give_back(p);
	await_packets(p, before > 1);
	n = xsk_ring_cons__peek(&p->rx, opt.batch, &at);
	for (i = 0; i < n; i++) {
		d = xsk_ring_cons__rx_desc(&p->rx, at + i);
		post[nposts++] = frame_of(d->addr);
	}
	if (count(n) && d)
		check_packet(area + d->addr, d->len);
	xsk_ring_cons__release(&p->rx, n);
	return n;
}

static uint32_t owed; /* frames that the fill ring gets for those that were sent */

static uint32_t pass_on(struct port *in, struct port *out, uint32_t before, bool answer)
{
	uint32_t rx, at, n, i;
	const struct xdp_desc *d = NULL;

	give_back(in);
	await_packets(in, before > 1);
	n = xsk_ring_cons__peek(&in->rx, opt.batch, &rx);
	while (n && xsk_ring_prod__reserve(&out->tx, n, &at) != n) {
		kick(out);
		reap(out);
	}
	for (i = 0; i < n; i++) {
		d = xsk_ring_cons__rx_desc(&in->rx, rx + i);
		if (answer)
			turn_around(area + d->addr);
		*xsk_ring_prod__tx_desc(&out->tx, at + i) = (struct xdp_desc){ .addr = d->addr, .len = d->len };
	}
	if (count(n) && d)
		check_packet(area + d->addr, d->len);
	xsk_ring_cons__release(&in->rx, n);
	if (n)
		xsk_ring_prod__submit(&out->tx, n);
	kick(out);
	reap(out);
	for (owed += n; owed && nfree; owed--)
		post[nposts++] = stack[--nfree];
	return n;
}

void tactics_turn(void)
{
	bool sends = !strcmp(opt.task, "tx"), receives = !strcmp(opt.task, "rx");
	bool answers = !strcmp(opt.task, "echo");
	uint32_t n = 0, queue = 0;
	uint64_t first = number, i;

	while (running()) {
		if (sends) {
			pace(number - first);
			send_burst(&ports[queue], opt.batch);
			queue = (queue + 1) % opt.queues;
		} else if (receives) {
			n = receive_burst(&ports[0], n);
		} else {
			n = pass_on(&ports[0], &ports[answers ? 0 : 1], n, answers);
		}
	}
	for (i = 0; sends && i < 100 && nfree < opt.frames; i++) {
		for (queue = 0; queue < opt.queues; queue++) {
			kick(&ports[queue]);
			count(reap(&ports[queue]));
		}
	}
}
