package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"weir/storage"
)

// findLimits say what an answer may cost, whatever is asked: an index entry takes
// some tenths of a microsecond.
type findLimits struct {
	count  int64 // alerts counted; above that a total is not exact
	probe  int64 // newest alerts looked at before anything else
	words  int64 // newest alerts with all words that the other conditions look at
	alone  int64 // newest alerts with all words where nothing else is asked; not below count
	groups int64 // alerts that groups are made of, where facets do not say enough
}

func defaultFindLimits() findLimits {
	return findLimits{count: 10_000, probe: 20_000, words: 20_000, alone: 10_000, groups: 25_000}
}

// facetRow is what alerts have in common that differ in nothing with few values.
type facetRow struct {
	id, rank, alerts                                       int64
	status, tier, detector, triage, verdict, assignee, tag string
	labels                                                 string
}

// finder is a query on its way.
type finder struct {
	db     *DB
	q      *storage.AlertQuery
	facets []facetRow
	all    bool // the facets are all there are
	where  []string
	args   []any
	words  []string      // that are looked for in the text
	alone  bool          // the words are all that is asked
	driver bool          // where selects few alerts by an index
	stored int64         // alerts in all facets
	first  bool          // by where windows begin
	narrow sql.NullInt64 // alerts that the times leave, about
}

// FindAlerts returns a page of alerts by their latest revision.
func (db *DB) FindAlerts(ctx context.Context, q storage.AlertQuery) (list storage.AlertList, err error) {
	if q.Limit <= 0 {
		q.Limit = 100
	}
	f, err := db.newFinder(ctx, &q)
	if err != nil || len(f.facets) == 0 {
		list.Exact = true
		return list, err
	}
	var places []storage.AlertPlace
	switch {
	case q.Sort == "severity" && f.driver: // once for all, as that takes the time
		places, err = f.fewBySeverity(ctx)
	case q.Sort == "severity":
		places, err = f.bySeverity(ctx)
	default:
		places, err = f.page(ctx, f.facets, q.After, q.Limit)
	}
	if err != nil {
		return list, err
	}
	if q.Count {
		if list.Total, list.Exact, err = f.count(ctx); err != nil {
			return list, err
		}
	}
	return list, db.fill(ctx, &list, places)
}

// newFinder reads the facets that q selects and writes the other conditions.
func (db *DB) newFinder(ctx context.Context, q *storage.AlertQuery) (*finder, error) {
	f := &finder{db: db, q: q}
	rows, err := readAll(ctx, db, "read facets", func(rows *sql.Rows, r *facetRow) error {
		return rows.Scan(&r.id, &r.rank, &r.status, &r.tier, &r.detector, &r.triage, &r.verdict, &r.assignee, &r.tag, &r.labels, &r.alerts)
	}, `SELECT id, severity, status, tier, detector, triage, verdict, assignee, suppressed || ',' || backfill, labels, alerts FROM alert_facets WHERE alerts > 0`)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		f.stored += rows[i].alerts
	}
	n := len(rows)
	f.facets = slices.DeleteFunc(rows, func(r facetRow) bool { return !facetFits(q, &r) })
	f.all = len(f.facets) == n
	f.conditions()
	return f, nil
}

func facetFits(q *storage.AlertQuery, r *facetRow) bool {
	in := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	flag := func(want *bool, at int) bool { return want == nil || *want == (r.tag[at] == '1') }
	if !in(q.Severity, severities()[r.rank]) || !in(q.Detector, r.detector) || !in(q.Status, r.status) || !in(q.Tier, r.tier) ||
		!in(q.Triage, r.triage) || !in(q.Verdict, r.verdict) || !flag(q.Suppressed, 0) || !flag(q.Backfill, 2) {
		return false
	}
	if q.Assignee == "-" && r.assignee != "" || q.Assignee != "-" && q.Assignee != "" && !strings.EqualFold(r.assignee, q.Assignee) {
		return false
	}
	if len(q.Labels) == 0 {
		return true
	}
	var labels map[string]string
	if json.Unmarshal([]byte(r.labels), &labels) != nil {
		return false
	}
	for name, value := range q.Labels {
		if labels[name] != value {
			return false
		}
	}
	return true
}

func (f *finder) add(cond string, args ...any) {
	f.where = append(f.where, cond)
	f.args = append(f.args, args...)
}

