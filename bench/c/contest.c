// SPDX-License-Identifier: BSD-2-Clause
/*
 * contestant.c -as WAY -do TASK -d INTERFACE ...: the contestants in C.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "contest.h"

struct options opt = {
	.as = "sample", .task = "rx", .queues = 1,
	.batch = 64, .size = 64, .frames = 4096, .frame_size = 4096, .ring = 2048,
};
struct tally tally;

/* The turn: whether one is on, whether there will be more. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	atomic_bool on;
	bool over;
} turn = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false };

void die(int err, const char *what)
{
	fprintf(stderr, "contestant.c -as %s -do %s: %s: %s\n", opt.as, opt.task, what, strerror(abs(err)));
	exit(1);
}

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* The device dropped a packet, the link is down, the kernel is short of memory. */
bool passing(int err)
{
	return err == EBUSY || err == ENETDOWN || err == ENOBUFS || err == EAGAIN || err == EINTR;
}

bool running(void)
{
	return atomic_load_explicit(&turn.on, memory_order_relaxed);
}

void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

bool count(uint32_t packets)
{
	uint64_t before = tally.packets;

	tally.packets += packets;
	return before / SAMPLE != tally.packets / SAMPLE;
}

static double turn_began;

void pace(uint64_t sent)
{
	while (opt.rate > 0 && sent > (now() - turn_began) * opt.rate && running())
		; /* sleeping would make bursts of it */
}

/* listen obeys the harness, until that closes the pipe. */
static void *listen_in(void *unused)
{
	char line[64];

	while (fgets(line, sizeof(line), stdin)) {
		pthread_mutex_lock(&turn.mutex);
		atomic_store(&turn.on, !strcmp(line, "start\n"));
		pthread_cond_signal(&turn.changed);
		pthread_mutex_unlock(&turn.mutex);
	}
	pthread_mutex_lock(&turn.mutex);
	atomic_store(&turn.on, false);
	turn.over = true;
	pthread_cond_signal(&turn.changed);
	pthread_mutex_unlock(&turn.mutex);
	return unused;
}

static bool await_turn(void)
{
	bool over;

	pthread_mutex_lock(&turn.mutex);
	while (!atomic_load(&turn.on) && !turn.over)
		pthread_cond_wait(&turn.changed, &turn.mutex);
	over = turn.over;
	pthread_mutex_unlock(&turn.mutex);
	return !over;
}

static double seconds(struct timeval t)
{
	return t.tv_sec + t.tv_usec / 1e6;
}

static void take_turns(void (*work)(void))
{
	struct rusage before, after;
	double began;

	while (await_turn()) {
		memset(&tally, 0, sizeof(tally));
		getrusage(RUSAGE_SELF, &before);
		began = turn_began = now();
		work();
		began = now() - began;
		getrusage(RUSAGE_SELF, &after);
		printf("packets=%llu seconds=%.6f user=%.6f system=%.6f checked=%llu bad=%llu rss=%ld p50=%.3f p99=%.3f\n",
		       (unsigned long long)tally.packets, began,
		       seconds(after.ru_utime) - seconds(before.ru_utime),
		       seconds(after.ru_stime) - seconds(before.ru_stime), (unsigned long long)tally.checked,
		       (unsigned long long)tally.bad, after.ru_maxrss * 1024, tally.p50, tally.p99);
		fflush(stdout);
	}
}

static void mac(const char *text, uint8_t *m)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", m, m + 1, m + 2, m + 3, m + 4, m + 5) != 6)
		die(EINVAL, text);
}

static void address(const char *text, uint8_t *a)
{
	if (inet_pton(AF_INET, text, a) != 1)
		die(EINVAL, text);
}

static void parse(int argc, char **argv)
{
	enum { AS = 1, DO, IN, OUT, QUEUES, BATCH, SIZE, FRAMES, FRAME_SIZE, RING, LINGER, RATE, SPIN, MODE, SMAC, DMAC, SIP, DIP };
	static const struct option flags[] = {
		{ "as", 1, 0, AS }, { "do", 1, 0, DO }, { "d", 1, 0, IN }, { "out", 1, 0, OUT },
		{ "queues", 1, 0, QUEUES }, { "batch", 1, 0, BATCH }, { "size", 1, 0, SIZE },
		{ "frames", 1, 0, FRAMES }, { "framesize", 1, 0, FRAME_SIZE }, { "ring", 1, 0, RING },
		{ "linger", 1, 0, LINGER }, { "rate", 1, 0, RATE }, { "spin", 0, 0, SPIN }, { "mode", 1, 0, MODE },
		{ "smac", 1, 0, SMAC }, { "dmac", 1, 0, DMAC }, { "sip", 1, 0, SIP }, { "dip", 1, 0, DIP },
		{ 0 },
	};
	int flag;

	while ((flag = getopt_long_only(argc, argv, "", flags, NULL)) != -1) {
		switch (flag) {
		case AS: opt.as = optarg; break;
		case DO: opt.task = optarg; break;
		case IN: opt.in = optarg; break;
		case OUT: opt.out = optarg; break;
		case QUEUES: opt.queues = strtoul(optarg, NULL, 0); break;
		case BATCH: opt.batch = strtoul(optarg, NULL, 0); break;
		case SIZE: opt.size = strtoul(optarg, NULL, 0); break;
		case FRAMES: opt.frames = strtoul(optarg, NULL, 0); break;
		case FRAME_SIZE: opt.frame_size = strtoul(optarg, NULL, 0); break;
		case RING: opt.ring = strtoul(optarg, NULL, 0); break;
		case LINGER: opt.linger = strtoul(optarg, NULL, 0); break;
		case RATE: opt.rate = strtod(optarg, NULL); break;
		case SPIN: opt.spin = true; break;
		case MODE: opt.native = !strcmp(optarg, "native"); break;
		case SMAC: mac(optarg, opt.smac); break;
		case DMAC: mac(optarg, opt.dmac); break;
		case SIP: address(optarg, opt.sip); break;
		case DIP: address(optarg, opt.dip); break;
		default: exit(2);
		}
	}
	/* Half of the frames are to receive into, and none waits for two packets. */
	while (opt.ring > opt.frames / 2)
		opt.ring /= 2;
	if (!opt.in || optind < argc || !opt.batch || opt.batch > MAX_BATCH || opt.linger > 1000 ||
	    opt.size < HEADERS + 16 || opt.size > opt.frame_size - XDP_PACKET_HEADROOM || !opt.queues ||
	    opt.queues > 64)
		die(EINVAL, "flags");
}

static const struct {
	const char *name;
	void (*open)(void), (*turn)(void);
} ways[] = {
	{ "sample", sample_open, sample_turn },
	{ "tactics", tactics_open, tactics_turn },
	{ "packet", packet_open, packet_turn },
	{ "udp", udp_open, udp_turn },
};

int main(int argc, char **argv)
{
	pthread_t listener;
	size_t i;

	parse(argc, argv);
	for (i = 0; i < sizeof(ways) / sizeof(*ways); i++) {
		if (strcmp(opt.as, ways[i].name))
			continue;
		ways[i].open();
		if (pthread_create(&listener, NULL, listen_in, NULL))
			die(EAGAIN, "thread");
		say_ready();
		take_turns(ways[i].turn);
		return 0;
	}
	die(EINVAL, "-as");
}
