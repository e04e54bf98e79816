package sqlite

import (
	"encoding/json"
	"slices"
	"testing"

	"weir/pipeline"
	"weir/storage"
)

func TestSuppressions(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	who := pipeline.Principal{Kind: pipeline.PrincipalIP, Value: "203.0.113.7"}
	s := pipeline.Suppression{ID: "s1", Match: pipeline.SuppressionMatch{Principal: &who}, Created: 5, Starts: 5, Expires: 100, Reason: "r"}
	put := func(s pipeline.Suppression, what string) {
		t.Helper()
		if err := db.PutSuppression(ctx, s, entry(what)); err != nil {
			t.Fatal(err)
		}
	}
	put(s, "made")
	later := s
	later.ID, later.Created, later.Expires = "s0", 6, 200
	put(later, "another")
	at := pipeline.Time(50)
	s.Ended = &at
	put(s, "ended")

	silenced := func(id string, revision int, silence map[string]any) storage.AlertRevision {
		a := testAlert(id, revision)
		a.Alert.Envelope.Silence = silence
		return a
	}
	by := map[string]any{"id": "s1", "silent": true}
	out := storage.Output{Stage: "alert", Position: 3, Alerts: []storage.AlertRevision{
		silenced("a", 1, by), silenced("a", 2, by), silenced("b", 1, by), silenced("c", 1, map[string]any{"id": "s1", "pierced": "first success"}), testAlert("d", 1),
	}}
	commit(t, db, out)
	commit(t, db, out) // a replay counts nothing twice

	list, err := db.Suppressions(ctx, 10)
	if err != nil || len(list) != 2 || list[0].ID != "s0" || list[1].ID != "s1" || *list[1].Ended != 50 || list[1].Hidden != 2 || list[0].Hidden != 0 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := db.Suppressions(ctx, 1); err != nil || len(list) != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if list, err := db.SuppressionsFrom(ctx, 60); err != nil || len(list) != 1 || list[0].ID != "s0" {
		t.Errorf("%+v %v", list, err)
	}
	if got, ok, err := db.Suppression(ctx, "s1"); err != nil || !ok || *got.Match.Principal != who {
		t.Errorf("%+v %t %v", got, ok, err)
	}
	if _, ok, err := db.Suppression(ctx, "none"); err != nil || ok {
		t.Errorf("%t %v", ok, err)
	}
	// The log has each in its order, and the audit who did it.
	records, err := db.ReadRecords(ctx, 1, 10)
	if err != nil || len(records) != 3 {
		t.Fatalf("%+v %v", records, err)
	}
	var last pipeline.Suppression
	if c := records[2].Control; c.Kind != SuppressionControl || json.Unmarshal(c.Payload, &last) != nil || last.ID != "s1" || *last.Ended != 50 {
		t.Errorf("%+v", records[2].Control)
	}
	if got := actions(t, db); !slices.Equal(got, []string{"made", "another", "ended"}) {
		t.Errorf("the audit has %q", got)
	}
	if err := db.write(ctx, "remove", func(x *tx) error {
		_, _, err := x.exec("DELETE FROM alerts WHERE id = 'a'")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := db.Suppression(ctx, "s1"); err != nil || got.Hidden != 1 {
		t.Errorf("hidden after one alert is gone: %d %v", got.Hidden, err)
	}
}

func TestTruePositives(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	commit(t, db, storage.Output{Stage: "alert", Position: 3, Alerts: []storage.AlertRevision{testAlert("a", 1), testAlert("b", 1), testAlert("c", 1)}})
	for id, body := range map[string]string{"a": `{"verdict":"true_positive"}`, "b": `{"verdict":"benign_positive"}`, "c": "no JSON"} {
		verdict := &pipeline.Control{Kind: VerdictControl, Payload: []byte(body)}
		if err := db.SaveTriage(ctx, storage.Triage{ID: id, Revision: 1, Body: []byte(body), Control: verdict}, entry(id)); err != nil {
			t.Fatal(err)
		}
	}
	a := testAlert("a", 1).Alert
	want := []storage.TruePositive{{Who: a.Principal, First: a.Window.First, Last: a.Window.Last}}
	if got, err := db.TruePositives(ctx, a.Window.Last); err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v %v, want %+v", got, err, want)
	}
	if got, err := db.TruePositives(ctx, a.Window.Last+1); err != nil || len(got) != 0 {
		t.Errorf("%+v %v", got, err)
	}
	if records, err := db.ReadRecords(ctx, 1, 10); err != nil || len(records) != 3 || records[0].Control.Kind != VerdictControl {
		t.Errorf("%+v %v", records, err)
	}
}
