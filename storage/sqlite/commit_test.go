package sqlite

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"weir/pipeline"
	"weir/storage"

	"github.com/google/go-cmp/cmp"
)

func testAlert(id string, revision int, edit ...func(*pipeline.Alert)) storage.AlertRevision {
	a := pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: id, Revision: revision, Status: "open", Detector: "probe.path", Severity: "high", Tier: "page",
		Title: "a <script> & more", Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"},
		Window:    pipeline.AlertWindow{Onset: testStart, First: testStart, Last: testStart + 60e6, DetectedAt: testStart + 61e6},
		Exemplars: []pipeline.Exemplar{{Path: "/.env", Source: "access.log:7"}},
	}
	for _, f := range edit {
		f(&a)
	}
	return storage.AlertRevision{Alert: a}
}

func commit(tb testing.TB, db *DB, o storage.Output) {
	tb.Helper()
	if o.Stage == "" {
		o.Stage = "alert"
	}
	if err := db.Commit(tb.Context(), o); err != nil {
		tb.Fatal(err)
	}
}

// feed lists the feed as seq:id.revision.
func feed(tb testing.TB, db *DB) string {
	tb.Helper()
	as, err := db.AlertsAfter(tb.Context(), 0, 1000)
	if err != nil {
		tb.Fatal(err)
	}
	return list(as)
}

func list(as []storage.StoredAlert) string {
	var out []string
	for _, a := range as {
		out = append(out, fmt.Sprintf("%d:%s.%d", a.Seq, a.Alert.ID, a.Alert.Revision))
	}
	return strings.Join(out, " ")
}

func TestCommitOnce(t *testing.T) {
	db := openTest(t)
	first := storage.Output{
		Stage: "alert", Position: 10, Alerts: []storage.AlertRevision{testAlert("a", 1), testAlert("b", 1), testAlert("a", 2)},
		Controls: []pipeline.Control{{Kind: "edition", Payload: []byte("1")}},
	}
	commit(t, db, first)
	commit(t, db, first) // a replay
	commit(t, db, storage.Output{Position: 5, Alerts: []storage.AlertRevision{testAlert("b", 1)}})
	if got := feed(t, db); got != "1:a.1 2:b.1 3:a.2" {
		t.Errorf("feed %s", got)
	}
	if p, err := db.StageCursor(t.Context(), "alert"); p != 10 || err != nil {
		t.Errorf("cursor %d, %v; it must not go back", p, err)
	}
	if p, err := db.StageCursor(t.Context(), "nobody"); p != 0 || err != nil {
		t.Errorf("cursor of an unknown stage %d, %v", p, err)
	}
	if s := stats(t, db); s.Last != 1 || s.ReplayDifferences != 0 || s.Alerts != 3 {
		t.Errorf("%+v: want one control record and no differences", s)
	}
	// What may differ, and what may not.
	commit(t, db, storage.Output{Position: 11, Alerts: []storage.AlertRevision{testAlert("a", 1, func(a *pipeline.Alert) {
		a.Exemplars[0].Source = "other.log:1"
		a.Envelope.Triage = map[string]any{"verdict": "benign"}
	})}})
	if n := stats(t, db).ReplayDifferences; n != 0 {
		t.Errorf("%d differences for another source and envelope", n)
	}
	commit(t, db, storage.Output{Position: 11, Alerts: []storage.AlertRevision{
		testAlert("a", 1, func(a *pipeline.Alert) { a.Exemplars[0].Path = "/x" }), testAlert("c", 1),
	}})
	if n := stats(t, db).ReplayDifferences; n != 1 {
		t.Errorf("%d differences, want 1", n)
	}
	as, _ := db.Alert(t.Context(), "a")
	if list(as) != "1:a.1 3:a.2" || as[0].Alert.Exemplars[0].Path != "/.env" {
		t.Errorf("alert a: %s, %+v; what was stored first stays", list(as), as[0].Alert.Exemplars)
	}
	if got := feed(t, db); got != "1:a.1 2:b.1 3:a.2 4:c.1" {
		t.Errorf("feed %s: no seq may be left out", got)
	}
}

