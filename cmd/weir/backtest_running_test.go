package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"weir/storage/sqlite"
)

// TestBacktestAgainstWhatRuns: without --against the old side is the configuration in
// force, as the store's log names it: the file while it says the same, else what the
// log itself has of it.
func TestBacktestAgainstWhatRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := text(trafficLog(1))
	log, edition := writeFile(t, dir, "whole.log", data), filepath.Join(dir, "e.json")
	analyzed(t, "--edition-out", edition, log)
	const nocrawl = "detect: {scrape.crawl: {mode: off}}\n"
	key := "privacy: {key_file: " + filepath.Join(dir, "weir.key") + "}\n"
	old := writeFile(t, dir, "old.yaml", []byte(key+nocrawl+weighty+suppressing))
	now := writeFile(t, dir, "new.yaml", []byte(key+"detect: {probe.path: {mode: off}}\n"+weighty))
	f := newFeed(t, filepath.Join(dir, "access.log"), data, 1)
	for f.write(t, 1) {
	}
	store := follow(t, []*feed{f}, 0, "-c", old, "--edition", edition)
	same := func(what string, r, want *backtestResult) {
		t.Helper()
		ids := func(list []backtestAlert) (ids []string) {
			for i := range list {
				ids = append(ids, list[i].ID+" "+list[i].Why)
			}
			return ids
		}
		if !slices.Equal(ids(r.Lost), ids(want.Lost)) || !slices.Equal(ids(r.Gained), ids(want.Gained)) || !slices.Equal(ids(r.Moved), ids(want.Moved)) || r.Config != want.Config {
			t.Errorf("%s: %+v\nwith --against: %+v", what, r, want)
		}
	}
	want := backtested(t, "-c", now, "--against", old, "--store", store)
	r := backtested(t, "-c", now, "--store", store)
	same("the file", r, want)
	if len(r.Gained) == 0 || len(r.Lost) == 0 || r.Sides.Old != "what weir runs with: "+old || len(r.Changes) != len(want.Changes) {
		t.Errorf("gained %d, lost %d, against %q, changes %v", len(r.Gained), len(r.Lost), r.Sides.Old, r.Changes)
	}
	for _, a := range slices.Concat(r.Lost, r.Moved) {
		if a.Link != "http://127.0.0.1:7380/alerts/"+a.ID {
			t.Errorf("%s is at %q", a.ID, a.Link)
		}
	}
	for _, a := range r.Gained {
		if !strings.HasPrefix(a.Link, "http://127.0.0.1:7380/principals/") {
			t.Errorf("what was never told is at %q", a.Link)
		}
	}
	// Files against what runs.
	mustPredict(t, backtested(t, "-c", now, "--store", store, "--edition", edition, log), applied(t, "-c", old, "--edition", edition, log), applied(t, "-c", now, "--edition", edition, log))

	// The file was changed and weir has not had that: the log has the rest.
	if err := os.WriteFile(old, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	r = backtested(t, "-c", now, "--store", store)
	if !slices.ContainsFunc(r.Notes, func(n string) bool { return strings.Contains(n, "was changed and weir has not taken that over") }) || !strings.Contains(r.Sides.Old, "by the log of") {
		t.Errorf("notes %q, sides %+v", r.Notes, r.Sides)
	}
	same("the log", r, backtested(t, "-c", now, "--against", writeFile(t, dir, "known.yaml", []byte(key+nocrawl+weighty)), "--store", store))

	empty, err := sqlite.Open(filepath.Join(dir, "empty.db"), sqlite.Options{})
	if err == nil {
		err = empty.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := weir(t, "backtest", "-c", now, "--store", filepath.Join(dir, "empty.db")); got.code != exitFailed || !strings.Contains(got.stderr, "give it with --against") {
		t.Errorf("of a store without a configuration: exit %d, %s", got.code, got.stderr)
	}
}
