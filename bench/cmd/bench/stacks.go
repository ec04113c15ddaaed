package main

import (
	"fmt"
	"strconv"
	"time"
)

// The TCP/IP stacks, all by netstack/examples/iperf: its client is the
// contestant, and a server on the same stack the partner.
var (
	xsk         = contestant{name: "xsk", as: "xsk"}
	linkXDP     = contestant{name: "gvisor-xdp", as: "gvisor-xdp"}
	packetLate  = contestant{name: "afpacket", as: "afpacket"}
	packetHost  = packetLate.with("afpacket-host", "-hostgso", "-trust")
	kernel      = contestant{name: "kernel", as: "kernel"}
	kernelPlain = contestant{name: "kernel-plain", as: "kernel", plain: true}
	xskOne      = xsk.with("xsk-1", "-procs", "1")
	linkXDPOne  = linkXDP.with("gvisor-xdp-1", "-procs", "1")
)

var (
	gbps    = metric{"gbps", func(m measure) float64 { return m.Gbps }, false, "%.3f"}
	perGbit = metric{"cpu-s-per-gbit", func(m measure) float64 { return m.PerGbit }, true, "%.3f"}
)

// talking compares TCP/IP stacks: a stream, eight of them, and requests of 64
// bytes with their replies.
func talking(mode string, native bool) []comparison {
	var all []comparison
	for _, streams := range []int{1, 8} {
		t := task{do: "stream", native: native, flags: []string{"-P", strconv.Itoa(streams)}}
		all = append(all, comparison{
			fmt.Sprintf("netstack-%s-%d", mode, streams), t,
			[]contestant{xsk, linkXDP, packetLate, packetHost, kernelPlain, kernel},
			[]pair{
				{"xsk", "gvisor-xdp", gbps, 3},
				{"xsk", "gvisor-xdp", perGbit, 2.5},
				{"xsk", "afpacket", gbps, 2.5},
				{"xsk", "afpacket", perGbit, 2.5},
				{"xsk", "afpacket-host", gbps, 2.5},
				{"xsk", "afpacket-host", perGbit, 2.5},
				{"xsk", "kernel-plain", gbps, 0},
				{"xsk", "kernel-plain", perGbit, 0},
				{"xsk", "kernel", gbps, 0},
				{"xsk", "kernel", perGbit, 0},
			},
		})
	}
	return append(all, comparison{
		fmt.Sprintf("netstack-%s-reply", mode), task{do: "reply", native: native, size: 64, flags: []string{"-rr"}},
		[]contestant{xsk, xskOne, linkXDP, linkXDPOne, packetLate, packetHost, kernelPlain},
		[]pair{
			{"xsk", "gvisor-xdp", p50, 2},
			{"xsk", "gvisor-xdp", p99, 0},
			{"xsk-1", "gvisor-xdp", p50, 2},
			{"xsk-1", "gvisor-xdp-1", p50, 0},
			{"xsk", "afpacket", p50, 0},
			{"xsk", "afpacket-host", p50, 0},
			{"xsk", "kernel-plain", p50, 0},
		},
	})
}

func (t *task) talks() bool { return t.do == "stream" || t.do == "reply" }

// openTalk starts server and client. Their interfaces compute no checksums, cut
// nothing and join nothing, but for a kernel that may do as it likes; and a stack
// that is not the kernel's has the addresses.
func (l *lane) openTalk() (err error) {
	if l.in, err = l.pair(1, 1500); err != nil {
		return err
	}
	if l.as != "kernel" {
		if err := l.in.TakeAddresses(); err != nil {
			return err
		}
	}
	if err := l.in.Offloads(l.as == "kernel" && !l.plain); err != nil {
		return err
	}
	if l.as == "afpacket" { // what the kernel does with a packet after that is nobody's work
		if err := l.in.DropOwn(); err != nil {
			return err
		}
		if err := l.in.DropPeers(); err != nil {
			return err
		}
	}
	own, peer := l.in.Out.SrcIP, l.in.Out.DstIP
	common := append([]string{binary("iperf"), "-turns", "-stack", l.as, "-mode", modeName(l.task.native)}, l.flags...)
	words := append(common[:len(common):len(common)], "-d", l.in.Peer, "-ip", peer.String()+"/24", "-s")
	if l.partner, err = startProcess("the server of "+l.name, true, "", nil, words...); err != nil {
		return err
	}
	words = append(common[:len(common):len(common)], "-d", l.in.Own, "-ip", own.String()+"/24", "-c", peer.String())
	l.worker, err = startProcess(l.name, false, "", nil, append(words, l.task.flags...)...)
	return err
}

