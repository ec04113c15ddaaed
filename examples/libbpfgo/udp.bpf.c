//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// Stands for the program that somebody has already: it counts packets by IP
// protocol. New is the XSKMAP, and the line that redirects UDP to it.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 256);
} seen SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 64); /* receive queues */
} xsks_map SEC(".maps");

/* Not "xdp.frags", which a large MTU in native mode would take: the example lets
 * the kernel choose the mode, and in generic mode such a program can panic Linux
 * 7.0 and 7.1. */
SEC("xdp")
int count_and_steer(struct xdp_md *ctx)
{
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = (void *)(long)ctx->data;
	struct iphdr *ip = (void *)(eth + 1);

	if ((void *)(ip + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;

	__u32 protocol = ip->protocol;
	__u64 *count = bpf_map_lookup_elem(&seen, &protocol);
	if (count)
		__sync_fetch_and_add(count, 1);

	if (protocol != IPPROTO_UDP)
		return XDP_PASS;
	/* XDP_PASS is for a queue that no socket has registered for. */
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
