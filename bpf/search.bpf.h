// SPDX-License-Identifier: BSD-2-Clause

// The rules that take a search: MAC addresses, IP addresses, flows.

/* find_mac returns the hits of a MAC address. It tries steps of step, step/2 ... 1
 * from the first range on. */
static __always_inline __u32 find_mac(__u8 *a)
{
	__u16 end = *(__u16 *)(a + 4);
	__u32 at = 0;

	if (!(numbers[index16(end)] & NUMBER_MAC))
		return 0;
	__u64 value = (__u64)bpf_ntohl(*(__u32 *)a) << 16 | bpf_ntohs(end);
	struct range *r = bpf_map_lookup_elem(&macs, &at);
	__u64 hits = r ? r->hits : 0;
	at = forget(0);
	for (__u32 step = config.top_mac; step; step >>= 1) {
		__u32 next = at + step;
		__u64 start = 1ull << 63, found = 0; /* behind all values */
		r = bpf_map_lookup_elem(&macs, &next);
		if (r) {
			start = r->start;
			found = r->hits;
		}
		/* Without branches, or clang has the loop fall through into its
		 * beginning, which older kernels refuse (cfg_test.go). */
		__u64 beyond = (__s64)(value - start) >> 63; /* all ones, or 0 */
		barrier_var(beyond);
		at += step & ~beyond;
		hits = (hits & beyond) | (found & ~beyond);
	}
	return hits;
}

/* behind returns the entry for the next byte of an address. */
static __always_inline __u32 behind(__u32 entry, __u32 byte)
{
	__u32 index = entry & START_INDEX;
	struct table *t = bpf_map_lookup_elem(&tables4, &index);

	return t ? t->entries[byte & 255] : 0;
}

/* find4 returns the hits of an IPv4 address. */
static __always_inline __u32 find4(__be32 address)
{
	__u32 value = bpf_ntohl(address), entry = starts4[value >> 16];

	if (entry & START_TABLE)
		entry = behind(entry, value >> 8);
	if (entry & START_TABLE)
		entry = behind(entry, value);
	if (entry & START_CUT) {
		__u32 index = entry & START_INDEX;
		struct cut *c = bpf_map_lookup_elem(&cuts4, &index);
		if (!c)
			return 0;
		entry = c->hits[0];
		if (value >= c->second)
			entry = c->hits[1];
		if (value >= c->third)
			entry = c->hits[2];
	}
	return entry;
}

/* find6 returns the hits of an IPv6 address. */
static __always_inline __u32 find6(void *a)
{
	__u32 *word = a, entry = START_TABLE;
	__u64 high = (__u64)bpf_ntohl(word[0]) << 32 | bpf_ntohl(word[1]);
	__u64 low = (__u64)bpf_ntohl(word[2]) << 32 | bpf_ntohl(word[3]);

	for (__u32 i = 0; i < config.depth6; i++) {
		__u32 index = entry & START_INDEX;
		if (!(entry & START_TABLE))
			break;
		struct table6 *t = bpf_map_lookup_elem(&tables6, &index);
		if (!t)
			return 0;
		__u64 half = high, same = high;
		if (t->shift & 64) {
			half = low;
			same = t->high;
		}
		__u64 rest = half >> (t->shift & 63);
		if (likely(rest >> 8 == t->rest && high == same))
			entry = t->entries[rest & 255];
		else
			entry = high < same || (high == same && rest >> 8 < t->rest) ? t->below : t->above;
	}
	if (entry & START_CUT) {
		__u32 index = entry & START_INDEX;
		struct cut6 *c = bpf_map_lookup_elem(&cuts6, &index);
		if (!c)
			return 0;
		entry = c->hits[0];
		if (high > c->second[0] || (high == c->second[0] && low >= c->second[1]))
			entry = c->hits[1];
		if (high > c->third[0] || (high == c->third[0] && low >= c->third[1]))
			entry = c->hits[2];
	}
	return entry;
}

