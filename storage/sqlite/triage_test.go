package sqlite

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"weir/storage"
)

func TestTriage(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	commit(t, db, storage.Output{Position: 3, Alerts: []storage.AlertRevision{testAlert("a", 1), testAlert("b", 1), testAlert("a", 2)}})
	save := func(id string, revision int64, body string, want error) {
		t.Helper()
		if err := db.SaveTriage(ctx, storage.Triage{ID: id, Revision: revision, Body: fmt.Appendf(nil, `{"who":%q}`, body)}, entry(body)); !errors.Is(err, want) {
			t.Errorf("%s %d: %v, want %v", id, revision, err, want)
		}
	}
	if x, ok, err := db.TriageOf(ctx, "a"); !ok || err != nil || x.Revision != 0 || x.Body != nil {
		t.Errorf("%+v %t %v", x, ok, err)
	}
	if _, ok, err := db.TriageOf(ctx, "none"); ok || err != nil {
		t.Errorf("an alert that is not stored: %t %v", ok, err)
	}
	save("a", 1, "one", nil)
	save("a", 1, "again", storage.ErrStale)
	save("a", 3, "ahead", storage.ErrStale)
	save("none", 1, "nobody's", storage.ErrNoAlert)
	save("a", 2, "two", nil)
	if x, ok, err := db.TriageOf(ctx, "a"); !ok || err != nil || x.Revision != 2 || string(x.Body) != `{"who":"two"}` {
		t.Errorf("%+v %t %v", x, ok, err)
	}
	ids := []string{"b", "none"}
	for range 3 * triageChunk {
		ids = append(ids, "x")
	}
	found, err := db.Triages(ctx, append(ids, "a"))
	if err != nil || len(found) != 1 || string(found["a"].Body) != `{"who":"two"}` {
		t.Errorf("%v %v", found, err)
	}
	if found, err := db.Triages(ctx, nil); err != nil || len(found) != 0 {
		t.Errorf("%v %v", found, err)
	}
	if got := actions(t, db); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the audit has %q: what failed stays out", got)
	}
	if err := db.write(ctx, "remove", func(x *tx) error {
		_, _, err := x.exec("DELETE FROM alerts WHERE id = 'a'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if found, err := db.Triages(ctx, []string{"a"}); err != nil || len(found) != 0 {
		t.Errorf("triage of an alert that is gone: %v %v", found, err)
	}
}
