package main

// The contestants. "rings" and "queue" are package xsk's; sample and tactics are
// C on libxdp.
var (
	rings   = contestant{name: "rings", as: "rings"}
	queue   = contestant{name: "queue", as: "queue"}
	sample  = contestant{name: "c-sample", as: "sample"}
	tactics = contestant{name: "c-tactics", as: "tactics"}
	gvisor  = contestant{name: "gvisor", as: "gvisor"}
	packets = contestant{name: "af-packet", as: "packet"}
	udp     = contestant{name: "udp", as: "udp"}
)

// with is a contestant under another name, with more flags.
func (c contestant) with(name string, flags ...string) contestant {
	c.name, c.flags = name, flags
	return c
}

func modeName(native bool) string {
	if native {
		return "native"
	}
	return "generic"
}

// comparisons are those of a part, in each mode.
func comparisons(part string, modes []bool) []comparison {
	var all []comparison
	for _, native := range modes {
		t := task{do: part, native: native, size: 64}
		name := part + "-" + modeName(native)
		switch part {
		case "netstack":
			all = append(all, talking(modeName(native), native)...)
		case "tx":
			all = append(all, sending(name, t))
		case "rx":
			all = append(all, receiving(name, t))
		case "echo", "forward":
			all = append(all, passing(name, t))
		case "latency":
			t.do = "ping"
			all = append(all, latency(name+"-spinning", t, true), latency(name+"-blocking", t, false))
		}
	}
	return all
}

// besideC are the goals against C that tx, echo and forward share.
func besideC() []pair {
	return []pair{
		{"rings", "c-sample", pps, 1.10},
		{"queue", "c-sample", pps, 1.10},
		{"rings", "c-tactics", pps, 0.97},
		{"queue", "c-tactics", pps, 0.97},
		{"queue", "rings", pps, 0.95},
	}
}

func sending(name string, t task) comparison {
	return comparison{name, t, []contestant{rings, queue, sample, tactics, gvisor, packets, udp}, append(besideC(),
		pair{"rings", "gvisor", pps, 0},
		pair{"rings", "af-packet", pps, 0},
		pair{"rings", "af-packet", perCPU, 1.5},
		pair{"queue", "af-packet", perCPU, 1.5},
		pair{"rings", "udp", pps, 0},
		pair{"rings", "udp", perCPU, 0})}
}

func receiving(name string, t task) comparison {
	linger := []string{"-linger", "50"}
	c := comparison{name, t, []contestant{
		rings.with("rings", linger...), queue.with("queue", linger...),
		rings.with("rings-0"), queue.with("queue-0"),
		// AF_PACKET hands over a block when it is full, or after 1 ms.
		rings.with("rings-1ms", "-linger", "1000"), queue.with("queue-1ms", "-linger", "1000"),
		sample, tactics.with("c-tactics", linger...), tactics.with("c-tactics-1ms", "-linger", "1000"), gvisor, packets, udp,
	}, []pair{
		{"rings", "c-sample", pps, 1.3},
		{"rings", "c-sample", perCPU, 3},
		{"queue", "c-sample", pps, 1.3},
		{"queue", "c-sample", perCPU, 3},
		{"rings", "c-tactics", pps, 0.97},
		{"rings", "c-tactics", perCPU, 0},
		{"queue", "c-tactics", pps, 0.97},
		{"rings-0", "c-sample", pps, 0},
		{"queue", "rings", pps, 0.95},
		{"rings", "gvisor", pps, 0},
		{"rings", "af-packet", pps, 0},
		{"rings", "af-packet", perCPU, 0},
		{"rings-1ms", "c-tactics-1ms", perCPU, 0},
		{"rings-1ms", "af-packet", pps, 0},
		{"rings-1ms", "af-packet", perCPU, 1.5},
		{"queue-1ms", "af-packet", perCPU, 1.5},
		{"rings", "udp", pps, 2.5},
		{"queue", "udp", pps, 2.5},
	}}
	if t.native {
		deferred := rings.with("rings-deferral")
		deferred.defers = true
		both := rings.with("rings-both", linger...)
		both.defers = true
		c.contestants = append(c.contestants, deferred, both)
		c.pairs = append(c.pairs,
			pair{"rings-deferral", "rings", pps, 0}, pair{"rings-deferral", "rings", perCPU, 0},
			pair{"rings-both", "rings", pps, 0}, pair{"rings-both", "rings", perCPU, 0})
	}
	return c
}

func passing(name string, t task) comparison {
	if t.do == "forward" { // gVisor's umem cannot have two sockets, and UDP forwards no frames
		return comparison{name, t, []contestant{rings, queue, sample, tactics, packets}, append(besideC(),
			pair{"rings", "af-packet", pps, 0})}
	}
	return comparison{name, t, []contestant{rings, queue, sample, tactics, gvisor, packets, udp}, append(besideC(),
		pair{"rings", "gvisor", pps, 0},
		pair{"rings", "af-packet", pps, 0},
		pair{"rings", "udp", pps, 0})}
}

// latency compares round trips from a UDP socket that spins in the peer.
func latency(name string, t task, spin bool) comparison {
	all := []contestant{rings, queue, sample, tactics, gvisor, udp}
	toC, toUDP := 0.0, 1.0 // blocking: level with UDP
	if spin {
		t.flags = []string{"-spin"}
		toC, toUDP = 1/1.1, 0
	}
	return comparison{name, t, all, []pair{
		{"rings", "c-tactics", p50, toC},
		{"rings", "c-tactics", p99, toC},
		{"queue", "c-tactics", p50, toC},
		{"queue", "c-tactics", p99, toC},
		{"rings", "c-sample", p50, 0},
		{"rings", "udp", p50, toUDP},
		{"rings", "udp", p99, 0},
		{"queue", "udp", p50, toUDP},
	}}
}
