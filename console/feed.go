package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	feed       string
	severities []string
	filter     [4]byte
	cursor     string
	newest     bool
	limit      int
	wait       time.Duration
	beat       bool
	values     url.Values
}

func (q *query) feedQuery(feed string) (f feedQuery) {
	f.feed, f.values = feed, q.values
	f.cursor = q.one("cursor", "a cursor as a page gave it")
	start := q.one("start", "oldest or newest")
	if f.newest = start == "newest"; start != "" && !f.newest && start != "oldest" {
		q.bad("start", start, "oldest or newest")
	}
	if feed == feedAlerts {
		f.severities = q.words("severity", "info", "low", "medium", "high", "critical")
	}
	f.filter = filterHash(feed, f.severities)
	f.beat = q.truth("heartbeat")
	return f
}

// feedPageQuery adds what only pages have.
func (q *query) feedPageQuery(feed string) (f feedQuery, err error) {
	f = q.feedQuery(feed)
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
	removed, last, err := c.Store.FeedBounds(ctx, f.feed)
	if err != nil {
		return p, err
	}
	if f.cursor == "" {
		p.known = removed
		if f.newest {
			p.seq = last
		}
		return p, nil
	}
	if p, err = c.seals.open(f.filter, f.cursor); err != nil {
		return p, &problem{Status: http.StatusBadRequest, Detail: "cursor: " + err.Error()}
	}
	return p, c.missed(f, p, removed, last)
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
	rows [][]byte
	seqs []int64
	next position
	more bool
}

// read reads the page behind p: at most limit rows and feedPage bytes, but one
// row when there is one. A *problem says that retention passed p meanwhile.
func (c *console) read(ctx context.Context, f *feedQuery, p position, limit int) (page, error) {
	g, err := c.readRows(ctx, f, p, limit)
	if err != nil {
		return g, err
	}
	removed, last, err := c.Store.FeedBounds(ctx, f.feed)
	if err == nil {
		err = c.missed(f, p, removed, last)
	}
	return g, err
}

func (c *console) readRows(ctx context.Context, f *feedQuery, p position, limit int) (page, error) {
	g := page{next: p}
	for size := 0; len(g.rows) < limit; {
		step := min(limit-len(g.rows), feedStep)
		rows, through, err := c.Store.FeedPage(ctx, f.feed, g.next.seq, f.severities, step)
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
		lines := false
		if err == nil {
			lines, err = acceptsLines(r.Header.Values("Accept"))
		}
		var at position
		if err == nil {
			at, err = c.begin(r.Context(), &f)
		}
		if err == nil {
			err = c.openFeed(w, r, who, &f, at)
		}
		if err == nil {
			err = c.answerFeed(w, r, &f, at, lines, who)
		}
		c.refuseFor(w, r, err)
	}
}

// openFeed notes who reads, and that the audit is read.
func (c *console) openFeed(w http.ResponseWriter, r *http.Request, who *caller, f *feedQuery, at position) error {
	if f.feed == feedAudit && c.readers.auditDue(who.key(), time.Now()) {
		e := c.entry(w, r, who, "audit.read", nil, "")
		e.Outcome = "success"
		if err := c.record(r.Context(), e); err != nil {
			c.readers.auditFailed(who.key())
			return err
		}
	}
	c.readers.note(r.Context(), f.feed, who, at.seq)
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

func (c *console) answerFeed(w http.ResponseWriter, r *http.Request, f *feedQuery, at position, lines bool, who *caller) error {
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
		if len(g.rows) > 0 || !time.Now().Before(deadline) || c.stop.Err() != nil {
			c.writePage(w, r, f, g, lines)
			done()
			return nil
		}
		done()
		if err := c.await(r.Context(), f.feed, at.seq, time.Until(deadline)); err != nil {
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
func (c *console) writePage(w http.ResponseWriter, r *http.Request, f *feedQuery, g page, lines bool) {
	next := c.seals.seal(f.filter, g.next)
	if f.beat && !g.more {
		g.rows = append(g.rows, c.beat(r.Context(), f.feed))
	}
	h := w.Header()
	h.Set("X-Next-Cursor", next)
	h.Set("X-Has-More", strconv.FormatBool(g.more))
	follow := url.Values{}
	for name, list := range f.values {
		if name != "start" {
			follow[name] = list
		}
	}
	follow.Set("cursor", next)
	h.Set("Link", "<"+r.URL.Path+"?"+follow.Encode()+`>; rel="next"`)
	h.Set("Vary", "Accept, Accept-Encoding")
	if lines {
		var body []byte
		for _, row := range g.rows {
			body = append(append(body, row...), '\n')
		}
		c.writePacked(w, r, "application/x-ndjson", body)
		return
	}
	body := []byte(`{"data":[`)
	for i, row := range g.rows {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(append(body, '\n'), row...)
	}
	state, err := json.Marshal(c.state(r.Context(), f.feed))
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

// acceptsLines tells whether a reader wants a row a line, by what it names first;
// a *problem when it takes neither.
func acceptsLines(accept []string) (lines bool, err error) {
	list := strings.Join(accept, ",")
	if strings.TrimSpace(list) == "" {
		return false, nil
	}
	for entry := range strings.SplitSeq(list, ",") {
		kind, parameters, _ := strings.Cut(entry, ";")
		if q := strings.TrimSpace(parameters); q == "q=0" || strings.HasPrefix(q, "q=0.0") {
			continue
		}
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "application/json", "application/*", "*/*":
			return false, nil
		case "application/x-ndjson", "application/ndjson", "application/jsonl":
			return true, nil
		}
	}
	return false, &problem{Status: http.StatusNotAcceptable, Detail: "a page is application/json or application/x-ndjson"}
}
