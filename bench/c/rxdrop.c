// SPDX-License-Identifier: BSD-2-Clause
/*
 * What examples/rxdrop does, in C on libxdp: it receives UDP packets and drops
 * them, with the same XDP program, lets them gather for a while, and sleeps in
 * poll when there are none.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "common.h"

#define FRAMES RING_SIZE

/* A variable of the program in a section of its object, before it is loaded. */
static void *variable(struct bpf_object *object, const char *section_name, const char *name)
{
	struct btf *btf = bpf_object__btf(object);
	const struct btf_type *section = btf__type_by_id(btf, btf__find_by_name_kind(btf, section_name, BTF_KIND_DATASEC));
	const struct btf_var_secinfo *v = section ? btf_var_secinfos(section) : NULL;
	struct bpf_map *map = bpf_object__find_map_by_name(object, section_name);
	size_t size;
	int i;

	for (i = 0; map && v && i < btf_vlen(section); i++)
		if (!strcmp(btf__name_by_offset(btf, btf__type_by_id(btf, v[i].type)->name_off), name))
			return (char *)bpf_map__initial_value(map, &size) + v[i].offset;
	die(ENOENT, name);
	return NULL;
}

/* Sets the filter to one UDP port, as bpf/tables.go does. */
static void filter(struct bpf_object *object, uint16_t port)
{
	enum { UDP_PORTS = 1 }; /* RULE(UDP_PORTS) and NUMBER(UDP_PORTS) */
	struct {
		uint32_t rules, exceptions, used, parse;
	} *config = variable(object, ".rodata", "config");
	uint16_t *numbers = variable(object, ".bss", "numbers");

	config->rules = config->used = UDP_PORTS;
	config->parse = 1;
	numbers[port] = UDP_PORTS;
}

/* Attaches package bpf's program by a bpf_link, which ends with the process, and
 * registers the socket with it.
 */
static void attach(const struct options *o, const struct port *p)
{
	LIBBPF_OPTS(bpf_link_create_opts, opts, .flags = o->mode);
	struct bpf_object *object = bpf_object__open_file(o->object, NULL);
	struct bpf_program *program, *single;
	struct bpf_map *map;
	int err;

	if (!object)
		die(errno, o->object);
	filter(object, o->port);
	program = bpf_object__find_program_by_name(object, "xsk_redirect");
	single = bpf_object__find_program_by_name(object, "xsk_redirect_1b");
	map = bpf_object__find_map_by_name(object, "xsks_map");
	if (!program || !single || !map)
		die(ENOENT, o->object);
	bpf_program__set_autoload(single, false);
	bpf_map__set_max_entries(map, o->queue + 1);
	err = bpf_object__load(object);
	if (err)
		die(err, "load the program");
	err = bpf_link_create(bpf_program__fd(program), if_nametoindex(o->interface), BPF_XDP, &opts);
	if (err < 0)
		die(err, "attach the program");
	err = bpf_map_update_elem(bpf_map__fd(map), &o->queue, &p->fd, BPF_ANY);
	if (err)
		die(err, "register the socket");
}

/* Frames that the kernel does not have. */
struct empty {
	uint64_t addrs[FRAMES];
	uint32_t n;
};

static void give_back(struct port *p, struct empty *e)
{
	uint32_t n = xsk_prod_nb_free(&p->fill, e->n), at, i;

	if (n > e->n)
		n = e->n;
	if (n && xsk_ring_prod__reserve(&p->fill, n, &at)) {
		for (i = 0; i < n; i++)
			*xsk_ring_prod__fill_addr(&p->fill, at + i) = e->addrs[i];
		xsk_ring_prod__submit(&p->fill, n);
		memmove(e->addrs, e->addrs + n, (e->n - n) * sizeof(*e->addrs));
		e->n -= n;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
	}
	if (xsk_ring_prod__needs_wakeup(&p->fill) &&
	    recvfrom(p->fd, NULL, 0, MSG_DONTWAIT, NULL, NULL) < 0 && !passing(errno))
		die(errno, "wake rx");
}

/* Packets there; libxdp's xsk_cons_nb_avail looks only once it knows of none. */
static uint32_t available(struct xsk_ring_cons *r)
{
	r->cached_prod = __atomic_load_n(r->producer, __ATOMIC_ACQUIRE);
	return r->cached_prod - r->cached_cons;
}

/* Sleeps for us at most: the kernel may take its slack before it wakes anybody. */
static void linger(uint32_t us)
{
	static long slack;
	struct timespec end;

	if (!slack) {
		slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
		if (slack > us * 1000L)
			prctl(PR_SET_TIMERSLACK, slack = 1, 0, 0, 0);
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += us * 1000L - slack;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

/* Waits for packets: want of them, or those of the time to linger. With gather it
 * lingers before it waits in poll: there will be some.
 */
static void await(struct port *p, const struct options *o, uint32_t want, bool gather)
{
	uint32_t there = available(&p->rx);

	if (o->linger && there < want && (there || gather)) {
		linger(o->linger);
		there = available(&p->rx);
	}
	if (there)
		return;
	if (poll(&(struct pollfd){ .fd = p->fd, .events = POLLIN }, 1, 100) < 0 && errno != EINTR)
		die(errno, "poll");
	if (o->linger && available(&p->rx) < want)
		linger(o->linger);
	available(&p->rx);
}

int main(int argc, char **argv)
{
	struct options o;
	struct port p;
	struct meter m = { 0 };
	struct xdp_statistics stats;
	socklen_t len = sizeof(stats);
	static struct empty empty;
	uint32_t at, n = 0, i;

	parse(&o, argc, argv, 3840);
	open_umem(&p, &o, FRAMES + 64);
	/* The kernel gets its frames before the bind. */
	while (empty.n < FRAMES) {
		empty.addrs[empty.n] = (uint64_t)empty.n * p.frame_size;
		empty.n++;
	}
	give_back(&p, &empty);
	open_socket(&p, &o, true, false);
	attach(&o, &p);
	puts("rxdrop: ready");
	fflush(stdout);

	while (running() && (!o.count || m.packets < o.count)) {
		uint32_t want = o.count && o.count - m.packets < o.batch ? o.count - m.packets : o.batch;
		uint64_t bytes = 0;

		/* Give back the frames of the last round, */
		give_back(&p, &empty);
		await(&p, &o, want, n > 1);
		/* and take the packets of this one. */
		n = xsk_ring_cons__peek(&p.rx, want, &at);
		for (i = 0; i < n; i++) {
			const struct xdp_desc *d = xsk_ring_cons__rx_desc(&p.rx, at + i);

			bytes += d->len;
			empty.addrs[empty.n++] = d->addr - d->addr % p.frame_size;
		}
		xsk_ring_cons__release(&p.rx, n);
		meter_add(&m, n, bytes);
	}
	if (getsockopt(p.fd, SOL_XDP, XDP_STATISTICS, &stats, &len))
		die(errno, "statistics");
	printf("rxdrop: received=%llu bytes=%llu lost=%llu seconds=%.3f pps=%.0f\n", (unsigned long long)m.packets,
	       (unsigned long long)m.bytes, (unsigned long long)(stats.rx_dropped + stats.rx_ring_full),
	       m.last - m.first, meter_rate(&m));
	close_port(&p);
	return 0;
}
