// SPDX-License-Identifier: BSD-2-Clause

// What is seen of a packet's headers, and the rules that this decides: VLAN tags,
// EtherType, IP, extension headers, protocol, ports, ICMP type, ARP.

#define MAX_TAGS 2         /* VLAN tags that are looked behind: 802.1Q, QinQ */
#define MAX_EXTS 4         /* IPv6 extension headers that are looked behind */
#define IP_OFFSET 0x1fff   /* a later fragment: the first one has the transport header */
#define IP6_OFFSET 0xfff8
#define FAR 0x3fff         /* the verifier wants to know how far into a packet an offset goes */

#define likely(condition) __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

struct fragment_header {
	__u8 nexthdr, reserved;
	__be16 offset;
	__be32 id;
};

struct arp_header {
	__be16 hardware, protocol;
	__u8 hardware_size, protocol_size;
	__be16 operation;
	__u8 sender[6], sender_ip[4], target[6], target_ip[4];
};

/* What is known of a packet. All is read from its first buffer: in a packet of
 * several buffers that holds the headers. It is little: what has a value on every
 * way through the headers costs instructions on every way. */
struct packet {
	void *data, *end;
	struct iphdr *ip4;   /* the header, whole; or NULL */
	struct ipv6hdr *ip6;
	__u32 hits;
	__u32 numbers; /* what the table of that name says, for fold */
};

/* What flow is told of the transport header; its ports are in the upper half. */
#define NO_PROTOCOL 256 /* not known */
#define TOLD_PROTOCOL(told) ((told) & 0xffff)
#define TOLD_PORTED (1 << 16)

/* doubt is for a packet without the header that the rules need. */
static __always_inline void doubt(struct packet *p, __u32 rules)
{
	if (config.exceptions & rules)
		p->hits |= EXCEPTION(UNSURE);
}

/* by_protocol is whether some rule asks for what is behind the IP header. */
static __always_inline bool by_protocol(void)
{
	return config.used & (OF_PROTOCOL | RULE(FLOWS)) || config.nd;
}

static __always_inline bool extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT;
}

/* has is whether the transport header is there, of which the IP header leaves so
 * many bytes. */
static __always_inline bool has(struct packet *p, void *header, __u32 left, __u32 size)
{
	return likely(left >= size && header + size <= p->end);
}

/* index16 is n as an index of a table of 64 K. clang knows that it has 16 bits and leaves
 * the mask out where it can; verifiers as old as that of Linux 6.1 do not. */
static __always_inline __u32 index16(__be16 n)
{
	__u32 i = bpf_ntohs(n);

	barrier_var(i);
	return i & 0xffff;
}

/* ports reads the two ports, which UDP and TCP have at the same place. */
static __always_inline void ports(struct packet *p, struct udphdr *h, enum rule destination, enum rule source)
{
	if (config.used & (RULE(destination) | RULE(MANAGEMENT)))
		p->numbers |= numbers[index16(h->dest)] & NUMBER(destination);
	if (config.used & (RULE(source) | RULE(MANAGEMENT)))
		p->numbers |= numbers[index16(h->source)] & NUMBER(source);
}

/* tell keeps the ports for flow. */
static __always_inline void tell(volatile __u64 *told, struct udphdr *h, __u32 protocol)
{
	if (config.used & RULE(FLOWS))
		*told = protocol | TOLD_PORTED | (__u64)*(__u32 *)h << 32;
}

static __always_inline void icmp(struct packet *p, __u8 *h)
{
	if (h[0] == 8 || h[0] == 0)
		p->hits |= BOTH(PING);
	/* A packet of the host's was too big for its path. */
	if (h[0] == 3 && h[1] == 4)
		p->hits |= EXCEPTION(MANAGEMENT);
}

/* asked returns the hits of an address in the packet, as if it were sent there.
 * Few packets ask, so it is a function; search.bpf.h has it. */
