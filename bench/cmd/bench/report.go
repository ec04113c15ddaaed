package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A table is printed to the terminal, and into docs/performance.md.
type table struct {
	Title string
	Head  []string
	Rows  [][]string
}

func (t *table) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n", t.Title)
	columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{t.Head}, t.Rows...) {
		fmt.Fprintln(columns, strings.Join(row, "\t")+"\t")
	}
	_ = columns.Flush()
}

func (t *table) markdown(w io.Writer) {
	fmt.Fprintf(w, "%s:\n\n| %s |\n|%s\n", t.Title, strings.Join(t.Head, " | "), strings.Repeat(" --- |", len(t.Head)))
	for _, row := range t.Rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
	}
	fmt.Fprintln(w)
}

// table is what the contestants of a comparison did, medians of the rounds.
func (o *outcome) table() *table {
	if o.Task == "stream" || o.Task == "reply" {
		return o.talkTable()
	}
	first := o.Series[0]
	t := &table{Title: fmt.Sprintf("%s, %d bytes, medians of %d turns of %.2g s", o.Name, o.Size, len(first.Rounds), o.Round)}
	if o.Task == "ping" {
		t.Head = []string{"contestant", "p50 us", "least to most", "p99 us", "least to most", "CPU us/packet"}
		for _, s := range o.Series {
			t.Rows = append(t.Rows, []string{
				s.Name, number(s.median(p50.of), "%.1f"), spread(s.all(p50.of), "%.1f"),
				number(s.median(p99.of), "%.1f"), spread(s.all(p99.of), "%.1f"),
				number(s.median(cpu)/1e3, "%.2f"),
			})
		}
		return t
	}
	t.Head = []string{"contestant", "packets/s", "least to most", "packets/CPU-s", "user ns", "system ns", "lost", "allocs/packet", "peak MiB"}
	for _, s := range o.Series {
		t.Rows = append(t.Rows, []string{
			s.Name, number(s.median(pps.of), "%.0f"), spread(s.all(pps.of), "%.0f"),
			number(s.median(perCPU.of), "%.0f"),
			number(s.median(func(m measure) float64 { return m.User }), "%.0f"),
			number(s.median(func(m measure) float64 { return m.System }), "%.0f"),
			number(100*s.median(func(m measure) float64 { return m.Lost }), "%.1f %%"),
			number(s.median(func(m measure) float64 { return m.Allocs / (m.PPS * o.Round) }), "%.4f"),
			number(s.median(func(m measure) float64 { return m.RSS / (1 << 20) }), "%.1f"),
		})
	}
	return t
}

// cpu is ns of processor time a packet.
func cpu(m measure) float64 { return m.User + m.System }

func number(v float64, format string) string { return fmt.Sprintf(format, v) }

func spread(values []float64, format string) string {
	return fmt.Sprintf(format+" to "+format, slices.Min(values), slices.Max(values))
}

// goals is a table of the ratios.
func (o *outcome) goals() *table {
	t := &table{Title: o.Name + ", ours beside the other", Head: []string{"of", "ours / other", "ratio", "least to most", "goal"}}
	for _, r := range o.Ratios {
		words := strings.Split(r.Case, "/")
		n := len(words)
		t.Rows = append(t.Rows, []string{
			words[1], strings.ReplaceAll(words[n-1], "-vs-", " / "),
			number(r.Ratio, "%.2f"), fmt.Sprintf("%.2f to %.2f", r.Min, r.Max), strings.TrimPrefix(r.goal(), "wanted: "),
		})
	}
	return t
}

func printRatios(w io.Writer, ratios []ratio) {
	for _, r := range ratios {
		line := r.String()
		if goal := r.goal(); goal != "" {
			line += "  # " + goal
		}
		fmt.Fprintln(w, line)
	}
}
