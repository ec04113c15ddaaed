// SPDX-License-Identifier: BSD-2-Clause
/*
 * A UDP socket of the kernel's, with sendmmsg and recvmmsg. It computes no
 * checksums (SO_NO_CHECK), for the others do not either. It also has the ping that
 * measures everybody's latency.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "contest.h"

static int fd;
static struct mmsghdr messages[MAX_BATCH];
static struct iovec vectors[MAX_BATCH];
static struct sockaddr_in peers[MAX_BATCH];
static uint8_t packets[MAX_BATCH][4096];
static uint64_t number;

static struct sockaddr_in socket_address(const uint8_t *ip)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	memcpy(&a.sin_addr, ip, 4);
	return a;
}

void udp_open(void)
{
	bool talks = !strcmp(opt.task, "tx") || !strcmp(opt.task, "ping");
	struct sockaddr_in own = socket_address(opt.sip), peer = socket_address(opt.dip);
	int on = 1, space = 8 << 20, i;

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &space, sizeof(space)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){ .tv_usec = 20000 }, sizeof(struct timeval)) ||
	    bind(fd, (struct sockaddr *)&own, sizeof(own)) ||
	    (talks && connect(fd, (struct sockaddr *)&peer, sizeof(peer))))
		die(errno, "socket");
	for (i = 0; i < MAX_BATCH; i++) {
		make_packet(packets[i], opt.size);
		vectors[i].iov_base = packets[i] + HEADERS;
		messages[i].msg_hdr.msg_iov = &vectors[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		vectors[i].iov_len = opt.size - HEADERS;
	}
}

static void send_messages(int n)
{
	int sent;

	for (sent = 0; sent < n;) {
		int more = sendmmsg(fd, messages + sent, n - sent, 0);

		if (more < 0 && !passing(errno) && errno != ECONNREFUSED)
			die(errno, "sendmmsg");
		if (more > 0)
			sent += more;
	}
}

static void send_burst(void)
{
	uint32_t i;

	for (i = 0; i < opt.batch; i++)
		number_packet(packets[i], number++);
	send_messages(opt.batch);
	count(opt.batch);
}

static void receive_burst(bool answer)
{
	uint32_t i;
	int n;

	for (i = 0; i < opt.batch; i++) {
		vectors[i].iov_len = opt.size - HEADERS;
		messages[i].msg_hdr.msg_name = answer ? &peers[i] : NULL;
		messages[i].msg_hdr.msg_namelen = answer ? sizeof(peers[i]) : 0;
	}
	n = recvmmsg(fd, messages, opt.batch, opt.spin ? MSG_DONTWAIT : MSG_WAITFORONE, NULL);
	if (n < 0) {
		if (!passing(errno))
			die(errno, "recvmmsg");
		return;
	}
	if (count(n))
		check_packet(packets[n - 1], HEADERS + messages[n - 1].msg_len);
	if (answer)
		send_messages(n);
}

static int by_size(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

#define TRIPS (1 << 20)

/* ping sends a packet, spins until its answer is there, and sends the next one. */
static void ping(void)
{
	static uint32_t ns[TRIPS];
	uint8_t *payload = packets[0] + HEADERS, answer[4096];
	uint32_t n = 0, len = opt.size - HEADERS;

	while (running() && n < TRIPS) {
		double sent;
		ssize_t got;

		number_packet(packets[0], number++);
		sent = now();
		if (send(fd, payload, len, 0) < 0 && !passing(errno) && errno != ECONNREFUSED)
			die(errno, "send");
		do {
			got = recv(fd, answer, sizeof(answer), MSG_DONTWAIT);
		} while ((got != len || memcmp(answer, payload, 8)) && now() - sent < 0.1 && running());
		if (got != len || memcmp(answer, payload, 8))
			continue; /* lost, or the turn is over */
		ns[n++] = (now() - sent) * 1e9;
		tally.checked++;
		tally.bad += memcmp(answer, payload, len) != 0;
	}
	qsort(ns, n, sizeof(*ns), by_size);
	tally.packets = n;
	tally.p50 = n ? ns[n / 2] / 1e3 : 0;
	tally.p99 = n ? ns[n * 99ull / 100] / 1e3 : 0;
}

void udp_turn(void)
{
	while (running()) {
		if (!strcmp(opt.task, "ping"))
			ping();
		else if (!strcmp(opt.task, "tx"))
			send_burst();
		else
			receive_burst(!strcmp(opt.task, "echo"));
	}
}
