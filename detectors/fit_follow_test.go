package detectors

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"weir/pipeline"
)

// readers is a day of clients that each read so many different pages, and miss
// every fourth time where they err.
func readers(day, clients, pages int, err bool) []pipeline.Ordered {
	var out []pipeline.Ordered
	block := &pipeline.Block{Source: "day"}
	for c := range clients {
		for i := range pages + c%7 {
			at := caseStart.Add(time.Duration(day)*24*time.Hour + time.Duration(i*20+c)*time.Second)
			r := &pipeline.Request{Time: at, Effective: at, Method: "GET", Path: fmt.Sprintf("/p/x%d", (c*31+i)%400), Status: 200, Bytes: 900, Kind: pipeline.PrincipalIP, Agent: "Mozilla/5"}
			if err && i%4 == 0 {
				r.Path, r.Status = fmt.Sprintf("/gone/y%d", (c*17+i)%400), 404
			}
			r.Address = addressOf(0x0a000000 + uint32(c))
			r.Owner = r.Address.Owner()
			r.Seal()
			out = append(out, pipeline.Ordered{Request: r, Block: block})
		}
	}
	return out
}

// TestFollow: an edition that follows another moves its priors by a tenth a day,
// says which it held back, and gets where the site is in the end.
func TestFollow(t *testing.T) {
	fit := func(batch []pipeline.Ordered, prev *pipeline.Edition) (*pipeline.Edition, *Baselines, []string) {
		f := NewFitter()
		if err := f.Follow(prev); err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			f.Add(batch[i].Request)
		}
		e, err := f.Fit(0)
		if err != nil {
			t.Fatal(err)
		}
		e.Effective = batch[len(batch)-1].Effective
		b, err := DecodeBaselines(e.Detectors)
		if err != nil {
			t.Fatal(err)
		}
		return e, b, f.Held()
	}
	calm, before, held := fit(readers(0, 60, 12, false), nil)
	if len(held) != 0 {
		t.Errorf("the first fit holds %v back", held)
	}
	_, free, _ := fit(readers(1, 60, 48, true), nil)
	if free.Crawl.Mean < before.Crawl.Mean*3/2 || free.Probe.Mean() < before.Probe.Mean()*5/4 {
		t.Fatalf("the busy day is like the calm one: %d and %d items, %.3f and %.3f missed", before.Crawl.Mean, free.Crawl.Mean, before.Probe.Mean(), free.Probe.Mean())
	}
	e, next, held := fit(readers(1, 60, 48, true), calm)
	if most := before.Crawl.Mean * 110 / 100; next.Crawl.Mean > most || next.Crawl.Mean <= before.Crawl.Mean {
		t.Errorf("items a day move from %d to %d; at most %d", before.Crawl.Mean, next.Crawl.Mean, most)
	}
	if was, now := before.Probe.Mean(), next.Probe.Mean(); now > was*1.101 || now <= was {
		t.Errorf("missed contacts move from %.4f to %.4f, more than a tenth", was, now)
	}
	for _, name := range []string{"probe", "crawl"} {
		if !slices.Contains(held, name) {
			t.Errorf("%s is not among those held back: %v", name, held)
		}
	}
	// Four days later four steps are due at once.
	if _, late, _ := fit(readers(4, 60, 48, true), calm); late.Crawl.Mean <= next.Crawl.Mean*115/100 || late.Crawl.Mean > before.Crawl.Mean*1465/1000 {
		t.Errorf("after four days items move from %d to %d", before.Crawl.Mean, late.Crawl.Mean)
	}
	days := 1
	for ; days < 30 && len(held) > 0; days++ {
		e, next, held = fit(readers(days+1, 60, 48, true), e)
	}
	if len(held) > 0 || next.Crawl.Mean != free.Crawl.Mean {
		t.Errorf("after %d days %v are still held back: %d items, the site shows %d", days, held, next.Crawl.Mean, free.Crawl.Mean)
	}
	t.Logf("after %d days the priors are the site's", days)
}
