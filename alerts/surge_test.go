package alerts

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

// flooding is the i-th of findings against as many clients within a minute.
func flooding(i, n int) *pipeline.Finding {
	at := noon.Add(time.Duration(i) * time.Minute / time.Duration(n))
	f := stuffing(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255), at, 20, 0)
	f.Title, f.Reason = "Credential stuffing against POST /login from "+f.Who.Value, strings.Repeat("as long as a reason is ", 10)
	f.Next, f.Attack, f.Agents = []string{"Block " + f.Who.Value}, []string{"T1110.004"}, []string{"Mozilla/5.0"}
	for k := range 20 {
		f.Accounts = append(f.Accounts, pipeline.AffectedAccount{Name: fmt.Sprintf("u_%032d", k), Outcome: "failure", Time: at})
	}
	for range 5 {
		f.Exemplars = append(f.Exemplars, pipeline.Exemplar{Time: at, IP: f.Who.Value, Method: "POST", Path: "/login", Status: 401, Agent: "Mozilla/5.0", Source: "access.log:1"})
	}
	return f
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestFlood: a detector set wrong finds 100,000 clients in a minute. Each has a row;
// the budget's worth pages, the rest is one campaign with its count, and what it costs
// is small. When it is over it leaves nothing.
func TestFlood(t *testing.T) {
	const n = 100_000
	cfg := DefaultConfig()
	b := NewBook(cfg, versions())
	rows, pages := map[string]int{}, map[string]bool{}
	var campaign []pipeline.Alert
	take := func(as []pipeline.Alert) {
		for i := range as {
			a := &as[i]
			if rows[a.ID]++; a.Revision != rows[a.ID] {
				t.Fatalf("%s is revision %d of its %d", a.ID, a.Revision, rows[a.ID])
			}
			if a.Severity == "high" {
				pages[a.ID] = true
			}
			if a.Level == "campaign" {
				campaign = append(campaign, *a)
			}
		}
	}
	before := heapBytes()
	var out []pipeline.Alert
	for i := range n {
		out = b.Take(out[:0], flooding(i, n))
		take(out)
	}
	after := heapBytes()
	st := b.Stats()
	if len(rows) != n+1 || len(pages) != cfg.Budget.Pages+1 || st.Open != cfg.Budget.Pages || st.Grouped != n-cfg.Budget.Pages {
		t.Errorf("%d alerts, %d page, %+v", len(rows), len(pages), st)
	}
	last := campaign[len(campaign)-1]
	var told []string
	for _, a := range campaign {
		told = append(told, a.Change.Kind+" "+a.Change.Text)
	}
	if len(campaign) > 10 || last.MembersTotal < n/growth || len(last.Members) != maxShown || last.Severity != "high" || last.Tier != "page" || last.Status != "open" {
		t.Errorf("%q, last %+v", told, last)
	}
	snap, err := b.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	// In bytes a client; an incident takes some 6,000 of the heap.
	if perClient, size := (int64(after)-int64(before))/n, len(snap)/n; perClient > 1000 || size > 500 {
		t.Errorf("%d B of heap and %d B of the checkpoint for each client", perClient, size)
	} else {
		t.Logf("%d revisions of the campaign: %q; for each client %d B of heap, %d B of the checkpoint", len(campaign), told, perClient, size)
	}
	end := b.Advance(nil, noon.Add(2*time.Hour))
	take(end)
	if st := b.Stats(); st.Open+st.Grouped != 0 || len(end) != cfg.Budget.Pages+1 {
		t.Errorf("in the end %d revisions, %+v", len(end), st)
	}
	if a := campaign[len(campaign)-1]; a.Status != "resolved" || a.MembersTotal != n-cfg.Budget.Pages {
		t.Errorf("%+v", a)
	}
	// Who comes again is another alert.
	f := flooding(n-1, n)
	f.Time, f.Last = noon.Add(3*time.Hour), noon.Add(3*time.Hour)
	if again := b.Take(nil, f); len(again) != 1 || rows[again[0].ID] != 0 || again[0].Severity != "high" {
		t.Errorf("%v", brief(again))
	}
}

