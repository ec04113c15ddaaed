//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// The program that package bpf attaches. It hands the packets that the filter
// matches to the AF_XDP socket of the queue they arrived on, and leaves every
// other packet, and every queue without a socket, to the kernel.
//
// scripts/build-bpf makes redirect.bpf.o of it; commit both together.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <stdbool.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_TAGS 2     /* VLAN tags that are looked behind: 802.1Q, QinQ */
#define MAX_EXTS 4     /* IPv6 extension headers that are looked behind */
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */

/* The filter. bpf.Attach sets it before the program is loaded; from then on it
 * is frozen, so the verifier removes what cannot happen: with match_all set
 * nothing is left but the redirect. */
const volatile bool match_all;
const volatile __u64 udp_ports[65536 / 64]; /* one bit per destination port */

/* One slot per receive queue; bpf.Attach sets the size. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} xsks_map SEC(".maps");

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

/* The functions below answer true for a match. All read the first buffer only:
 * in a packet of several buffers it holds the headers, and a header that goes
 * beyond it is no match. */

static __always_inline bool udp(void *pos, void *end)
{
	struct udphdr *udp = pos;

	if ((void *)(udp + 1) > end)
		return false;
	__u16 port = bpf_ntohs(udp->dest);
	return udp_ports[port / 64] >> (port % 64) & 1;
}

/* Of a fragmented datagram only the first fragment has ports. The kernel must
 * have them all to put it together, so none matches. */
static __always_inline bool ipv4(void *pos, void *end)
{
	struct iphdr *ip = pos;

	if ((void *)(ip + 1) > end)
		return false;
	__u32 len = ip->ihl * 4;
	if (ip->version != 4 || len < sizeof(*ip) || ip->protocol != IPPROTO_UDP)
		return false;
	if (ip->frag_off & bpf_htons(IP_FRAGMENT))
		return false;
	if (bpf_ntohs(ip->tot_len) < len + sizeof(struct udphdr))
		return false; /* what follows is padding */
	return udp(pos + len, end);
}

/* The fragment header is among those that are not looked behind, for the
 * reason that ipv4 gives. */
static __always_inline bool ipv6(void *pos, void *end)
{
	struct ipv6hdr *ip = pos;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return false;
	__u32 left = bpf_ntohs(ip->payload_len);
	__u8 next = ip->nexthdr;
	pos = ip + 1;
#pragma unroll
	for (int i = 0; i < MAX_EXTS; i++) {
		if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS)
			break;
		struct ipv6_opt_hdr *ext = pos;
		if ((void *)(ext + 1) > end)
			return false;
		__u32 len = (ext->hdrlen + 1) * 8;
		if (left < len)
			return false;
		left -= len;
		next = ext->nexthdr;
		pos += len;
	}
	return next == IPPROTO_UDP && left >= sizeof(struct udphdr) && udp(pos, end);
}

static __always_inline bool ethernet(void *pos, void *end)
{
	struct ethhdr *eth = pos;

	if ((void *)(eth + 1) > end)
		return false;
	__be16 proto = eth->h_proto;
	pos = eth + 1;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (proto != bpf_htons(ETH_P_8021Q) && proto != bpf_htons(ETH_P_8021AD))
			break;
		struct vlan_header *tag = pos;
		if ((void *)(tag + 1) > end)
			return false;
		proto = tag->proto;
		pos = tag + 1;
	}
	if (proto == bpf_htons(ETH_P_IP))
		return ipv4(pos, end);
	if (proto == bpf_htons(ETH_P_IPV6))
		return ipv6(pos, end);
	return false;
}

static __always_inline int redirect(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (!match_all && !ethernet(data, end))
		return XDP_PASS;
	/* XDP_PASS is the answer for an empty slot (kernel 5.3). */
	return bpf_redirect_map(&xsks_map, ctx->rx_queue_index, XDP_PASS);
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
