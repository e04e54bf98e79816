package console

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// Suppression is a stored suppression and how many alerts it kept from sinks.
type Suppression struct {
	pipeline.Suppression
	Hidden int64
}

// How long a suppression may be.
const (
	defaultSuppression = 24 * time.Hour
	analystSuppression = 7 * 24 * time.Hour // by who is no engineer
	maxSuppressions    = 1000               // that a list has, and that may be in force
)

// matchView is a match as the API shows and takes it.
type matchView struct {
	Detector  string             `json:"detector"`
	Level     string             `json:"level"`
	Principal pipeline.Principal `json:"principal"`
	Address   string             `json:"address"`
	Account   string             `json:"account"`
	Key       string             `json:"key"`
	Client    string             `json:"client"`
	Endpoint  endpointView       `json:"endpoint"`
	Labels    map[string]string  `json:"labels"`
}

type endpointView struct {
	Method   string `json:"method"`
	Host     string `json:"host"`
	Template string `json:"template"`
}

func viewOfMatch(m *pipeline.SuppressionMatch) matchView {
	v := matchView{Detector: m.Detector, Level: m.Level, Address: m.Address, Account: m.Account, Key: m.Key, Client: m.Client, Labels: m.Labels}
	if m.Principal != nil {
		v.Principal = *m.Principal
	}
	if m.Endpoint != nil {
		v.Endpoint = endpointView(*m.Endpoint)
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	return v
}

func (v *matchView) match() pipeline.SuppressionMatch {
	m := pipeline.SuppressionMatch{Detector: v.Detector, Level: v.Level, Address: v.Address, Account: v.Account, Key: v.Key, Client: v.Client, Labels: v.Labels}
	if v.Principal != (pipeline.Principal{}) {
		m.Principal = &v.Principal
	}
	if e := pipeline.EndpointMatch(v.Endpoint); e != (pipeline.EndpointMatch{}) {
		m.Endpoint = &e
	}
	return m
}

// suppressionView is a suppression as the API shows it.
type suppressionView struct {
	ID          string             `json:"id"`
	State       string             `json:"state"` // scheduled, active, ended
	Match       matchView          `json:"match"`
	Maintenance bool               `json:"maintenance"`
	Schedule    *pipeline.Schedule `json:"schedule"`
	Starts      pipeline.Time      `json:"starts"`
	Expires     pipeline.Time      `json:"expires"`
	Ended       *pipeline.Time     `json:"ended"` // when it was over; null before
	Author      string             `json:"author"`
	Reason      string             `json:"reason"`
	Created     pipeline.Time      `json:"created"`
	Source      string             `json:"source"`
	Alert       string             `json:"alert"`
	Hidden      int64              `json:"hidden"`
}

func viewOfSuppression(s *Suppression, now pipeline.Time) suppressionView {
	v := suppressionView{
		ID: s.ID, State: "active", Match: viewOfMatch(&s.Match), Maintenance: s.Maintenance, Schedule: s.Schedule, Starts: s.Starts, Expires: s.Expires,
		Author: s.Author, Reason: s.Reason, Created: s.Created, Source: s.Source, Alert: s.Alert, Hidden: s.Hidden,
	}
	switch end := s.End(); {
	case end <= now:
		v.State, v.Ended = "ended", &end
	case s.Starts > now:
		v.State = "scheduled"
	}
	return v
}

// suppressRequest asks for a suppression.
type suppressRequest struct {
	Match       matchView          `json:"match"`
	Starts      *pipeline.Time     `json:"starts,omitempty"`
	Expires     *pipeline.Time     `json:"expires,omitempty"`
	For         string             `json:"for,omitempty"`
	Schedule    *pipeline.Schedule `json:"schedule,omitempty"`
	Maintenance bool               `json:"maintenance,omitempty"`
	Reason      string             `json:"reason"`
	Alert       string             `json:"alert,omitempty"`
	Days        int                `json:"days,omitempty"` // of a preview
}

// listSuppressions answers {"data":[...]}, what was made last first.
func (c *console) listSuppressions(r *http.Request) ([]byte, error) {
	q := newQuery(r.URL.RawQuery)
	states := q.words("state", "scheduled", "active", "ended")
	if err := q.err(); err != nil {
		return nil, err
	}
	list, err := c.Store.Suppressions(r.Context(), maxSuppressions)
	if err != nil {
		return nil, err
	}
	now := pipeline.TimeOf(time.Now())
	views := make([]suppressionView, 0, len(list))
	for i := range list {
		if v := viewOfSuppression(&list[i], now); len(states) == 0 || slices.Contains(states, v.State) {
			views = append(views, v)
		}
	}
	return printed(map[string]any{"data": views})
}

func (c *console) oneSuppression(r *http.Request) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	s, err := c.storedSuppression(r)
	if err != nil {
		return nil, err
	}
	return printed(viewOfSuppression(&s, pipeline.TimeOf(time.Now())))
}