// conditions writes what the facets do not say.
func (f *finder) conditions() {
	q, wordsAt := f.q, 0
	for _, c := range []struct{ column, value string }{{"principal", principalKey(q)}, {"campaign", q.Campaign}} {
		if c.value != "" {
			f.driver = true
			f.add("l."+c.column+" = ? AND l."+c.column+" <> ''", c.value) // as the index has it
		}
	}
	if q.Endpoint != "" {
		f.driver = true
		if parts := strings.SplitN(q.Endpoint, " ", 3); len(parts) == 3 {
			f.add("l.endpoint = ?", q.Endpoint)
		} else {
			f.add(`l.endpoint IN (WITH RECURSIVE e(v) AS (SELECT min(endpoint) FROM alert_list WHERE endpoint >= ?
				UNION ALL SELECT (SELECT min(endpoint) FROM alert_list WHERE endpoint > v) FROM e WHERE v < ?) SELECT v FROM e WHERE v LIKE ? ESCAPE '\')`,
				parts[0]+" ", parts[0]+"!", escapeLike(parts[0])+" % "+escapeLike(parts[len(parts)-1]))
		}
	}
	if q.Address != "" {
		f.driver = true
		f.add("l.n IN (SELECT n FROM alert_addresses WHERE address = ?)", q.Address)
	}
	words := slices.DeleteFunc(slices.Clone(q.Words), func(w string) bool {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return false
		}
		f.driver = true // an address is found as one, not as numbers that follow each other
		f.add("l.n IN (SELECT n FROM alert_addresses WHERE address = ?)", a.Unmap().String())
		return true
	})
	if f.words = words; len(words) > 0 {
		f.driver = true
		f.add("l.n IN (SELECT rowid FROM alert_text WHERE alert_text MATCH ? ORDER BY rowid DESC LIMIT ?)", matchOf(words), f.db.limits.words)
		wordsAt = len(f.args) - 1
	}
	if q.Since != 0 {
		f.add("l.time >= ?", int64(q.Since))
	}
	if q.Until != 0 {
		f.add("l.first_time <= ?", int64(q.Until))
	}
	if q.AfterSeq != 0 {
		f.add("l.seq > ?", q.AfterSeq)
	}
	if q.BeforeSeq != 0 {
		f.add("l.seq < ?", q.BeforeSeq)
	}
	if f.alone = len(words) > 0 && len(f.where) == 1 && f.all && len(q.Tags) == 0; f.alone {
		f.args[wordsAt] = f.db.limits.alone
	}
}

func principalKey(q *storage.AlertQuery) string {
	if q.Principal.Value == "" {
		return ""
	}
	return q.Principal.Kind.String() + ":" + q.Principal.Value
}

func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// matchOf is a query of all words, the last as the beginning of one.
func matchOf(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteString(" AND ")
		}
		b.WriteString(`"` + strings.ReplaceAll(w, `"`, `""`) + `"`)
	}
	return b.String() + "*"
}

// inFacets restricts to facets, where they are not all.
func (f *finder) inFacets(facets []facetRow) (cond string, args []any) {
	if f.all && len(facets) == len(f.facets) {
		return "", nil
	}
	return "l.facet IN (SELECT value FROM json_each(?))", []any{idsOf(facets)}
}

func idsOf(facets []facetRow) string {
	ids := make([]int64, len(facets))
	for i := range facets {
		ids[i] = facets[i].id
	}
	text, err := json.Marshal(ids)
	if err != nil {
		panic("BUG: numbers are no JSON: " + err.Error())
	}
	return string(text)
}

// order is how a page is sorted, and what stands behind a place.
func (f *finder) order() (columns, by string) {
	if f.q.Sort == "score" {
		return "l.score, l.seq", "l.score DESC, l.seq DESC"
	}
	return "0, l.seq", "l.seq DESC"
}

func (f *finder) behind(after *storage.AlertPlace) (cond string, args []any) {
	switch {
	case after == nil:
		return "", nil
	case f.q.Sort == "score":
		return "(l.score, l.seq) < (?, ?)", []any{after.Rank, after.Seq}
	}
	return "l.seq < ?", []any{after.Seq}
}