// TestBudget: what others tell of costs nothing, each detector and each hour has its
// own, and what worked has as much again.
func TestBudget(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Budget = Budget{Alerts: 2, Pages: 3}
	b := NewBook(cfg, versions())
	at := noon
	f := func(want string, x *pipeline.Finding) {
		t.Helper()
		at = at.Add(time.Second)
		x.Time = at
		var got []string
		for _, a := range b.Take(nil, x) {
			got = append(got, fmt.Sprintf("%s %s %s %s", a.Principal.Value, a.Change.Kind, a.Severity, a.Status))
		}
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s: got %s", want, s)
		}
	}
	crawl := func(addr string) *pipeline.Finding {
		x := stuffing(addr, at, 50, 0)
		x.ID, x.Detector, x.Outcome.Accounts, x.Facts.CanSucceed = "id-crawl-"+addr, "scrape.crawl", nil, false
		return x
	}
	const surge = "auth.stuffing over the budget since 2026-11-22T12:00:04Z"
	f("a opened high open", stuffing("a", at, 20, 0))
	f("b opened high open", stuffing("b", at, 20, 0))
	f("health opened low open", &pipeline.Finding{Detector: "health.loss", Who: pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: "health"}, Score: pipeline.PageAt, Facts: pipeline.FindingFacts{Notice: true}, First: at, Last: at})
	f("c opened low resolved, "+surge+" opened high open", stuffing("c", at, 20, 0))
	f("d opened medium open", crawl("d")) // another detector, and no page
	f("e opened critical open", stuffing("e", at, 20, 1))
	f("c succeeded critical open", stuffing("c", at, 21, 1)) // leaves the surge
	f("g opened low resolved, "+surge+" succeeded critical open", stuffing("g", at, 20, 1))
	f("", stuffing("g", at, 40, 1))
	f("h opened low resolved", stuffing("h", at, 20, 0))
	f("i opened low resolved", stuffing("i", at, 20, 0))
	f("j opened low resolved, "+surge+" grew critical open", stuffing("j", at, 20, 0))
	at = noon.Add(61 * time.Minute) // another hour; the surge was silent for half an hour
	x := stuffing("k", at, 20, 0)
	x.Time = at.Add(time.Second)
	got := brief(b.Take(nil, x))
	if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, "resolved critical resolved") }) || !strings.Contains(got[len(got)-1], "opened high open") {
		t.Errorf("%q", got)
	}
	if b.Stats().Grouped != 0 {
		t.Errorf("%+v", b.Stats())
	}
}

// TestSurgeAcrossHours: while a surge goes on, what the next hour's budget does not
// allow joins it; it lasts a day at most.
func TestSurgeAcrossHours(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Budget = Budget{Alerts: 1}
	b := NewBook(cfg, versions())
	ids := map[string]bool{}
	singles, ends := 0, 0
	for i := range 30 * 60 {
		for _, a := range b.Take(nil, stuffing(fmt.Sprint("c", i), noon.Add(time.Duration(i)*time.Minute), 20, 0)) {
			switch {
			case a.Level == "campaign":
				ids[a.ID] = true
				if a.Status == "resolved" {
					ends++
				}
			case a.Change.Kind == "opened" && a.Status == "open":
				singles++
			}
		}
	}
	if len(ids) != 2 || ends != 1 || singles != 30 {
		t.Errorf("%d surges, %d over, %d alerts by themselves", len(ids), ends, singles)
	}
	b.Advance(nil, noon.Add(40*time.Hour))
	if d := cmp.Diff(Stats{}, Stats{Open: b.Stats().Open, Grouped: b.Stats().Grouped}); d != "" {
		t.Error(d)
	}
}

// TestSuppressedFlood: what a suppression covers is bounded, costs the others nothing
// of the budget, and no sink gets it, nor the campaign that tells of it.
func TestSuppressedFlood(t *testing.T) {
	all := pipeline.Suppression{
		ID: "s1", Match: pipeline.SuppressionMatch{Detector: "auth.stuffing"}, Starts: noon, Expires: noon.Add(time.Hour), Author: "anna", Reason: "it is set wrong", Created: noon,
	}
	cfg := DefaultConfig()
	cfg.Budget = Budget{Alerts: 5, Pages: 3}
	b := NewBook(cfg, versions())
	b.Suppress(all)
	var said []pipeline.Alert
	for i := range 300 {
		f := flooding(i, 300)
		f.Aside = i%2 == 0
		said = b.Take(said, f)
	}
	for i := range said {
		if !Silent(&said[i]) {
			t.Errorf("sent: %s %s", said[i].Principal.Value, said[i].Change.Text)
		}
	}
	if st := b.Stats(); st.Open != 5 || st.Grouped != 295 {
		t.Errorf("%+v", st)
	}
	other := stuffing("203.0.113.9", noon.Add(2*time.Minute), 20, 0)
	other.Detector = "auth.bruteforce"
	if got := b.Take(nil, other); len(got) != 1 || got[0].Severity != "high" || Silent(&got[0]) {
		t.Errorf("%v", brief(got))
	}
	// What worked pierces the suppression, as a member of the surge too.
	f := flooding(299, 300)
	f.Time, f.Last, f.Facts.Succeeded = noon.Add(3*time.Minute), noon.Add(3*time.Minute), true
	f.Outcome.Succeeded = new(int64(1))
	if got := b.Take(nil, f); len(got) != 1 || got[0].Status != "open" || got[0].Severity != "critical" || Silent(&got[0]) {
		t.Errorf("%v", brief(got))
	}
}
