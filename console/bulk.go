package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"weir/pipeline"
)

// What one bulk change may be.
const (
	maxBulk     = 10_000 // alerts
	maxBulkBody = 4 << 20
	bulkPath    = "/api/v1/alerts/bulk"
)

// bulkRequest changes many alerts: those of IDs or those that Filter selects, all
// in the same way, or Items, each in its own.
type bulkRequest struct {
	IDs    []string          `json:"ids,omitempty"`
	Filter map[string]string `json:"filter,omitempty"` // the parameters of the list
	Count  *int64            `json:"count,omitempty"`  // that the person saw of Filter
	Change *triageRequest    `json:"change,omitempty"`
	Items  []bulkItem        `json:"items,omitempty"`
}

// bulkItem changes one alert; with Revision that of the triage it is made to.
type bulkItem struct {
	ID       string         `json:"id"`
	Revision *int64         `json:"revision,omitempty"`
	Change   *triageRequest `json:"change"`
}

// bulkOutcome is what became of one.
type bulkOutcome struct {
	ID      string     `json:"id"`
	Outcome string     `json:"outcome"` // changed, unchanged, stale, not_found, invalid
	Detail  string     `json:"detail"`
	Triage  *triageRow `json:"triage"` // from now on
	Before  *triageRow `json:"before"`
}

// bulkAnswer says what became of all.
type bulkAnswer struct {
	Changed int           `json:"changed"`
	Data    []bulkOutcome `json:"data"`
}