func TestCommitIsOneStep(t *testing.T) {
	db := openTest(t)
	bad := testAlert("b", 1, func(a *pipeline.Alert) { a.Score.Nats = math.NaN() })
	err := db.Commit(t.Context(), storage.Output{Stage: "alert", Position: 3, Alerts: []storage.AlertRevision{testAlert("a", 1), bad}})
	if !errors.Is(err, pipeline.ErrPermanent) || !strings.Contains(err.Error(), "alert b revision 1") {
		t.Errorf("NaN: %v", err)
	}
	err = db.Commit(t.Context(), storage.Output{
		Stage: "alert", Position: 3, Alerts: []storage.AlertRevision{testAlert("a", 1)}, Controls: []pipeline.Control{{}},
	})
	if err == nil {
		t.Error("a control record without a kind was taken")
	}
	if p, _ := db.StageCursor(t.Context(), "alert"); p != 0 || feed(t, db) != "" {
		t.Errorf("half a commit: cursor %d, feed %s", p, feed(t, db))
	}
	commit(t, db, storage.Output{Position: 3, Alerts: []storage.AlertRevision{testAlert("a", 1)}})
	if got := feed(t, db); got != "1:a.1" {
		t.Errorf("feed %s: what was rolled back may leave no hole", got)
	}
}

