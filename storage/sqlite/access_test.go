package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

func entry(what string) storage.AuditEntry {
	return storage.AuditEntry{Time: testStart, Body: fmt.Appendf(nil, `{"action":%q}`, what)}
}

func actions(t *testing.T, db *DB) (list []string) {
	t.Helper()
	rows, err := db.AuditAfter(t.Context(), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		var body struct{ Action string }
		if err := json.Unmarshal(r.Body, &body); err != nil {
			t.Fatal(err)
		}
		list = append(list, body.Action)
	}
	return list
}

func TestTokens(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	if has, err := db.HasTokens(ctx); has || err != nil {
		t.Errorf("a new store has tokens: %t, %v", has, err)
	}
	want := storage.Token{ID: "a1", Name: "siem", MAC: []byte{1, 2}, Roles: []string{"feed", "viewer"}, Creator: "root", Created: 7, Expires: 9}
	if err := db.CreateToken(ctx, want, entry("create")); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateToken(ctx, want, entry("again")); err == nil {
		t.Error("an id is used twice")
	}
	if err := db.RevokeToken(ctx, "b", 8, entry("revoke b")); !errors.Is(err, storage.ErrNoToken) {
		t.Errorf("revoke a token that is not there: %v", err)
	}
	for at := pipeline.Time(20); at < 22; at++ {
		if err := db.RevokeToken(ctx, "a1", at, entry("revoke")); err != nil {
			t.Fatal(err)
		}
	}
	for _, at := range []pipeline.Time{12, 11} {
		if err := db.UseToken(ctx, "a1", at); err != nil {
			t.Fatal(err)
		}
	}
	want.Revoked, want.Used = 20, 12
	got, ok, err := reopen(t, db).Token(ctx, "a1")
	if err != nil || !ok || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%+v %t %v, want %+v", got, ok, err, want)
	}
}

// TestAuditIsPartOfTheAction: what cannot be written into the audit does not
// happen.
func TestAuditIsPartOfTheAction(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	if err := db.CreateToken(ctx, storage.Token{ID: "a"}, entry("create")); err != nil {
		t.Fatal(err)
	}
	if _, err := db.conn.ExecContext(ctx, "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no room'); END"); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create": db.CreateToken(ctx, storage.Token{ID: "b"}, entry("create")),
		"revoke": db.RevokeToken(ctx, "a", 5, entry("revoke")),
		"append": db.AppendAudit(ctx, entry("x")),
	} {
		if err == nil || !strings.Contains(err.Error(), "no room") {
			t.Errorf("%s: %v", what, err)
		}
	}
	list, err := db.Tokens(ctx)
	if err != nil || len(list) != 1 || list[0].Revoked != 0 {
		t.Errorf("%+v, %v", list, err)
	}
	if got := actions(t, db); !slices.Equal(got, []string{"create"}) {
		t.Errorf("the audit has %v", got)
	}
}

