// SPDX-License-Identifier: BSD-2-Clause
/*
 * What examples/udpgen does, in C on libxdp: it sends numbered UDP packets as
 * fast as it can. Packets are prepared once, sending only numbers them, and the
 * frames that came back last go out first.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define FRAMES RING_SIZE

struct headers {
	struct ethhdr eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

/* A packet is its headers, its number, and a pattern that follows from that. */
struct template {
	struct headers headers;
	uint32_t size;
	uint64_t fixed;	 /* sum of all words that the number does not change */
	uint64_t repeat; /* how often the pattern fits */
	uint64_t tail;	 /* the bits of it that fit once more */
	uint32_t turn;	 /* how many bits that is */
};

#define SPREAD 0x9e3779b97f4a7c15ull

static uint64_t half(uint64_t sum)
{
	return (sum >> 32) + (sum & 0xffffffff);
}

static uint16_t fold(uint64_t sum)
{
	sum = half(sum);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	sum = (sum >> 16) + (sum & 0xffff);
	return sum;
}

/* The sum of an even number of bytes, as words in network order. */
static uint64_t sum(const void *from, size_t n)
{
	const uint8_t *b = from;
	uint64_t total = 0;
	size_t i;

	for (i = 0; i < n; i += 2)
		total += b[i] << 8 | b[i + 1];
	return total;
}

static void own_mac(const char *interface, uint8_t *mac)
{
	struct ifreq request = { 0 };
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strncpy(request.ifr_name, interface, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request))
		die(errno, interface);
	close(fd);
	memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
}

static void make_template(struct template *t, const struct options *o)
{
	struct headers *h = &t->headers;
	uint32_t fill = o->size - sizeof(*h) - sizeof(uint64_t);

	memset(t, 0, sizeof(*t));
	t->size = o->size;
	memcpy(h->eth.h_dest, o->dmac, ETH_ALEN);
	own_mac(o->interface, h->eth.h_source);
	h->eth.h_proto = htons(ETH_P_IP);
	h->ip.version = 4;
	h->ip.ihl = 5;
	h->ip.tot_len = htons(o->size - sizeof(h->eth));
	h->ip.frag_off = htons(0x4000);
	h->ip.ttl = 64;
	h->ip.protocol = IPPROTO_UDP;
	h->ip.saddr = htonl(0xc0000201);
	memcpy(&h->ip.daddr, o->dip, sizeof(h->ip.daddr));
	h->ip.check = htons(~fold(sum(&h->ip, sizeof(h->ip))));
	h->udp.source = htons(o->port);
	h->udp.dest = htons(o->port);
	h->udp.len = htons(o->size - sizeof(h->eth) - sizeof(h->ip));

	t->fixed = sum(&h->ip.saddr, 8) + IPPROTO_UDP + ntohs(h->udp.len) + sum(&h->udp, sizeof(h->udp));
	t->repeat = fill / 8;
	t->turn = 8 * (fill % 8);
	t->tail = t->turn ? ~(~0ull >> t->turn) : 0;
}

/* The sum of a repeated pattern is a product, so the checksum needs no second
 * pass over the payload.
 */
static void number_packet(const struct template *t, uint8_t *frame, uint64_t n)
{
	uint64_t pattern = n * SPREAD, big = htobe64(n), word = htobe64(pattern);
	uint8_t *payload = frame + sizeof(struct headers), *last = frame + t->size - 8;
	uint8_t *at = payload + sizeof(big);
	uint16_t check;

	memcpy(payload, &big, sizeof(big));
	for (; at < last; at += sizeof(word))
		memcpy(at, &word, sizeof(word));
	if (t->turn)
		word = htobe64(pattern << t->turn | pattern >> (64 - t->turn));
	memcpy(last, &word, sizeof(word));
	check = ~fold(t->fixed + half(n) + t->repeat * half(pattern) + half(pattern & t->tail));
	check = htons(check ? check : 0xffff);
	memcpy(frame + offsetof(struct headers, udp.check), &check, sizeof(check));
}

struct sender {
	struct port port;
	struct template template;
	uint64_t free[FRAMES]; /* frames to send, last in, first out */
	uint32_t nfree;
	uint64_t number; /* the next packet's */
	uint64_t dropped;
};

