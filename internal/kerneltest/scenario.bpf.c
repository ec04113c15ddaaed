//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// The XDP programs of the scenarios. Each is here twice: as one that takes
// packets of several buffers, and as one that older kernels load too. Whatever
// they redirect goes to a socket in xsks_map.
//
// scripts/build-bpf makes scenario.bpf.o of it; commit both together.

#include <linux/bpf.h>
#include <linux/if_ether.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 2);
} xsks_map SEC(".maps");

/* What adjust_tail adds to a packet's end; set before the program is loaded. */
const volatile __s32 delta;

/* What the tests read. */
struct {
	__u32 seen;    /* packets */
	__u32 refused; /* of them the kernel would not change */
	__s32 why;     /* the last of those, as the kernel said it */
} state;

static __always_inline int to_socket(__u32 key)
{
	return bpf_redirect_map(&xsks_map, key, XDP_DROP);
}

/* Packets come one at a time: the tests use one queue. */
static __always_inline int drop_half(struct xdp_md *ctx)
{
	(void)ctx;
	return state.seen++ & 1 ? XDP_DROP : to_socket(0);
}

static __always_inline int by_mac(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	return to_socket(eth->h_dest[5] & 1);
}

static __always_inline int adjust_tail(struct xdp_md *ctx)
{
	int err = bpf_xdp_adjust_tail(ctx, delta);

	state.seen++;
	if (err) {
		state.refused++;
		state.why = err;
	}
	return to_socket(0);
}

/* The packet's number stands before it. */
static __always_inline int put_meta(struct xdp_md *ctx)
{
	__u32 *meta;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_DROP;
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_DROP;
	*meta = state.seen++;
	return to_socket(0);
}

SEC("xdp")
int half(struct xdp_md *ctx)
{
	return drop_half(ctx);
}

SEC("xdp.frags")
int half_frags(struct xdp_md *ctx)
{
	return drop_half(ctx);
}

SEC("xdp")
int mac(struct xdp_md *ctx)
{
	return by_mac(ctx);
}

SEC("xdp.frags")
int mac_frags(struct xdp_md *ctx)
{
	return by_mac(ctx);
}

SEC("xdp")
int tail(struct xdp_md *ctx)
{
	return adjust_tail(ctx);
}

SEC("xdp.frags")
int tail_frags(struct xdp_md *ctx)
{
	return adjust_tail(ctx);
}

SEC("xdp")
int meta(struct xdp_md *ctx)
{
	return put_meta(ctx);
}

SEC("xdp.frags")
int meta_frags(struct xdp_md *ctx)
{
	return put_meta(ctx);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
