// Package console is the HTTP side of weir: health, metrics and the read-only
// API, described by the OpenAPI document that it serves itself.
//
// It asks for no password yet. What stands in for one: it listens on loopback
// only, it answers only to names that mean this machine (a page that makes its
// own name resolve to 127.0.0.1 is refused), it sends no CORS header, and no
// request changes anything. Account names are tokens here, as they are stored.
//
// What a caller can cost is bounded: so many answers are made at a time, each
// within a time and a size, and the rest wait or are told to come back.
package console

import (
	"context"
	"crypto/rand"
	_ "embed" // openapi.json
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"weir/pipeline"
)

// Store is what the console reads. Its methods may be called from any
// goroutine and end soon after ctx does.
type Store interface {
	// Alerts returns the latest revision of each alert that f selects, the one
	// that changed last first.
	Alerts(ctx context.Context, f AlertFilter) ([]Alert, error)
	// Alert returns all revisions of an alert, the first one first; none for an
	// id that is not stored.
	Alert(ctx context.Context, id string) ([]Alert, error)
	// Requests calls fn for the stored requests that f selects, with the name of
	// their source, newest first, until fn returns false. The request is valid
	// during the call only.
	Requests(ctx context.Context, f RequestFilter, fn func(r *pipeline.Request, source string) bool) error
}

// Alert is one revision in the feed.
type Alert struct {
	Seq  int64  // place in the feed: grows, never used twice
	JSON []byte // the weir.alert/1 object
}

// AlertFilter selects alerts. Zero fields select everything; times are those of
// the alert's window, inclusive.
type AlertFilter struct {
	Since, Until pipeline.Time
	Severity     []string
	Detector     string
	Principal    pipeline.Principal
	Status       string
	AfterSeq     int64 // only what changed behind this seq
	BeforeSeq    int64 // only before this seq
	Limit        int   // never 0
}

// RequestFilter selects stored requests. Zero fields select everything; times
// are the requests' own, inclusive.
type RequestFilter struct {
	Since, Until pipeline.Time
	Principal    pipeline.Principal
	PathPrefix   string
	Status       int
	Limit        int // never 0
}

// Options are what the console is made from. Host may be empty; the others are
// needed.
type Options struct {
	Store Store
	// Waits says what weir waits for, one phrase each; nothing when it is ready.
	Waits func(context.Context) []string
	// Blindspots returns what cannot be detected, as the JSON text of the answer.
	Blindspots func() ([]byte, error)
	Metrics    prometheus.Gatherer
	Log        *zap.Logger
	Host       string // a name it may be called by, beside those of loopback
}

// What an answer may cost.
const (
	maxAnswer    = 16 << 20         // bytes; the rest of a list is on the next page
	maxAnswering = 4                // answers of the API at a time
	answerWithin = 20 * time.Second // to find what was asked for, and to wait for a turn
)

type console struct {
	Options
	turns chan struct{} // one element for each answer in the making
}

// NewServer returns a server that answers for o; the caller gives it a listener
// (see Config.Open) and shuts it down.
func NewServer(o Options) *http.Server {
	return &http.Server{
		Handler:           newHandler(o),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      answerWithin + 40*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(o.Log),
	}
}

func newHandler(o Options) http.Handler {
	c := &console{Options: o, turns: make(chan struct{}, maxAnswering)}
	mux := http.NewServeMux()
	var paths []string
	for _, r := range c.routes() {
		paths = append(paths, r.path)
		mux.Handle("GET "+r.path, r.handler) // and HEAD
		mux.HandleFunc(r.path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", "GET, HEAD")
			refuse(w, &problem{Status: http.StatusMethodNotAllowed, Detail: "this only reads: GET and HEAD"})
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &problem{Status: http.StatusNotFound, Detail: "there is no " + quote(r.URL.Path) + "; there are " + strings.Join(paths, ", ")})
	})
	return c.guard(mux)
}

type route struct {
	path    string
	handler http.Handler
}

// routes is all there is; the OpenAPI document has the same paths.
func (c *console) routes() []route {
	return []route{
		{"/api/v1/alerts", c.api(c.alerts)},
		{"/api/v1/alerts/{id}", c.api(c.alert)},
		{"/api/v1/requests", c.api(c.requests)},
		{"/api/v1/blindspots", c.api(c.blindspots)},
		{"/api/v1/openapi.json", c.api(document)},
		{"/metrics", promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxAnswering, Timeout: answerWithin})},
		{"/healthz", http.HandlerFunc(healthy)},
		{"/readyz", http.HandlerFunc(c.ready)},
	}
}

// guard gives every answer its id and the headers that keep browsers from
// doing anything with it, and refuses what was addressed to another name.
func (c *console) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set(requestID, rand.Text())
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if !isOurs(r.Host, c.Host) {
			refuse(w, &problem{Status: http.StatusMisdirectedRequest, Detail: "the host " + quote(r.Host) + " is not served here; ask for localhost, 127.0.0.1 or [::1]"})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// api makes a handler of f, which returns a JSON text, or a *problem for the
// caller, or an error for the log.
func (c *console) api(f func(r *http.Request) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		select {
		case c.turns <- struct{}{}:
			// Held until the answer is written: it is memory.
			defer func() { <-c.turns }()
		case <-ctx.Done():
			w.Header().Set("Retry-After", "5")
			refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("%d other answers are in the making", maxAnswering)})
			return
		}
		body, err := f(r.WithContext(ctx))
		var p *problem
		switch {
		case err == nil:
			write(w, http.StatusOK, "application/json", body)
		case errors.As(err, &p):
			refuse(w, p)
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("nothing to show within %s; ask for less with since, until or principal", answerWithin)})
		case r.Context().Err() != nil: // nobody waits for the answer
		default:
			c.Log.Error("cannot answer", zap.String("path", r.URL.Path), zap.String("request_id", w.Header().Get(requestID)), zap.Error(err))
			refuse(w, &problem{Status: http.StatusInternalServerError, Detail: "the store did not answer; weir's log has the cause under this request_id"})
		}
	})
}

func healthy(w http.ResponseWriter, _ *http.Request) {
	write(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
}

func (c *console) ready(w http.ResponseWriter, r *http.Request) {
	if waits := c.Waits(r.Context()); len(waits) > 0 {
		refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: "weir waits for " + strings.Join(waits, "; "), WaitsFor: waits})
		return
	}
	write(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ready\n"))
}

//go:embed openapi.json
var openapi []byte

func document(r *http.Request) ([]byte, error) {
	return openapi, newQuery(r.URL.RawQuery).err()
}

func (c *console) blindspots(r *http.Request) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	return c.Blindspots()
}

// write sends a whole answer, so that HEAD has its length, too.
func write(w http.ResponseWriter, status int, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// isOurs reports whether a Host header means this machine: a loopback address,
// localhost, or the configured name, with any port.
func isOurs(header, configured string) bool {
	host := hostOf(header)
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host) || host != "" && host == strings.ToLower(configured)
}
