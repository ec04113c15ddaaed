// SPDX-License-Identifier: BSD-2-Clause
/*
 * AF_PACKET with the rings of TPACKET_V3: the kernel copies packets into blocks,
 * and hands over a block when it is full or 1 ms old; packets to be sent are
 * copied into slots, and one send goes for all that are there.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "contest.h"

#define BLOCK (1 << 17)
#define BLOCKS 64
#define SLOT 2048 /* of the ring to send */

static struct {
	int fd;
	uint8_t *ring;
	uint32_t next;
} rx, tx;

static int open_socket(const char *interface, uint16_t protocol)
{
	struct sockaddr_ll address = {
		.sll_family = AF_PACKET,
		.sll_protocol = htons(protocol),
		.sll_ifindex = if_nametoindex(interface),
	};
	int version = TPACKET_V3, on = 1, fd = socket(AF_PACKET, SOCK_RAW, 0);

	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)))
		die(errno, "packet socket");
	return fd;
}

static void open_rx(void)
{
	struct tpacket_req3 request = {
		.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT,
		.tp_frame_nr = BLOCK / SLOT * BLOCKS, .tp_retire_blk_tov = 1,
	};

	/* Ring first: no packet may come before it is there. */
	rx.fd = open_socket(opt.in, 0);
	if (setsockopt(rx.fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)))
		die(errno, "receive ring");
	rx.ring = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED, rx.fd, 0);
	if (rx.ring == MAP_FAILED)
		die(errno, "map");
	if (bind(rx.fd,
		 (struct sockaddr *)&(struct sockaddr_ll){
			 .sll_family = AF_PACKET,
			 .sll_protocol = htons(ETH_P_ALL),
			 .sll_ifindex = if_nametoindex(opt.in),
		 },
		 sizeof(struct sockaddr_ll)))
		die(errno, "bind");
}

static struct tpacket3_hdr *slot(uint32_t i)
{
	return (struct tpacket3_hdr *)(tx.ring + (size_t)(i % opt.ring) * SLOT);
}

static uint8_t *packet_in(struct tpacket3_hdr *h)
{
	return (uint8_t *)h + TPACKET_ALIGN(sizeof(*h));
}

static void open_tx(const char *interface)
{
	struct tpacket_req3 request = {
		.tp_block_size = BLOCK, .tp_block_nr = opt.ring * SLOT / BLOCK,
		.tp_frame_size = SLOT, .tp_frame_nr = opt.ring,
	};
	uint32_t i;

	tx.fd = open_socket(interface, 0);
	if (setsockopt(tx.fd, SOL_PACKET, PACKET_TX_RING, &request, sizeof(request)))
		die(errno, "send ring");
	tx.ring = mmap(NULL, (size_t)opt.ring * SLOT, PROT_READ | PROT_WRITE, MAP_SHARED, tx.fd, 0);
	if (tx.ring == MAP_FAILED)
		die(errno, "map");
	for (i = 0; !strcmp(opt.task, "tx") && i < opt.ring; i++)
		make_packet(packet_in(slot(i)), opt.size);
}

void packet_open(void)
{
	if (strcmp(opt.task, "tx"))
		open_rx();
	if (strcmp(opt.task, "rx"))
		open_tx(strcmp(opt.task, "forward") ? opt.in : opt.out);
}

static void flush(void)
{
	if (send(tx.fd, NULL, 0, MSG_DONTWAIT) < 0 && !passing(errno))
		die(errno, "send");
}

/* next_slot waits for the slot that is next; NULL when the turn is over. */
static struct tpacket3_hdr *next_slot(void)
{
	struct tpacket3_hdr *h = slot(tx.next);

	while (__atomic_load_n(&h->tp_status, __ATOMIC_ACQUIRE) != TP_STATUS_AVAILABLE) {
		flush();
		if (!running())
			return NULL;
	}
	tx.next++;
	return h;
}

static void queue_slot(struct tpacket3_hdr *h, uint32_t len)
{
	h->tp_len = len;
	h->tp_next_offset = 0;
	__atomic_store_n(&h->tp_status, TP_STATUS_SEND_REQUEST, __ATOMIC_RELEASE);
}

static void send_burst(void)
{
	static uint64_t number;
	struct tpacket3_hdr *h;
	uint32_t i;

	for (i = 0; i < opt.batch && (h = next_slot()); i++) {
		number_packet(packet_in(h), number++);
		queue_slot(h, opt.size);
	}
	flush();
	count(i);
}

/* One block is one burst. */
static void receive_block(void)
{
	struct tpacket_block_desc *block = (void *)(rx.ring + (size_t)(rx.next % BLOCKS) * BLOCK);
	struct tpacket_hdr_v1 *b = &block->hdr.bh1;
	struct tpacket3_hdr *h, *out = NULL;
	uint8_t *last = NULL;
	uint32_t i;

	while (!(__atomic_load_n(&b->block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER)) {
		if (!opt.spin)
			poll(&(struct pollfd){ .fd = rx.fd, .events = POLLIN }, 1, 20);
		if (!running())
			return;
	}
	h = (struct tpacket3_hdr *)((uint8_t *)block + b->offset_to_first_pkt);
	for (i = 0; i < b->num_pkts; i++) {
		last = (uint8_t *)h + h->tp_mac;
		if (strcmp(opt.task, "rx") && (out = next_slot())) {
			memcpy(packet_in(out), last, h->tp_snaplen);
			if (!strcmp(opt.task, "echo"))
				turn_around(packet_in(out));
			queue_slot(out, h->tp_snaplen);
			if (i % opt.batch == opt.batch - 1)
				flush();
		}
		if (i + 1 < b->num_pkts)
			h = (struct tpacket3_hdr *)((uint8_t *)h + h->tp_next_offset);
	}
	if (count(b->num_pkts) && last)
		check_packet(last, h->tp_snaplen);
	__atomic_store_n(&b->block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	rx.next++;
	if (out)
		flush();
}

void packet_turn(void)
{
	while (running()) {
		if (!strcmp(opt.task, "tx"))
			send_burst();
		else
			receive_block();
	}
}
