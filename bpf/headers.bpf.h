// SPDX-License-Identifier: BSD-2-Clause

// What is seen of a packet's headers, and the rules that this decides: VLAN tags,
// EtherType, IP, extension headers, protocol, ports, ICMP type.

#define MAX_TAGS 2         /* VLAN tags that are looked behind: 802.1Q, QinQ */
#define MAX_EXTS 4         /* IPv6 extension headers that are looked behind */
#define IP_OFFSET 0x1fff   /* a later fragment: the first one has the transport header */
#define IP6_OFFSET 0xfff8

struct vlan_header {
	__be16 tci;
	__be16 proto;
};

struct fragment_header {
	__u8 nexthdr, reserved;
	__be16 offset;
	__be32 id;
};

/* What is known of a packet. All is read from its first buffer: in a packet of
 * several buffers that holds the headers. */
struct packet {
	void *end;
	void *ip;        /* the IP header, whole; or NULL */
	void *transport; /* behind it; to be checked against end */
	__u32 left;      /* bytes behind it, as the IP header says */
	__u16 version;   /* 4, 6 */
	__u16 protocol;  /* NO_PROTOCOL: not known */
	bool fragment;   /* not the first */
	__be16 source_port, destination_port; /* if ported */
	bool ported;
	__u32 hits;
	__u32 unsure;  /* rules for which the header is missing */
	__u32 numbers; /* the bits found in the table above */
};
#define NO_PROTOCOL 256

/* ipv4 finds protocol and transport header; false if the header is no good. */
static __always_inline bool ipv4(struct packet *p)
{
	struct iphdr *ip = p->ip;

	if ((void *)(ip + 1) > p->end)
		return false;
	__u32 len = ip->ihl * 4, total = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || len < sizeof(*ip) || total < len)
		return false;
	p->transport = p->ip + len;
	if (p->transport > p->end)
		return false;
	p->left = total - len;
	p->version = 4;
	p->protocol = ip->protocol;
	p->fragment = ip->frag_off & bpf_htons(IP_OFFSET);
	return true;
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

/* What upper returns: the transport header's offset in the packet, the protocol,
 * whether the packet is a later fragment; and how many bytes are left in 16 more bits. */
#define UPPER_OFFSET 0xffff
#define UPPER_PROTOCOL(found) ((found) >> 16 & 0xff)
#define UPPER_FRAGMENT (1 << 24)
#define UPPER_LEFT(found) ((found) >> 32)

/* upper goes from the header next, at offset, behind IPv6's extension headers; 0
 * if it cannot. A fragment header that the datagram begins behind is like the
 * others. The verifier looks at it once, for it is a function that may be called
 * with anything. */
