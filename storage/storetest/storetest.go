// Package storetest says what every store of weir answers, as tests that each of
// them passes.
package storetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
	"weir/storage"
)

// Store is what is asked of a store, whichever way rows get there.
type Store interface {
	Requests(ctx context.Context, f storage.RequestFilter, fn func(r *pipeline.Request, source string) bool) error
	Minutes(ctx context.Context, since, until pipeline.Time) ([]storage.Minute, error)
	Alerts(ctx context.Context, f storage.AlertFilter) ([]storage.StoredAlert, error)
	Alert(ctx context.Context, id string) ([]storage.StoredAlert, error)
	AlertsAfter(ctx context.Context, seq int64, limit int) ([]storage.StoredAlert, error)
}

// Empty is a new store and the two ways into it. Both take what they got before
// again without storing it twice.
type Empty struct {
	Store Store
	// Append stores blocks of one source, which follow each other.
	Append func(ctx context.Context, blocks []*pipeline.Block) error
	// Commit stores revisions, which get the next places of the feed.
	Commit func(ctx context.Context, alerts []storage.AlertRevision) error
}

const start = pipeline.Time(1_790_000_000_000_000)

// Run tests the store that open makes, a new one for each test.
func Run(t *testing.T, open func(t *testing.T) Empty) {
	t.Run("requests come back whole", func(t *testing.T) { whole(t, open(t)) })
	t.Run("requests are found", func(t *testing.T) { found(t, open(t)) })
	t.Run("what is stored again counts once", func(t *testing.T) { once(t, open(t)) })
	t.Run("minutes add up", func(t *testing.T) { minutes(t, open(t)) })
	t.Run("alerts", func(t *testing.T) { alerts(t, open(t)) })
}

// Blocks are n blocks of rows requests each, one request a second, of a few
// clients and statuses.
func Blocks(n, rows int) (list []*pipeline.Block) {
	for i := range n {
		b := &pipeline.Block{
			Source: "access.log", SourceID: pipeline.Hash64("access.log"), Watermark: pipeline.NoTime,
			Cause: pipeline.CauseRange{From: int64(i * rows), To: int64((i + 1) * rows)}, Cursor: []byte("x"), Rejects: pipeline.Rejects{Lines: int64(rows)},
		}
		for j := range rows {
			b.Requests = append(b.Requests, request(int64(i*rows+j)))
		}
		list = append(list, b)
	}
	return list
}

func request(i int64) pipeline.Request {
	a := pipeline.Address{10: 0xff, 11: 0xff, 12: 10, 15: byte(i % 7)}
	r := pipeline.Request{
		Time: start + pipeline.Time(i*1e6), Line: i + 1, Bytes: 100 + i%3, Duration: 1500, Address: a, Owner: a.Owner(),
		Kind: pipeline.PrincipalIP, Status: []uint16{200, 200, 404, 500}[i%4], Method: "GET", Host: "shop.example",
		Path: fmt.Sprintf("/api/items/%d", i), Agent: "Mozilla/5.0",
	}
	if i%5 == 0 {
		r.Kind, r.Account = pipeline.PrincipalAccount, fmt.Sprintf("acct-%d", i%3)
		r.Owner = r.Principal().Hash()
	}
	r.Seal()
	return r
}

// rare is a request with every field.
func rare() pipeline.Request {
	a, _ := pipeline.ParseAddress("2001:db8::7")
	v, _ := pipeline.ParseAddress("198.51.100.9")
	r := pipeline.Request{
		Time: start + 123_456, Address: a, Forwarded: v, Status: 302, Flags: pipeline.FlagLogin | pipeline.FlagSkew, Kind: pipeline.PrincipalIP,
		Query: "next=%2F&x='\"\\", Referer: "https://shop.example/ü", Bytes: -1, Line: 1 << 40, Duration: -1, Slot: 1<<64 - 1, ASN: 64500,
		Payloads: 5, Country: pipeline.Country{'D', 'E'}, Method: "POST", Host: "shop.example", Path: "/login;\x00\xff", Agent: "a\nb",
		Account: "acct", Key: "key", Session: "session", LoginUser: "user", JA3: "ja3", JA4: "ja4", RequestID: "id", Operation: "query Me",
	}
	r.Owner = a.Owner()
	r.Seal()
	return r
}