static uint32_t pending(const struct xsk_ring_prod *tx)
{
	return __atomic_load_n(tx->producer, __ATOMIC_RELAXED) -
	       __atomic_load_n(tx->consumer, __ATOMIC_ACQUIRE);
}

/* Kicks for as long as the kernel takes packets; copy mode takes 32 a kick and
 * answers EAGAIN, and EBUSY for a packet that the device dropped.
 */
static int kick(struct sender *s)
{
	struct xsk_ring_prod *tx = &s->port.tx;
	uint32_t left, patience;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	left = pending(tx);
	patience = left / 32 + 2;
	while (left && xsk_ring_prod__needs_wakeup(tx)) {
		int err = sendto(s->port.fd, NULL, 0, MSG_DONTWAIT, NULL, 0) < 0 ? errno : 0;
		uint32_t more = pending(tx);

		if (!err)
			break;
		if (err == EBUSY)
			s->dropped++;
		else if (err != EAGAIN && err != EINTR)
			return err;
		if (more == left && !--patience)
			return EAGAIN;
		left = more;
	}
	return 0;
}

static uint32_t reap(struct sender *s)
{
	uint32_t at, n = xsk_ring_cons__peek(&s->port.comp, FRAMES - s->nfree, &at), i;

	for (i = 0; i < n; i++)
		s->free[s->nfree++] = *xsk_ring_cons__comp_addr(&s->port.comp, at + i);
	xsk_ring_cons__release(&s->port.comp, n);
	return n;
}

/* One burst: number up to n packets and queue them, kick, take frames back. */
static void burst(struct sender *s, uint32_t n, struct meter *m)
{
	struct port *p = &s->port;
	uint32_t at, done, i, room;
	int err;

	done = reap(s);
	if (n > s->nfree)
		n = s->nfree;
	room = xsk_prod_nb_free(&p->tx, n);
	if (n > room)
		n = room;
	n = xsk_ring_prod__reserve(&p->tx, n, &at);
	for (i = 0; i < n; i++) {
		uint64_t addr = s->free[--s->nfree];

		number_packet(&s->template, p->area + addr, s->number++);
		*xsk_ring_prod__tx_desc(&p->tx, at + i) = (struct xdp_desc){ .addr = addr, .len = s->template.size };
	}
	xsk_ring_prod__submit(&p->tx, n);
	err = kick(s);
	if (err && !passing(err))
		die(err, "kick");
	done += reap(s);
	meter_add(m, done, (uint64_t)done * s->template.size);
	if (!n && !done)
		poll(&(struct pollfd){ .fd = p->fd, .events = POLLOUT }, 1, 100);
}

int main(int argc, char **argv)
{
	static struct sender s;
	struct options o;
	struct meter m = { 0 };
	double begin;
	uint64_t i;

	parse(&o, argc, argv, 64);
	open_umem(&s.port, &o, FRAMES + 512);
	open_socket(&s.port, &o, false, true);
	make_template(&s.template, &o);
	for (i = 0; i < FRAMES; i++) {
		s.free[s.nfree++] = i * s.port.frame_size;
		memcpy(s.port.area + i * s.port.frame_size, &s.template.headers, sizeof(s.template.headers));
	}
	puts("udpgen: ready");
	fflush(stdout);
	meter_add(&m, 0, 0);
	begin = now();
	while (running() && (!o.count || s.number < o.count)) {
		uint64_t left = o.count ? o.count - s.number : o.batch;

		if (o.rate && s.number > (now() - begin) * o.rate)
			continue; /* sleeping would make bursts of it */
		burst(&s, left < o.batch ? left : o.batch, &m);
	}
	for (i = 0; i < 1000 && m.packets < s.number; i++) {
		burst(&s, 0, &m);
		usleep(1000);
	}
	printf("udpgen: sent=%llu dropped=%llu seconds=%.3f pps=%.0f\n", (unsigned long long)m.packets,
	       (unsigned long long)s.dropped, m.last - m.first, meter_rate(&m));
	close_port(&s.port);
	return 0;
}
