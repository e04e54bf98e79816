package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
)

// TestUnlearned: a running weir learns neither from what a suppression covered nor
// from what people confirmed as an attack, and from everything else.
func TestUnlearned(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := windowLog(*killSeed, false)
	config := writeFile(t, dir, "weir.yaml", []byte(windowConfig))
	file := writeFile(t, dir, "access.log", text(log))
	store := filepath.Join(dir, "weir.db")
	d := startDaemon(t, "run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", "--edition", shippedEdition(t, dir), file)
	d.waitReady(t)
	eventually(t, "everything is detected", d, func() bool {
		return d.metric("weir_requests_total") == float64(len(log)) && d.metric("weir_detect_lag_records") == 0
	})
	d.stop(t)

	cfg, err := loadConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Store.Path = store
	s := &service{cfg: cfg, log: zap.NewNop(), workers: 1}
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	st, err := s.db.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	learned := func() string {
		t.Helper()
		e, err := s.fitStored(t.Context(), 1, st.Newest, nil)
		if err != nil {
			t.Fatal(err)
		}
		return contentOf(t, e)
	}
	// expected is what is learned from the log without the lines that drop says.
	expected := func(name string, drop func(entry) bool) string {
		t.Helper()
		rest := slices.DeleteFunc(slices.Clone(log), drop)
		in := input{name: writeFile(t, dir, name, text(rest)), how: collectConfig{Format: "combined"}}
		in.path = in.name
		format, _, err := in.how.format(nil, false)
		if err != nil {
			t.Fatal(err)
		}
		in.format = format
		e, err := fit(t.Context(), []input{in}, s.id, 1, false, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return contentOf(t, e)
	}
	tester := func(e entry) bool { return strings.HasPrefix(e.text, testers) }
	if learned() != expected("no-testers.log", tester) {
		t.Error("what a suppression covered was learned from")
	}

	alerts, err := s.db.Alerts(t.Context(), storage.AlertFilter{Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: guesserAddress}})
	if err != nil || len(alerts) != 1 {
		t.Fatalf("%d alerts of the guesser: %v", len(alerts), err)
	}
	a := alerts[0].Alert
	verdict := func(word string, revision int64) {
		t.Helper()
		save := console.TriageSave{ID: a.ID, Revision: revision, Body: []byte(`{"verdict":"` + word + `"}`), Audit: console.AuditEntry{Action: "alert.triage"}}
		if errs, err := (consoleStore{s.db}).SaveTriages(t.Context(), []console.TriageSave{save}); err != nil || len(errs) > 0 && errs[0] != nil {
			t.Fatal(err, errs)
		}
	}
	verdict("benign_positive", 1)
	if learned() != expected("benign.log", tester) {
		t.Error("what is benign was not learned from")
	}
	verdict("true_positive", 2)
	confirmed := expected("confirmed.log", func(e entry) bool {
		at := pipeline.TimeOf(e.at)
		return tester(e) || strings.HasPrefix(e.text, guesserAddress+" ") && at >= a.Window.First && at <= a.Window.Last
	})
	if confirmed == expected("again.log", tester) {
		t.Fatal("the attack makes no difference: this test shows nothing")
	}
	if learned() != confirmed {
		t.Error("a confirmed attack was learned from")
	}
}

// contentOf is an edition without what says when it was made.
func contentOf(t *testing.T, e *pipeline.Edition) string {
	t.Helper()
	e.Number, e.Effective, e.Lateness = 0, pipeline.NoTime, 0
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func shippedEdition(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "shipped.json")
	if err := pipeline.WriteEdition(path, pipeline.ShippedEdition()); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReplayBehindRetention: a replay of what is left of the log knows the
// suppressions whose records are gone.
func TestReplayBehindRetention(t *testing.T) {
	s := consoleService(t)
	start := pipeline.Time(1772442000e6)
	put := func(id string, expires pipeline.Time) {
		t.Helper()
		x := pipeline.Suppression{
			ID: id, Match: pipeline.SuppressionMatch{Principal: &pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}},
			Starts: start, Expires: expires, Created: start, Author: "anna", Reason: "their old client", Source: "api",
		}
		if err := s.db.PutSuppression(t.Context(), x, storage.AuditEntry{Time: start, Body: []byte(`{}`)}); err != nil {
			t.Fatal(err)
		}
	}
	put("s1", start.Add(72*time.Hour))
	put("s0", start.Add(time.Hour)) // over before what is left
	cause := int64(0)
	add := func(at pipeline.Time, n int) {
		t.Helper()
		b := &pipeline.Block{Source: "access.log", SourceID: 1, Cause: pipeline.CauseRange{From: cause, To: cause + int64(n)}, Watermark: pipeline.NoTime}
		for i := range n {
			address, _ := pipeline.ParseAddress("203.0.113.7")
			r := pipeline.Request{
				Time: at.Add(time.Duration(i) * time.Second), Line: cause + int64(i) + 1, Bytes: -1, Duration: -1, Status: 401, Address: address,
				Kind: pipeline.PrincipalIP, Method: "POST", Path: "/login", Flags: pipeline.FlagLogin,
			}
			r.Owner = r.Principal().Hash()
			r.Seal()
			b.Requests = append(b.Requests, r)
		}
		if n == 0 {
			b.Watermark = pipeline.MaxTime
		}
		cause += int64(n)
		if _, _, err := s.db.AppendBlocks(t.Context(), []*pipeline.Block{b}); err != nil {
			t.Fatal(err)
		}
	}
	add(start, 10)
	add(start.Add(48*time.Hour), 100)
	add(0, 0)
	if _, err := s.db.Retain(t.Context(), storage.RetainPolicy{MaxAge: 24 * time.Hour, KeepFrom: 1000, Now: start.Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	p, err := openReplay(t.Context(), replayFlags{store: s.cfg.Store.Path}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	if whole, err := p.whole(t.Context()); err != nil || whole {
		t.Fatalf("whole %t %v: nothing was taken away", whole, err)
	}
	list := p.alerts(t)
	if len(list) == 0 {
		t.Fatal("no alert")
	}
	for i := range list {
		if id, silent := list[i].Silent(); id != "s1" || !silent {
			t.Errorf("%s: %v", list[i].Change.Kind, list[i].Envelope.Silence)
		}
	}
}
