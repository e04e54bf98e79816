package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// report writes what was measured as Markdown.
func (e *evaluation) report(out io.Writer) error {
	w := bufio.NewWriter(out)
	p := func(format string, a ...any) { fmt.Fprintf(w, format, a...) }
	p("# What weir detects, measured\n\n")
	p("Written by `make eval`; every number is from simulated traffic with known truth (`weir simulate`), %d runs an attack. ", e.o.seeds)
	p("The edition is learned from another seed, without the attack: a time to detect on a day that weir knows already would be flattering. ")
	p("*Alert* is the first alert of the attack's family that names the attacker, whatever its level; *page* is the first at page-level evidence. ")
	p("*Fixed* is what the published thresholds of widely used tools (`bench/fixed`) find in the same requests. ")
	p("Counts are the attacker's requests up to then, as median (95th percentile) over the runs; *never* means in none, *not detectable* that weir says so itself, a share is how many runs found it.\n\n")
	e.reportFloors(p)
	e.reportCampaigns(p)
	e.reportPoisoned(p)
	e.reportFloods(p)
	e.reportProfiles(p)
	e.reportCalibration(p)
	return w.Flush()
}

func (e *evaluation) reportFloors(p func(string, ...any)) {
	if len(e.floors) == 0 {
		return
	}
	p("## Detection floor\n\n")
	p("| attack | wanted | alert after | page after | time to alert | fixed after | alerts a run |\n|---|---|---|---|---|---|---|\n")
	var falseAlerts, falsePages, misnamed int
	var requests, days int64
	for i := range e.floors {
		r := &e.floors[i]
		p("| %s | %s | %s | %s | %s | %s | %s |\n", r.name, r.want, r.hits(r.alert), r.hits(r.page), hitTime(r.alert), hitRequests(r.fixed), average(r.alerts))
		falseAlerts += r.falseAlerts
		falsePages += r.falsePages
		misnamed += r.misnamed
		requests += r.requests
		days += r.clientDays
	}
	named := map[string]int{}
	for i := range e.floors {
		for k, n := range e.floors[i].named {
			named[k] += n
		}
	}
	p("\nIn the traffic around these attacks (%d requests, %d clean client-days) %d alerts named somebody harmless, %d of them pages; %d named an attacker by another family.\n\n",
		requests, days, falseAlerts, falsePages, misnamed)
	if len(named) > 0 {
		p("| who | named by | severity | alerts |\n|---|---|---|---|\n")
		for _, k := range slices.Sorted(maps.Keys(named)) {
			p("| %s | %d |\n", k, named[k])
		}
		p("\n")
	}
}

// hits is after how many requests the attack was found, or that weir said in all
// runs that it cannot be.
func (r *floorResult) hits(found []evalHit) string {
	if s := hitRequests(found); s != "never" || r.blind < len(found) {
		return s
	}
	return "not detectable"
}

func (e *evaluation) reportProfiles(p func(string, ...any)) {
	if len(e.profiles) == 0 {
		return
	}
	p("## Look-alikes\n\n")
	p("Harmless clients of each kind, %d days. *Most on one client* counts alerts above info; *rate* is alerts per million client-days; *remedy* is what keeps this kind from being taken for an attack, or what you can do.\n\n", e.o.days)
	p("| kind | site | clients | client-days | alerts | rate | pages | most on one client | what | fixed | remedy |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range e.profiles {
		r := &e.profiles[i]
		var what []string
		for _, k := range slices.Sorted(maps.Keys(r.what)) {
			what = append(what, fmt.Sprintf("%s ×%d", k, r.what[k]))
		}
		p("| %s | %s | %d | %d | %d | %.0f | %d | %d | %s | %d | %s |\n", r.profile, r.site, r.clients, r.clientDays, r.alerts,
			float64(r.alerts)*1e6/float64(max(1, r.clientDays)), r.pages, r.worst, strings.Join(what, ", "), r.fixed, r.remedy)
	}
	p("\n")
}

// spread is the median and the 95th percentile of what was found, and how much
// that was.
func spread(hits []evalHit, value func(evalHit) float64) (median, p95 float64, found int) {
	var v []float64
	for _, h := range hits {
		if h.Requests >= 0 {
			v = append(v, value(h))
		}
	}
	if len(v) == 0 {
		return 0, 0, 0
	}
	return *quantile(v, 50), *quantile(v, 95), len(v)
}

func hitText(hits []evalHit, value func(evalHit) float64, show func(float64) string) string {
	m, p95, n := spread(hits, value)
	switch {
	case n == 0:
		return "never"
	case n < len(hits):
		return fmt.Sprintf("%s (%s), %d %%", show(m), show(p95), 100*n/len(hits))
	}
	return fmt.Sprintf("%s (%s)", show(m), show(p95))
}

func hitRequests(hits []evalHit) string {
	return hitText(hits, func(h evalHit) float64 { return float64(h.Requests) }, func(v float64) string { return fmt.Sprintf("%.0f", v) })
}

func hitTime(hits []evalHit) string {
	return hitText(hits, func(h evalHit) float64 { return h.Seconds }, func(v float64) string {
		d := time.Duration(v * float64(time.Second))
		switch {
		case d < 2*time.Minute:
			return fmt.Sprintf("%.0f s", d.Seconds())
		case d < 2*time.Hour:
			return fmt.Sprintf("%.0f min", d.Minutes())
		case d < 48*time.Hour:
			return fmt.Sprintf("%.1f h", d.Hours())
		}
		return fmt.Sprintf("%.1f d", d.Hours()/24)
	})
}

func average(n []int) string {
	sum := 0
	for _, v := range n {
		sum += v
	}
	return fmt.Sprintf("%.1f", float64(sum)/float64(max(1, len(n))))
}
