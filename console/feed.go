package console

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// The feeds.
const (
	feedAlerts = "alerts"
	feedAudit  = "audit"
)

// What a page of a feed may be.
const (
	feedLimit, maxFeed = 500, 5000
	feedPage           = 4 << 20 // bytes; the rest is on the next page
	feedStep           = 500     // rows read at a time
	maxWait            = 60      // seconds
)

// The formats of alerts in their feed. CEF is a line of text, the others are
// objects.
const (
	formatNative = "native"
	formatCEF    = "cef"
)

func feedFormats() []string { return []string{formatNative, "ocsf", "ecs", "cim", formatCEF} }

// HeartbeatSchema names the row that says that a feed without news is alive.
const HeartbeatSchema = "weir.heartbeat/1"

// heartbeat is such a row. It has no place in the feed.
type heartbeat struct {
	Schema  string         `json:"schema"`
	Feed    string         `json:"feed"`
	Time    pipeline.Time  `json:"time"`
	Through *pipeline.Time `json:"detected_through"` // event time that detection has reached; null before the first
	Waits   []string       `json:"waits_for"`        // empty when all is well
}

// feedQuery is what a reader asks for.
type feedQuery struct {
	FeedFilter
	filter       [4]byte
	cursor       string
	newest       bool
	since, until pipeline.Time // 0 for none
	limit        int
	wait         time.Duration
	beat         bool
	values       url.Values
}

func (q *query) feedQuery(feed string) (f feedQuery) {
	f.Feed, f.Format, f.Until, f.values = feed, formatNative, math.MaxInt64, q.values
	f.cursor = q.one("cursor", "a cursor as a page gave it")
	start := q.one("start", "oldest or newest")
	if f.newest = start == "newest"; start != "" && !f.newest && start != "oldest" {
		q.bad("start", start, "oldest or newest")
	}
	f.since = q.time("since")
	if start != "" && f.since != 0 {
		q.errs = append(q.errs, errors.New("start and since are given; use one"))
	}
	f.beat = q.truth("heartbeat")
	if feed == feedAlerts {
		f.Severity = q.words("severity", "info", "low", "medium", "high", "critical")
		f.Format = cmp.Or(q.oneOf("format", feedFormats()...), formatNative)
		if f.Format == formatCEF && f.beat {
			q.errs = append(q.errs, errors.New("a heartbeat is no CEF"))
		}
	}
	f.filter = filterHash(feed, f.Severity)
	return f
}

// feedPageQuery adds what only pages have.
func (q *query) feedPageQuery(feed string) (f feedQuery, err error) {
	f = q.feedQuery(feed)
	if f.until = q.time("until"); f.until != 0 && f.until < f.since {
		q.errs = append(q.errs, errUntil)
	}
	f.limit = int(q.number("limit", feedLimit, 1, maxFeed))
	f.wait = time.Duration(q.number("wait", 0, 0, maxWait)) * time.Second
	return f, q.err()
}

func (q *query) feedStreamQuery(feed string) (f feedQuery, err error) {
	f = q.feedQuery(feed)
	return f, q.err()
}

// begin returns where a reader goes on, and says in a *problem why it cannot.
func (c *console) begin(ctx context.Context, f *feedQuery) (p position, err error) {
	removed, last, err := c.Store.FeedBounds(ctx, f.Feed)
	if err != nil {
		return p, err
	}
	if f.cursor == "" {
		p.known = removed
		if f.newest {
			p.seq = last
		}
		if f.since != 0 {
			p.seq, _, err = c.placeOf(ctx, f.Feed, f.since, last)
		}
		return p, err
	}
	if p, err = c.seals.open(f.filter, f.cursor); err != nil {
		return p, &problem{Status: http.StatusBadRequest, Detail: "cursor: " + err.Error()}
	}
	return p, c.missed(f, p, removed, last)
}

// placeOf is the place in a feed of a time. While no row is as late, ended is
// false and the place is last.
func (c *console) placeOf(ctx context.Context, feed string, t pipeline.Time, last int64) (seq int64, ended bool, err error) {
	seq, ended, err = c.Store.FeedAt(ctx, feed, t)
	if err == nil && !ended {
		seq = last
	}
	return seq, ended, err
}

// missed says that a reader at p cannot go on without knowing that it missed
// rows, nil when it can.
func (c *console) missed(f *feedQuery, p position, removed, last int64) error {
	var detail string
	switch {
	case removed > max(p.seq, p.known):
		detail = "retention has removed rows behind this cursor; oldest_cursor goes on with what is left"
	case p.seq > last:
		detail = "the feed ends before this cursor: the store was replaced; oldest_cursor begins anew"
	default:
		return nil
	}
	return &problem{Status: http.StatusGone, Detail: detail, OldestCursor: c.seals.seal(f.filter, position{known: removed})}
}

