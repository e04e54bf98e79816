package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"weir/storage"
)

// GroupAlerts counts the alerts that q selects by a property: detector, severity,
// assignee, triage, status, principal, endpoint or campaign; most alerts first. Of
// the last three it looks at the newest alerts only, findLimits.groups of them.
func (db *DB) GroupAlerts(ctx context.Context, q storage.AlertQuery, by string) ([]storage.AlertGroup, error) {
	f, err := db.newFinder(ctx, &q)
	if err != nil || len(f.facets) == 0 {
		return nil, err
	}
	column := map[string]string{"principal": "l.principal", "endpoint": "l.endpoint", "campaign": "l.campaign"}[by]
	in, inArgs := f.inFacets(f.facets)
	conds, args := f.conds(false)
	conds, args = append(conds, in), append(args, inArgs...)
	query := fmt.Sprintf("SELECT '', l.facet, count(*), max(l.seq) FROM %s%s GROUP BY 2", f.source(ctx, false), where(conds...))
	switch {
	case column != "":
		query = fmt.Sprintf("SELECT %s, l.facet, count(*), max(l.seq) FROM (SELECT l.facet, l.seq, %s FROM %s%s ORDER BY l.seq DESC LIMIT %d) l GROUP BY 1, 2",
			column, column, f.source(ctx, true), where(conds...), db.limits.groups)
	case len(f.where) == 0 && len(q.Tags) == 0:
		query = "SELECT '', f.id, f.alerts, (SELECT max(seq) FROM alert_list l INDEXED BY alert_list_facet WHERE l.facet = f.id) FROM json_each(?) j JOIN alert_facets f ON f.id = j.value"
		args = []any{idsOf(f.facets)}
	}
	type part struct {
		key             string
		facet, n, newer int64
	}
	parts, err := readAll(ctx, db, "group alerts", func(rows *sql.Rows, p *part) error { return rows.Scan(&p.key, &p.facet, &p.n, &p.newer) },
		query, args...)
	if err != nil {
		return nil, err
	}
	facets := make(map[int64]*facetRow, len(f.facets))
	for i := range f.facets {
		facets[f.facets[i].id] = &f.facets[i]
	}
	groups := map[string]*storage.AlertGroup{}
	for _, p := range parts {
		r := facets[p.facet]
		if r == nil {
			continue // it came between the two queries
		}
		name := cmp.Or(p.key, map[string]string{"detector": r.detector, "severity": severities()[r.rank], "assignee": r.assignee, "triage": r.triage, "status": r.status}[by])
		g := groups[name]
		if g == nil {
			g = &storage.AlertGroup{Key: name, Severity: severities()[r.rank]}
			groups[name] = g
		}
		addTo(g, r, p.n, p.newer)
	}
	list := make([]storage.AlertGroup, 0, len(groups))
	for _, g := range groups {
		list = append(list, *g)
	}
	slices.SortFunc(list, func(a, b storage.AlertGroup) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(b.Seq, a.Seq), cmp.Compare(a.Key, b.Key))
	})
	return list, nil
}

func addTo(g *storage.AlertGroup, r *facetRow, n, newest int64) {
	g.Count += n
	g.Seq = max(g.Seq, newest)
	if r.status == "open" {
		g.Open += n
	}
	if r.triage == "new" {
		g.New += n
	}
	if rankOf(g.Severity) < int(r.rank) {
		g.Severity = severities()[r.rank]
	}
}
