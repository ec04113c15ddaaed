// SPDX-License-Identifier: BSD-2-Clause
/*
 * The packets: UDP without a checksum, whose payload is a number, eight bytes,
 * eight that follow from it, and then for each byte its place. Package wire has
 * the same in Go.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/udp.h>
#include <string.h>

#include "contest.h"

#define SPREAD 0x9e3779b97f4a7c15ull

static uint16_t checksum(const void *from, size_t n)
{
	const uint8_t *b = from;
	uint32_t sum = 0;
	size_t i;

	for (i = 0; i < n; i += 2)
		sum += b[i] << 8 | b[i + 1];
	sum = (sum >> 16) + (sum & 0xffff);
	return ~(sum + (sum >> 16));
}

void make_packet(uint8_t *frame, uint32_t size)
{
	struct ethhdr *eth = (void *)frame;
	struct iphdr ip = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP, .frag_off = htons(0x4000),
		.tot_len = htons(size - ETH_HLEN),
	};
	struct udphdr udp = {
		.source = htons(PORT), .dest = htons(PORT), .len = htons(size - ETH_HLEN - sizeof(ip)),
	};
	uint32_t i;

	memcpy(eth->h_dest, opt.dmac, ETH_ALEN);
	memcpy(eth->h_source, opt.smac, ETH_ALEN);
	eth->h_proto = htons(ETH_P_IP);
	memcpy(&ip.saddr, opt.sip, 4);
	memcpy(&ip.daddr, opt.dip, 4);
	ip.check = htons(checksum(&ip, sizeof(ip)));
	memcpy(frame + ETH_HLEN, &ip, sizeof(ip));
	memcpy(frame + ETH_HLEN + sizeof(ip), &udp, sizeof(udp));
	for (i = HEADERS; i < size; i++)
		frame[i] = i - HEADERS;
}

void number_packet(uint8_t *frame, uint64_t number)
{
	uint64_t words[2] = { htobe64(number), htobe64(number * SPREAD) };

	memcpy(frame + HEADERS, words, sizeof(words));
}

void check_packet(const uint8_t *frame, uint32_t size)
{
	uint64_t words[2];
	uint32_t i;

	tally.checked++;
	memcpy(words, frame + HEADERS, sizeof(words));
	if (size != opt.size || be64toh(words[1]) != be64toh(words[0]) * SPREAD) {
		tally.bad++;
		return;
	}
	for (i = HEADERS + sizeof(words); i < size; i++) {
		if (frame[i] != (uint8_t)(i - HEADERS)) {
			tally.bad++;
			return;
		}
	}
}

static void swap(uint8_t *a, size_t n)
{
	uint8_t first[6];

	memcpy(first, a, n);
	memcpy(a, a + n, n);
	memcpy(a + n, first, n);
}

/* Addresses and ports of all three headers; the checksum stays right. */
void turn_around(uint8_t *frame)
{
	swap(frame, 6);
	swap(frame + 26, 4);
	swap(frame + 34, 2);
}