__attribute__((noinline)) __u64 upper(struct xdp_md *ctx, __u32 offset, __u32 next, __u32 left)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 fragment = 0;

	if (!by_protocol())
		return 0;
	for (int i = 0; i < MAX_EXTS && !fragment; i++) {
		if (!extension(next))
			break;
		struct ipv6_opt_hdr *ext = data + (offset & 0x3fff);
		if ((void *)(ext + 1) > end)
			return 0;
		__u32 len = (ext->hdrlen + 1) * 8;
		if (next == IPPROTO_FRAGMENT) {
			struct fragment_header *f = (void *)ext;
			if ((void *)(f + 1) > end)
				return 0;
			if (f->offset & bpf_htons(IP6_OFFSET))
				fragment = UPPER_FRAGMENT;
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
	return offset | (__u64)next << 16 | fragment | (__u64)left << 32;
}

static __always_inline bool ipv6(struct xdp_md *ctx, struct packet *p)
{
	struct ipv6hdr *ip = p->ip;

	if ((void *)(ip + 1) > p->end || ip->version != 6)
		return false;
	p->version = 6;
	p->left = bpf_ntohs(ip->payload_len);
	p->transport = ip + 1;
	p->protocol = ip->nexthdr;
	if (by_protocol() && extension(ip->nexthdr)) {
		void *data = (void *)(long)ctx->data;
		__u64 found = upper(ctx, p->transport - data, ip->nexthdr, p->left);
		p->transport = data + (found & UPPER_OFFSET & 0x3fff);
		p->left = UPPER_LEFT(found);
		p->protocol = found ? UPPER_PROTOCOL(found) : NO_PROTOCOL;
		p->fragment = found & UPPER_FRAGMENT;
	}
	return true;
}

/* asked returns the hits of an address in the packet, as if it were sent there.
 * Few packets ask, so it is a function; search.bpf.h has it. */
#define ASKED_IPV6 (1 << 16)
__u32 asked(struct xdp_md *ctx, __u32 offset);

/* has is whether the transport header is there. */
static __always_inline bool has(struct packet *p, __u32 size)
{
	return !p->fragment && p->left >= size && p->transport + size <= p->end;
}

/* ports reads the two ports, which UDP and TCP have at the same place. */
static __always_inline void ports(struct packet *p, enum rule destination, enum rule source)
{
	struct udphdr *h = p->transport;

	p->ported = true;
	p->source_port = h->source;
	p->destination_port = h->dest;
	if (config.used & (RULE(destination) | RULE(MANAGEMENT)))
		p->numbers |= numbers[bpf_ntohs(h->dest)] & NUMBER(destination);
	if (config.used & (RULE(source) | RULE(MANAGEMENT)))
		p->numbers |= numbers[bpf_ntohs(h->source)] & NUMBER(source);
}

static __always_inline void icmp(struct packet *p)
{
	__u8 *h = p->transport, type = h[0];

	if (type == 8 || type == 0)
		p->hits |= BOTH(PING);
	/* A packet of the host's was too big for its path. */
	if (type == 3 && h[1] == 4)
		p->hits |= EXCEPTION(MANAGEMENT);
}

static __always_inline void icmp6(struct xdp_md *ctx, struct packet *p)
{
	__u8 type = *(__u8 *)p->transport;

	if (type == 128 || type == 129)
		p->hits |= BOTH(PING);
	/* Too big for its path; the listeners of multicast groups; neighbour and
	 * router discovery, and redirects; listeners, version 2. */
	if (type == 2 || (type >= 130 && type <= 137) || type == 143)
		p->hits |= EXCEPTION(MANAGEMENT);
	if (config.nd && type == 135) { /* who has the address behind 8 bytes? */
		if (has(p, 24))
			p->hits |= asked(ctx, (p->transport + 8 - (void *)(long)ctx->data) | ASKED_IPV6) & config.nd;
		else
			p->unsure |= config.nd >> 16;
	}
}

struct arp_header {
	__be16 hardware, protocol;
	__u8 hardware_size, protocol_size;
	__be16 operation;
	__u8 sender[6], sender_ip[4], target[6], target_ip[4];
};

/* arp looks for the address that the packet asks for; an answer has that of who
 * asked there. */
static __always_inline void arp(struct xdp_md *ctx, struct packet *p)
{
	struct arp_header *h = p->ip;

	if ((void *)(h + 1) > p->end)
		p->unsure |= config.arp >> 16;
	else if (h->protocol == bpf_htons(ETH_P_IP) && h->hardware_size == 6 && h->protocol_size == 4)
		p->hits |= asked(ctx, (void *)h->target_ip - (void *)(long)ctx->data) & config.arp;
}

static __always_inline void transport(struct xdp_md *ctx, struct packet *p)
{
	if (p->protocol == NO_PROTOCOL) {
		p->unsure |= OF_PROTOCOL | config.nd >> 16;
		return;
	}
	if (config.used & RULE(PROTOCOLS)) {
		__u32 bits = protocols[p->protocol & 0xff];
		p->hits |= ((bits & 1) | (bits & 2) << 15) << PROTOCOLS;
	}
	if (p->protocol == IPPROTO_UDP) {
		if (!(config.used & (OF_UDP | RULE(FLOWS))))
			return;
		if (has(p, sizeof(struct udphdr)))
			ports(p, UDP_PORTS, UDP_SOURCE_PORTS);
		else
			p->unsure |= OF_UDP;
	} else if (p->protocol == IPPROTO_TCP) {
		if (!(config.used & (OF_TCP | RULE(FLOWS))))
			return;
		if (has(p, sizeof(struct tcphdr)))
			ports(p, TCP_PORTS, TCP_SOURCE_PORTS);
		else
			p->unsure |= OF_TCP;
	} else if (p->protocol == IPPROTO_ICMP && p->version == 4) {
		if (!(config.used & OF_ICMP))
			return;
		if (has(p, 8))
			icmp(p);
		else
			p->unsure |= OF_ICMP;
	} else if (p->protocol == IPPROTO_ICMPV6 && p->version == 6) {
		if (!(config.used & OF_ICMP6) && !config.nd)
			return;
		if (has(p, 8))
			icmp6(ctx, p);
		else
			p->unsure |= OF_ICMP6 | config.nd >> 16;
	}
}

/* link looks behind the VLAN tags; false if the type is not to be seen. */
static __always_inline bool link(struct packet *p, struct ethhdr *eth, __be16 *type)
{
	*type = eth->h_proto;
	p->ip = eth + 1;
#pragma unroll
	for (int i = 0; i < MAX_TAGS; i++) {
		if (*type != bpf_htons(ETH_P_8021Q) && *type != bpf_htons(ETH_P_8021AD))
			break;
		struct vlan_header *tag = p->ip;
		if ((void *)(tag + 1) > p->end) {
			p->unsure = OF_TAG;
			return false;
		}
		__u32 id = bpf_ntohs(tag->tci) & 0xfff;
		if (config.vlan && id == config.vlan)
			p->hits |= RULE(VLAN);
		if (config.no_vlan && id == config.no_vlan)
			p->hits |= EXCEPTION(VLAN);
		*type = tag->proto;
		p->ip = tag + 1;
	}
	if (*type == bpf_htons(ETH_P_8021Q) || *type == bpf_htons(ETH_P_8021AD)) {
		p->unsure = OF_TYPE;
		return false;
	}
	return true;
}

/* network does what can be done without a search. */
static __always_inline void network(struct xdp_md *ctx, struct packet *p, struct ethhdr *eth)
{
	__be16 type;
	bool good;

	if (!link(p, eth, &type)) {
		p->ip = 0;
		return;
	}
	if (config.used & (RULE(ETHERTYPES) | RULE(MANAGEMENT)))
		p->numbers = numbers[bpf_ntohs(type)] & NUMBER(ETHERTYPES);
	if (!(config.used & OF_IP)) {
		p->ip = 0;
		return;
	}
	if (type == bpf_htons(ETH_P_IP)) {
		good = ipv4(p);
	} else if (type == bpf_htons(ETH_P_IPV6)) {
		good = ipv6(ctx, p);
	} else {
		if (config.arp && type == bpf_htons(ETH_P_ARP))
			arp(ctx, p);
		p->ip = 0;
		return;
	}
	if (good) {
		transport(ctx, p);
	} else {
		p->unsure = OF_IP;
		p->ip = 0;
	}
}
