package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"weir/alerts"
	"weir/pipeline"
	"weir/storage"
)

// handler is the HTTP side of weir run: health, metrics, and the read-only API.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /api/v1/alerts", s.getAlerts)
	mux.HandleFunc("GET /api/v1/alerts/{id}", s.getAlert)
	mux.HandleFunc("GET /api/v1/requests", s.getRequests)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		problem(w, http.StatusNotFound, "there is no "+strconv.Quote(r.URL.Path)+"; there are /api/v1/alerts, /api/v1/requests, /metrics, /healthz, /readyz")
	})
	return mux
}

// readyLag is how many records may wait for detection while weir counts as
// ready.
const readyLag = 1000

func (s *service) ready(w http.ResponseWriter, _ *http.Request) {
	if lag := s.status.appended.Load() - s.status.detected.Load(); lag > readyLag {
		problem(w, http.StatusServiceUnavailable, fmt.Sprintf("detection is %d records behind", lag))
		return
	}
	fmt.Fprintln(w, "ready")
}

// problem answers as RFC 9457 has it.
func problem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"type": "about:blank", "title": http.StatusText(status), "status": status, "detail": detail})
}

// query reads the parameters that lists share; an unknown one is an error, so
// that a typing mistake never widens a search silently.
type query struct {
	values map[string][]string
	known  map[string]bool
	errs   []error
}

func newQuery(r *http.Request) *query {
	return &query{values: r.URL.Query(), known: map[string]bool{}}
}

func (q *query) text(name string) string {
	q.known[name] = true
	if v := q.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

func (q *query) list(name string) (out []string) {
	q.known[name] = true
	for _, v := range q.values[name] {
		for part := range strings.SplitSeq(v, ",") {
			if part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}

func (q *query) number(name string, most int) int {
	v := q.text(name)
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		q.errs = append(q.errs, fmt.Errorf("%s=%s: want a number up to %d", name, v, most))
	}
	return n
}

func (q *query) time(name string) pipeline.Time {
	v := q.text(name)
	if v == "" {
		return 0
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		q.errs = append(q.errs, fmt.Errorf("%s=%s: want RFC 3339, like 2026-11-22T03:00:00Z", name, v))
	}
	return pipeline.TimeOf(t)
}

func (q *query) principal(name string) (p pipeline.Principal) {
	v := q.text(name)
	if v == "" {
		return p
	}
	kind, value, ok := strings.Cut(v, ":")
	_ = p.Kind.UnmarshalText([]byte(kind))
	if !ok || p.Kind == pipeline.PrincipalNone {
		q.errs = append(q.errs, fmt.Errorf("%s=%s: want KIND:VALUE, like ip:203.0.113.7", name, v))
	}
	p.Value = value
	return p
}

func (q *query) err() error {
	for name := range q.values {
		if !q.known[name] {
			q.errs = append(q.errs, fmt.Errorf("no parameter %s", name))
		}
	}
	return errors.Join(q.errs...)
}

func (s *service) getAlerts(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r)
	f := storage.AlertFilter{
		Since: q.time("since"), Until: q.time("until"), Severity: q.list("severity"), Detector: q.text("detector"),
		Principal: q.principal("principal"), Status: q.text("status"), Limit: q.number("limit", 1000), BeforeSeq: int64(q.number("before", 1<<52)),
	}
	if err := q.err(); err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	list, err := s.db.Alerts(r.Context(), f)
	if err != nil {
		problem(w, http.StatusInternalServerError, "the store did not answer")
		return
	}
	writeAlerts(w, list)
}

// writeAlerts answers {"data":[...],"next":SEQ}; each alert as it was committed.
func writeAlerts(w http.ResponseWriter, list []storage.StoredAlert) {
	w.Header().Set("Content-Type", "application/json")
	out := []byte(`{"data":[`)
	for i, a := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = alerts.AppendJSON(append(out, '\n'), &a.Alert)
	}
	out = append(out, "\n],\"before\":"...)
	if n := len(list); n > 0 {
		out = strconv.AppendInt(out, list[n-1].Seq, 10)
	} else {
		out = append(out, "null"...)
	}
	out = append(out, "}\n"...)
	_, _ = w.Write(out)
}

func (s *service) getAlert(w http.ResponseWriter, r *http.Request) {
	list, err := s.db.Alert(r.Context(), r.PathValue("id"))
	switch {
	case err != nil:
		problem(w, http.StatusInternalServerError, "the store did not answer")
	case len(list) == 0:
		problem(w, http.StatusNotFound, "no alert has this id")
	default:
		writeAlerts(w, list)
	}
}

// requestView is a stored request as the API shows it.
type requestView struct {
	Time       pipeline.Time      `json:"time"`
	Principal  pipeline.Principal `json:"principal"`
	IP         string             `json:"ip"`
	Method     string             `json:"method"`
	Host       string             `json:"host"`
	Path       string             `json:"path"`
	Query      string             `json:"query"`
	Status     *int               `json:"status"`
	Bytes      *int64             `json:"bytes"`
	DurationUS *int64             `json:"duration_us"`
	Agent      string             `json:"user_agent"`
	Referer    string             `json:"referer"`
	Account    string             `json:"account"`
	Key        string             `json:"key"`
	Session    string             `json:"session"`
	LoginUser  string             `json:"login_user"`
	Source     string             `json:"source"`
}

func (s *service) getRequests(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r)
	f := storage.RequestFilter{
		Since: q.time("since"), Until: q.time("until"), Principal: q.principal("principal"),
		PathPrefix: q.text("path"), Status: q.number("status", 999), Limit: q.number("limit", 10_000),
	}
	if err := q.err(); err != nil {
		problem(w, http.StatusBadRequest, err.Error())
		return
	}
	list := []requestView{}
	err := s.db.Requests(r.Context(), f, func(q *pipeline.Request, source string) bool {
		list = append(list, viewOf(q, source))
		return true
	})
	if err != nil {
		problem(w, http.StatusInternalServerError, "the store did not answer")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"data": list})
}

func viewOf(r *pipeline.Request, source string) requestView {
	known := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	v := requestView{
		Time: r.Time, Principal: r.Principal(), IP: r.Address.String(), Method: strings.Clone(r.Method), Host: strings.Clone(r.Host),
		Path: strings.Clone(r.Path), Query: strings.Clone(r.Query), Bytes: known(r.Bytes), DurationUS: known(r.Duration),
		Agent: strings.Clone(r.Agent), Referer: strings.Clone(r.Referer), Account: r.Account, Key: r.Key, Session: r.Session,
		LoginUser: r.LoginUser, Source: source + ":" + strconv.FormatInt(r.Line, 10),
	}
	if r.Status != 0 {
		n := int(r.Status)
		v.Status = &n
	}
	return v
}