// page returns up to limit places of the alerts in facets behind after.
func (f *finder) page(ctx context.Context, facets []facetRow, after *storage.AlertPlace, limit int) ([]storage.AlertPlace, error) {
	if len(facets) == 0 {
		return nil, nil
	}
	columns, by := f.order()
	behind, behindArgs := f.behind(after)
	in, inArgs := f.inFacets(facets)
	if !f.driver {
		// Most pages are among the newest, whatever is asked.
		conds, args := f.conds(true)
		list, err := f.places(ctx, fmt.Sprintf("SELECT %s FROM (SELECT n, seq, facet, time, first_time, score FROM alert_list l%s ORDER BY %s LIMIT %d) l%s ORDER BY %s LIMIT %d",
			columns, where(behind), by, f.db.limits.probe, where(append(conds, in)...), by, limit), slices.Concat(behindArgs, args, inArgs)...)
		if err != nil || len(list) == limit {
			return list, err
		}
	}
	conds, args := f.conds(false)
	conds, args = append(conds, behind), append(args, behindArgs...)
	if f.fewFacets(ctx, facets) {
		return f.eachFacet(ctx, facets, conds, args, limit)
	}
	return f.places(ctx, fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT %d", columns, f.source(ctx, true), where(append(conds, in)...), by, limit), slices.Concat(args, inArgs)...)
}

// conds are the conditions beside the facets. Of few alerts that are looked at
// anyway each is asked whether it has the tags; else those that have them are.
func (f *finder) conds(few bool) (conds []string, args []any) {
	conds, args = slices.Clone(f.where), slices.Clone(f.args)
	for _, tag := range f.q.Tags {
		if few {
			conds = append(conds, "EXISTS (SELECT 1 FROM alert_tags t WHERE t.tag = ? AND t.n = l.n)")
		} else {
			conds = append(conds, "l.n IN (SELECT n FROM alert_tags WHERE tag = ?)")
		}
		args = append(args, tag)
	}
	return conds, args
}

// fewFacets tells whether the facets select less than the other conditions.
func (f *finder) fewFacets(ctx context.Context, facets []facetRow) bool {
	if f.driver {
		return false
	}
	if len(f.q.Tags) > 0 || f.q.Since == 0 && f.q.Until == 0 {
		return len(f.q.Tags) == 0
	}
	var of int64
	for i := range facets {
		of += facets[i].alerts
	}
	return of < f.within(ctx)
}

// within is about how many alerts the times leave, by how long they are.
func (f *finder) within(ctx context.Context) int64 {
	if f.narrow.Valid {
		return f.narrow.Int64
	}
	f.narrow.Valid = true
	var least, most sql.NullInt64
	err := f.db.readers.QueryRowContext(ctx, "SELECT (SELECT min(time) FROM alert_list), (SELECT max(first_time) FROM alert_list)").Scan(&least, &most)
	if err != nil || most.Int64 <= least.Int64 {
		f.narrow.Int64 = f.stored
		return f.stored
	}
	since, until := max(int64(f.q.Since), least.Int64), most.Int64
	if f.q.Until != 0 {
		until = min(int64(f.q.Until), until)
	}
	before, behind := float64(until-least.Int64), float64(most.Int64-since) // entries of the one index, of the other
	f.narrow.Int64 = int64(min(before, behind) / float64(most.Int64-least.Int64) * float64(f.stored))
	f.first = before < behind
	return f.narrow.Int64
}

// source is the table, by the index that cuts most where a time is asked for, or
// ordered by the one that needs no sorting where that cuts little.
func (f *finder) source(ctx context.Context, ordered bool) string {
	if f.driver || len(f.q.Tags) > 0 || f.q.Since == 0 && f.q.Until == 0 {
		return "alert_list l"
	}
	few := f.within(ctx) < f.stored/4
	switch {
	case ordered && !few && f.q.Sort == "score": // most of what comes first is in the window
		return "alert_list l INDEXED BY alert_list_score"
	case ordered && !few:
		return "alert_list l INDEXED BY alert_list_seq"
	case f.first:
		return "alert_list l INDEXED BY alert_list_first"
	}
	return "alert_list l INDEXED BY alert_list_time"
}

// eachFacet takes the first of each facet, each by the index, and the first of
// those.
func (f *finder) eachFacet(ctx context.Context, facets []facetRow, conds []string, args []any, limit int) ([]storage.AlertPlace, error) {
	columns, by := f.order()
	index := map[string]string{"score": "alert_list_facet_score"}[f.q.Sort]
	if index == "" {
		index = "alert_list_facet"
	}
	query := fmt.Sprintf("SELECT %s FROM json_each(?) j JOIN alert_list l ON l.n IN (SELECT l.n FROM alert_list l INDEXED BY %s%s ORDER BY %s LIMIT %d) ORDER BY %s LIMIT %d",
		columns, index, where(append(conds, "l.facet = j.value")...), by, limit, by, limit)
	return f.places(ctx, query, append([]any{idsOf(facets)}, args...)...)
}

// where joins conditions, without the empty ones.
func where(conds ...string) string {
	conds = slices.DeleteFunc(conds, func(s string) bool { return s == "" })
	if len(conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(conds, " AND ")
}

func (f *finder) places(ctx context.Context, query string, args ...any) ([]storage.AlertPlace, error) {
	return readAll(ctx, f.db, "find alerts", func(rows *sql.Rows, p *storage.AlertPlace) error { return rows.Scan(&p.Rank, &p.Seq) }, query, args...)
}

// bySeverity is page, severity by severity.
func (f *finder) bySeverity(ctx context.Context) (list []storage.AlertPlace, err error) {
	for rank := int64(len(severities()) - 1); rank >= 0 && len(list) < f.q.Limit; rank-- {
		after := f.q.After
		if after != nil && rank > after.Rank {
			continue
		}
		if after != nil && rank < after.Rank {
			after = nil
		}
		var facets []facetRow
		for _, r := range f.facets {
			if r.rank == rank {
				facets = append(facets, r)
			}
		}
		more, err := f.page(ctx, facets, after, f.q.Limit-len(list))
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			list = append(list, storage.AlertPlace{Rank: rank, Seq: p.Seq})
		}
	}
	return list, nil
}

// fewBySeverity is bySeverity for conditions that select few alerts.
func (f *finder) fewBySeverity(ctx context.Context) ([]storage.AlertPlace, error) {
	conds, args := f.conds(false)
	in, inArgs := f.inFacets(f.facets)
	args = append(args, inArgs...)
	behind := ""
	if after := f.q.After; after != nil {
		behind, args = "(s.severity, l.seq) < (?, ?)", append(args, after.Rank, after.Seq)
	}
	return f.places(ctx, fmt.Sprintf("SELECT s.severity, l.seq FROM alert_list l CROSS JOIN alert_facets s ON s.id = l.facet%s ORDER BY 1 DESC, 2 DESC LIMIT %d",
		where(append(conds, in, behind)...), f.q.Limit), args...)
}

// count tells how many alerts the query selects, without its page.
func (f *finder) count(ctx context.Context) (n int64, exact bool, err error) {
	if len(f.where) == 0 && len(f.q.Tags) == 0 {
		for _, r := range f.facets {
			n += r.alerts
		}
		return n, true, nil
	}
	most := f.db.limits.count
	if f.alone { // the text's index says it, without a look at the alerts
		n, err = f.hits(ctx, f.db.limits.alone)
		return min(n, most), n < f.db.limits.alone && n <= most, err
	}
	in, inArgs := f.inFacets(f.facets)
	conds, args := f.conds(false)
	from := f.source(ctx, false)
	if f.fewFacets(ctx, f.facets) {
		from, in, args, inArgs = "json_each(?) j CROSS JOIN alert_list l INDEXED BY alert_list_facet", "l.facet = j.value", append([]any{idsOf(f.facets)}, args...), nil
	}
	query := fmt.Sprintf("SELECT count(*) FROM (SELECT 1 FROM %s%s LIMIT %d)", from, where(append(conds, in)...), most+1)
	if err := f.db.readers.QueryRowContext(ctx, query, slices.Concat(args, inArgs)...).Scan(&n); err != nil {
		return 0, false, fmt.Errorf("count alerts: %w", f.db.wrap(err))
	}
	if exact = n <= most; exact {
		exact, err = f.allWords(ctx)
	}
	return min(n, most), exact, err
}

// allWords tells whether the words did not hit more alerts than are looked at.
func (f *finder) allWords(ctx context.Context) (bool, error) {
	if len(f.words) == 0 {
		return true, nil
	}
	n, err := f.hits(ctx, f.db.limits.words)
	return n < f.db.limits.words, err
}

// hits counts the alerts with all words, up to most.
func (f *finder) hits(ctx context.Context, most int64) (n int64, err error) {
	err = f.db.readers.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM alert_text WHERE alert_text MATCH ? LIMIT ?)", matchOf(f.words), most).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count alerts: %w", f.db.wrap(err))
	}
	return n, nil
}

