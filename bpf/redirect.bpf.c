//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// The program that package bpf attaches. It hands the packets that the filter
// matches to the AF_XDP socket of the queue they arrived on, and leaves every
// other packet, and every queue without a socket, to the kernel.
//
// The filter is constants, which are set before the program is loaded, so that the
// verifier removes the rules that are not in use, and tables. rules.bpf.h has
// both; headers.bpf.h and search.bpf.h have the functions that apply them.
//
// scripts/build-bpf makes redirect.bpf.o of it; commit both together.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "rules.bpf.h"
#include "headers.bpf.h"
#include "search.bpf.h"

/* fold turns what the table of numbers says into hits. */
static __always_inline __u32 fold(__u32 numbers)
{
	return (numbers & 31) | (numbers >> 5 & 31) << 16 | (numbers >> 10 ? EXCEPTION(MANAGEMENT) : 0);
}

/* judge returns the hits of a packet. */
static __always_inline __u32 judge(struct xdp_md *ctx)
{
	struct packet p = {
		.data = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.hits = config.rules & RULE(ALL),
	};
	volatile __u64 told;
	__u64 ports = 0;

	if (p.data + sizeof(struct ethhdr) > p.end)
		return p.hits | EXCEPTION(UNSURE);
	if (config.used & RULE(FLOWS))
		told = NO_PROTOCOL;
	headers(ctx, &p, &told);
	p.hits |= fold(p.numbers);
	p.hits = forget(p.hits & (config.rules | config.exceptions << 16 | EXCEPTION(UNSURE)));
	if (config.used & RULE(FLOWS))
		ports = forget(told) | (__u64)forget(told >> 32) << 32;
	return config.used & SEARCHED ? search(&p, p.hits, ports) : p.hits;
}

/* first is the number of the lowest bit, by a de Bruijn sequence. */
static __always_inline __u32 first(__u32 set)
{
	return bit_number[(set & -set) * 0x077cb531u >> 27];
}

static __always_inline void count(__u32 which)
{
	__u64 *packets = bpf_map_lookup_elem(&counters, &which);

	if (packets)
		++*packets;
}

/* describe writes what metadata.bpf.c has to tell before a packet for a socket;
 * false if there is no room. */
#ifdef METADATA
static __always_inline bool describe(struct xdp_md *ctx);
#else
static __always_inline bool describe(struct xdp_md *ctx)
{
	(void)ctx;
	return true;
}
#endif

static __always_inline int redirect(struct xdp_md *ctx)
{
	__u32 hits = LOOKS ? judge(ctx) : config.rules & RULE(ALL);
	__u32 rules = hits & 0xffff, exceptions = hits >> 16;
	int action;

	if (!rules) {
		count(PASSED);
		return XDP_PASS;
	}
	if (exceptions) {
		count(EXCEPTED + first(exceptions));
		return XDP_PASS;
	}
	if (config.dry_run)
		return XDP_REDIRECT;
	/* XDP_PASS is the answer for an empty slot (kernel 5.3). */
	action = bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
	if (action == XDP_REDIRECT && !describe(ctx))
		action = XDP_PASS;
	count((action == XDP_REDIRECT ? MATCHED : NO_SOCKET) + (LOOKS ? first(rules) : ALL));
	return action;
}

/* Takes packets of several buffers (jumbo frames in native mode, coalesced
 * ones); kernel 5.18. */
SEC("xdp.frags")
int xsk_redirect(struct xdp_md *ctx)
{
	return redirect(ctx);
}

/* The same for kernels that do not know such packets. */
SEC("xdp")
int xsk_redirect_1b(struct xdp_md *ctx)
{
	return redirect(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
