package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// A comparison is a task that several contestants do, in turns.
type comparison struct {
	Name        string // in tables and in the bench lines, as in tx-generic
	task        task
	contestants []contestant
	pairs       []pair
}

// A pair is what is compared of two contestants.
type pair struct {
	ours, other string
	metric      metric
	want        float64 // 0: there is no goal
}

// A metric is a number of a turn.
type metric struct {
	Name  string
	of    func(measure) float64
	less  bool // is better
	print string
}

var (
	pps    = metric{"pps", func(m measure) float64 { return m.PPS }, false, "%.0f"}
	perCPU = metric{"cpu", func(m measure) float64 { return m.PerCPU }, false, "%.0f"}
	p50    = metric{"p50-us", func(m measure) float64 { return m.P50 }, true, "%.1f"}
	p99    = metric{"p99-us", func(m measure) float64 { return m.P99 }, true, "%.1f"}
)

// A series is what one contestant did, by round.
type series struct {
	Name   string
	Rounds []measure
}

// A ratio says how ours compares with the other: above 1 is better for us. It is
// the median of those of the rounds, with the least and the most.
type ratio struct {
	Case            string
	Ours, Other     float64
	Ratio, Min, Max float64
	Want            float64
}

func (r ratio) String() string {
	return fmt.Sprintf("bench: %s ours=%.5g other=%.5g ratio=%.3f min=%.3f max=%.3f", r.Case, r.Ours, r.Other, r.Ratio, r.Min, r.Max)
}

// goal says what was wanted, and whether it is there.
func (r ratio) goal() string {
	switch {
	case r.Want == 0:
		return ""
	case r.Ratio >= r.Want:
		return fmt.Sprintf("wanted: at least %.2f", r.Want)
	}
	return fmt.Sprintf("wanted: at least %.2f, MISSED", r.Want)
}

// An outcome is all that a comparison gave.
type outcome struct {
	Name   string
	Task   string
	Native bool
	Size   int
	Series []series
	Ratios []ratio
	Round  float64 // seconds of a turn
}

// median is the middle of values.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	if len(s) == 0 {
		return 0
	}
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// all is a metric of a series, by round.
func (s *series) all(of func(measure) float64) []float64 {
	values := make([]float64, len(s.Rounds))
	for i, m := range s.Rounds {
		values[i] = of(m)
	}
	return values
}

func (s *series) median(of func(measure) float64) float64 { return median(s.all(of)) }

// run has the contestants take turns: from first to last in one round, and back
// in the next.
func (c *comparison) run(s settings) (*outcome, error) {
	lanes := make([]*lane, 0, len(c.contestants))
	closeAll := func() (err error) {
		for _, l := range lanes {
			err = errors.Join(err, l.close())
		}
		lanes = nil
		return err
	}
	for _, contestant := range c.contestants {
		l, err := openLane(contestant, c.task)
		if err != nil {
			return nil, errors.Join(err, closeAll())
		}
		lanes = append(lanes, l)
	}
	o := &outcome{Name: c.Name, Task: c.task.do, Native: c.task.native, Size: c.task.size, Round: s.turn.Seconds()}
	for _, l := range lanes { // the first turn warms up
		o.Series = append(o.Series, series{Name: l.name})
		if _, err := l.turn(min(s.turn, 200*time.Millisecond), nil); err != nil {
			return nil, errors.Join(err, closeAll())
		}
	}
	for round := range s.rounds {
		for i := range lanes {
			if round%2 == 1 {
				i = len(lanes) - 1 - i
			}
			m, err := lanes[i].turn(s.turn, nil)
			if err != nil {
				return nil, errors.Join(err, closeAll())
			}
			o.Series[i].Rounds = append(o.Series[i].Rounds, m)
		}
		progress("%s: round %d of %d", c.Name, round+1, s.rounds)
	}
	for _, p := range c.pairs {
		o.Ratios = append(o.Ratios, o.compare(p))
	}
	return o, closeAll()
}

func (o *outcome) find(name string) *series {
	for i := range o.Series {
		if o.Series[i].Name == name {
			return &o.Series[i]
		}
	}
	panic("no contestant " + name)
}

func (o *outcome) compare(p pair) ratio {
	ours, other := o.find(p.ours).all(p.metric.of), o.find(p.other).all(p.metric.of)
	each := make([]float64, len(ours))
	for i := range each {
		if each[i] = ours[i] / other[i]; p.metric.less {
			each[i] = 1 / each[i]
		}
	}
	return ratio{
		Case: fmt.Sprintf("%s/%s/%s-vs-%s", o.Name, p.metric.Name, p.ours, p.other),
		Ours: median(ours), Other: median(other),
		Ratio: median(each), Min: slices.Min(each), Max: slices.Max(each), Want: p.want,
	}
}

var lastProgress time.Time

// progress says every 8 seconds that there is some.
func progress(format string, args ...any) {
	if time.Since(lastProgress) > 8*time.Second {
		lastProgress = time.Now()
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}
}