// bulk changes many alerts in one step, with the audit's entries, and says of each
// what became of it.
func (c *console) bulk(w http.ResponseWriter, r *http.Request, who *caller) {
	var q bulkRequest
	err := readWhole(r, &q)
	if err == nil {
		err = q.check()
	}
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	done, err := c.turn(ctx)
	if err != nil {
		c.busy(w)
		return
	}
	defer done()
	items, err := c.bulkItems(ctx, &q)
	var out bulkAnswer
	if err == nil {
		out, err = c.changeAll(ctx, w, r, who, items)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	answer(w, http.StatusOK, out)
}

// check says what is wrong with q alone.
func (q *bulkRequest) check() error {
	bad := func(format string, args ...any) error {
		return &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	ways := 0
	for _, has := range []bool{q.IDs != nil, q.Filter != nil, q.Items != nil} {
		if has {
			ways++
		}
	}
	switch {
	case ways != 1:
		return bad("give ids and change, filter, count and change, or items")
	case (q.Items == nil) != (q.Change != nil):
		return bad("change: goes with ids and with filter, and only there")
	case (q.Filter == nil) != (q.Count == nil):
		return bad("count: goes with filter, and says how many alerts the person saw")
	case len(q.IDs) > maxBulk || len(q.Items) > maxBulk || q.Count != nil && (*q.Count < 0 || *q.Count > maxBulk):
		return bad("at most %d alerts at a time", maxBulk)
	}
	if q.Change != nil {
		if said := q.Change.check(); said != "" {
			return bad("change: %s", said)
		}
	}
	seen := map[string]bool{}
	for _, id := range q.IDs {
		if seen[id] {
			return bad("ids: %s is there twice", quote(id))
		}
		seen[id] = true
	}
	for i, item := range q.Items {
		if item.Change == nil || seen[item.ID] {
			return bad("items: each has a change, and no id is there twice")
		}
		seen[item.ID] = true
		if said := item.Change.check(); said != "" {
			return bad("items[%d].change: %s", i, said)
		}
	}
	return nil
}

// bulkItems lists what to change.
func (c *console) bulkItems(ctx context.Context, q *bulkRequest) (items []bulkItem, err error) {
	switch {
	case q.Items != nil:
		return q.Items, nil
	case q.IDs != nil:
		for _, id := range q.IDs {
			items = append(items, bulkItem{ID: id, Change: q.Change})
		}
		return items, nil
	}
	values := url.Values{}
	for name, v := range q.Filter {
		values.Set(name, v)
	}
	p := newQuery(values.Encode())
	f := p.deskFilter()
	if err := p.err(); err != nil {
		return nil, err
	}
	f.Sort, f.Limit, f.Count = sortNewest, maxBulk+1, false
	list, err := c.Store.FindAlerts(ctx, f)
	if err != nil {
		return nil, err
	}
	if n := int64(len(list.Alerts)); n != *q.Count {
		return nil, &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("filter: it selects %d alerts now, not %d; look again", n, *q.Count), Count: &n}
	}
	for i := range list.Alerts {
		items = append(items, bulkItem{ID: list.Alerts[i].Alert.ID, Change: q.Change})
	}
	return items, nil
}

// changeAll makes the changes in one step. One that names no revision is tried
// again when somebody was faster.
func (c *console) changeAll(ctx context.Context, w http.ResponseWriter, r *http.Request, who *caller, items []bulkItem) (out bulkAnswer, err error) {
	out.Data = make([]bulkOutcome, len(items))
	left := make([]int, len(items))
	for i := range left {
		left[i] = i
	}
	for try := 1; len(left) > 0; try++ {
		saves, at, err := c.prepare(ctx, w, r, who, items, left, out.Data)
		if err != nil {
			return out, err
		}
		left = left[:0]
		errs, err := c.Store.SaveTriages(ctx, saves)
		if err != nil {
			return out, err
		}
		for k, i := range at {
			o := &out.Data[i]
			switch {
			case errs[k] == nil:
				o.Outcome = "changed"
				out.Changed++
			case errors.Is(errs[k], ErrStale) && items[i].Revision == nil && try < triageTries:
				left = append(left, i)
			case errors.Is(errs[k], ErrStale):
				*o = bulkOutcome{ID: o.ID, Outcome: "stale", Detail: "somebody else changed it meanwhile"}
			case errors.Is(errs[k], ErrNoAlert):
				*o = bulkOutcome{ID: o.ID, Outcome: "not_found", Detail: ErrNoAlert.Error()}
			default:
				return out, errs[k]
			}
		}
	}
	return out, nil
}

// prepare makes the changes of the items at left; at says of each save which item
// it is of.
func (c *console) prepare(ctx context.Context, w http.ResponseWriter, r *http.Request, who *caller, items []bulkItem, left []int, out []bulkOutcome) (saves []TriageSave, at []int, err error) {
	ids := make([]string, len(left))
	for k, i := range left {
		ids[k] = items[i].ID
	}
	found, err := c.Store.Triages(ctx, ids)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range left {
		item, o := &items[i], &out[i]
		*o = bulkOutcome{ID: item.ID}
		body, ok := found[item.ID]
		if !ok {
			o.Outcome, o.Detail = "not_found", ErrNoAlert.Error()
			continue
		}
		save, said, err := c.prepareOne(w, r, who, item, body, o)
		if err != nil {
			return nil, nil, err
		}
		if said != "" {
			o.Outcome = said
			continue
		}
		saves, at = append(saves, *save), append(at, i)
	}
	return saves, at, nil
}

// prepareOne makes one change; said is its outcome when there is nothing to save.
func (c *console) prepareOne(w http.ResponseWriter, r *http.Request, who *caller, item *bulkItem, body []byte, o *bulkOutcome) (save *TriageSave, said string, err error) {
	old, err := readTriageBody(body)
	if err != nil {
		return nil, "", err
	}
	before := rowOfTriage(&old)
	o.Before = &before
	if item.Revision != nil && *item.Revision != old.Revision {
		o.Triage, o.Detail = &before, fmt.Sprintf("it is at revision %d, not %d", old.Revision, *item.Revision)
		return nil, "stale", nil
	}
	e := c.entry(w, r, who, "alert.triage", &AuditTarget{Kind: "alert", IDs: []string{item.ID}}, item.Change.Comment)
	t, err := old.apply(item.Change, who.name, e.Time)
	if p, ok := errors.AsType[*problem](err); ok {
		o.Triage, o.Detail = &before, p.Detail
		return nil, "invalid", nil
	}
	if err != nil {
		return nil, "", err
	}
	if old.sameAs(t) {
		o.Triage = &before
		return nil, "unchanged", nil
	}
	t.Revision = old.Revision + 1
	e.Outcome, e.Before, e.After = "success", old.audited(), t.audited()
	after := rowOfTriage(t)
	o.Triage = &after
	text, err := json.Marshal(t)
	return &TriageSave{ID: item.ID, Revision: t.Revision, Body: text, Audit: e}, "", err
}

// sameAs tells whether a change changes nothing.
func (t *Triage) sameAs(n *Triage) bool {
	if t.Status != n.Status || t.Assignee != n.Assignee || t.Verdict != n.Verdict || len(t.Comments) != len(n.Comments) || !slices.Equal(t.Tags, n.Tags) {
		return false
	}
	return len(n.Comments) == 0 || n.Comments[len(n.Comments)-1].Time == t.Comments[len(t.Comments)-1].Time
}

// timeOrNil is t, nil for none.
func timeOrNil(t pipeline.Time) *pipeline.Time {
	if t == 0 || t == pipeline.NoTime {
		return nil
	}
	return &t
}
