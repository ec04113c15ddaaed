package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func outcomeOf(ours, other []measure) *outcome {
	return &outcome{Name: "tx-generic", Task: "tx", Size: 64, Series: []series{{"rings", ours}, {"udp", other}}}
}

func TestRatioAboveOneIsBetterForUs(t *testing.T) {
	o := outcomeOf([]measure{{PPS: 10, P50: 1, Gbps: 3, PerGbit: 1}, {PPS: 30, P50: 1, Gbps: 3, PerGbit: 1}, {PPS: 20, P50: 1, Gbps: 3, PerGbit: 1}},
		[]measure{{PPS: 10, P50: 2, Gbps: 1, PerGbit: 2}, {PPS: 10, P50: 4, Gbps: 1, PerGbit: 3}, {PPS: 10, P50: 3, Gbps: 2, PerGbit: 4}})
	for _, c := range []struct {
		metric metric
		want   string
	}{
		{pps, "bench: tx-generic/pps/rings-vs-udp ours=20 other=10 ratio=2.000 min=1.000 max=3.000"},
		{p50, "bench: tx-generic/p50-us/rings-vs-udp ours=1 other=3 ratio=3.000 min=2.000 max=4.000"},
		{gbps, "bench: tx-generic/gbps/rings-vs-udp ours=3 other=1 ratio=3.000 min=1.500 max=3.000"},
		{perGbit, "bench: tx-generic/cpu-s-per-gbit/rings-vs-udp ours=1 other=3 ratio=3.000 min=2.000 max=4.000"},
	} {
		if got := o.compare(pair{"rings", "udp", c.metric, 0}).String(); got != c.want {
			t.Errorf("%s, not %s", got, c.want)
		}
	}
}

func TestDocumentReplacesWhatWasMeasured(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "performance.md")
	const text = "before\n<!-- bench:tx -->\nold\n<!-- /bench:tx -->\nbetween\n<!-- bench:rx -->\nkept\n<!-- /bench:rx -->\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	r := &results{Parts: map[string]*partResult{}}
	r.keep("tx", settings{}, []*outcome{outcomeOf([]measure{{PPS: 12345}}, []measure{{PPS: 2}})})
	for range 2 { // the second time replaces the first
		if err := r.document(dir); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"old", "kept", "12345", "before\n", "between\n"} {
		want := 1
		if part == "old" {
			want = 0
		}
		if part == "12345" {
			want = 3 // the median, and from and to
		}
		if n := strings.Count(string(got), part); n != want {
			t.Errorf("%q is there %d times, not %d:\n%s", part, n, want, got)
		}
	}
	picture, err := os.ReadFile(filepath.Join(dir, "performance.svg"))
	if err != nil || !strings.Contains(string(picture), "tx: packets a second") {
		t.Errorf("the picture lacks the chart: %v", err)
	}
	r.Parts["echo"] = &partResult{}
	if r.document(dir) == nil {
		t.Error("a part without a place was lost silently")
	}
}

func TestStacksHaveTablesAndChartsOfTheirOwn(t *testing.T) {
	var outcomes []*outcome
	for _, c := range comparisons("netstack", []bool{true}) {
		o := &outcome{Name: c.Name, Task: c.task.do, Native: true, Round: 1}
		for _, contestant := range c.contestants {
			o.Series = append(o.Series, series{contestant.name, []measure{{Gbps: 1.25, PerGbit: 0.75, P50: 99.5, Retransmits: 7}}})
		}
		for _, p := range c.pairs { // panics at a contestant that there is not
			o.Ratios = append(o.Ratios, o.compare(p))
		}
		outcomes = append(outcomes, o)
	}
	if len(outcomes) != 3 {
		t.Fatalf("%d comparisons", len(outcomes))
	}
	for i, want := range []string{"1.25", "1.25", "99.5"} {
		row := outcomes[i].table().Rows[0]
		if row[0] != "xsk" || row[1] != want || row[len(row)-2] != "7" {
			t.Errorf("%s: %q", outcomes[i].Name, row)
		}
	}
	all := charts("netstack", outcomes)
	if len(all) != 3 || len(all[0].Bars) != 2 || all[0].Bars[1].Value[0] != 1.25 || all[2].Bars[0].Value[0] != 99.5 {
		t.Errorf("%+v", all)
	}
}
