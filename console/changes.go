package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// changeStep bounds what is read of each kind at a time.
const changeStep = 200

// changeLook is how often changes are looked for that other processes made: what
// a shell changes wakes nobody here.
const changeLook = 2 * time.Second

// changesAt is how far a page has come: in the feed and in the audit.
type changesAt struct{ alerts, audit int64 }

func (p changesAt) String() string { return fmt.Sprintf("%d-%d", p.alerts, p.audit) }

// readChangesAt reads what a stream gave as id.
func readChangesAt(text string) (p changesAt, ok bool) {
	left, right, ok := strings.Cut(text, "-")
	var err, err2 error
	p.alerts, err = strconv.ParseInt(left, 10, 64)
	p.audit, err2 = strconv.ParseInt(right, 10, 64)
	return p, ok && err == nil && err2 == nil && p.alerts >= 0 && p.audit >= 0
}

// changes answers what becomes of alerts as server-sent events: a row for each
// that has a new revision, a triage for each that somebody changed; the latest
// state of each alone. Without Last-Event-ID it begins now.
func (c *console) changes(w http.ResponseWriter, r *http.Request, who *caller) {
	err := newQuery(r.URL.RawQuery).err()
	var now, at changesAt
	var removed int64
	if err == nil {
		removed, now.alerts, err = c.Store.FeedBounds(r.Context(), feedAlerts)
	}
	if err == nil {
		_, now.audit, err = c.Store.FeedBounds(r.Context(), feedAudit)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	at = now
	gone := false
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		var ok bool
		at, ok = readChangesAt(last)
		if gone = !ok || at.alerts < removed || at.alerts > now.alerts || at.audit > now.audit; gone {
			at = now
		}
	}
	leave, ok := c.rates.wait(who)
	if !ok {
		retryAfter(w, 5*time.Second)
		refuse(w, &problem{Status: http.StatusTooManyRequests, Detail: "too many streams"})
		return
	}
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx in front would hold it back
	if r.Method == http.MethodHead {
		return
	}
	s := &changeSender{sender: sender{console: c, w: w, rc: http.NewResponseController(w), r: r, who: who}, at: at}
	// An end is the reader's, or weir's: it comes back with its last id.
	_ = s.run(gone)
}

// changeSender writes one stream of changes.
type changeSender struct {
	sender
	at changesAt
}

func (s *changeSender) run(gone bool) error {
	_ = s.rc.SetReadDeadline(time.Time{})
	first := "retry: 2000\n\n"
	if gone {
		first += "id: " + s.at.String() + "\nevent: gone\ndata: {}\n\n"
	}
	if err := s.send("%s", first); err != nil {
		return err
	}
	if err := s.beat(); err != nil {
		return err
	}
	ctx, beaten := s.r.Context(), time.Now()
	for s.stop.Err() == nil {
		n, err := s.step(ctx)
		if err != nil {
			return err
		}
		if time.Since(beaten) >= streamBeat {
			beaten = time.Now()
			if !s.still(ctx, s.who) {
				return nil
			}
			if err := s.beat(); err != nil {
				return err
			}
		}
		if n == 0 {
			if err := s.wait(ctx, min(changeLook, streamBeat-time.Since(beaten))); err != nil {
				return err
			}
		}
	}
	return nil
}

// wait returns when an alert or a triage changed, or after a time.
func (s *changeSender) wait(ctx context.Context, within time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	defer context.AfterFunc(s.stop, cancel)()
	either := make(chan error, 2)
	var both sync.WaitGroup
	for feed, seq := range map[string]int64{feedAlerts: s.at.alerts, feedAudit: s.at.audit} {
		both.Go(func() { either <- s.Store.FeedWait(waiting, feed, seq) })
	}
	err := <-either
	cancel()
	both.Wait()
	if waiting.Err() != nil {
		return ctx.Err()
	}
	return err
}

// beat says that the stream is alive.
func (s *changeSender) beat() error {
	state := s.state(s.r.Context(), feedAlerts)
	text, err := json.Marshal(map[string]any{"time": state.Time, "through": state.Through, "waits_for": state.Waits, "alerts": s.at.alerts})
	if err != nil {
		return err
	}
	return s.send("id: %s\nevent: heartbeat\ndata: %s\n\n", s.at, appendPrintable(nil, text))
}

// step writes what is there, up to a step of each kind.
func (s *changeSender) step(ctx context.Context) (n int, err error) {
	done, err := s.turn(ctx)
	if err != nil {
		return 0, err
	}
	rows, triages, next, err := s.look(ctx)
	done()
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		if err := s.event("alert", row); err != nil {
			return n, err
		}
	}
	for _, t := range triages {
		if err := s.event("triage", t); err != nil {
			return n, err
		}
	}
	s.at = next
	if n = len(rows) + len(triages); n > 0 {
		return n, s.send("id: %s\nevent: place\ndata: {}\n\n", s.at)
	}
	return 0, nil
}

// event writes one without an id: the place behind all of a step has it.
func (s *changeSender) event(kind string, v any) error {
	text, err := plainJSON(v)
	if err != nil {
		return err
	}
	return s.send("event: %s\ndata: %s\n\n", kind, text)
}

// changedTriage is what people made of an alert now.
type changedTriage struct {
	ID     string    `json:"id"`
	Triage triageRow `json:"triage"`
}

// look reads what is behind s.at, and where that ends.
func (s *changeSender) look(ctx context.Context) (rows []alertRow, triages []changedTriage, next changesAt, err error) {
	next = s.at
	_, last, err := s.Store.FeedBounds(ctx, feedAlerts)
	if err != nil {
		return nil, nil, next, err
	}
	if last > next.alerts {
		// The oldest first: a step ends where it can go on.
		list, err := s.Store.FindAlerts(ctx, AlertQuery{AfterSeq: next.alerts, BeforeSeq: min(last, next.alerts+changeStep) + 1, Sort: sortNewest, Limit: changeStep})
		if err != nil {
			return nil, nil, next, err
		}
		if rows, err = rowsOf(list.Alerts); err != nil {
			return nil, nil, next, err
		}
		next.alerts = min(last, next.alerts+changeStep)
	}
	_, last, err = s.Store.FeedBounds(ctx, feedAudit)
	if err != nil || last <= next.audit {
		return rows, nil, next, err
	}
	changed, err := s.Store.TriageAfter(ctx, next.audit, changeStep)
	if err != nil {
		return nil, nil, next, err
	}
	for _, t := range changed {
		body, err := readTriageBody(t.Body)
		if err != nil {
			return nil, nil, next, err
		}
		triages = append(triages, changedTriage{t.ID, rowOfTriage(&body)})
		next.audit = t.Change
	}
	if len(changed) < changeStep {
		next.audit = max(next.audit, last)
	}
	return rows, triages, next, nil
}