#define ASKED_IPV6 (1 << 16)
__u32 asked(struct xdp_md *ctx, __u32 offset);

static __always_inline void icmp6(struct xdp_md *ctx, struct packet *p, __u8 *h, __u32 left)
{
	__u8 type = h[0];

	if (type == 128 || type == 129)
		p->hits |= BOTH(PING);
	/* Too big for its path; the listeners of multicast groups; neighbour and
	 * router discovery, and redirects; listeners, version 2. */
	if (type == 2 || (type >= 130 && type <= 137) || type == 143)
		p->hits |= EXCEPTION(MANAGEMENT);
	if (config.nd && type == 135) { /* who has the address behind 8 bytes? */
		if (has(p, h, left, 24))
			p->hits |= asked(ctx, ((void *)h + 8 - p->data) | ASKED_IPV6) & config.nd;
		else
			doubt(p, config.nd >> 16);
	}
}

/* transport looks at the transport header; left is 0 for a later fragment, which
 * has none. */
static __always_inline void transport(struct xdp_md *ctx, struct packet *p, void *h, __u32 protocol, __u32 left, volatile __u64 *told)
{
	if (config.used & RULE(FLOWS))
		*told = protocol;
	if (config.used & RULE(PROTOCOLS))
		p->hits |= protocols[protocol & 0xff];
	if (protocol == IPPROTO_UDP) {
		if (!(config.used & (OF_UDP | RULE(FLOWS))))
			return;
		if (has(p, h, left, sizeof(struct udphdr))) {
			ports(p, h, UDP_PORTS, UDP_SOURCE_PORTS);
			tell(told, h, protocol);
		} else {
			doubt(p, OF_UDP);
		}
	} else if (protocol == IPPROTO_TCP) {
		if (!(config.used & (OF_TCP | RULE(FLOWS))))
			return;
		if (has(p, h, left, sizeof(struct tcphdr))) {
			ports(p, h, TCP_PORTS, TCP_SOURCE_PORTS);
			tell(told, h, protocol);
		} else {
			doubt(p, OF_TCP);
		}
	} else if (protocol == IPPROTO_ICMP && p->ip4) {
		if (!(config.used & OF_ICMP))
			return;
		if (has(p, h, left, 8))
			icmp(p, h);
		else
			doubt(p, OF_ICMP);
	} else if (protocol == IPPROTO_ICMPV6 && p->ip6) {
		if (!(config.used & OF_ICMP) && !config.nd)
			return;
		if (has(p, h, left, 8))
			icmp6(ctx, p, h, left);
		else
			doubt(p, OF_ICMP | config.nd >> 16);
	}
}

static __always_inline void ipv4(struct xdp_md *ctx, struct packet *p, void *at, volatile __u64 *told)
{
	struct iphdr *ip = at;

	if ((void *)(ip + 1) > p->end)
		return doubt(p, OF_IP);
	__u32 first = *(__u8 *)at, len = (first & 15) * 4, total = bpf_ntohs(ip->tot_len);
	if (unlikely(first < 0x45 || first > 0x4f || total < len || at + len > p->end))
		return doubt(p, OF_IP);
	p->ip4 = ip;
	if (by_protocol())
		transport(ctx, p, at + len, ip->protocol, ip->frag_off & bpf_htons(IP_OFFSET) ? 0 : total - len, told);
}

/* What upper returns: the transport header's offset in the packet, the protocol,
 * and how many bytes are left in the upper half. */
#define UPPER_PROTOCOL(found) ((found) >> 16 & 0xff)
#define UPPER_FOUND (1 << 24)
#define UPPER_LEFT(found) ((found) >> 32)

/* upper goes from the header next, at offset, behind IPv6's extension headers; 0
 * if it cannot. A fragment header that the datagram begins behind is like the
 * others; behind that of a later fragment nothing is left. The verifier looks at it
 * once, for it is a function that may be called with anything. */
