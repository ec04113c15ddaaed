// SPDX-License-Identifier: BSD-2-Clause
/*
 * AF_XDP on libxdp as the well-known samples have it: frames go round through the
 * whole umem, first in, first out; a burst gets one kick; whoever waits waits in
 * poll, without delay; and a ring without room is tried again until it has some.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "port.h"

static struct port ports[2];
static struct {
	uint32_t next;	      /* the frame to send next */
	uint32_t outstanding; /* descriptors that have not come back */
	uint64_t number;
} tx;

static void fill_up(struct port *p, uint32_t from)
{
	uint32_t at = 0, i;

	if (xsk_ring_prod__reserve(&p->fill, opt.ring, &at) != opt.ring)
		die(ENOSPC, "fill");
	for (i = 0; i < opt.ring; i++)
		*xsk_ring_prod__fill_addr(&p->fill, at + i) = (uint64_t)(from + i) * opt.frame_size;
	xsk_ring_prod__submit(&p->fill, opt.ring);
}

void sample_open(void)
{
	bool sends = !strcmp(opt.task, "tx"), forwards = !strcmp(opt.task, "forward");
	uint32_t i;

	open_umem(&ports[0]);
	if (!sends)
		fill_up(&ports[0], 0);
	open_port(&ports[0], opt.in, 0, !sends, strcmp(opt.task, "rx") && !forwards, sends ? -1 : MAP_IN);
	if (forwards)
		open_port(&ports[1], opt.out, 0, false, true, -1);
	for (i = 0; sends && i < opt.frames; i++)
		make_packet(area + (size_t)i * opt.frame_size, opt.size);
}

static void kick(struct port *p)
{
	if (xsk_ring_prod__needs_wakeup(&p->tx) && sendto(p->fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 &&
	    !passing(errno))
		die(errno, "kick");
}

static void wake(struct port *p)
{
	if (xsk_ring_prod__needs_wakeup(&p->fill) &&
	    recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && !passing(errno))
		die(errno, "wake");
}

/* complete kicks, and drops what came back: its frames are due again later. */
static void complete(struct port *p)
{
	uint32_t at, n;

	if (!tx.outstanding)
		return;
	kick(p);
	n = xsk_ring_cons__peek(&p->comp, opt.batch, &at);
	xsk_ring_cons__release(&p->comp, n);
	tx.outstanding -= n;
	count(n);
}

static void send_burst(struct port *p)
{
	uint32_t at = 0, i;

	while (xsk_ring_prod__reserve(&p->tx, opt.batch, &at) < opt.batch) {
		complete(p);
		if (!running())
			return;
	}
	for (i = 0; i < opt.batch; i++) {
		uint64_t addr = (uint64_t)tx.next * opt.frame_size;

		number_packet(area + addr, tx.number++);
		*xsk_ring_prod__tx_desc(&p->tx, at + i) = (struct xdp_desc){ .addr = addr, .len = opt.size };
		tx.next = (tx.next + 1) % opt.frames;
	}
	xsk_ring_prod__submit(&p->tx, opt.batch);
	tx.outstanding += opt.batch;
	complete(p);
}

static void receive_burst(struct port *p)
{
	uint32_t rx, fill, n, i;
	const struct xdp_desc *d = NULL;

	if (!opt.spin)
		wait_port(p, POLLIN);
	n = xsk_ring_cons__peek(&p->rx, opt.batch, &rx);
	if (!n) {
		wake(p);
		return;
	}
	while (xsk_ring_prod__reserve(&p->fill, n, &fill) != n)
		wake(p);
	for (i = 0; i < n; i++) {
		d = xsk_ring_cons__rx_desc(&p->rx, rx + i);
		*xsk_ring_prod__fill_addr(&p->fill, fill + i) = xsk_umem__extract_addr(d->addr);
	}
	if (count(n))
		check_packet(area + d->addr, d->len);
	xsk_ring_prod__submit(&p->fill, n);
	xsk_ring_cons__release(&p->rx, n);
}

/* What out has sent is posted again on in. */
static void give_back(struct port *in, struct port *out)
{
	uint32_t comp, fill, n, i;

	if (!tx.outstanding)
		return;
	kick(out);
	n = xsk_ring_cons__peek(&out->comp, opt.batch, &comp);
	if (!n)
		return;
	while (xsk_ring_prod__reserve(&in->fill, n, &fill) != n)
		wake(in);
	for (i = 0; i < n; i++)
		*xsk_ring_prod__fill_addr(&in->fill, fill + i) = frame_of(*xsk_ring_cons__comp_addr(&out->comp, comp + i));
	xsk_ring_prod__submit(&in->fill, n);
	xsk_ring_cons__release(&out->comp, n);
	tx.outstanding -= n;
}

static void pass_on(struct port *in, struct port *out, bool answer)
{
	uint32_t rx, at, n, i;
	const struct xdp_desc *d = NULL;

	if (!opt.spin)
		wait_port(in, in == out && tx.outstanding ? POLLIN | POLLOUT : POLLIN);
	give_back(in, out);
	n = xsk_ring_cons__peek(&in->rx, opt.batch, &rx);
	if (!n) {
		wake(in);
		return;
	}
	while (xsk_ring_prod__reserve(&out->tx, n, &at) != n)
		give_back(in, out);
	for (i = 0; i < n; i++) {
		d = xsk_ring_cons__rx_desc(&in->rx, rx + i);
		if (answer)
			turn_around(area + d->addr);
		*xsk_ring_prod__tx_desc(&out->tx, at + i) = (struct xdp_desc){ .addr = d->addr, .len = d->len };
	}
	if (count(n))
		check_packet(area + d->addr, d->len);
	xsk_ring_prod__submit(&out->tx, n);
	xsk_ring_cons__release(&in->rx, n);
	tx.outstanding += n;
}

void sample_turn(void)
{
	while (running()) {
		if (!strcmp(opt.task, "tx"))
			send_burst(&ports[0]);
		else if (!strcmp(opt.task, "rx"))
			receive_burst(&ports[0]);
		else if (!strcmp(opt.task, "echo"))
			pass_on(&ports[0], &ports[0], true);
		else
			pass_on(&ports[0], &ports[1], false);
	}
	/* A latency of the last burst would be the next turn's. */
	while (tx.outstanding && strcmp(opt.task, "tx"))
		give_back(&ports[0], strcmp(opt.task, "forward") ? &ports[0] : &ports[1]);
}
