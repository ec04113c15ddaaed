// SPDX-License-Identifier: BSD-2-Clause

// The filter as the program has it: constants and tables, and what it counts.
// tables.go fills them in.

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
	MACS, /* from here to HOSTS in the order of search() */
	SOURCES,
	FLOWS,
	DESTINATIONS,
	HOSTS,
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
#define OF_ICMP (RULE(PING) | RULE(MANAGEMENT))
#define OF_PROTOCOL (OF_UDP | OF_TCP | OF_ICMP | RULE(PROTOCOLS))
#define OF_IP (OF_PROTOCOL | RULE(SOURCES) | RULE(DESTINATIONS) | RULE(FLOWS) | RULE(HOSTS))
#define OF_TYPE (OF_IP | RULE(ETHERTYPES))
#define OF_TAG (OF_TYPE | RULE(VLAN))
#define SEARCHED (RULE(MACS) | RULE(SOURCES) | RULE(FLOWS) | RULE(DESTINATIONS) | RULE(HOSTS))
#define BY_SOURCE (RULE(SOURCES) | RULE(FLOWS))
#define BY_DESTINATION (RULE(DESTINATIONS) | RULE(HOSTS))
#define UP_TO(rule) (RULE((rule) + 1) - 1)

/* The filter. bpf.Attach sets it before the program is loaded; from then on it
 * is frozen, so the verifier removes what cannot happen: with ALL alone nothing
 * is left but the redirect. */
const volatile struct {
	__u32 rules, exceptions; /* which there are */
	__u32 used;              /* both together */
	__u32 used4, used6;      /* those that look for IPv4 and IPv6 addresses */
	__u32 depth6;            /* the most tables6 on the way to an IPv6 address; 0: there are none */
	__u32 top_mac;           /* see find_mac */
	__u32 flow_shapes;       /* see flow() */
	__u32 arp, nd;           /* BOTH(HOSTS), as far as there are IPv4 and IPv6 ones */
	__u32 vlan, no_vlan;     /* VLAN and Except.VLAN; 0: none */
	__u32 dry_run;           /* answer XDP_REDIRECT for a match, but do nothing */
} config;
#define LOOKS (config.used & ~RULE(ALL)) /* at the packets */

/* The hits of an IP protocol. */
const volatile __u32 protocols[256];

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

/* The hits of IPv4 addresses, by the 16 bits that they begin with. Where those do
 * not tell, the entry says where to look on: in a table, and then maybe in another
 * one, or in a cut, which is the last. */
__u32 starts4[65536];
#define START_TABLE (1u << 31)
#define START_CUT (1u << 30)
#define START_INDEX 0xffffff /* in the map of these */

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

/* Tables go on with the next byte of an IPv4 address; a cut is up to three ranges
 * of addresses. */
struct table {
	__u32 entries[256];
};
struct cut {
	__u32 second, third; /* where they begin */
	__u32 hits[3], padding;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct table);
	__uint(max_entries, 1);
} tables4 SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cut);
	__uint(max_entries, 1);
} cuts4 SEC(".maps");

/* The same for IPv6, from table 0 on. A table has eight bits of the addresses that
 * are alike before those, and says what other addresses are. */
struct table6 {
	__u64 high, rest;    /* the bits before, of the higher half, if all of that is before; and of the other */
	__u32 shift;         /* the bits behind in the half; and 64, if it is the lower half */
	__u32 below, above;  /* entries for addresses before and behind these */
	__u32 entries[256];
	__u32 padding;
};
struct cut6 {
	__u64 second[2], third[2];
	__u32 hits[3], padding;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct table6);
	__uint(max_entries, 1);
} tables6 SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct cut6);
	__uint(max_entries, 1);
} cuts6 SEC(".maps");

/* MAC addresses, as ranges: each begins at start and ends where the next begins;
 * the first starts at 0. */
struct range {
	__u64 start;
	__u64 hits;
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct range);
	__uint(max_entries, 1);
} macs SEC(".maps");

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
