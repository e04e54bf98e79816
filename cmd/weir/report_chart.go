package main

import (
	"fmt"
	"slices"
	"time"

	"weir/pipeline"
)

// chartSteps is how many bars a chart has at most.
const chartSteps = 120

// chart is a row of bars over the time of the input, as an SVG of N × 100.
type chart struct {
	N        int
	Bars     []chartBar
	Marks    []chartMark
	From, To string // of the axis
	Step     string // what a bar stands for
	Peak     string
	About    string // for who cannot see it
	Has      bool
}

// chartBar is one bar: the served requests below, the refused above them.
type chartBar struct {
	X                 int
	Y, Height         float64
	BadY, BadHeight   float64
	ErrorY, ErrorHigh float64
}

// chartMark is where an alert was told.
type chartMark struct {
	X        int
	Severity string
	Anchor   string
	Title    string
}

// step counts the requests of one bar.
type step struct{ good, refused, failed int32 }

// timelines counts requests over time.
type timelines struct {
	first, width pipeline.Time // width 0: there are no requests
	n            int
	all          [chartSteps]step
	of           [][chartSteps]step // by alert
	owners       map[uint64][]int32 // alerts by who they are about
}

func newTimelines(first, last pipeline.Time, list []pipeline.Alert) *timelines {
	t := &timelines{first: first, owners: map[uint64][]int32{}, of: make([][chartSteps]step, len(list))}
	if first == pipeline.NoTime || last < first {
		return t
	}
	width := niceStep(last.Sub(first)/chartSteps + 1)
	t.width = pipeline.Time(width / time.Microsecond)
	t.first = first / t.width * t.width
	t.n = min(int((last-t.first)/t.width)+1, chartSteps)
	for i := range list {
		a := &list[i]
		about := map[uint64]bool{a.Principal.Hash(): true}
		for _, m := range a.Members {
			about[m.Hash()] = true
		}
		if a.Level == "client" || a.Level == "campaign" {
			for _, s := range a.Addresses {
				if ip, ok := pipeline.ParseAddress(s); ok {
					about[ip.Owner()] = true
				}
			}
		}
		for owner := range about {
			t.owners[owner] = append(t.owners[owner], int32(i))
		}
	}
	return t
}

// niceStep is the shortest length of time that people count in and that is no
// shorter than d.
func niceStep(d time.Duration) time.Duration {
	const m, h = time.Minute, time.Hour
	for _, s := range []time.Duration{1e9, 2e9, 5e9, 10e9, 15e9, 30e9, m, 2 * m, 5 * m, 10 * m, 15 * m, 30 * m, h, 2 * h, 3 * h, 6 * h, 12 * h} {
		if s >= d {
			return s
		}
	}
	return (d + 24*h - 1).Truncate(24 * h)
}

func (t *timelines) add(r *pipeline.Request) {
	i := int((r.Time - t.first) / t.width)
	i = min(max(i, 0), t.n-1)
	t.all[i].count(r)
	mine := t.owners[r.Owner]
	for _, k := range mine {
		t.of[k][i].count(r)
	}
	address := r.Address.Owner()
	if address == r.Owner {
		return
	}
	for _, k := range t.owners[address] {
		if !slices.Contains(mine, k) {
			t.of[k][i].count(r)
		}
	}
}

func (s *step) count(r *pipeline.Request) {
	switch status := r.Answer(); {
	case status >= 500:
		s.failed++
	case status >= 400:
		s.refused++
	default:
		s.good++
	}
}

// traffic is the chart of everybody, with marks where alerts were told.
func (t *timelines) traffic(list []pipeline.Alert) chart {
	c := t.draw(&t.all)
	if !c.Has {
		return c
	}
	c.About = "Requests over time, " + c.About
	for i := range list[:min(len(list), maxReported)] {
		a := &list[i]
		x := int((a.Window.DetectedAt - t.first) / t.width)
		c.Marks = append(c.Marks, chartMark{min(max(x, 0), t.n-1), a.Severity, "a" + a.ID, shown(a.Title)})
	}
	return c
}

// chart is the chart of whom alert i is about.
func (t *timelines) chart(i int) chart {
	c := t.draw(&t.of[i])
	c.About = "Requests of the client over time, " + c.About
	return c
}

func (t *timelines) draw(steps *[chartSteps]step) chart {
	var c chart
	if t.width == 0 {
		return c
	}
	peak := int32(0)
	total := int64(0)
	for _, s := range steps {
		n := s.good + s.refused + s.failed
		peak = max(peak, n)
		total += int64(n)
	}
	if peak == 0 {
		return c
	}
	c.Has, c.N = true, t.n
	for i, s := range steps {
		if s == (step{}) {
			continue
		}
		h := func(n int32) float64 {
			if n == 0 {
				return 0
			}
			return max(1, 100*float64(n)/float64(peak)) // what is there shows
		}
		b := chartBar{X: i, Height: h(s.good), BadHeight: h(s.refused), ErrorHigh: h(s.failed)}
		b.Y = 100 - b.Height
		b.BadY = b.Y - b.BadHeight
		b.ErrorY = b.BadY - b.ErrorHigh
		c.Bars = append(c.Bars, b)
	}
	width := time.Duration(t.width) * time.Microsecond
	c.From, c.To = clockText(t.first), clockText(t.first.Add(time.Duration(t.n)*width))
	c.Step, c.Peak = spanStep(width), thousands(int64(peak))
	c.About = fmt.Sprintf("%s in all, at most %s in %s", thousands(total), c.Peak, c.Step)
	return c
}

// spanStep is what a bar stands for.
func spanStep(d time.Duration) string {
	unit, name := time.Second, "second"
	switch {
	case d >= 24*time.Hour:
		unit, name = 24*time.Hour, "day"
	case d >= time.Hour:
		unit, name = time.Hour, "hour"
	case d >= time.Minute:
		unit, name = time.Minute, "minute"
	}
	if n := d / unit; n > 1 {
		return fmt.Sprintf("%d %ss", n, name)
	}
	return "one " + name
}

// pairBar is observed against expected, as lengths of at most 100.
type pairBar struct {
	Observed, Expected float64
	Times              string // how many times as much
}

func barOf(observed, expected float64) pairBar {
	most := max(observed, expected)
	if most <= 0 {
		return pairBar{}
	}
	b := pairBar{Observed: 100 * max(0, observed) / most, Expected: 100 * max(0, expected) / most}
	if expected > 0 && observed >= 2*expected {
		b.Times = shortNumber(float64(int64(10*observed/expected))/10) + "×"
	}
	return b
}