// TestAuditChain finds every kind of change to what is stored.
func TestAuditChain(t *testing.T) {
	f := func(want string, broken int64, change ...string) {
		t.Helper()
		db := openTest(t)
		for i := range 10 {
			if err := db.AppendAudit(t.Context(), storage.AuditEntry{Time: pipeline.Time(i + 1), Body: fmt.Appendf(nil, `{"n":%d}`, i)}); err != nil {
				t.Fatal(err)
			}
		}
		for _, query := range change {
			if _, err := db.conn.ExecContext(t.Context(), query); err != nil {
				t.Fatal(err)
			}
		}
		c, err := db.CheckAudit(t.Context())
		if err != nil || c.Broken != broken || !strings.Contains(c.Why, want) || want == "" && c.Why != "" {
			t.Errorf("%v: %+v, %v, want %d %s", change, c, err, broken, want)
		}
	}
	const free = "DROP TRIGGER audit_unchanged"
	f("", 0)
	f("does not hash", 4, free, `UPDATE audit SET body = '{"n":99}' WHERE seq = 4`)
	f("does not hash", 1, free, "UPDATE audit SET body = x'' WHERE seq = 1")
	f("does not hash", 5, free, "UPDATE audit SET hash = zeroblob(32) WHERE seq = 5")
	f("does not continue", 6, free, "UPDATE audit SET prev = zeroblob(32) WHERE seq = 6")
	f("were removed while it was kept", 1, "DELETE FROM audit WHERE seq = 7")
	f("were removed while it was kept", 1, "DELETE FROM audit WHERE seq = 10")
	f("rows between them are gone", 8, "DROP TRIGGER audit_removed", "DELETE FROM audit WHERE seq = 7")
	f("it and what follows through 10 are gone", 9, "DROP TRIGGER audit_removed", "DELETE FROM audit WHERE seq > 8")
	f("does not continue", 3, free, "DROP TRIGGER audit_removed", "DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = seq - 1 WHERE seq > 3",
		"UPDATE sqlite_sequence SET seq = 9 WHERE name = 'audit'")
	db := openTest(t)
	if err := db.AppendAudit(t.Context(), entry("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := db.conn.ExecContext(t.Context(), "UPDATE audit SET body = x''"); err == nil {
		t.Error("a row was changed")
	}
}

// TestAuditRetention removes from the front only, whatever the clock did, and
// the chain goes on.
func TestAuditRetention(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	for _, at := range []pipeline.Time{1, 2, 9, 3, 10} {
		if err := db.AppendAudit(ctx, storage.AuditEntry{Time: at, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
	}
	f := func(from pipeline.Time, removed, first int64) {
		t.Helper()
		if _, err := db.Retain(ctx, storage.RetainPolicy{AuditFrom: from, KeepFrom: 1}); err != nil {
			t.Fatal(err)
		}
		if got, _, err := db.AuditBounds(ctx); got != removed || err != nil {
			t.Errorf("from %d: removed through %d, want %d, %v", from, got, removed, err)
		}
		if c, err := db.CheckAudit(ctx); err != nil || c.Broken != 0 || c.First != first {
			t.Errorf("from %d: %+v, %v", from, c, err)
		}
	}
	f(0, 0, 1)
	f(5, 2, 3)
	f(11, 5, 0)
	if err := db.AppendAudit(ctx, entry("x")); err != nil {
		t.Fatal(err)
	}
	f(1, 5, 6)
}

// TestBeside: tokens and the audit are written while another process has the
// store, and both chains are one.
func TestBeside(t *testing.T) {
	db := openTest(t)
	if _, err := Open(db.path, Options{}); !errors.Is(err, storage.ErrLocked) {
		t.Fatalf("a second owner: %v", err)
	}
	var wg sync.WaitGroup
	const each = 20
	for n := range 3 {
		wg.Go(func() {
			beside, err := Open(db.path, Options{Beside: true, Readers: 1})
			if err != nil {
				t.Error(err)
				return
			}
			defer beside.Close()
			for i := range each {
				if err := beside.CreateToken(t.Context(), storage.Token{ID: fmt.Sprint(n, "-", i)}, entry("beside")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range each {
		mustAppend(t, db, testBlock("a", int64(i)*10, 10))
		if err := db.AppendAudit(t.Context(), entry("service")); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	if c, err := db.CheckAudit(t.Context()); err != nil || c.Broken != 0 || c.Rows != 4*each {
		t.Errorf("%+v, %v", c, err)
	}
	if list, err := db.Tokens(t.Context()); err != nil || len(list) != 3*each {
		t.Errorf("%d tokens, %v", len(list), err)
	}
	if _, err := Open(filepath.Join(t.TempDir(), "none.db"), Options{Beside: true}); err == nil {
		t.Error("a store that is not there was opened beside")
	}
}

// TestFeedPages: pages of any size and severity have each row once, while rows
// come; what retention took is told.
func TestFeedPages(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	put := func(id string, revision int, severity string, at pipeline.Time) {
		t.Helper()
		a := pipeline.Alert{Schema: pipeline.AlertSchema, ID: id, Revision: revision, Severity: severity, Window: pipeline.AlertWindow{First: at, Last: at}}
		if err := db.Commit(ctx, storage.Output{Stage: "detect", Alerts: []storage.AlertRevision{{Alert: a}}}); err != nil {
			t.Fatal(err)
		}
	}
	severities := []string{"low", "high", "critical"}
	total := 0
	for i := range 20 {
		put(fmt.Sprint(i), 1, severities[i%3], testStart)
		total++
	}
	for limit := 1; limit < 9; limit++ {
		for _, only := range [][]string{nil, {"high"}, {"low", "critical"}, {"info"}} {
			var seqs []int64
			want, seq := 0, int64(0)
			for turn := range 60 {
				if turn < 3 {
					put(fmt.Sprint(limit, only, turn), 1, severities[turn], testStart)
					total++
				}
				list, through, err := db.FeedPage(ctx, seq, math.MaxInt64, only, limit)
				if err != nil || len(list) > limit || through < seq {
					t.Fatalf("%d rows through %d, %v", len(list), through, err)
				}
				for _, a := range list {
					if a.Seq <= seq || a.Seq > through || len(seqs) > 0 && a.Seq <= seqs[len(seqs)-1] {
						t.Errorf("row %d in the page (%d, %d]", a.Seq, seq, through)
					}
					seqs = append(seqs, a.Seq)
				}
				seq = through
			}
			for i := range total {
				list, err := db.AlertsAfter(ctx, int64(i), 1)
				if err != nil {
					t.Fatal(err)
				}
				if only == nil || slices.Contains(only, list[0].Alert.Severity) {
					want++
				}
			}
			if len(seqs) != want {
				t.Errorf("limit %d, %v: %d rows, want %d", limit, only, len(seqs), want)
			}
		}
	}
	if removed, last, err := db.FeedBounds(ctx); removed != 0 || last != int64(total) || err != nil {
		t.Errorf("%d %d %v", removed, last, err)
	}
	put("0", 2, "low", testStart.Add(48*time.Hour)) // keeps its first revision
	if _, err := db.Retain(ctx, storage.RetainPolicy{AlertAge: 24 * time.Hour, KeepFrom: 1, Now: testStart.Add(48 * time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if removed, _, err := db.FeedBounds(ctx); removed != int64(total) || err != nil {
		t.Errorf("removed through %d, want %d, %v", removed, total, err)
	}
	if list, _, err := db.FeedPage(ctx, 0, math.MaxInt64, nil, 100); len(list) != 2 || err != nil {
		t.Errorf("%d rows left, %v", len(list), err)
	}
}

func TestFeedReaders(t *testing.T) {
	db := openTest(t)
	for _, seq := range []int64{9, 5} {
		if err := db.SaveFeedReader(t.Context(), storage.FeedReader{Feed: "alerts", Reader: "a", Seq: seq, Time: 3}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := db.FeedReaders(t.Context())
	if want := []storage.FeedReader{{Feed: "alerts", Reader: "a", Seq: 5, Time: 3}}; !slices.Equal(got, want) || err != nil {
		t.Errorf("%v, %v", got, err)
	}
}

// A time's place is in front of the first revision that was made as late, by the
// later of its ends, whatever stands behind it; the index finds it.
func TestFeedAt(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	f := func(at pipeline.Time, want int64, ok bool) {
		t.Helper()
		if seq, found, err := db.FeedAt(ctx, testStart+at); err != nil || seq != want || found != ok {
			t.Errorf("%d: %d %t %v, want %d %t", at, seq, found, err, want, ok)
		}
	}
	f(0, 0, false)
	for i, at := range []pipeline.AlertWindow{{Last: 5, DetectedAt: 9}, {Last: 7, DetectedAt: 3}, {Last: 20, DetectedAt: 20}, {Last: 12, DetectedAt: 2}} {
		at.First, at.Last, at.DetectedAt = testStart, at.Last+testStart, at.DetectedAt+testStart
		a := pipeline.Alert{Schema: pipeline.AlertSchema, ID: fmt.Sprint(i), Revision: 1, Window: at}
		if err := db.Commit(ctx, storage.Output{Stage: "detect", Alerts: []storage.AlertRevision{{Alert: a}}}); err != nil {
			t.Fatal(err)
		}
	}
	f(0, 0, true)
	f(9, 0, true)
	f(10, 2, true)
	f(20, 2, true)
	f(21, 0, false)
	list, through, err := db.FeedPage(ctx, 0, 2, nil, 10)
	if err != nil || len(list) != 2 || through != 2 {
		t.Errorf("%d rows through %d: %v", len(list), through, err)
	}
	rows, err := db.readers.QueryContext(ctx, "EXPLAIN QUERY PLAN "+feedAtQuery, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	plan := ""
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan += detail
	}
	if !strings.Contains(plan, "COVERING INDEX alerts_changed") {
		t.Errorf("a time is sought with %s", plan)
	}
}
