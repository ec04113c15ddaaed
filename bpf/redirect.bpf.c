//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// The program that package bpf attaches. It hands the packets that the filter
// matches to the AF_XDP socket of the queue they arrived on, and leaves every
// other packet, and every queue without a socket, to the kernel.
//
// tables.go fills in the filter: constants before the program is loaded, so that
// the verifier removes the rules that are not in use, and tables before it is
// attached.
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

#define MAX_TAGS 2         /* VLAN tags that are looked behind: 802.1Q, QinQ */
#define MAX_EXTS 4         /* IPv6 extension headers that are looked behind */
#define IP_FRAGMENT 0x3fff /* more fragments, or an offset */
#define IP6_FRAGMENT 0xfff9

/* The rules, as rule.go numbers them. A set of rules has a bit for each; hits
 * are two sets, the rules that match and, from bit 16 on, the exceptions. */
enum rule {
	UDP_PORTS,
	UDP_SOURCE_PORTS,
	TCP_PORTS,
	TCP_SOURCE_PORTS,
	ETHERTYPES,
	PING,
	PROTOCOLS,
	VLAN,
	SOURCES,
	DESTINATIONS,
	MACS,
	FLOWS,
	ALL,
	MANAGEMENT,
	UNSURE,
};
#define RULE(rule) (1u << (rule))
#define EXCEPTION(rule) (1u << ((rule) + 16))
#define BOTH(rule) (RULE(rule) | EXCEPTION(rule))

/* Sets of rules that need the same header. */
#define OF_UDP (RULE(UDP_PORTS) | RULE(UDP_SOURCE_PORTS) | RULE(MANAGEMENT))
#define OF_TCP (RULE(TCP_PORTS) | RULE(TCP_SOURCE_PORTS) | RULE(MANAGEMENT))
#define OF_ICMP RULE(PING)
#define OF_ICMP6 (RULE(PING) | RULE(MANAGEMENT))
#define OF_PROTOCOL (OF_UDP | OF_TCP | OF_ICMP6 | RULE(PROTOCOLS))
#define OF_IP (OF_PROTOCOL | RULE(SOURCES) | RULE(DESTINATIONS) | RULE(FLOWS))
#define OF_TYPE (OF_IP | RULE(ETHERTYPES))
#define OF_TAG (OF_TYPE | RULE(VLAN))
#define SEARCHED (RULE(SOURCES) | RULE(DESTINATIONS) | RULE(MACS) | RULE(FLOWS))

/* The filter. bpf.Attach sets it before the program is loaded; from then on it
 * is frozen, so the verifier removes what cannot happen: with ALL alone nothing
 * is left but the redirect. */
const volatile struct {
	__u32 rules, exceptions; /* which there are */
	__u32 used;              /* both together */
	__u32 parse;             /* not 0: packets have to be looked at */
	__u32 top4, top6, top_mac; /* the first step of the searches, see find; 0: no table */
	__u32 flow_shapes;       /* see flow() */
	__u32 vlan, no_vlan;     /* VLAN and Except.VLAN; 0: none */
	__u32 dry_run;           /* answer XDP_REDIRECT for a match, but do nothing */
} config;

/* By IP protocol: bit 0 if it is a rule's, bit 1 if it is an exception's. */
const volatile __u8 protocols[256];

const volatile __u8 bit_number[32] = {
	0,  1,  28, 2,  29, 14, 24, 3, 30, 22, 20, 15, 25, 17, 4,  8,
	31, 27, 13, 23, 21, 19, 16, 7, 26, 12, 18, 6,  11, 5,  10, 9,
};

/* What a 16-bit number is the rules': as a UDP destination port, UDP source
 * port, TCP destination port, TCP source port and EtherType, in the order of enum
 * rule; five bits for the rules, five for the exceptions, five for management;
 * and one bit if it is the end of a MAC address. */
__u16 numbers[65536];
#define NUMBER(rule) ((1 | 1 << 5 | 1 << 10) << (rule))
#define NUMBER_MAC (1 << 15)

/* Where the search for an IPv4 address begins in ranges4, by its first 16 bits:
 * the range with their first address, and above START_STEP the first step. */
__u32 starts[65536];
#define START_STEP 24

