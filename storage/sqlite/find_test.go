package sqlite

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode"

	"weir/pipeline"
	"weir/storage"
)

// listed is an alert and what people made of it, as the test knows them.
type listed struct {
	a        pipeline.Alert
	at       []string // addresses of any revision
	backfill bool
	seq      int64
	desk     desk
	revision int64
}

// fillDesk commits n alerts with two revisions of some, triages some, and returns
// what is stored.
func fillDesk(t *testing.T, db *DB, n int) []*listed {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	byID := map[string]*listed{}
	put := func(id string, revision int) {
		l := byID[id]
		if l == nil {
			l = &listed{}
			byID[id] = l
			l.desk.Status = "new"
		}
		one := testAlert(id, revision, func(a *pipeline.Alert) {
			a.Severity, a.Status, a.Tier = pick(severities()...), pick("open", "resolved"), pick("page", "review")
			a.Detector, a.Score.Nats = pick("auth.stuffing", "enum.object", "probe.path"), float64(r.IntN(40))+0.5
			a.Window.First = testStart + pipeline.Time(r.IntN(1000))*1e6
			a.Window.Last = a.Window.First + pipeline.Time(r.IntN(100))*1e6
			a.Principal.Value = fmt.Sprint("203.0.113.", r.IntN(20))
			a.Addresses = []string{a.Principal.Value, fmt.Sprint("198.51.100.", r.IntN(9))}
			a.Endpoint = pipeline.Endpoint{Method: pick("GET", "POST"), Host: pick("", "api.test"), Template: pick("/login", "/users/{id}", "/a_b")}
			a.Campaign = pick("", "c1", "c2")
			a.Title = pick("Credential stuffing", "Object ids walked", "A list of paths") + " from " + a.Principal.Value
			a.Labels = pipeline.AlertLabels{"service": pick("shop", "\"blog\" <b>"), "env": "prod"}
			if r.IntN(5) == 0 {
				a.Envelope.Silence = map[string]any{"id": "x", "silent": true}
				if r.IntN(2) == 0 { // a suppression that was pierced hides nothing
					a.Envelope.Silence = map[string]any{"id": "x", "pierced": "first success"}
				}
			}
		})
		one.Backfill = r.IntN(4) == 0
		commit(t, db, storage.Output{Alerts: []storage.AlertRevision{one}})
		l.a, l.backfill, l.at = one.Alert, one.Backfill, append(l.at, one.Alert.Addresses...)
		l.seq = stats(t, db).Alerts
	}
	for i := range n {
		put(fmt.Sprintf("%03d", i), 1)
		if r.IntN(3) == 0 {
			id := fmt.Sprintf("%03d", r.IntN(i+1))
			put(id, byID[id].a.Revision+1)
		}
		if r.IntN(2) == 0 {
			l := byID[fmt.Sprintf("%03d", r.IntN(i+1))]
			l.desk = desk{Status: pick("in_progress", "closed"), Assignee: pick("", "ada", "bob"), Tags: slices.Compact([]string{pick("a", "b"), "c"})}
			if l.desk.Status == "closed" {
				l.desk.Verdict = pick("true_positive", "duplicate")
			}
			l.revision++
			body, err := json.Marshal(l.desk)
			if err != nil {
				t.Fatal(err)
			}
			if err := db.SaveTriage(t.Context(), storage.Triage{ID: l.a.ID, Revision: l.revision, Body: body}, entry(l.a.ID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b *listed) int { return cmp.Compare(b.seq, a.seq) })
}

// selects is what FindAlerts does, by looking at each.
func (l *listed) selects(q *storage.AlertQuery) bool {
	in := func(list []string, v string) bool { return len(list) == 0 || slices.Contains(list, v) }
	is := func(want *bool, v bool) bool { return want == nil || *want == v }
	a := &l.a
	ok := in(q.Severity, a.Severity) && in(q.Detector, a.Detector) && in(q.Status, a.Status) && in(q.Tier, a.Tier) && in(q.Triage, l.desk.Status) && in(q.Verdict, l.desk.Verdict) &&
		is(q.Suppressed, a.Suppressed()) && is(q.Backfill, l.backfill) && (q.Since == 0 || a.Window.Last >= q.Since) && (q.Until == 0 || a.Window.First <= q.Until) &&
		(q.Principal.Value == "" || q.Principal == a.Principal) && (q.Campaign == "" || q.Campaign == a.Campaign) && (q.Address == "" || slices.Contains(l.at, q.Address))
	if q.Assignee != "" && strings.TrimPrefix(q.Assignee, "-") != l.desk.Assignee {
		return false
	}
	for _, tag := range q.Tags {
		ok = ok && slices.Contains(l.desk.Tags, tag)
	}
	for name, v := range q.Labels {
		ok = ok && a.Labels[name] == v
	}
	if q.Endpoint != "" {
		e := a.Endpoint
		ok = ok && (q.Endpoint == e.Method+" "+e.Host+" "+e.Template || q.Endpoint == e.Method+" "+e.Template)
	}
	for i, w := range q.Words {
		found := false
		for word := range strings.FieldsFuncSeq(strings.ToLower(a.Title+" "+a.Detector), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			found = found || word == w || i == len(q.Words)-1 && strings.HasPrefix(word, w)
		}
		ok = ok && found
	}
	return ok
}

func (l *listed) rank(sort string) int64 {
	switch sort {
	case "score":
		return int64(l.a.Score.Nats * 1000)
	case "severity":
		return int64(rankOf(l.a.Severity))
	}
	return 0
}

func randomQuery(r *rand.Rand) (q storage.AlertQuery) {
	maybe := func(share int) bool { return r.IntN(share) == 0 }
	some := func(list ...string) []string {
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		return list[:1+r.IntN(len(list)-1)]
	}
	flag := func() *bool { return new(r.IntN(2) == 0) }
	for _, set := range []func(){
		func() { q.Severity = some(severities()...) }, func() { q.Detector = some("auth.stuffing", "enum.object") }, func() { q.Status = some("open", "resolved") },
		func() { q.Tier = some("page", "review") }, func() { q.Triage = some("new", "in_progress", "closed") }, func() { q.Assignee = some("-", "ada", "bob")[0] },
		func() { q.Verdict = some("true_positive", "duplicate") }, func() { q.Suppressed = flag() }, func() { q.Backfill = flag() },
		func() { q.Labels = map[string]string{"service": some("shop", "\"blog\" <b>")[0]} }, func() { q.Tags = some("a", "b", "c") },
		func() {
			q.Principal = pipeline.Principal{Kind: pipeline.PrincipalIP, Value: fmt.Sprint("203.0.113.", r.IntN(20))}
		},
		func() { q.Address = fmt.Sprint("198.51.100.", r.IntN(9)) }, func() { q.Campaign = some("c1", "c2")[0] },
		func() { q.Endpoint = some("GET  /login", "POST api.test /users/{id}", "GET /a_b", "POST /login")[0] },
		func() { q.Words = some("stuffing", "from", "wal")[:1] }, func() { q.Words = []string{"ids", "walk"} },
	} {
		if maybe(12) {
			set()
		}
	}
	if maybe(3) {
		q.Since = testStart + pipeline.Time(r.IntN(1000))*1e6
	}
	if maybe(4) {
		q.Until = testStart + pipeline.Time(r.IntN(1000))*1e6
	}
	q.Sort, q.Limit, q.Count = some("", "severity", "score")[0], 1+r.IntN(40), true
	return q
}

// TestFindAlerts: pages give what looking at each alert gives, in the same order,
// whichever way the store takes.
func TestFindAlerts(t *testing.T) {
	db := openTest(t)
	all := fillDesk(t, db, 150)
	checkFind(t, db, all)
	db.limits.probe = 5 // so that pages are not among the newest
	checkFind(t, db, all)
	db.limits.count, db.limits.words, db.limits.alone = 50, 30, 30
	if l, err := db.FindAlerts(t.Context(), storage.AlertQuery{Since: 1, Count: true}); err != nil || l.Exact || l.Total != 50 {
		t.Errorf("%d %t %v", l.Total, l.Exact, err)
	}
	if l, err := db.FindAlerts(t.Context(), storage.AlertQuery{Words: []string{"from"}, Limit: 100, Count: true}); err != nil || l.Exact || len(l.Alerts) != 30 {
		t.Errorf("%d of %d %t %v", len(l.Alerts), l.Total, l.Exact, err)
	}
	// What retention takes leaves the lists.
	if err := db.write(t.Context(), "remove", func(x *tx) error { _, _, err := x.exec("DELETE FROM alerts"); return err }); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"alert_list", "alert_facets", "alert_tags", "alert_addresses"} {
		var n int
		if err := db.readers.QueryRow("SELECT count(*) FROM " + table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s: %d rows are left, %v", table, n, err)
		}
	}
}

func checkFind(t *testing.T, db *DB, all []*listed) {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 150 {
		q := randomQuery(r)
		var want []*listed
		for _, l := range all {
			if l.selects(&q) {
				want = append(want, l)
			}
		}
		slices.SortStableFunc(want, func(a, b *listed) int { return cmp.Compare(b.rank(q.Sort), a.rank(q.Sort)) })
		var got []string
		shown, _ := json.Marshal(q)
		for pages := 0; pages <= len(all); pages++ {
			l, err := db.FindAlerts(t.Context(), q)
			if err != nil {
				t.Fatalf("%s: %v", shown, err)
			}
			if !l.Exact || l.Total != int64(len(want)) {
				t.Errorf("%s: %d %t, want %d", shown, l.Total, l.Exact, len(want))
			}
			for _, a := range l.Alerts {
				got = append(got, a.Alert.ID)
			}
			if len(l.Alerts) < q.Limit {
				break
			}
			q.After = &l.Places[len(l.Places)-1]
		}
		var ids []string
		for _, l := range want {
			ids = append(ids, l.a.ID)
		}
		if !slices.Equal(got, ids) {
			t.Fatalf("%s: %v, want %v", shown, got, ids)
		}
		found += len(ids)
	}
	if found < 500 {
		t.Errorf("%d alerts found only: the queries are no test", found)
	}
	checkGroups(t, db, all)
}

func checkGroups(t *testing.T, db *DB, all []*listed) {
	t.Helper()
	for _, q := range []storage.AlertQuery{{}, {Status: []string{"open"}}, {Since: testStart + 500e6}, {Campaign: "c1", Severity: []string{"high"}}} {
		for by, of := range map[string]func(l *listed) string{
			"detector": func(l *listed) string { return l.a.Detector }, "severity": func(l *listed) string { return l.a.Severity }, "assignee": func(l *listed) string { return l.desk.Assignee },
			"triage": func(l *listed) string { return l.desk.Status }, "status": func(l *listed) string { return l.a.Status }, "campaign": func(l *listed) string { return l.a.Campaign },
			"principal": func(l *listed) string { return "ip:" + l.a.Principal.Value }, "endpoint": func(l *listed) string { return endpointKey(l.a.Endpoint) },
		} {
			want := map[string]storage.AlertGroup{}
			for _, l := range all {
				if !l.selects(&q) {
					continue
				}
				key := of(l)
				g, ok := want[key]
				if !ok {
					g = storage.AlertGroup{Key: key, Severity: "info"}
				}
				row := facetRow{rank: int64(rankOf(l.a.Severity)), status: l.a.Status, triage: l.desk.Status}
				addTo(&g, &row, 1, l.seq)
				want[key] = g
			}
			got, err := db.GroupAlerts(t.Context(), q, by)
			if err != nil {
				t.Fatal(err)
			}
			for i, g := range got {
				if want[g.Key] != g || i > 0 && g.Count > got[i-1].Count {
					t.Errorf("by %s: %+v, want %+v", by, g, want[g.Key])
				}
			}
			if len(got) != len(want) || len(got) == 0 {
				t.Errorf("by %s: %d groups, want %d", by, len(got), len(want))
			}
		}
	}
}

// TestListsOfAnOlderStore: what the schema makes of alerts from before is what the
// service makes of them.
func TestListsOfAnOlderStore(t *testing.T) {
	db := openTest(t)
	fillDesk(t, db, 60)
	dump := func() string {
		t.Helper()
		var b strings.Builder
		for _, query := range []string{
			`SELECT l.id || ' ' || l.seq || ' ' || l.first_time || ' ' || l.time || ' ' || l.score || ' ' || l.principal || ' ' || l.endpoint || ' ' || l.campaign || ' ' || f.severity || f.status || f.tier ||
				f.detector || f.triage || f.verdict || f.assignee || f.suppressed || f.backfill || f.labels || f.alerts FROM alert_list l JOIN alert_facets f ON f.id = l.facet ORDER BY l.id`,
			"SELECT l.id || ' ' || tag FROM alert_tags JOIN alert_list l USING (n) ORDER BY 1",
			"SELECT l.id || ' ' || alert || ' ' || a.seq FROM audit_alerts a JOIN alert_list l ON l.id = alert ORDER BY 1",
		} {
			lines, err := readAll(t.Context(), db, "dump", func(rows *sql.Rows, s *string) error { return rows.Scan(s) }, query)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, strings.Join(lines, "\n"))
		}
		return b.String()
	}
	want := dump()
	undo(t, db)
	db = reopen(t, db)
	if got := dump(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if l, err := db.FindAlerts(t.Context(), storage.AlertQuery{Words: []string{"stuffing"}, Address: "198.51.100.1"}); err != nil || len(l.Alerts) == 0 {
		t.Errorf("%d alerts by a word and an address, %v", len(l.Alerts), err)
	}
}

// undo takes the store back to before the lists.
func undo(t testing.TB, db *DB) {
	t.Helper()
	for _, query := range []string{
		"DROP TRIGGER alert_list_removed", "DROP TRIGGER audit_alerts_removed", "DROP TABLE alert_list", "DROP TABLE alert_facets", "DROP TABLE alert_tags", "DROP TABLE alert_addresses", "DROP TABLE alert_text",
		"DROP TABLE audit_alerts", "DROP INDEX triage_change", "ALTER TABLE triage DROP COLUMN change", "DROP TABLE endpoints", "DROP TABLE endpoint_minutes", "DROP TABLE users", "DROP TABLE sessions", "DROP TABLE first_link", "DROP TABLE followed", "DROP TABLE desk", "PRAGMA user_version = 7",
	} {
		if _, err := db.conn.ExecContext(t.Context(), query); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
}