func whole(t *testing.T, e Empty) {
	blocks := Blocks(1, 1)
	blocks[0].Requests[0] = rare()
	must(t, e.Append(t.Context(), blocks))
	n := 0
	must(t, e.Store.Requests(t.Context(), storage.RequestFilter{}, func(r *pipeline.Request, source string) bool {
		n++
		got, want := *r, rare()
		got.Seal()
		got.Effective, want.Effective = 0, 0
		if diff := cmp.Diff(want, got); diff != "" || source != "access.log" {
			t.Errorf("of %q (-stored +read):\n%s", source, diff)
		}
		return true
	}))
	if n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// lines returns the lines of the requests that f selects, sorted.
func lines(t *testing.T, s Store, f storage.RequestFilter) (list []int64) {
	t.Helper()
	if f.Limit == 0 {
		f.Limit = 1 << 20
	}
	must(t, s.Requests(t.Context(), f, func(r *pipeline.Request, _ string) bool {
		list = append(list, r.Line)
		return true
	}))
	slices.Sort(list)
	return list
}

func found(t *testing.T, e Empty) {
	blocks := Blocks(3, 40)
	must(t, e.Append(t.Context(), blocks))
	account := pipeline.Principal{Kind: pipeline.PrincipalAccount, Value: "acct-1"}
	address := pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "10.0.0.3"}
	for name, f := range map[string]storage.RequestFilter{
		"all":         {},
		"an account":  {Principal: account},
		"an address":  {Principal: address},
		"nobody":      {Principal: pipeline.Principal{Kind: pipeline.PrincipalKey, Value: "acct-1"}},
		"a status":    {Status: 404},
		"a path":      {PathPrefix: "/api/items/11"},
		"no path":     {PathPrefix: "/api/%"},
		"a time":      {Since: start + 10e6, Until: start + 20e6},
		"all of them": {Principal: address, Status: 200, Since: start + 10e6},
	} {
		var want []int64
		for _, b := range blocks {
			for i := range b.Requests {
				if r := &b.Requests[i]; selects(f, r) {
					want = append(want, r.Line)
				}
			}
		}
		if diff := cmp.Diff(want, lines(t, e.Store, f)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	var newest []int64
	must(t, e.Store.Requests(t.Context(), storage.RequestFilter{Limit: 3}, func(r *pipeline.Request, _ string) bool {
		newest = append(newest, r.Line)
		return true
	}))
	if diff := cmp.Diff([]int64{120, 119, 118}, newest); diff != "" {
		t.Errorf("the newest three (-want +got):\n%s", diff)
	}
	n := 0
	must(t, e.Store.Requests(t.Context(), storage.RequestFilter{}, func(*pipeline.Request, string) bool { n++; return n < 2 }))
	if n != 2 {
		t.Errorf("called %d times after it was enough", n)
	}
}

func selects(f storage.RequestFilter, r *pipeline.Request) bool {
	return (f.Since == 0 || r.Time >= f.Since) && (f.Until == 0 || r.Time <= f.Until) && (f.Status == 0 || int(r.Status) == f.Status) &&
		(f.Principal.Value == "" || r.Principal() == f.Principal) && len(r.Path) >= len(f.PathPrefix) && r.Path[:len(f.PathPrefix)] == f.PathPrefix
}

func once(t *testing.T, e Empty) {
	blocks := Blocks(4, 50)
	must(t, e.Append(t.Context(), blocks[:2]))
	must(t, e.Append(t.Context(), blocks[:2]))
	must(t, e.Append(t.Context(), blocks[2:]))
	must(t, e.Append(t.Context(), blocks[2:]))
	if got := len(lines(t, e.Store, storage.RequestFilter{})); got != 200 {
		t.Errorf("%d requests, want 200", got)
	}
	list, err := e.Store.Minutes(t.Context(), start-60e6, start+3600e6)
	must(t, err)
	total := int64(0)
	for _, m := range list {
		total += m.Requests
	}
	if total != 200 {
		t.Errorf("%d requests in the minutes, want 200", total)
	}
}

func minutes(t *testing.T, e Empty) {
	blocks := Blocks(2, 100)
	must(t, e.Append(t.Context(), blocks))
	type key struct {
		at     pipeline.Time
		status int
	}
	want := map[key]storage.Minute{}
	for _, b := range blocks {
		for i := range b.Requests {
			r := &b.Requests[i]
			k := key{r.Time / 60e6 * 60e6, int(r.Status) / 100}
			m := want[k]
			m.Time, m.SourceID, m.StatusClass = k.at, b.SourceID, k.status
			m.Requests++
			m.Bytes += r.Bytes
			want[k] = m
		}
	}
	list, err := e.Store.Minutes(t.Context(), start, start+3600e6)
	must(t, err)
	got := map[key]storage.Minute{}
	for i, m := range list {
		got[key{m.Time, m.StatusClass}] = m
		if i > 0 && m.Time < list[i-1].Time {
			t.Errorf("minute %d comes behind %d", m.Time, list[i-1].Time)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if list, err := e.Store.Minutes(t.Context(), start-3600e6, start-1800e6); err != nil || len(list) != 0 {
		t.Errorf("%d minutes of a time without traffic, %v", len(list), err)
	}
	if _, err := e.Store.Minutes(t.Context(), start, start); err == nil {
		t.Error("no error for an empty range")
	}
}

// Alert is a revision of an alert whose window begins after minutes.
func Alert(id string, revision int, severity string, after int) storage.AlertRevision {
	first := start.Add(time.Duration(after) * time.Minute)
	return storage.AlertRevision{Alert: pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: id, Revision: revision, Status: "open", Detector: "probe.path", Severity: severity, Tier: "page",
		Title: "a <script> & more", Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"},
		Window: pipeline.AlertWindow{Onset: first, First: first, Last: first + 60e6, DetectedAt: first + 61e6},
	}}
}

func alerts(t *testing.T, e Empty) {
	first := []storage.AlertRevision{Alert("a", 1, "low", 0), Alert("b", 1, "high", 10), Alert("a", 2, "high", 0)}
	second := []storage.AlertRevision{Alert("c", 1, "low", 20), Alert("b", 2, "high", 10)}
	second[1].Alert.Status, second[1].Backfill = "resolved", true
	for range 2 {
		must(t, e.Commit(t.Context(), first))
	}
	for range 2 {
		must(t, e.Commit(t.Context(), second))
	}
	feed, err := e.Store.AlertsAfter(t.Context(), 0, 100)
	must(t, err)
	if got := names(feed); got != "a.1 b.1 a.2 c.1 b.2 " {
		t.Fatalf("feed %s", got)
	}
	for i, a := range feed {
		if i > 0 && a.Seq <= feed[i-1].Seq {
			t.Errorf("place %d comes behind %d", a.Seq, feed[i-1].Seq)
		}
		var back pipeline.Alert
		must(t, json.Unmarshal(a.Body, &back))
		if back.ID != a.Alert.ID || back.Title != "a <script> & more" || a.Backfill != (i == 4) {
			t.Errorf("place %d reads %s %q, backfill %v", a.Seq, back.ID, back.Title, a.Backfill)
		}
	}
	two, err := e.Store.AlertsAfter(t.Context(), feed[1].Seq, 2)
	must(t, err)
	if got := names(two); got != "a.2 c.1 " {
		t.Errorf("two behind the second: %s", got)
	}
	for want, f := range map[string]storage.AlertFilter{
		"b.2 c.1 a.2 ": {},
		"b.2 a.2 ":     {Severity: []string{"high", "critical"}},
		"c.1 a.2 ":     {Status: "open"},
		"b.2 ":         {Limit: 1},
		"c.1 a.2":      {BeforeSeq: feed[4].Seq},
		"b.2":          {AfterSeq: feed[3].Seq},
		"b.2 c.1":      {Since: start.Add(5 * time.Minute)},
		"a.2":          {Until: start.Add(5 * time.Minute)},
		"":             {Detector: "scrape.crawl"},
		"b.2 c.1 a.2":  {Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}, Detector: "probe.path"},
		" ":            {Principal: pipeline.Principal{Kind: pipeline.PrincipalKey, Value: "203.0.113.7"}},
	} {
		got, err := e.Store.Alerts(t.Context(), f)
		must(t, err)
		if trim(names(got)) != trim(want) {
			t.Errorf("%+v: %s, want %s", f, names(got), want)
		}
	}
	all, err := e.Store.Alert(t.Context(), "a")
	must(t, err)
	if got := names(all); got != "a.1 a.2 " {
		t.Errorf("revisions %s", got)
	}
	if none, err := e.Store.Alert(t.Context(), "'"); err != nil || len(none) != 0 {
		t.Errorf("%d revisions of no alert, %v", len(none), err)
	}
}

func trim(s string) string {
	for len(s) > 0 && s[len(s)-1] == ' ' {
		s = s[:len(s)-1]
	}
	return s
}

func names(list []storage.StoredAlert) (s string) {
	for _, a := range list {
		s += fmt.Sprintf("%s.%d ", a.Alert.ID, a.Alert.Revision)
	}
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