/* One slot per receive queue. It belongs to the Program, whatever its filter, as
 * do the counters; bpf.Attach makes both. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 1);
} xsks_map SEC(".maps");

/* counters.go reads them: 16 for each of these, by rule. */
enum outcome { MATCHED = 0, NO_SOCKET = 16, EXCEPTED = 32, PASSED = 48 };
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 64);
} counters SEC(".maps");

/* The prefixes, as ranges: each begins at start and ends where the next begins;
 * the first starts at 0. hits are the same for every address of a range. */
struct range {
	__u64 start;
	__u64 hits;
};
struct range6 {
	__u64 high, low;
	__u64 hits;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct range);
	__uint(max_entries, 1);
} ranges4 SEC(".maps"), macs SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct range6);
	__uint(max_entries, 1);
} ranges6 SEC(".maps");

/* A flow; what may be any is 0. IPv4 addresses are in the first word. */
struct flow {
	__u32 source[4], destination[4];
	__be16 source_port, destination_port;
	__u16 protocol;
	__u16 version;
};
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow);
	__type(value, __u32);
	__uint(max_entries, 1);
} flows SEC(".maps");

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
	bool fragment;
	__be16 source_port, destination_port; /* if ported */
	bool ported;
	__u32 hits;
	__u32 unsure;  /* rules for which the header is missing */
	__u32 numbers; /* the bits found in the table above */
};
#define NO_PROTOCOL 256

/* forget returns number, and the verifier no longer knows anything of it: it does
 * not follow half of what it saw stored. Between the program's parts all goes
 * through here, or it would follow every way through one part for every way
 * through the part before. (A function of its own does the same, but to return
 * from one takes 10 ns where the CPU has to be guarded against return
 * speculation.) */
static __always_inline __u32 forget(__u32 number)
{
	volatile __u64 stored = (__u64)number << 32 | 1;

	return ((volatile __u32 *)&stored)[1];
}

/* find returns the hits of the range that value is in, which is not before the
 * one at. It tries the steps step, step/2 ... 1. */
static __always_inline __u32 find(void *map, __u32 at, __u32 step, __u64 value)
{
	struct range *r = bpf_map_lookup_elem(map, &at);
	__u64 hits = r ? r->hits : 0;

	for (; step; step >>= 1) {
		__u32 next = at + step;
		r = bpf_map_lookup_elem(map, &next);
		if (r && r->start <= value) {
			at = next;
			hits = r->hits;
		}
	}
	return hits;
}

static __always_inline __u32 find4(__be32 address)
{
	__u32 value = bpf_ntohl(address), start = starts[value >> 16];
	__u32 step = (1u << (start >> START_STEP) >> 1) & 0xffffff;

	return find(&ranges4, start & ((1u << START_STEP) - 1), step, value);
}

static __always_inline __u32 find6(struct in6_addr *a)
{
	__u32 *word = (__u32 *)a, at = forget(0);
	__u64 high = (__u64)bpf_ntohl(word[0]) << 32 | bpf_ntohl(word[1]);
	__u64 low = (__u64)bpf_ntohl(word[2]) << 32 | bpf_ntohl(word[3]);
	struct range6 *r = bpf_map_lookup_elem(&ranges6, &at);
	__u64 hits = r ? r->hits : 0;

	for (__u32 step = config.top6; step; step >>= 1) {
		__u32 next = at + step;
		r = bpf_map_lookup_elem(&ranges6, &next);
		if (r && (r->high < high || (r->high == high && r->low <= low))) {
			at = next;
			hits = r->hits;
		}
	}
	return hits;
}

static __always_inline __u32 find_mac(__u8 *a)
{
	__u32 end = a[4] << 8 | a[5];

	if (!(numbers[end] & NUMBER_MAC))
		return 0;
	return find(&macs, forget(0), config.top_mac, (__u64)a[0] << 40 | (__u64)a[1] << 32 | (__u64)a[2] << 24 | a[3] << 16 | end);
}

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
	p->fragment = ip->frag_off & bpf_htons(IP_FRAGMENT);
	return true;
}

static __always_inline bool extension(__u8 next)
{
	return next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT;
}

/* What upper returns: the transport header's offset in the packet, the protocol,
 * whether the packet is a fragment; and how many bytes are left in 16 more bits. */