// talk is a turn: the client says also what the server did.
func (l *lane) talk(length time.Duration, during func() error) (m measure, err error) {
	if err := l.worker.start(); err != nil {
		return m, err
	}
	if during != nil {
		err = during()
	} else {
		time.Sleep(length)
	}
	if err != nil {
		return m, err
	}
	did, err := l.worker.stop()
	if err != nil {
		return m, err
	}
	if did["bad"] > 0 {
		return m, fmt.Errorf("%w: what arrived is not what was sent, %.0f times", errWrong, did["bad"])
	}
	client, server := did["user"]+did["system"], did["peeruser"]+did["peersystem"]
	m = measure{P50: did["p50"], P99: did["p99"], Retransmits: did["retransmits"], Drops: did["drops"], Extra: did}
	if l.task.do == "reply" {
		if did["trips"] == 0 {
			return m, errNothing
		}
		m.PPS = did["trips"] / did["seconds"]
		m.User, m.System = (did["user"]+did["peeruser"])*1e9/did["trips"], (did["system"]+did["peersystem"])*1e9/did["trips"]
		return m, nil
	}
	if did["bytes"] == 0 {
		return m, errNothing
	}
	gbit := did["bytes"] * 8 / 1e9
	m.Gbps, m.PerGbit = gbit/did["seconds"], (client+server)/gbit
	m.Client, m.Server, m.Machine = client/gbit, server/gbit, did["machine"]/gbit
	return m, nil
}

// talkTable is what the stacks did, medians of the rounds.
func (o *outcome) talkTable() *table {
	t := &table{Title: fmt.Sprintf("%s, medians of %d turns of %.2g s", o.Name, len(o.Series[0].Rounds), o.Round)}
	count := func(s *series, of func(measure) float64) string { return number(s.median(of), "%.0f") }
	retransmits := func(m measure) float64 { return m.Retransmits }
	drops := func(m measure) float64 { return m.Drops }
	if o.Task == "reply" {
		t.Head = []string{"stack", "p50 us", "least to most", "p99 us", "least to most", "CPU us/trip", "retransmits", "drops"}
		for _, s := range o.Series {
			t.Rows = append(t.Rows, []string{
				s.Name, number(s.median(p50.of), "%.1f"), spread(s.all(p50.of), "%.1f"),
				number(s.median(p99.of), "%.1f"), spread(s.all(p99.of), "%.1f"),
				number(s.median(cpu)/1e3, "%.1f"), count(&s, retransmits), count(&s, drops),
			})
		}
		return t
	}
	t.Head = []string{"stack", "Gbit/s", "least to most", "CPU-s/Gbit", "least to most", "client", "server", "machine", "retransmits", "drops"}
	for _, s := range o.Series {
		t.Rows = append(t.Rows, []string{
			s.Name, number(s.median(gbps.of), "%.2f"), spread(s.all(gbps.of), "%.2f"),
			number(s.median(perGbit.of), "%.3f"), spread(s.all(perGbit.of), "%.3f"),
			number(s.median(func(m measure) float64 { return m.Client }), "%.3f"),
			number(s.median(func(m measure) float64 { return m.Server }), "%.3f"),
			number(s.median(func(m measure) float64 { return m.Machine }), "%.3f"),
			count(&s, retransmits), count(&s, drops),
		})
	}
	return t
}

// talkCharts are of the stacks: what they carry, and for how much of a processor.
func talkCharts(outcomes []*outcome) []chart {
	var streams, replies []*outcome
	for _, o := range outcomes {
		if o.Task == "reply" {
			replies = append(replies, o)
		} else {
			streams = append(streams, o)
		}
	}
	var all []chart
	if len(streams) > 0 {
		all = append(all,
			chartOf("TCP over netstack: throughput", "Gbit/s", streams, gbps.of),
			chartOf("TCP over netstack: processor time", "s/Gbit", streams, perGbit.of))
	}
	if len(replies) > 0 {
		all = append(all, chartOf("TCP over netstack: 64-byte replies, p50", "us", replies, p50.of))
	}
	return all
}
