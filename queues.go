package xsk

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Queues are the queues of one interface, as OpenAll opened them.
type Queues []*Queue

// OpenAll opens a Queue on every queue of the interface, or on those that
// Config.Queues names. With a nil Umem each maps memory of its own, which
// Queues.String sums up; on a Umem of the caller's RxFrames defaults to half
// the frames divided by the number of queues. On error it closes what it opened;
// errors are those of Open and CountQueues, and EINVAL for a queue that is named
// twice or a File for several.
func OpenAll(ifname string, cfg *Config) (Queues, error) {
	var c Config
	if cfg != nil {
		c = *cfg
	}
	numbers := slices.Clone(c.Queues)
	for i, n := range numbers {
		if slices.Contains(numbers[:i], n) {
			return nil, failed("open "+ifname, invalid("Queues names queue %d twice", n))
		}
	}
	if len(numbers) == 0 {
		n, err := CountQueues(ifname)
		if err != nil {
			return nil, err
		}
		for i := range n {
			numbers = append(numbers, i)
		}
	}
	if c.Umem == nil && c.UmemConfig.File != nil && len(numbers) > 1 {
		return nil, failed("open "+ifname, invalid("UmemConfig.File is one socket, and %d queues need one each: Open every queue by itself, with a File of its own", len(numbers)))
	}
	if c.Umem != nil && c.RxFrames == 0 && len(numbers) > 0 {
		c.RxFrames = max(min(c.Umem.Frames()/2/len(numbers), c.Umem.Config().FillSize), 1)
	}
	var all Queues
	for _, n := range numbers {
		q, err := Open(ifname, n, &c)
		if err != nil {
			return nil, errors.Join(err, all.Close())
		}
		all = append(all, q)
	}
	return all, nil
}

// Close closes them all and returns every error.
func (qs Queues) Close() error {
	var errs []error
	for _, q := range qs {
		errs = append(errs, q.Close())
	}
	return errors.Join(errs...)
}

// Stats adds up the counts of all.
func (qs Queues) Stats() QueueStats {
	var sum QueueStats
	seen := map[*pool]bool{}
	for _, q := range qs {
		s := q.Stats()
		if seen[q.pool] {
			s.Frames = FrameCounts{}
		}
		seen[q.pool] = true
		sum.add(s)
	}
	return sum
}

// String says what was bound, a line each, and how much memory it takes.
func (qs Queues) String() string {
	var b strings.Builder
	memory, seen := 0, map[*Umem]bool{}
	for _, q := range qs {
		fmt.Fprintln(&b, q)
		if !seen[q.umem] {
			memory += q.umem.Frames() * q.umem.FrameSize()
		}
		seen[q.umem] = true
	}
	fmt.Fprintf(&b, "%s, %d KiB of frames", plural(len(qs), "queue"), memory/1024)
	return b.String()
}
