package main

import (
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// A chart has a group of bars for each contestant, one in each mode.
type chart struct {
	Title string
	Unit  string
	Names []string
	Bars  []bars
}

type bars struct {
	Name             string // the mode
	Value, Low, High []float64
}

// charts are those of a part: of packets a second, of packets for a second of
// processor time where that tells more, or of latency.
func charts(part string, outcomes []*outcome) []chart {
	switch part {
	case "netstack":
		return talkCharts(outcomes)
	case "latency":
		return []chart{
			chartOf("round trips, p50", "us", outcomes, func(m measure) float64 { return m.P50 }),
			chartOf("round trips, p99", "us", outcomes, func(m measure) float64 { return m.P99 }),
		}
	}
	c := []chart{chartOf(part+": packets a second", "thousands", outcomes, func(m measure) float64 { return m.PPS / 1e3 })}
	if part == "rx" || part == "tx" {
		c = append(c, chartOf(part+": processor time a packet", "ns", outcomes, cpu))
	}
	return c
}

func chartOf(title, unit string, outcomes []*outcome, of func(measure) float64) chart {
	c := chart{Title: title, Unit: unit}
	for _, o := range outcomes {
		for i := range o.Series {
			if name := o.Series[i].Name; !slices.Contains(c.Names, name) {
				c.Names = append(c.Names, name)
			}
		}
	}
	for _, o := range outcomes {
		b := bars{Name: o.Name}
		for _, name := range c.Names {
			var values []float64
			for i := range o.Series {
				if o.Series[i].Name == name {
					values = o.Series[i].all(of)
				}
			}
			if len(values) == 0 { // it has no such mode
				values = []float64{0}
			}
			b.Value = append(b.Value, median(values))
			b.Low, b.High = append(b.Low, slices.Min(values)), append(b.High, slices.Max(values))
		}
		c.Bars = append(c.Bars, b)
	}
	return c
}

var palette = []color.Color{
	color.RGBA{0x33, 0x66, 0x99, 0xff}, color.RGBA{0xe0, 0x8e, 0x2b, 0xff},
	color.RGBA{0x6a, 0x9a, 0x58, 0xff}, color.RGBA{0x9a, 0x58, 0x80, 0xff},
}

// draw draws the charts of the parts that were measured into an SVG, two in a row. A
// line in a bar goes from the least to the most.
func (r *results) draw(file string, parts ...string) error {
	var all []chart
	for _, part := range parts {
		if p := r.Parts[part]; p != nil {
			all = append(all, p.Charts...)
		}
	}
	if len(all) == 0 {
		return nil
	}
	rows := (len(all) + 1) / 2
	plots := make([][]*plot.Plot, rows)
	for i := range plots {
		plots[i] = make([]*plot.Plot, 2)
	}
	for i, c := range all {
		p, err := c.plot()
		if err != nil {
			return err
		}
		plots[i/2][i%2] = p
	}
	const width, height = 460, 260
	canvas := vgsvg.New(2*width, vg.Length(rows*height))
	tiles := draw.Tiles{Rows: rows, Cols: 2, PadX: 16, PadY: 16, PadTop: 8, PadBottom: 8, PadLeft: 8, PadRight: 8}
	for i, row := range plot.Align(plots, tiles, draw.New(canvas)) {
		for j, where := range row {
			if plots[i][j] != nil {
				plots[i][j].Draw(where)
			}
		}
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if _, err := canvas.WriteTo(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (c *chart) plot() (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = c.Title, c.Unit
	p.Y.Min = 0
	p.Legend.Top = true
	p.X.Tick.Label.Rotation = 0.5
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XRight, draw.YTop
	const room = 30 // for the bars of one contestant
	wide := vg.Length(room / max(len(c.Bars), 1))
	for i, b := range c.Bars {
		chart, err := plotter.NewBarChart(plotter.Values(b.Value), wide)
		if err != nil {
			return nil, err
		}
		offset := wide * (vg.Length(i) - vg.Length(len(c.Bars)-1)/2)
		chart.Color, chart.LineStyle.Width, chart.Offset = palette[i%len(palette)], 0, offset
		p.Add(chart, &whiskers{b, offset})
		p.Legend.Add(b.Name, chart)
	}
	p.Y.Max *= 1.2 // the legend's
	p.NominalX(c.Names...)
	return p, nil
}

// whiskers are the lines from the least to the most.
type whiskers struct {
	bars
	offset vg.Length
}

func (w *whiskers) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := draw.LineStyle{Color: color.Gray{0x40}, Width: 1}
	for i := range w.Value {
		at := x(float64(i)) + w.offset
		c.StrokeLine2(style, at, y(w.Low[i]), at, y(w.High[i]))
	}
}

func (w *whiskers) DataRange() (xmin, xmax, ymin, ymax float64) {
	return -0.5, float64(len(w.Value)) - 0.5, 0, slices.Max(w.High)
}
