// SPDX-License-Identifier: BSD-2-Clause

// The rules that take a search: MAC addresses, IP addresses, flows.

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

	/* Before Linux 6.10 the verifier knows no bounds of an or. */
	barrier_var(end);
	end &= 0xffff;
	if (!(numbers[end] & NUMBER_MAC))
		return 0;
	return find(&macs, forget(0), config.top_mac, (__u64)a[0] << 40 | (__u64)a[1] << 32 | (__u64)a[2] << 24 | a[3] << 16 | end);
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