func TestFeedWakes(t *testing.T) {
	db := openTest(t)
	woken := make(chan error)
	go func() { woken <- db.WaitAlertsAfter(t.Context(), 1) }()
	r := testAlert("a", 2)
	r.Backfill = true
	commit(t, db, storage.Output{Position: 1, Alerts: []storage.AlertRevision{testAlert("a", 1), r}})
	if err := <-woken; err != nil {
		t.Fatal(err)
	}
	db = reopen(t, db)
	if err := db.WaitAlertsAfter(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	as, err := db.AlertsAfter(t.Context(), 1, 10)
	if err != nil || len(as) != 1 || !as[0].Backfill || !bytes.Contains(as[0].Body, []byte("a <script> & more")) {
		t.Errorf("behind 1: %+v, %v", as, err)
	}
	if d := cmp.Diff(r.Alert.Window, as[0].Alert.Window); d != "" {
		t.Error(d)
	}
}

func TestAlertsFilter(t *testing.T) {
	db := openTest(t)
	later := func(d pipeline.Time) func(*pipeline.Alert) {
		return func(a *pipeline.Alert) { a.Window.First += d; a.Window.Last += d }
	}
	commit(t, db, storage.Output{Position: 1, Alerts: []storage.AlertRevision{
		testAlert("a", 1), // 1
		testAlert("b", 1, later(1000e6), func(a *pipeline.Alert) { a.Severity = "low" }),          // 2
		testAlert("a", 2, func(a *pipeline.Alert) { a.Status = "resolved" }),                      // 3
		testAlert("c", 2, later(500e6), func(a *pipeline.Alert) { a.Detector = "auth.stuffing" }), // 4
		testAlert("c", 1), // 5: out of order, never the latest
		testAlert("d", 1, func(a *pipeline.Alert) {
			a.Principal = pipeline.Principal{Kind: pipeline.PrincipalKey, Value: "203.0.113.7"}
		}), // 6
	}})
	f := func(want string, filter storage.AlertFilter) {
		t.Helper()
		got, err := db.Alerts(t.Context(), filter)
		if err != nil || list(got) != want {
			t.Errorf("%+v: %s, %v; want %s", filter, list(got), err, want)
		}
	}
	f("6:d.1 4:c.2 3:a.2 2:b.1", storage.AlertFilter{})
	f("6:d.1 4:c.2", storage.AlertFilter{Limit: 2})
	f("3:a.2 2:b.1", storage.AlertFilter{BeforeSeq: 4})
	f("6:d.1 4:c.2", storage.AlertFilter{AfterSeq: 3})
	f("2:b.1", storage.AlertFilter{Severity: []string{"low"}})
	f("6:d.1 4:c.2 3:a.2 2:b.1", storage.AlertFilter{Severity: []string{"low", "high"}})
	f("4:c.2", storage.AlertFilter{Detector: "auth.stuffing"})
	f("3:a.2", storage.AlertFilter{Status: "resolved"})
	f("6:d.1", storage.AlertFilter{Principal: pipeline.Principal{Kind: pipeline.PrincipalKey, Value: "203.0.113.7"}})
	f("4:c.2 2:b.1", storage.AlertFilter{Since: testStart + 61e6})
	f("6:d.1 3:a.2", storage.AlertFilter{Until: testStart + 499e6})
	f("4:c.2", storage.AlertFilter{Since: testStart + 560e6, Until: testStart + 600e6})
	f("", storage.AlertFilter{Severity: []string{"'; DROP TABLE alerts; --"}})
	if _, err := db.Alerts(t.Context(), storage.AlertFilter{Severity: make([]string, 17)}); err == nil {
		t.Error("17 severities were taken")
	}
	if got, err := db.Alert(t.Context(), "none"); len(got) != 0 || err != nil {
		t.Errorf("an alert that is not there: %v, %v", got, err)
	}
}

func TestFindingsKeepTheLatest(t *testing.T) {
	db := openTest(t)
	put := func(time pipeline.Time, seq uint64, title string) {
		commit(t, db, storage.Output{Position: 1, Findings: []pipeline.Finding{{ID: "f", Time: time, Seq: seq, Title: title}}})
	}
	put(10, 5, "second")
	put(10, 4, "first")
	put(9, 9, "before")
	body, ok, err := db.Finding(t.Context(), "f")
	if !ok || err != nil || !strings.Contains(string(body), `"title":"second"`) {
		t.Errorf("%s %v %v", body, ok, err)
	}
	put(11, 1, "third")
	if body, _, _ := db.Finding(t.Context(), "f"); !strings.Contains(string(body), `"title":"third"`) {
		t.Errorf("%s", body)
	}
	if _, ok, err := db.Finding(t.Context(), "g"); ok || err != nil {
		t.Errorf("a finding that is not there: %v %v", ok, err)
	}
}

func TestEditions(t *testing.T) {
	db := openTest(t)
	if _, _, _, ok, err := db.LatestEdition(t.Context()); ok || err != nil {
		t.Errorf("edition of a new store: %v, %v", ok, err)
	}
	put := func(n int64, at pipeline.Time, body string) {
		t.Helper()
		if err := db.PutEdition(t.Context(), n, at, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	put(2, 20, "two")
	put(1, 10, "one")
	put(2, 20, "two")
	n, at, body, ok, err := db.LatestEdition(t.Context())
	if n != 2 || at != 20 || string(body) != "two" || !ok || err != nil || stats(t, db).ReplayDifferences != 0 {
		t.Errorf("edition %d %d %s %v %v", n, at, body, ok, err)
	}
	put(2, 20, "other")
	put(2, 21, "two")
	if _, _, body, _, _ := db.LatestEdition(t.Context()); string(body) != "two" || stats(t, db).ReplayDifferences != 2 {
		t.Errorf("a different edition: %s, %d differences", body, stats(t, db).ReplayDifferences)
	}
}

func TestDelivery(t *testing.T) {
	ctx := t.Context()
	db := openTest(t)
	position := func(want int64, wantKnown bool) {
		t.Helper()
		if seq, known, err := db.SinkPosition(ctx, "siem"); seq != want || known != wantKnown || err != nil {
			t.Errorf("sink at %d, %v, %v; want %d, %v", seq, known, err, want, wantKnown)
		}
	}
	retries := func(now pipeline.Time, want ...storage.SinkRetry) {
		t.Helper()
		if got, err := db.DueRetries(ctx, "siem", now, 2); !slices.Equal(got, want) || err != nil {
			t.Errorf("due at %d: %+v, %v; want %+v", now, got, err, want)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	position(0, false)
	must(db.SetSinkCursor(ctx, "siem", 0))
	position(0, true)
	must(db.SetSinkCursor(ctx, "siem", 9))
	must(db.SetSinkCursor(ctx, "other", 1))
	must(db.SaveRetry(ctx, "siem", 3, 2, 77))
	must(db.SaveRetry(ctx, "siem", 5, 1, 60))
	must(db.SaveRetry(ctx, "siem", 6, 1, 60))
	must(db.SaveRetry(ctx, "siem", 3, 4, 50))
	must(db.SaveRetry(ctx, "other", 7, 1, 1))
	db = reopen(t, db)
	position(9, true)
	retries(49)
	retries(50, storage.SinkRetry{Seq: 3, Attempts: 4, Next: 50})
	retries(60, storage.SinkRetry{Seq: 3, Attempts: 4, Next: 50}, storage.SinkRetry{Seq: 5, Attempts: 1, Next: 60})
	must(db.DropRetry(ctx, "siem", 3))
	must(db.DropRetry(ctx, "siem", 3))
	retries(60, storage.SinkRetry{Seq: 5, Attempts: 1, Next: 60}, storage.SinkRetry{Seq: 6, Attempts: 1, Next: 60})
	must(db.SetSinkCursor(ctx, "siem", 4))
	position(4, true)

	must(db.DeadLetter(ctx, "siem", 4, "413", []byte("[]")))
	must(db.DeadLetter(ctx, "other", 4, "400", nil))
	must(db.DeadLetter(ctx, "siem", 4, "413 again", []byte("[1]")))
	letters, err := db.DeadLetters(ctx, "", 0, 10)
	must(err)
	if len(letters) != 2 || letters[0].Reason != "413 again" || string(letters[0].Attempts) != "[1]" || letters[0].Time < testStart/2 {
		t.Errorf("letters %+v", letters)
	}
	if ls, err := db.DeadLetters(ctx, "other", 0, 10); len(ls) != 1 || ls[0].Sink != "other" || err != nil {
		t.Errorf("letters of other %+v, %v", ls, err)
	}
	if ls, err := db.DeadLetters(ctx, "", letters[0].ID, 10); len(ls) != 1 || ls[0].ID != letters[1].ID || err != nil {
		t.Errorf("second page %+v, %v", ls, err)
	}
	must(db.RemoveDeadLetter(ctx, letters[0].ID))
	must(db.RemoveDeadLetter(ctx, letters[0].ID))
	if ls, _ := db.DeadLetters(ctx, "siem", 0, 10); len(ls) != 0 {
		t.Errorf("removed letter is there: %+v", ls)
	}
}

func TestRequests(t *testing.T) {
	db := openTest(t)
	var all []pipeline.Request // in the order that Requests promises
	for i := range int64(200) {
		b := testBlock("a", i*10, 10)
		mustAppend(t, db, b)
		all = append(all, b.Requests...)
	}
	slices.Reverse(all)
	f := func(filter storage.RequestFilter, keep func(*pipeline.Request) bool) {
		t.Helper()
		var want, got []int64
		for i := range all {
			if keep(&all[i]) {
				want = append(want, all[i].Line)
			}
		}
		limit := filter.Limit
		if limit == 0 {
			limit = 1000
		}
		want = want[:min(limit, len(want))]
		err := db.Requests(t.Context(), filter, func(r *pipeline.Request, source string) bool {
			if source != "a" {
				t.Errorf("source %q", source)
			}
			got = append(got, r.Line)
			return true
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%+v: %d lines, want %d; %v", filter, len(got), len(want), err)
		}
		if len(want) == 0 {
			t.Errorf("%+v selects nothing: the case proves nothing", filter)
		}
	}
	f(storage.RequestFilter{}, func(*pipeline.Request) bool { return true })
	f(storage.RequestFilter{Limit: 3}, func(*pipeline.Request) bool { return true })
	f(storage.RequestFilter{Limit: 5000}, func(*pipeline.Request) bool { return true })
	f(storage.RequestFilter{Status: 404}, func(r *pipeline.Request) bool { return r.Status == 404 })
	f(storage.RequestFilter{PathPrefix: "/api/items/19"}, func(r *pipeline.Request) bool { return strings.HasPrefix(r.Path, "/api/items/19") })
	since, until := testStart+500e6, testStart+1503e6
	f(storage.RequestFilter{Since: since, Until: until, Limit: 5000}, func(r *pipeline.Request) bool { return r.Time >= since && r.Time <= until })
	who := pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "10.0.0.77"}
	f(storage.RequestFilter{Principal: who}, func(r *pipeline.Request) bool { return r.Owner == who.Hash() })

	found, _, err := db.candidates(t.Context(), storage.RequestFilter{Principal: who}, who.Hash(), 0, math.MaxInt64, candidate{math.MaxInt64, math.MaxInt64})
	if err != nil || len(found) > 10 {
		t.Errorf("%d of 64 blocks are read for a client of two: the filter does not work (%v)", len(found), err)
	}
	n := 0
	err = db.Requests(t.Context(), storage.RequestFilter{}, func(*pipeline.Request, string) bool { n++; return n < 7 })
	if n != 7 || err != nil {
		t.Errorf("%d calls after the caller had enough, %v", n, err)
	}
}
