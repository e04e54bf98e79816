package console

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// What an export may cost.
const (
	maxExport   = 100_000 // alerts
	exportPage  = 500     // alerts of a turn
	exportWrite = 30 * time.Second
	maxExports  = 20 // at once, and then one every
	exportEvery = 10 * time.Second
)

// exportColumns are those of an export as CSV.
func exportColumns() []string {
	return []string{
		"id", "revision", "status", "severity", "tier", "detector", "title", "reason", "level", "principal_kind", "principal", "method", "host", "template",
		"first", "last", "detected_at", "ongoing", "score", "requests", "succeeded", "accounts", "objects", "network", "country", "service", "env", "team",
		"campaign", "suppressed", "backfill", "triage", "assignee", "verdict", "tags", "comments",
	}
}

func (r *alertRow) csv() []string {
	known := func(n *int64) string {
		if n == nil {
			return ""
		}
		return strconv.FormatInt(*n, 10)
	}
	at := func(t pipeline.Time) string { return t.Std().UTC().Format(time.RFC3339Nano) }
	list := []string{
		r.ID, strconv.Itoa(r.Revision), r.Status, r.Severity, r.Tier, r.Detector, r.Title, r.Reason, r.Level, r.Principal.Kind.String(), r.Principal.Value,
		r.Endpoint.Method, r.Endpoint.Host, r.Endpoint.Template, at(r.First), at(r.Last), at(r.DetectedAt), strconv.FormatBool(r.Ongoing),
		strconv.FormatFloat(r.Score, 'f', 2, 64), strconv.FormatInt(r.Requests, 10), known(r.Succeeded), known(r.Accounts), strconv.FormatInt(r.Objects, 10),
		r.Network, r.Country, r.Labels["service"], r.Labels["env"], r.Labels["team"], r.Campaign, strconv.FormatBool(r.Suppressed), strconv.FormatBool(r.Backfill),
		r.Triage.Status, r.Triage.Assignee, r.Triage.Verdict, strings.Join(r.Triage.Tags, " "), strconv.Itoa(r.Triage.Comments),
	}
	for i := range list {
		list[i] = plainCell(list[i])
	}
	return list
}

// plainCell keeps a spreadsheet from taking s, which may come from an attacker, for a
// formula.
func plainCell(s string) string {
	if s != "" && strings.ContainsRune("=+-@\t\r", rune(s[0])) {
		return "'" + s
	}
	return s
}

// export writes all alerts that the filters select, those that changed last first:
// whole ones a line each, or rows as CSV. The audit has who took which.
func (c *console) export(w http.ResponseWriter, r *http.Request, who *caller) {
	q := newQuery(r.URL.RawQuery)
	f := q.deskFilter()
	form := q.oneOf("format", "ndjson", "csv")
	if err := q.err(); err != nil {
		c.refuseFor(w, r, err)
		return
	}
	f.Sort, f.Limit, f.Full, f.Count = sortNewest, exportPage, form != "csv", true
	first, err := c.exportPage(r.Context(), f)
	if err == nil {
		if ok, _ := c.exports.admit(time.Now()); !ok {
			retryAfter(w, exportEvery)
			err = &problem{Status: http.StatusTooManyRequests, Detail: "too many exports in a short time"}
		}
	}
	if err == nil {
		e := c.entry(w, r, who, "alerts.export", &AuditTarget{Kind: "alert", IDs: []string{}}, "")
		e.Outcome, e.After = "success", map[string]any{"filter": filterOf(q), "format": form, "alerts": min(first.Total, maxExport)}
		err = c.record(r.Context(), e)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	x := exporter{c: c, w: w, rc: http.NewResponseController(w), csv: form == "csv", seen: map[string]bool{}}
	kind, name := "application/x-ndjson", "alerts.ndjson"
	if x.csv {
		kind, name = "text/csv; charset=utf-8", "alerts.csv"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Disposition", `attachment; filename="`+name+`"`)
	w.Header().Set("X-Total-Count", strconv.FormatInt(first.Total, 10))
	if err := x.run(r.Context(), f, first); err != nil {
		// Half of it is out: cut the connection, so that nobody takes it for whole.
		panic(http.ErrAbortHandler)
	}
}

func filterOf(q *query) map[string]string {
	out := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(q.values)) {
		if name != "format" {
			out[name] = strings.Join(q.values[name], ",")
		}
	}
	return out
}

// exportPage takes a turn for a page, so that an export keeps nobody from an answer.
func (c *console) exportPage(ctx context.Context, f AlertQuery) (AlertList, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	done, err := c.turn(ctx)
	if err != nil {
		return AlertList{}, &problem{Status: http.StatusServiceUnavailable, Detail: "other answers are in the making"}
	}
	defer done()
	return c.Store.FindAlerts(ctx, f)
}

type exporter struct {
	c       *console
	w       http.ResponseWriter
	rc      *http.ResponseController
	csv     bool
	seen    map[string]bool
	written int
}

func (x *exporter) run(ctx context.Context, f AlertQuery, page AlertList) error {
	f.Count = false
	top := int64(0)
	if len(page.Alerts) > 0 {
		top = page.Alerts[0].Seq
	}
	head := []byte{}
	if x.csv {
		head = []byte(strings.Join(exportColumns(), ",") + "\r\n")
	}
	if _, err := x.w.Write(head); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	for {
		if err := x.write(page.Alerts); err != nil {
			return err
		}
		if len(page.Alerts) < exportPage || x.written >= maxExport {
			break
		}
		f.After = &page.Places[len(page.Places)-1]
		var err error
		if page, err = x.c.exportPage(ctx, f); err != nil {
			return err
		}
	}
	if top == 0 || x.written >= maxExport {
		return nil
	}
	// What changed meanwhile is in front of the first page.
	f.After, f.AfterSeq, f.Limit = nil, top, maxAlerts
	page, err := x.c.exportPage(ctx, f)
	if err != nil {
		return err
	}
	return x.write(page.Alerts)
}

// write writes those of list that are not written yet.
func (x *exporter) write(list []Found) error {
	var b bytes.Buffer
	cells := csv.NewWriter(&b)
	cells.UseCRLF = true
	for i := range list {
		id := list[i].Alert.ID
		if x.seen[id] || x.written >= maxExport {
			continue
		}
		x.seen[id] = true
		x.written++
		if !x.csv {
			b.Write(appendPrintable(nil, list[i].JSON))
			b.WriteByte('\n')
			continue
		}
		row, err := rowOf(&list[i])
		if err == nil {
			err = cells.Write(row.csv())
		}
		if err != nil {
			return err
		}
	}
	cells.Flush()
	_ = x.rc.SetWriteDeadline(time.Now().Add(exportWrite))
	if _, err := x.w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}
