// SPDX-License-Identifier: BSD-2-Clause
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "common.h"

void die(int err, const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(abs(err)));
	exit(1);
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void usage(void)
{
	fprintf(stderr,
		"usage: %s -d INTERFACE [-q QUEUE] [-c PACKETS] [-t SECONDS] [-s SIZE] [-n BATCH]\n"
		"       [-mode auto|generic|native] [-udp PORT] [-dmac MAC] [-dip ADDRESS] [-o OBJECT]\n"
		"       [-rate PACKETS] [-linger MICROSECONDS]\n",
		program_invocation_short_name);
	exit(2);
}

static uint32_t mode(const char *name)
{
	if (!strcmp(name, "auto"))
		return 0;
	if (!strcmp(name, "generic"))
		return XDP_FLAGS_SKB_MODE;
	if (!strcmp(name, "native"))
		return XDP_FLAGS_DRV_MODE;
	usage();
	return 0;
}

void parse(struct options *o, int argc, char **argv, uint32_t size)
{
	static const struct option flags[] = {
		{ "mode", required_argument, NULL, 'm' }, { "udp", required_argument, NULL, 'u' },
		{ "dmac", required_argument, NULL, 'M' }, { "dip", required_argument, NULL, 'I' },
		{ "rate", required_argument, NULL, 'r' }, { "linger", required_argument, NULL, 'l' },
		{ 0 },
	};
	int flag;

	*o = (struct options){
		.size = size,
		.batch = 64,
		.port = 9000,
		.dmac = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
		.dip = { 192, 0, 2, 2 },
		.object = "bpf/redirect.bpf.o",
		.linger = 50,
	};
	while ((flag = getopt_long_only(argc, argv, "d:q:c:t:s:n:o:", flags, NULL)) != -1) {
		uint8_t *m = o->dmac;

		switch (flag) {
		case 'd': o->interface = optarg; break;
		case 'q': o->queue = strtoul(optarg, NULL, 0); break;
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 't': o->seconds = strtod(optarg, NULL); break;
		case 's': o->size = strtoul(optarg, NULL, 0); break;
		case 'n': o->batch = strtoul(optarg, NULL, 0); break;
		case 'm': o->mode = mode(optarg); break;
		case 'u': o->port = strtoul(optarg, NULL, 0); break;
		case 'o': o->object = optarg; break;
		case 'r': o->rate = strtod(optarg, NULL); break;
		case 'l': o->linger = strtoul(optarg, NULL, 0); break;
		case 'I':
			if (inet_pton(AF_INET, optarg, o->dip) != 1)
				usage();
			break;
		case 'M':
			if (sscanf(optarg, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) != 6)
				usage();
			break;
		default: usage();
		}
	}
	if (!o->interface || optind < argc || !o->batch || o->batch > MAX_BATCH ||
	    o->linger > 1000 || o->size < 60 || o->size > 4096 - XDP_PACKET_HEADROOM)
		usage();
}

/* Frames of 2048 bytes wherever they can receive -s bytes. */
void open_umem(struct port *p, const struct options *o, uint32_t frames)
{
	struct xsk_umem_config config = {
		.fill_size = RING_SIZE,
		.comp_size = RING_SIZE,
		.frame_size = o->size <= 2048 - XDP_PACKET_HEADROOM ? 2048 : 4096,
	};
	size_t size = (size_t)frames * config.frame_size;
	int err;

	memset(p, 0, sizeof(*p));
	p->frame_size = config.frame_size;
	p->area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (p->area == MAP_FAILED)
		die(errno, "map");
	err = xsk_umem__create(&p->umem, p->area, size, &p->fill, &p->comp, &config);
	if (err)
		die(err, "create umem");
}

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

void open_socket(struct port *p, const struct options *o, bool rx, bool tx)
{
	struct xsk_socket_config config = {
		.rx_size = RING_SIZE,
		.tx_size = RING_SIZE,
		.libxdp_flags = XSK_LIBXDP_FLAGS__INHIBIT_PROG_LOAD,
		.bind_flags = XDP_USE_NEED_WAKEUP | (o->mode == XDP_FLAGS_SKB_MODE ? XDP_COPY : 0),
	};
	struct sigaction act = { .sa_handler = stop };
	int err, i;

	/* The kernel frees a queue some time after its last user has gone. */
	for (i = 0; i < 500; i++) {
		err = xsk_socket__create(&p->xsk, o->interface, o->queue, p->umem,
					 rx ? &p->rx : NULL, tx ? &p->tx : NULL, &config);
		if (abs(err) != EBUSY)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
	}
	if (err)
		die(err, "bind");
	p->fd = xsk_socket__fd(p->xsk);
	sigaction(SIGINT, &act, NULL);
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGALRM, &act, NULL);
	if (o->seconds > 0) {
		timer_t timer;
		struct itimerspec end = {
			.it_value = { o->seconds, (o->seconds - (time_t)o->seconds) * 1e9 },
		};

		if (timer_create(CLOCK_MONOTONIC, NULL, &timer) || timer_settime(timer, 0, &end, NULL))
			die(errno, "timer");
	}
}

void close_port(struct port *p)
{
	xsk_socket__delete(p->xsk);
	xsk_umem__delete(p->umem);
}

bool running(void)
{
	return !stopped;
}

/* The device dropped a packet, the link is down, the kernel is short of memory. */
bool passing(int err)
{
	return err == EBUSY || err == ENETDOWN || err == ENOBUFS || err == EAGAIN || err == EINTR;
}

/* It is called for every burst, and looks at the clock each time. */
void meter_add(struct meter *m, uint32_t packets, uint64_t bytes)
{
	double t = now();

	if (!packets)
		return;
	m->packets += packets;
	m->bytes += bytes;
	m->last = t;
	if (!m->first)
		m->first = t;
}

double meter_rate(const struct meter *m)
{
	return m->last > m->first ? m->packets / (m->last - m->first) : 0;
}