#define UPPER_OFFSET 0xffff
#define UPPER_PROTOCOL(found) ((found) >> 16 & 0xff)
#define UPPER_FRAGMENT (1 << 24)
#define UPPER_LEFT(found) ((found) >> 32)

/* upper goes from the header next, at offset, behind IPv6's extension headers; 0
 * if it cannot. A fragment header that all of the datagram is behind is like the
 * others. The verifier looks at it once, for it is a function that may be called
 * with anything. */
__attribute__((noinline)) __u64 upper(struct xdp_md *ctx, __u32 offset, __u32 next, __u32 left)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 fragment = 0;

	if (!(config.used & (OF_PROTOCOL | RULE(FLOWS))))
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
			if (f->offset & bpf_htons(IP6_FRAGMENT))
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
	if (config.used & (OF_PROTOCOL | RULE(FLOWS)) && extension(ip->nexthdr)) {
		void *data = (void *)(long)ctx->data;
		__u64 found = upper(ctx, p->transport - data, ip->nexthdr, p->left);
		p->transport = data + (found & UPPER_OFFSET & 0x3fff);
		p->left = UPPER_LEFT(found);
		p->protocol = found ? UPPER_PROTOCOL(found) : NO_PROTOCOL;
		p->fragment = found & UPPER_FRAGMENT;
	}
	return true;
}

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

static __always_inline void icmp(struct packet *p, __u8 request, __u8 reply)
{
	__u8 type = *(__u8 *)p->transport;

	if (type == request || type == reply)
		p->hits |= BOTH(PING);
	/* Neighbour discovery, router discovery too, and redirects. */
	if (p->version == 6 && type >= 133 && type <= 137)
		p->hits |= EXCEPTION(MANAGEMENT);
}

static __always_inline void transport(struct packet *p)
{
	if (p->protocol == NO_PROTOCOL) {
		p->unsure |= OF_PROTOCOL;
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
			icmp(p, 8, 0);
		else
			p->unsure |= OF_ICMP;
	} else if (p->protocol == IPPROTO_ICMPV6 && p->version == 6) {
		if (!(config.used & OF_ICMP6))
			return;
		if (has(p, 8))
			icmp(p, 128, 129);
		else
			p->unsure |= OF_ICMP6;
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
		p->ip = 0;
		return;
	}
	if (good) {
		transport(p);
	} else {
		p->unsure = OF_IP;
		p->ip = 0;
	}
}

/* What search is told of a packet. */
#define AT_IP 0xff /* the IP header's offset, 0 without */
#define AT_PORTED (1 << 8)
#define AT_IPV6 (1 << 9)
#define AT_PROTOCOL(where) ((where) >> 16) /* maybe NO_PROTOCOL */

/* flow looks for the packet's flow, with and without what a flow may leave open:
 * bit 0 of config.flow_shapes is for any protocol, bit 1 for any ports, bit 2 for
 * a source port, bit 3 for a destination port, bit 4 for both. An entry without
 * ports says UNSURE for an exception that has some. */
static __always_inline __u32 flow(struct flow *key, __u32 where, __u32 ports)
{
	__u32 protocol = AT_PROTOCOL(where), hits = 0, *found;
	bool ported = where & AT_PORTED;

	if (config.flow_shapes & 1) {
		found = bpf_map_lookup_elem(&flows, key);
		if (found)
			hits = *found & (protocol == NO_PROTOCOL ? BOTH(FLOWS) | EXCEPTION(UNSURE) : BOTH(FLOWS));
	}
	if (protocol == NO_PROTOCOL)
		return hits;
	key->protocol = protocol;
	if (config.flow_shapes & 2) {
		bool unsure = !ported && (protocol == IPPROTO_UDP || protocol == IPPROTO_TCP);
		found = bpf_map_lookup_elem(&flows, key);
		if (found)
			hits |= *found & (unsure ? BOTH(FLOWS) | EXCEPTION(UNSURE) : BOTH(FLOWS));
	}
	if (!ported)
		return hits;
#pragma unroll
	for (int shape = 1; shape <= 3; shape++) {
		if (!(config.flow_shapes & 2 << shape))
			continue;
		key->source_port = shape & 1 ? ports & 0xffff : 0;
		key->destination_port = shape & 2 ? ports >> 16 : 0;
		found = bpf_map_lookup_elem(&flows, key);
		if (found)
			hits |= *found & BOTH(FLOWS);
	}
	return hits;
}