__attribute__((noinline)) __u32 asked(struct xdp_md *ctx, __u32 offset)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	void *address = data + (offset & FAR);

	if (config.nd && offset & ASKED_IPV6 && address + sizeof(struct in6_addr) <= end)
		return find6(address);
	if (config.arp && !(offset & ASKED_IPV6) && address + sizeof(__be32) <= end)
		return find4(*(__be32 *)address);
	return 0;
}

/* flow looks for the packet's flow, with and without what a flow may leave open:
 * bit 0 of config.flow_shapes is for any protocol, bit 1 for any ports, bit 2 for
 * a source port, bit 3 for a destination port, bit 4 for both. An entry without
 * ports says UNSURE for an exception that has some. */
static __always_inline __u32 flow(struct flow *key, __u64 told)
{
	__u32 protocol = TOLD_PROTOCOL(told), hits = 0, *found;
	bool ported = told & TOLD_PORTED;

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
		key->source_port = shape & 1 ? told >> 32 & 0xffff : 0;
		key->destination_port = shape & 2 ? told >> 48 : 0;
		found = bpf_map_lookup_elem(&flows, key);
		if (found)
			hits |= *found & BOTH(FLOWS);
	}
	return hits;
}

/* wanted is what is left to search for, when the rules before have been: once one
 * of them matches, only an exception can count, and the first of those does. */
static __always_inline __u32 wanted(__u32 hits, __u32 before)
{
	if (hits & (before | RULE(ALL)))
		return hits >> 16 & before ? 0 : config.exceptions;
	return config.rules & SEARCHED ? config.used : 0;
}

static __always_inline __u32 search4(struct iphdr *ip, __u32 hits, __u64 told)
{
	if (config.used4 & BY_SOURCE && wanted(hits, UP_TO(MACS)) & BY_SOURCE) {
		__u32 found = find4(ip->saddr);
		hits |= found & BOTH(SOURCES);
		if (config.used4 & RULE(FLOWS) && found & RULE(FLOWS)) {
			struct flow key = { .version = 4, .source[0] = ip->saddr, .destination[0] = ip->daddr };
			hits |= flow(&key, told);
		}
	}
	if (config.used4 & BY_DESTINATION && wanted(hits, UP_TO(FLOWS)) & BY_DESTINATION)
		hits |= find4(ip->daddr) & (BOTH(DESTINATIONS) | BOTH(HOSTS));
	return hits;
}

static __always_inline __u32 search6(struct ipv6hdr *ip, __u32 hits, __u64 told)
{
	if (config.used6 & BY_SOURCE && wanted(hits, UP_TO(MACS)) & BY_SOURCE) {
		__u32 found = find6(&ip->saddr);
		hits |= found & BOTH(SOURCES);
		if (config.used6 & RULE(FLOWS) && found & RULE(FLOWS)) {
			struct flow key = { .version = 6 };
			__builtin_memcpy(key.source, &ip->saddr, 16);
			__builtin_memcpy(key.destination, &ip->daddr, 16);
			hits |= flow(&key, told);
		}
	}
	if (config.used6 & BY_DESTINATION && wanted(hits, UP_TO(FLOWS)) & BY_DESTINATION)
		hits |= find6(&ip->daddr) & (BOTH(DESTINATIONS) | BOTH(HOSTS));
	return hits;
}

/* search adds the hits of what takes a search. */
static __always_inline __u32 search(struct packet *p, __u32 hits, __u64 told)
{
	if (config.used & RULE(MACS) && wanted(hits, UP_TO(VLAN)) & RULE(MACS))
		hits |= find_mac(p->data) & BOTH(MACS);
	if (config.used4 && p->ip4)
		hits = search4(p->ip4, hits, told);
	if (config.used6 && p->ip6)
		hits = search6(p->ip6, hits, told);
	return hits;
}