// page is a piece of a feed.
type page struct {
	rows  [][]byte
	seqs  []int64
	next  position
	more  bool
	ended bool // nothing behind it is wanted
}

// read reads the page behind p: at most limit rows and feedPage bytes, but one
// row when there is one. A *problem says that retention passed p meanwhile.
func (c *console) read(ctx context.Context, f *feedQuery, p position, limit int) (page, error) {
	g, err := c.readRows(ctx, f, p, limit)
	if err != nil {
		return g, err
	}
	removed, last, err := c.Store.FeedBounds(ctx, f.Feed)
	if err == nil {
		err = c.missed(f, p, removed, last)
	}
	return g, err
}

func (c *console) readRows(ctx context.Context, f *feedQuery, p position, limit int) (page, error) {
	g := page{next: p}
	if f.until != 0 {
		// What comes meanwhile stands behind last, whatever its time.
		_, last, err := c.Store.FeedBounds(ctx, f.Feed)
		if err != nil {
			return g, err
		}
		if f.Until, g.ended, err = c.placeOf(ctx, f.Feed, f.until, last); err != nil {
			return g, err
		}
	}
	for size := 0; len(g.rows) < limit; {
		step := min(limit-len(g.rows), feedStep)
		rows, through, err := c.Store.FeedPage(ctx, f.FeedFilter, g.next.seq, step)
		if err != nil {
			return g, err
		}
		for _, row := range rows {
			if size += len(row.JSON); size > feedPage && len(g.rows) > 0 {
				g.more = true
				return g, nil
			}
			g.rows, g.seqs = append(g.rows, row.JSON), append(g.seqs, row.Seq)
			g.next.seq = row.Seq
		}
		if len(rows) < step {
			g.next.seq = through
			return g, nil
		}
	}
	g.more = true // or so it seems: the next page tells
	return g, nil
}

// feed answers pages of a feed, as JSON or NDJSON. A reader that waits takes no
// turn from others.
func (c *console) feed(name string) handler {
	return func(w http.ResponseWriter, r *http.Request, who *caller) {
		f, err := newQuery(r.URL.RawQuery).feedPageQuery(name)
		var form pageForm
		if err == nil {
			form, err = formOf(r.Header.Values("Accept"), f.Format)
		}
		var at position
		if err == nil {
			at, err = c.begin(r.Context(), &f)
		}
		if err == nil {
			err = c.openFeed(w, r, who, &f, at)
		}
		if err == nil {
			err = c.answerFeed(w, r, &f, at, form, who)
		}
		c.refuseFor(w, r, err)
	}
}

// openFeed notes who reads, and that the audit is read.
func (c *console) openFeed(w http.ResponseWriter, r *http.Request, who *caller, f *feedQuery, at position) error {
	if f.Feed == feedAudit && c.readers.auditDue(who.key(), time.Now()) {
		e := c.entry(w, r, who, "audit.read", nil, "")
		e.Outcome = "success"
		if err := c.record(r.Context(), e); err != nil {
			c.readers.auditFailed(who.key())
			return err
		}
	}
	c.readers.note(r.Context(), f.Feed, who, at.seq)
	return nil
}

// refuseFor answers for err: a *problem, or the store's. nil is no error.
func (c *console) refuseFor(w http.ResponseWriter, r *http.Request, err error) {
	var p *problem
	switch {
	case err == nil:
	case errors.As(err, &p):
		refuse(w, p)
	default:
		c.failed(w, r, err)
	}
}

func (c *console) answerFeed(w http.ResponseWriter, r *http.Request, f *feedQuery, at position, form pageForm, who *caller) error {
	rc := http.NewResponseController(w)
	// The deadlines of the server are for shorter answers.
	_ = rc.SetReadDeadline(time.Time{})
	deadline := time.Now().Add(f.wait)
	_ = rc.SetWriteDeadline(deadline.Add(answerWithin + 40*time.Second))
	leave := func() {}
	defer func() { leave() }()
	if f.wait > 0 {
		var ok bool
		if leave, ok = c.rates.wait(who); !ok {
			leave = func() {}
			w.Header().Set("Retry-After", "5")
			return &problem{Status: http.StatusTooManyRequests, Detail: "too many answers wait for rows; ask without wait, or later"}
		}
	}
	for {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		done, err := c.turn(ctx)
		if err != nil {
			cancel()
			c.busy(w)
			return nil
		}
		g, err := c.read(ctx, f, at, f.limit)
		cancel()
		if err != nil {
			done()
			return err
		}
		at = g.next
		if len(g.rows) > 0 || g.ended || !time.Now().Before(deadline) || c.stop.Err() != nil {
			c.writePage(w, r, f, g, form)
			done()
			return nil
		}
		done()
		if err := c.await(r.Context(), f.Feed, at.seq, time.Until(deadline)); err != nil {
			return err
		}
	}
}

