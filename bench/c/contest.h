/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the contestants in C share: flags, packets, and the talk with the harness.
 * A contestant works only between "start" and "stop" on its standard input, and
 * then prints what it did, as key=value.
 */
#ifndef CONTEST_H
#define CONTEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <xdp/xsk.h>

#define HEADERS 42 /* Ethernet, IPv4, UDP */
#define PORT 9000
#define MAX_BATCH 256
#define SAMPLE 1024 /* one packet of so many is checked whole */

struct options {
	const char *as;	       /* sample, tactics, packet, udp */
	const char *task;      /* tx, rx, echo, forward, ping */
	const char *in, *out;  /* interfaces */
	uint32_t queues;       /* tx: send on so many in turn */
	uint32_t batch, size, frames, frame_size, ring;
	uint32_t linger;       /* microseconds */
	double rate;	       /* packets a second; 0: no limit */
	bool spin, native;
	uint8_t smac[6], dmac[6], sip[4], dip[4];
};

/* What a turn did. Only the working thread writes it. */
struct tally {
	uint64_t packets;
	uint64_t checked, bad;
	double p50, p99; /* ping's, in microseconds */
};

extern struct options opt;
extern struct tally tally;

/* Whether the turn goes on. */
bool running(void);

void die(int err, const char *what);
double now(void);
bool passing(int err);
void say_ready(void);

/* make_packet writes a packet that only lacks its number; number_packet adds it.
 * check_packet counts a packet that was received, and whether it is right.
 */
void make_packet(uint8_t *frame, uint32_t size);
void number_packet(uint8_t *frame, uint64_t number);
void check_packet(const uint8_t *frame, uint32_t size);
void turn_around(uint8_t *frame);
/* count adds packets, and reports whether it is time to check one. */
bool count(uint32_t packets);

/* pace waits until a sender of so many packets may go on with its rate. */
void pace(uint64_t sent);

/* Each way to do it works through one turn, after its set-up. */
void sample_open(void);
void sample_turn(void);
void tactics_open(void);
void tactics_turn(void);
void packet_open(void);
void packet_turn(void);
void udp_open(void);
void udp_turn(void);

#endif
