/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two C programs share: flags, the socket, the meter. */
#ifndef COMMON_H
#define COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xdp/xsk.h>

#define RING_SIZE XSK_RING_CONS__DEFAULT_NUM_DESCS
#define MAX_BATCH 256

struct options {
	const char *interface; /* -d */
	uint32_t queue;	       /* -q */
	uint64_t count;	       /* -c; 0: no limit */
	double seconds;	       /* -t; 0: no limit */
	uint32_t size;	       /* -s */
	uint32_t batch;	       /* -n */
	uint32_t mode;	       /* -mode: XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE, or 0 for auto */
	uint16_t port;	       /* -udp */
	uint8_t dmac[6];       /* -dmac */
	uint8_t dip[4];	       /* -dip */
	const char *object;    /* -o: the XDP program */
	double rate;	       /* -rate, udpgen's packets a second; 0: no limit */
	uint32_t linger;       /* -linger, rxdrop's, in microseconds */
};

/* An AF_XDP socket with its umem. */
struct port {
	struct xsk_umem *umem;
	struct xsk_socket *xsk;
	struct xsk_ring_prod fill, tx;
	struct xsk_ring_cons comp, rx;
	uint8_t *area;
	uint32_t frame_size;
	int fd;
};

/* Packets and bytes, and when the first and the last were counted. */
struct meter {
	uint64_t packets, bytes;
	double first, last;
};

void parse(struct options *o, int argc, char **argv, uint32_t size);
void open_umem(struct port *p, const struct options *o, uint32_t frames);
void open_socket(struct port *p, const struct options *o, bool rx, bool tx);
void close_port(struct port *p);
bool running(void);
bool passing(int err);
double now(void);
void meter_add(struct meter *m, uint32_t packets, uint64_t bytes);
double meter_rate(const struct meter *m);
void die(int err, const char *what);

#endif