func (c *console) storedSuppression(r *http.Request) (Suppression, error) {
	s, ok, err := c.Store.Suppression(r.Context(), r.PathValue("id"))
	if err == nil && !ok {
		err = &problem{Status: http.StatusNotFound, Detail: "no suppression has this id"}
	}
	return s, err
}

// printed is v as an answer.
func printed(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	return appendPrintable(nil, append(body, '\n')), err
}

// suppress makes a suppression. It is in the log, the list and the audit, or nowhere.
func (c *console) suppress(w http.ResponseWriter, r *http.Request, who *caller) {
	body, err := c.makeSuppression(w, r, who)
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", body)
}

func (c *console) makeSuppression(w http.ResponseWriter, r *http.Request, who *caller) ([]byte, error) {
	q, s, err := c.readSuppression(r)
	if err != nil {
		return nil, err
	}
	if err := checkSuppression(&s); err != nil {
		return nil, err
	}
	if who.roles&(Engineer|Admin) == 0 && s.Expires.Sub(s.Created) > analystSuppression {
		return nil, &problem{Status: http.StatusForbidden, Detail: fmt.Sprintf("an analyst suppresses for %d days at most, an engineer for longer", analystSuppression/(24*time.Hour))}
	}
	s.ID, s.Author = "s_"+strings.ToLower(rand.Text()), who.name
	if who.shell != nil {
		s.Source = "shell"
	}
	if q.Alert != "" {
		if s.Known, err = c.known(r.Context(), q.Alert); err != nil {
			return nil, err
		}
	}
	list, err := c.Store.Suppressions(r.Context(), maxSuppressions)
	if err != nil {
		return nil, err
	}
	if len(list) >= maxSuppressions && list[len(list)-1].End() > s.Created {
		return nil, &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("there are %d suppressions; end some", maxSuppressions)}
	}
	v := viewOfSuppression(&Suppression{Suppression: s}, s.Created)
	e := c.entry(w, r, who, "suppression.create", &AuditTarget{Kind: "suppression", IDs: []string{s.ID}}, s.Reason)
	e.Outcome, e.After = "success", v
	if err := c.saveSuppression(r.Context(), s, e); err != nil {
		return nil, err
	}
	return printed(v)
}

func (c *console) saveSuppression(ctx context.Context, s pipeline.Suppression, e AuditEntry) error {
	entry, err := e.JSON()
	if err != nil {
		return err
	}
	return c.Store.PutSuppression(ctx, s, e.Time, entry)
}

// known is how far the alert is that a suppression is made from.
func (c *console) known(ctx context.Context, id string) (*pipeline.SuppressedKnown, error) {
	list, err := c.Store.Alert(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &problem{Status: http.StatusNotFound, Detail: "alert: no alert has this id"}
	}
	var a pipeline.Alert
	if err := json.Unmarshal(list[len(list)-1].JSON, &a); err != nil {
		return nil, fmt.Errorf("read an alert: %w", err)
	}
	o := &a.Outcome
	k := &pipeline.SuppressedKnown{Count: o.Attempted, Succeeded: o.Succeeded != nil && *o.Succeeded > 0}
	if k.Count <= 0 {
		k.Count = o.Requests
	}
	return k, nil
}