__attribute__((noinline)) __u64 upper(struct xdp_md *ctx, __u32 offset, __u32 next, __u32 left)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	bool later = false;

	if (!by_protocol())
		return 0;
	for (int i = 0; i < MAX_EXTS && !later; i++) {
		if (!extension(next))
			break;
		struct ipv6_opt_hdr *ext = data + (offset & FAR);
		if ((void *)(ext + 1) > end)
			return 0;
		__u32 len = (ext->hdrlen + 1) * 8;
		if (next == IPPROTO_FRAGMENT) {
			struct fragment_header *f = (void *)ext;
			if ((void *)(f + 1) > end)
				return 0;
			later = f->offset & bpf_htons(IP6_OFFSET);
			len = sizeof(*f);
		}
		if (left < len)
			return 0;
		left -= len;
		offset += len;
		next = ext->nexthdr;
	}
	if (extension(next))
		return 0;
	return (offset & FAR) | (__u64)next << 16 | UPPER_FOUND | (later ? 0 : (__u64)left << 32);
}

static __always_inline void ipv6(struct xdp_md *ctx, struct packet *p, void *at, volatile __u64 *told)
{
	struct ipv6hdr *ip = at;

	if ((void *)(ip + 1) > p->end || *(__u8 *)at >> 4 != 6)
		return doubt(p, OF_IP);
	p->ip6 = ip;
	if (!by_protocol())
		return;
	void *h = ip + 1;
	__u32 protocol = ip->nexthdr, left = bpf_ntohs(ip->payload_len);
	if (unlikely(extension(protocol))) {
		__u64 found = upper(ctx, h - p->data, protocol, left);
		if (!found)
			return doubt(p, OF_PROTOCOL | config.nd >> 16);
		h = p->data + (found & FAR);
		protocol = UPPER_PROTOCOL(found);
		left = UPPER_LEFT(found);
	}
	transport(ctx, p, h, protocol, left, told);
}

/* arp looks for the address that the packet asks for; an answer has that of who
 * asked there. */
static __always_inline void arp(struct xdp_md *ctx, struct packet *p, struct arp_header *h)
{
	if ((void *)(h + 1) > p->end)
		doubt(p, config.arp >> 16);
	else if (h->protocol == bpf_htons(ETH_P_IP) && h->hardware_size == 6 && h->protocol_size == 4)
		p->hits |= asked(ctx, (void *)h->target_ip - p->data) & config.arp;
}

static __always_inline bool is_tag(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD) || type == bpf_htons(ETH_P_QINQ1);
}

/* headers does what can be done without a search. */
static __always_inline void headers(struct xdp_md *ctx, struct packet *p, volatile __u64 *told)
{
	__be16 type = *(__be16 *)(p->data + 2 * ETH_ALEN); /* struct ethhdr is packed, so read by bytes */
	void *at = p->data + sizeof(struct ethhdr);

#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (likely(!is_tag(type)))
			break;
		struct vlan_header *tag = at;
		if ((void *)(tag + 1) > p->end)
			return doubt(p, OF_TAG);
		__u32 id = bpf_ntohs(tag->tci) & 0xfff;
		if (config.vlan && id == config.vlan)
			p->hits |= RULE(VLAN);
		if (config.no_vlan && id == config.no_vlan)
			p->hits |= EXCEPTION(VLAN);
		type = tag->proto;
		at = tag + 1;
	}
	if (unlikely(is_tag(type)))
		return doubt(p, OF_TYPE);
	if (config.used & (RULE(ETHERTYPES) | RULE(MANAGEMENT)))
		p->numbers = numbers[index16(type)] & NUMBER(ETHERTYPES);
	if (!(config.used & OF_IP))
		return;
	if (type == bpf_htons(ETH_P_IP))
		ipv4(ctx, p, at, told);
	else if (type == bpf_htons(ETH_P_IPV6))
		ipv6(ctx, p, at, told);
	else if (config.arp && type == bpf_htons(ETH_P_ARP))
		arp(ctx, p, at);
}
