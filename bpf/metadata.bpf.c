//go:build ignore

// SPDX-License-Identifier: BSD-2-Clause

// The program of redirect.bpf.c, which also writes what the device knows of a
// packet before it. It asks the kernel's functions for that, which takes a program
// that is bound to the device, native mode and the kernel's BTF: so it is an
// object of its own, and the other one does without.
//
// scripts/build-bpf makes metadata.bpf.o of it; commit both together.

#define METADATA
#include "redirect.bpf.c"

#ifndef bpf_ksym_exists
#define bpf_ksym_exists(sym) (!!(sym))
#endif

enum xdp_rss_hash_type { XDP_RSS_TYPE_NONE };

/* Kernel 6.3, the VLAN tag 6.8. A kernel that lacks one has no such field. */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym __weak;
extern int bpf_xdp_metadata_rx_hash(const struct xdp_md *ctx, __u32 *hash, enum xdp_rss_hash_type *type) __ksym __weak;
extern int bpf_xdp_metadata_rx_vlan_tag(const struct xdp_md *ctx, __be16 *proto, __u16 *tci) __ksym __weak;

#define MARK 0x78736b00 /* the upper 24 bits of fields */
#define TIMESTAMP 1
#define HASH 2
#define VLAN 4

/* What stands before the packet; metadata.go of package xsk reads it. */
struct metadata {
	__u64 timestamp;
	__u32 hash;
	__u32 hash_type;
	__u16 vlan_tci;
	__be16 vlan_proto;
	__u32 fields; /* MARK, and which of the above were there */
};

/* Answers false if there is no room before the packet: then the bytes there are
 * an earlier packet's, and nobody must read them. */
static __always_inline bool describe(struct xdp_md *ctx)
{
	struct metadata m = { .fields = MARK };
	enum xdp_rss_hash_type type = 0;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(m)))
		return false;
	if (bpf_ksym_exists(bpf_xdp_metadata_rx_timestamp) &&
	    !bpf_xdp_metadata_rx_timestamp(ctx, &m.timestamp))
		m.fields |= TIMESTAMP;
	if (bpf_ksym_exists(bpf_xdp_metadata_rx_hash) &&
	    !bpf_xdp_metadata_rx_hash(ctx, &m.hash, &type))
		m.fields |= HASH;
	if (bpf_ksym_exists(bpf_xdp_metadata_rx_vlan_tag) &&
	    !bpf_xdp_metadata_rx_vlan_tag(ctx, &m.vlan_proto, &m.vlan_tci))
		m.fields |= VLAN;
	m.hash_type = type;

	struct metadata *to = (void *)(long)ctx->data_meta;
	if ((void *)(to + 1) > (void *)(long)ctx->data)
		return false;
	*to = m;
	return true;
}

/* bpf.Attach binds it to the device, for libbpf knows no section that does. */
SEC("xsk.metadata")
int xsk_metadata(struct xdp_md *ctx)
{
	return redirect(ctx);
}