// endSuppression ends one now; it stays in the list.
func (c *console) endSuppression(w http.ResponseWriter, r *http.Request, who *caller) {
	body, err := c.end(w, r, who)
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", body)
}

func (c *console) end(w http.ResponseWriter, r *http.Request, who *caller) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	s, err := c.storedSuppression(r)
	if err != nil {
		return nil, err
	}
	now := pipeline.TimeOf(time.Now())
	if s.End() <= now {
		return printed(viewOfSuppression(&s, now))
	}
	if s.Source == "config" {
		return nil, &problem{Status: http.StatusConflict, Detail: "the configuration has it: take it out of alerts.suppressions or alerts.maintenance"}
	}
	e := c.entry(w, r, who, "suppression.end", &AuditTarget{Kind: "suppression", IDs: []string{s.ID}}, "")
	e.Before = viewOfSuppression(&s, now)
	ended := c.reached(now)
	s.Ended = &ended
	v := viewOfSuppression(&s, now)
	e.Outcome, e.After = "success", v
	if err := c.saveSuppression(r.Context(), s.Suppression, e); err != nil {
		return nil, err
	}
	return printed(v)
}

// reachedWithin is how far behind the clock detection may be for "now" to be where
// it is.
const reachedWithin = time.Hour

// reached is what now means for events: where detection is, if it is a little behind
// the clock, so that a suppression takes effect at once.
func (c *console) reached(now pipeline.Time) pipeline.Time {
	if c.Through == nil {
		return now
	}
	if at := c.Through(); at > 0 && at < now && now.Sub(at) <= reachedWithin {
		return at
	}
	return now
}

// readSuppression reads and checks the body; the error is a *problem.
func (c *console) readSuppression(r *http.Request) (q suppressRequest, s pipeline.Suppression, err error) {
	bad := func(format string, args ...any) (suppressRequest, pipeline.Suppression, error) {
		return q, s, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return q, s, err
	}
	if err := readBody(r, &q); err != nil {
		return q, s, err
	}
	if len(q.Alert) > maxAlert {
		return bad("alert: an id has at most %d characters", maxAlert)
	}
	now := pipeline.TimeOf(time.Now())
	s = pipeline.Suppression{
		Match: q.Match.match(), Starts: c.reached(now), Schedule: q.Schedule, Maintenance: q.Maintenance,
		Reason: strings.TrimSpace(q.Reason), Created: now, Source: "api", Alert: q.Alert,
	}
	if q.Starts != nil {
		s.Starts = *q.Starts
	}
	long := defaultSuppression
	if q.For != "" {
		if long, err = readSpan(q.For); err != nil {
			return bad("for: %s is no time like 24h or 7d", quote(q.For))
		}
	}
	switch s.Expires = s.Starts.Add(long); {
	case q.Expires != nil && q.For != "":
		return bad("expires: give it or for, not both")
	case q.Expires != nil:
		s.Expires = *q.Expires
	}
	if s.Expires <= now {
		return bad("expires: is over already")
	}
	if c.Resolve != nil {
		if err := c.Resolve(&s.Match); err != nil {
			return bad("match.%s", err.Error())
		}
	}
	s.Normalize()
	return q, s, nil
}

// readSpan reads 90m, 24h or 7d.
func readSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if _, err := fmt.Sscanf(days, "%d", &n); err != nil || n < 1 || n > 366 || fmt.Sprint(n) != days {
			return 0, errors.New("no number of days")
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < time.Minute || d > pipeline.MaxSuppression) {
		err = errors.New("too short or too long")
	}
	return d, err
}
