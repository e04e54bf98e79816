package main

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

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
