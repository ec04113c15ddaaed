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
	o := outcomeOf([]measure{{PPS: 10, P50: 1}, {PPS: 30, P50: 1}, {PPS: 20, P50: 1}},
		[]measure{{PPS: 10, P50: 2}, {PPS: 10, P50: 4}, {PPS: 10, P50: 3}})
	for _, c := range []struct {
		metric metric
		want   string
	}{
		{pps, "bench: tx-generic/pps/rings-vs-udp ours=20 other=10 ratio=2.000 min=1.000 max=3.000"},
		{p50, "bench: tx-generic/p50-us/rings-vs-udp ours=1 other=3 ratio=3.000 min=2.000 max=4.000"},
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