// auditLook is how often the audit is looked at again: what other processes
// append wakes nobody here.
const auditLook = 3 * time.Second

// await returns when there may be rows behind seq, after a time, or when the
// server stops. The error is the store's, or the caller's end.
func (c *console) await(ctx context.Context, feed string, seq int64, within time.Duration) error {
	if feed == feedAudit {
		within = min(within, auditLook)
	}
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	defer context.AfterFunc(c.stop, cancel)()
	err := c.Store.FeedWait(waiting, feed, seq)
	if waiting.Err() != nil {
		return ctx.Err()
	}
	return err
}

// writePage writes a page with its cursor in the body, the headers and the Link.
func (c *console) writePage(w http.ResponseWriter, r *http.Request, f *feedQuery, g page, form pageForm) {
	next := c.seals.seal(f.filter, g.next)
	if f.Format == formatCEF && form != formText {
		for i, row := range g.rows {
			g.rows[i] = quoted(row)
		}
	}
	if f.beat && !g.more {
		g.rows = append(g.rows, c.beat(r.Context(), f.Feed))
	}
	h := w.Header()
	h.Set("X-Next-Cursor", next)
	h.Set("X-Has-More", strconv.FormatBool(g.more))
	follow := url.Values{}
	for name, list := range f.values {
		if name != "start" && name != "since" {
			follow[name] = list
		}
	}
	follow.Set("cursor", next)
	h.Set("Link", "<"+r.URL.Path+"?"+follow.Encode()+`>; rel="next"`)
	h.Set("Vary", "Accept, Accept-Encoding")
	if form != formPage {
		var body []byte
		for _, row := range g.rows {
			body = append(append(body, row...), '\n')
		}
		c.writePacked(w, r, string(form), body)
		return
	}
	body := []byte(`{"data":[`)
	for i, row := range g.rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(body, '\n'), row...)
	}
	state, err := json.Marshal(c.state(r.Context(), f.Feed))
	if err != nil {
		panic("BUG: heartbeat is no JSON: " + err.Error())
	}
	body = fmt.Appendf(body, "\n],\"next_cursor\":%q,\"has_more\":%t,\"heartbeat\":%s}\n", next, g.more, appendPrintable(nil, state))
	c.writePacked(w, r, "application/json", body)
}

// state is how weir is now.
func (c *console) state(ctx context.Context, feed string) heartbeat {
	b := heartbeat{Schema: HeartbeatSchema, Feed: feed, Time: pipeline.TimeOf(time.Now()), Waits: c.Waits(ctx)}
	if b.Waits == nil {
		b.Waits = []string{}
	}
	if c.Through != nil {
		if t := c.Through(); t != 0 {
			b.Through = &t
		}
	}
	return b
}

func (c *console) beat(ctx context.Context, feed string) []byte {
	text, err := json.Marshal(c.state(ctx, feed))
	if err != nil {
		panic("BUG: heartbeat is no JSON: " + err.Error())
	}
	return appendPrintable(nil, text)
}

// quoted is a line of text as a JSON string.
func quoted(line []byte) []byte {
	text, err := json.Marshal(string(line))
	if err != nil {
		panic("BUG: text is no JSON: " + err.Error())
	}
	return appendPrintable(nil, text)
}

// pageForm is the media type of a page: one object, a JSON value a line, or the
// lines of a format of text.
type pageForm string

const (
	formPage  pageForm = "application/json"
	formLines pageForm = "application/x-ndjson"
	formText  pageForm = "text/plain; charset=utf-8"
)

// formOf is the form that a reader wants, by what it names first; a *problem when
// it takes none that there is of the format.
func formOf(accept []string, format string) (pageForm, error) {
	list := strings.Join(accept, ",")
	if strings.TrimSpace(list) == "" {
		return formPage, nil
	}
	for entry := range strings.SplitSeq(list, ",") {
		kind, parameters, _ := strings.Cut(entry, ";")
		if q := strings.TrimSpace(parameters); q == "q=0" || strings.HasPrefix(q, "q=0.0") {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/json", "application/*", "*/*":
			return formPage, nil
		case "application/x-ndjson", "application/ndjson", "application/jsonl":
			return formLines, nil
		case "text/plain":
			if format == formatCEF {
				return formText, nil
			}
		}
	}
	detail := "a page is application/json or application/x-ndjson"
	if format == formatCEF {
		detail = "a page is application/json, application/x-ndjson or text/plain"
	}
	return "", &problem{Status: http.StatusNotAcceptable, Detail: detail}
}
