package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A usage is what a process has used so far, and what its network has lost.
type usage struct {
	User, System float64 // seconds of processor time, getrusage
	Machine      float64 // seconds that all processors here were busy, /proc/stat
	losses
}

func usageOf(n network) (u usage, err error) {
	if u.losses, err = n.Losses(); err != nil {
		return u, err
	}
	if u.Machine, err = busy(); err != nil {
		return u, err
	}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return u, fmt.Errorf("getrusage: %w", err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	u.User, u.System = seconds(r.Utime), seconds(r.Stime)
	return u, nil
}

// busy adds up the first line of /proc/stat, without what is idle or waits for a
// disk. Its unit is a hundredth of a second.
func busy() (float64, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(text), "\n")
	words := strings.Fields(line) // cpu user nice system idle iowait irq softirq
	if len(words) < 8 {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks uint64
	for _, i := range []int{1, 2, 3, 6, 7} {
		n, err := strconv.ParseUint(words[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += n
	}
	return float64(ticks) / 100, nil
}

func (u usage) cpu() float64 { return u.User + u.System }

func (u usage) since(before usage) usage {
	u.User -= before.User
	u.System -= before.System
	u.Machine -= before.Machine
	u.Retransmits -= before.Retransmits
	u.Drops -= before.Drops
	return u
}

// A result is what a client did, and what it took on both sides.
type result struct {
	bytes          uint64
	seconds        float64         // from the first SYN to the last answer
	trips          []time.Duration // sorted
	bad            int             // streams or replies that are not what was sent
	client, server usage
}

func (r *result) add(part *result) {
	if part != nil {
		r.bytes += part.bytes
		r.bad += part.bad
		r.trips = append(r.trips, part.trips...)
	}
}

// percentile is a trip in microseconds; 0 without any.
func (r *result) percentile(part float64) float64 {
	if len(r.trips) == 0 {
		return 0
	}
	return float64(r.trips[int(part*float64(len(r.trips)-1))].Nanoseconds()) / 1e3
}

func (r *result) gbit() float64 { return float64(r.bytes) * 8 / 1e9 }

func (r *result) wrong() error {
	if r.bad > 0 {
		return fmt.Errorf("WRONG: what arrived is not what was sent, %d times", r.bad)
	}
	if r.bytes == 0 {
		return errors.New("WRONG: nothing arrived")
	}
	return nil
}

// sentence is for people.
func (r *result) sentence(o *options) string {
	ends := fmt.Sprintf("retransmits=%d drops=%d", r.client.Retransmits+r.server.Retransmits, r.client.Drops+r.server.Drops)
	if o.load.trips {
		return fmt.Sprintf("iperf: stack=%s trips=%d p50=%.1f us p99=%.1f us cpu=%.1f us/trip (client %.1f, server %.1f) %s",
			o.stack, len(r.trips), r.percentile(0.5), r.percentile(0.99),
			(r.client.cpu()+r.server.cpu())*1e6/float64(max(len(r.trips), 1)), r.client.cpu()*1e6/float64(max(len(r.trips), 1)),
			r.server.cpu()*1e6/float64(max(len(r.trips), 1)), ends)
	}
	return fmt.Sprintf("iperf: stack=%s streams=%d seconds=%.2f gbit/s=%.3f cpu-s/gbit=%.3f (client %.3f, server %.3f; machine %.3f) %s sha256=%v",
		o.stack, o.load.streams, r.seconds, r.gbit()/r.seconds, (r.client.cpu()+r.server.cpu())/r.gbit(),
		r.client.cpu()/r.gbit(), r.server.cpu()/r.gbit(), r.client.Machine/r.gbit(), ends, map[bool]string{true: "ok", false: "WRONG"}[r.bad == 0])
}

// line is for the benchmark.
func (r *result) line() string {
	return fmt.Sprintf("bytes=%d seconds=%.6f user=%.6f system=%.6f peeruser=%.6f peersystem=%.6f machine=%.2f "+
		"retransmits=%d drops=%d trips=%d p50=%.2f p99=%.2f bad=%d",
		r.bytes, r.seconds, r.client.User, r.client.System, r.server.User, r.server.System, r.client.Machine,
		r.client.Retransmits+r.server.Retransmits, r.client.Drops+r.server.Drops,
		len(r.trips), r.percentile(0.5), r.percentile(0.99), r.bad)
}