/* more is whether hits leave something to search for. */
static __always_inline bool more(__u32 hits)
{
	return !(hits & 0xffff) || config.exceptions & SEARCHED;
}

static __always_inline __u32 search4(struct iphdr *ip, __u32 where, __u32 ports)
{
	__u32 hits = 0;

	if (config.used & (RULE(SOURCES) | RULE(FLOWS))) {
		__u32 found = find4(ip->saddr);
		hits = found & BOTH(SOURCES);
		if (config.used & RULE(FLOWS) && found & RULE(FLOWS)) {
			struct flow key = { .version = 4, .source[0] = ip->saddr, .destination[0] = ip->daddr };
			hits |= flow(&key, where, ports);
		}
	}
	if (config.used & RULE(DESTINATIONS) && more(hits))
		hits |= find4(ip->daddr) & BOTH(DESTINATIONS);
	return hits;
}

static __always_inline __u32 search6(struct ipv6hdr *ip, __u32 where, __u32 ports)
{
	__u32 hits = 0;

	if (config.used & (RULE(SOURCES) | RULE(FLOWS))) {
		__u32 found = find6(&ip->saddr);
		hits = found & BOTH(SOURCES);
		if (config.used & RULE(FLOWS) && found & RULE(FLOWS)) {
			struct flow key = { .version = 6 };
			__builtin_memcpy(key.source, &ip->saddr, 16);
			__builtin_memcpy(key.destination, &ip->daddr, 16);
			hits |= flow(&key, where, ports);
		}
	}
	if (config.used & RULE(DESTINATIONS) && more(hits))
		hits |= find6(&ip->daddr) & BOTH(DESTINATIONS);
	return hits;
}

/* search returns the hits of what takes a search: MAC and IP addresses, flows. */
static __always_inline __u32 search(struct xdp_md *ctx, __u32 where, __u32 ports)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	void *ip = data + (where & AT_IP);
	__u32 hits = 0;

	if ((void *)(eth + 1) > end)
		return 0;
	if (config.used & RULE(MACS))
		hits = find_mac(eth->h_dest) & BOTH(MACS);
	if (!(where & AT_IP) || !more(hits))
		return hits;
	if (config.top6 && where & AT_IPV6 && ip + sizeof(struct ipv6hdr) <= end)
		hits |= search6(ip, where, ports);
	if (config.top4 && !(where & AT_IPV6) && ip + sizeof(struct iphdr) <= end)
		hits |= search4(ip, where, ports);
	return hits;
}

/* judge returns the hits of a packet. */
static __always_inline __u32 judge(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	struct ethhdr *eth = data;
	struct packet p = { .end = (void *)(long)ctx->data_end, .hits = config.rules & RULE(ALL) };

	if ((void *)(eth + 1) > p.end)
		return p.hits | EXCEPTION(UNSURE);
	network(ctx, &p, eth);
	p.hits |= (p.numbers & 31) | (p.numbers >> 5 & 31) << 16;
	if (p.numbers >> 10)
		p.hits |= EXCEPTION(MANAGEMENT);
	if (p.unsure & config.exceptions)
		p.hits |= EXCEPTION(UNSURE);
	p.hits &= config.rules | config.exceptions << 16 | EXCEPTION(UNSURE);
	if (config.used & SEARCHED) {
		/* Is it decided yet? */
		if (p.hits & 0xffff ? p.hits >> 16 || !(config.exceptions & SEARCHED) : !(config.rules & SEARCHED))
			return p.hits;
		__u32 where = (p.ip ? p.ip - data : 0) | (p.version == 6 ? AT_IPV6 : 0) | (p.ported ? AT_PORTED : 0) | p.protocol << 16;
		__u32 ports = p.source_port | (__u32)p.destination_port << 16;
		__u32 hits = forget(p.hits);
		return hits | search(ctx, forget(where), config.used & RULE(FLOWS) ? forget(ports) : 0);
	}
	return p.hits;
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

static __always_inline int redirect(struct xdp_md *ctx)
{
	__u32 hits = config.parse ? forget(judge(ctx)) : config.rules & RULE(ALL);
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
	count((action == XDP_REDIRECT ? MATCHED : NO_SOCKET) + (config.parse ? first(rules) : ALL));
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