// fill reads the alerts at places.
func (db *DB) fill(ctx context.Context, list *storage.AlertList, places []storage.AlertPlace) error {
	seqs := make([]int64, len(places))
	for i, p := range places {
		seqs[i] = p.Seq
	}
	text, err := json.Marshal(seqs)
	if err != nil {
		return fmt.Errorf("find alerts: %w", err)
	}
	stored, err := db.alerts(ctx, "SELECT seq, body, backfill FROM alerts WHERE seq IN (SELECT value FROM json_each(?))", string(text))
	if err != nil {
		return err
	}
	bySeq := make(map[int64]*storage.StoredAlert, len(stored))
	for i := range stored {
		bySeq[stored[i].Seq] = &stored[i]
	}
	for _, p := range places {
		if a := bySeq[p.Seq]; a != nil { // else it went just now
			list.Alerts, list.Places = append(list.Alerts, *a), append(list.Places, p)
		}
	}
	return nil
}

// LatestAlerts returns the latest revisions of those of ids that are stored.
func (db *DB) LatestAlerts(ctx context.Context, ids []string) ([]storage.StoredAlert, error) {
	text, err := json.Marshal(ids)
	if err != nil {
		return nil, fmt.Errorf("read alerts: %w", err)
	}
	return db.alerts(ctx, `SELECT a.seq, a.body, a.backfill FROM json_each(?) j JOIN alert_list l ON l.id = j.value JOIN alerts a ON a.seq = l.seq`, string(text))
}
