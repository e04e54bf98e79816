package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"weir/pipeline"
)

// alerts answers {"data":[...],"more":BOOL,"before":SEQ,"after":SEQ,"next":CURSOR,
// "total":{"count","exact"}}. By newest pages are by place in the feed: nobody sees
// an alert twice. One that changes meanwhile moves in front of the first page; the
// first page's after finds it.
func (c *console) alerts(r *http.Request) ([]byte, error) {
	q := newQuery(r.URL.RawQuery)
	f, rows, err := c.deskQuery(q)
	if err != nil {
		return nil, err
	}
	limit := f.Limit
	f.Limit++ // to know whether there are more
	list, err := c.Store.FindAlerts(r.Context(), f)
	if err != nil {
		return nil, err
	}
	shown := list.Alerts[:min(len(list.Alerts), limit)]
	out := []byte(`{"data":[`)
	var n int
	if rows {
		out, n, err = appendRows(out, shown)
	} else {
		out, n = appendFound(out, shown)
	}
	if err != nil {
		return nil, err
	}
	more := len(list.Alerts) > n
	before, after, next, total := "null", "null", "null", "null"
	if n > 0 && f.Sort == sortNewest {
		before, after = strconv.FormatInt(shown[n-1].Seq, 10), strconv.FormatInt(shown[0].Seq, 10)
	}
	if more {
		p := list.Places[n-1]
		next = strconv.Quote(c.seals.seal(listHash(q.values), position{seq: p.Seq, known: p.Rank}))
	}
	if f.Count {
		total = fmt.Sprintf(`{"count":%d,"exact":%t}`, list.Total, list.Exact)
	}
	return fmt.Appendf(out, "\n],\"more\":%t,\"before\":%s,\"after\":%s,\"next\":%s,\"total\":%s}\n", more, before, after, next, total), nil
}

// appendFound appends whole alerts, a line each, as far as an answer may go.
func appendFound(dst []byte, list []Found) ([]byte, int) {
	whole := make([]Alert, len(list))
	for i := range list {
		whole[i] = Alert{Seq: list[i].Seq, JSON: list[i].JSON}
	}
	return appendAlerts(dst, whole)
}

// appendRows appends rows, a line each, as far as an answer may go.
func appendRows(dst []byte, list []Found) ([]byte, int, error) {
	whole := make([]Alert, len(list))
	for i := range list {
		row, err := rowOf(&list[i])
		if err != nil {
			return dst, 0, err
		}
		text, err := plainJSON(row)
		if err != nil {
			return dst, 0, err
		}
		whole[i] = Alert{Seq: list[i].Seq, JSON: text}
	}
	dst, n := appendAlerts(dst, whole)
	return dst, n, nil
}

// plainJSON is v on one line, as a terminal may show it.
func plainJSON(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	return appendPrintable(nil, text), err
}

// groupsBy are the properties that alerts are grouped by.
func groupsBy() []string {
	return []string{"detector", "severity", "status", "triage", "assignee", "principal", "endpoint", "campaign"}
}

// groupView is a group as the API shows it.
type groupView struct {
	Key      string            `json:"key"`
	Filter   map[string]string `json:"filter"` // the parameters that select it; null where none do
	Count    int64             `json:"count"`
	Open     int64             `json:"open"`
	New      int64             `json:"new"`
	Severity string            `json:"severity"`
	Latest   *groupLatest      `json:"latest"`
}

type groupLatest struct {
	ID    string        `json:"id"`
	Seq   int64         `json:"seq"`
	Title string        `json:"title"`
	Last  pipeline.Time `json:"last"`
}

const groupsLimit, maxGroups = 50, 500

// groups answers {"data":[...],"more":BOOL,"total":N}: how many alerts have what in
// common.
func (c *console) groups(r *http.Request) (any, error) {
	q := newQuery(r.URL.RawQuery)
	f := q.deskFilter()
	by := q.one("by", "one of "+strings.Join(groupsBy(), ", "))
	if by == "" {
		by = "detector"
	}
	if !slices.Contains(groupsBy(), by) {
		q.bad("by", by, "one of "+strings.Join(groupsBy(), ", "))
	}
	limit := int(q.number("limit", groupsLimit, 1, maxGroups))
	if err := q.err(); err != nil {
		return nil, err
	}
	groups, err := c.Store.GroupAlerts(r.Context(), f, by)
	if err != nil {
		return nil, err
	}
	total := len(groups)
	groups = groups[:min(total, limit)]
	list := make([]groupView, len(groups))
	for i, g := range groups {
		key := strings.TrimSpace(g.Key)
		list[i] = groupView{Key: key, Count: g.Count, Open: g.Open, New: g.New, Severity: g.Severity}
		switch {
		case key == "" && by == "assignee":
			list[i].Filter = map[string]string{by: "-"}
		case key != "":
			list[i].Filter = map[string]string{by: g.Key}
		}
		latest, err := c.Store.FindAlerts(r.Context(), AlertQuery{AfterSeq: g.Seq - 1, BeforeSeq: g.Seq + 1, Limit: 1})
		if err != nil {
			return nil, err
		}
		if len(latest.Alerts) == 1 {
			a := &latest.Alerts[0].Alert
			list[i].Latest = &groupLatest{a.ID, g.Seq, a.Title, a.Window.Last}
		}
	}
	return map[string]any{"data": list, "more": total > limit, "total": total}, nil
}
