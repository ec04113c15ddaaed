// SPDX-License-Identifier: BSD-2-Clause
/* What the C files of this package share beside xsk_cgo.h, and headers may lack. */
#ifndef XSK_INTERNAL_H
#define XSK_INTERNAL_H

#include <stdint.h>
#include <xdp/xsk.h>

#ifndef AF_XDP
#define AF_XDP 44
#endif
#ifndef SOL_XDP
#define SOL_XDP 283
#endif
#ifndef XDP_TX_METADATA
#define XDP_TX_METADATA (1 << 1) /* Linux 6.8 */
#endif
#ifndef SO_BINDTOIFINDEX
#define SO_BINDTOIFINDEX 62 /* Linux 5.0 */
#endif
#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71 /* Linux 5.14 */
#endif

static inline uint32_t min(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Entries the kernel has not taken yet. It touches no cached index, so any
 * thread may ask.
 */
static inline uint32_t pending(const struct xsk_ring_prod *r)
{
	return __atomic_load_n(r->producer, __ATOMIC_RELAXED) -
	       __atomic_load_n(r->consumer, __ATOMIC_ACQUIRE);
}

#endif
