// Package console is the HTTP side of weir: health, metrics, the API and the
// feeds, described by the OpenAPI document that it serves itself.
//
// Who asks shows a token, and each route says which roles may; the table of
// routes is all there is. On loopback, as long as no token was ever made, callers
// on this machine read without one. A page that makes its own name resolve to
// this machine is refused, and no answer has a CORS header. Account names are
// tokens here, as they are stored; one route opens them, for a reason, and the
// audit has it.
//
// What a caller can cost is bounded: so many answers are made at a time, each
// within a time and a size, and the rest wait or are told to come back.
package console

import (
	"context"
	"crypto/rand"
	_ "embed" // openapi.json
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"weir/pipeline"
)

// Store is what the console reads, and the little that it writes. Its methods
// may be called from any goroutine and end soon after ctx does.
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

	// ShadowCases returns the cases of detectors in shadow mode that f selects, the
	// newest first.
	ShadowCases(ctx context.Context, f ShadowFilter) ([]ShadowCase, error)

	// FeedPage returns up to limit rows of a feed behind seq, in the order of
	// their commits, and through: who goes on from there gets each row once.
	FeedPage(ctx context.Context, f FeedFilter, seq int64, limit int) (rows []Alert, through int64, err error)
	// FeedAt returns the place in front of the first row of a feed that was made
	// at t or later; ok is false while there is none.
	FeedAt(ctx context.Context, feed string, t pipeline.Time) (seq int64, ok bool, err error)
	// FeedBounds returns the highest seq that was removed from a feed, and the
	// highest one that was given; 0 for none.
	FeedBounds(ctx context.Context, feed string) (removed, last int64, err error)
	// FeedWait returns when a feed holds a row behind seq, or when ctx ends.
	FeedWait(ctx context.Context, feed string, seq int64) error
	// Readers lists how far the readers of feeds have come; SaveReader stores it.
	Readers(ctx context.Context) ([]Reader, error)
	SaveReader(ctx context.Context, r Reader) error

	// HasTokens tells whether any token was ever made.
	HasTokens(ctx context.Context) (bool, error)
	// Token returns a token by its id, also one that may not be used any more.
	Token(ctx context.Context, id string) (k Token, ok bool, err error)
	UseToken(ctx context.Context, id string, at pipeline.Time) error
	// Tokens lists all tokens, the oldest first.
	Tokens(ctx context.Context) ([]Token, error)
	// CreateToken and RevokeToken store the change and its entry in the audit, both
	// or neither. Revoking one that is not stored is ErrNoToken.
	CreateToken(ctx context.Context, k Token, at pipeline.Time, audit []byte) error
	RevokeToken(ctx context.Context, id string, at pipeline.Time, audit []byte) error
	// Suppressions lists up to limit of them, what was made last first, also those
	// that ended; Suppression returns one by its id.
	Suppressions(ctx context.Context, limit int) ([]Suppression, error)
	Suppression(ctx context.Context, id string) (s Suppression, ok bool, err error)
	// PutSuppression stores s, or news of it, in the log and in the list, and its
	// entry in the audit: all or nothing.
	PutSuppression(ctx context.Context, s pipeline.Suppression, at pipeline.Time, audit []byte) error
	// AppendAudit returns nil when the entry is durable.
	AppendAudit(ctx context.Context, at pipeline.Time, body []byte) error

	AccountStore
	DeskStore
	TrafficStore
}

// Alert is one revision in the feed.
type Alert struct {
	Seq  int64  // place in the feed: grows, never used twice
	JSON []byte // the weir.alert/1 object; of a feed in another format that form
}

// FeedFilter selects rows of a feed.
type FeedFilter struct {
	Feed     string
	Severity []string // of alerts; none select all
	Format   string   // of alerts, one of feedFormats
	Until    int64    // no row behind this seq
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

// Options are what the console is made from. Hosts, Register and Through may be
// missing; the others are needed.
type Options struct {
	Store Store
	// Waits says what weir waits for, one phrase each; nothing when it is ready.
	Waits func(context.Context) []string
	// Notes says what somebody should know of a weir that is ready, one sentence each;
	// nil says nothing.
	Notes func() []string
	// Blindspots returns what cannot be detected, as the JSON text of the answer.
	Blindspots func() ([]byte, error)
	// Through is the event time that detection has reached; 0 for none yet.
	Through func() pipeline.Time
	// Names opens an account's token.
	Names    func(token string) (name string, ok bool)
	Pepper   *Pepper
	Metrics  prometheus.Gatherer
	Register prometheus.Registerer // for the console's own metrics
	Log      *zap.Logger
	Hosts    []string // names it may be called by, beside those of loopback
	// Open says that others than this machine can connect: nobody is served
	// without a token, and under any name.
	Open bool
	// NeverBlock says why an address is not to be blocked, "" when it may be; nil
	// turns decisions off.
	NeverBlock func(netip.Prefix) string
	// Sessions says how long browsers stay signed in.
	Sessions SessionConfig
	OIDC     *OIDCConfig // may be nil
	// Deliveries says how far each sink has come with an alert; nil: there are none.
	Deliveries func(ctx context.Context, a *Found) ([]Delivery, error)
	// Detectors lists the detectors as they are configured, System says how weir is,
	// Baseline what the edition knows of an endpoint, Template which one a path is of.
	// Each may be missing.
	Detectors func() []DetectorInfo
	System    func(ctx context.Context) (System, error)
	Baseline  func(of pipeline.Endpoint) *Baseline
	Template  func(host, path string) string
	// Limits returns what clients may be held to, nil before it is known; a nil
	// func turns that off.
	Limits func() *Limits
	// Resolve makes tokens of the names in a match; its error begins with the member.
	// Nil: they are tokens.
	Resolve func(*pipeline.SuppressionMatch) error
	// Tuning tries configurations and applies them; nil: this weir does not detect.
	Tuning Tuning
	// Away says why the API is not answered here, "" while it is; nil: it always is.
	Away func() string
}

// MissingError is wrapped by the error of a Store for what it does not have: the
// caller is told why.
type MissingError struct {
	Text string
	Soon bool // it may be there soon
}

func (e *MissingError) Error() string { return e.Text }

// problem is e as it is answered.
func (e *MissingError) problem() *problem {
	if e.Soon {
		return &problem{Status: http.StatusServiceUnavailable, Detail: e.Text}
	}
	return &problem{Status: http.StatusNotFound, Detail: e.Text}
}

// What an answer may cost.
const (
	maxAnswer    = 16 << 20         // bytes; the rest of a list is on the next page
	maxAnswering = 4                // answers of the API at a time
	answerWithin = 20 * time.Second // to find what was asked for, and to wait for a turn
	maxBody      = 64 << 10         // bytes of a request
)

type console struct {
	Options
	turns    chan struct{} // one element for each answer in the making
	shut     atomic.Bool   // a token or user was made: no more answers without one
	rates    rates
	uses     uses
	denials  trickle
	minted   trickle
	exports  trickle
	readers  readers
	hashing  chan struct{} // one element for each password at work
	attempts attempts
	oidc     *relying
	seals    seals
	stop     context.Context // ends when the server shuts down
}

func newConsole(o Options) *console {
	c := &console{Options: o, turns: make(chan struct{}, maxAnswering), stop: context.Background()}
	c.rates = rates{windows: map[string]*rateWindowOf{}, waiting: map[string]int{}}
	c.denials = trickle{most: maxDenials, every: denialsEvery}
	c.minted = trickle{most: maxMinted, every: mintedEvery}
	c.exports = trickle{most: maxExports, every: exportEvery}
	c.uses.last = map[string]time.Time{}
	c.hashing, c.attempts.list = make(chan struct{}, maxHashing), map[string]*attempt{}
	if o.OIDC != nil {
		c.oidc = &relying{OIDCConfig: *o.OIDC}
	}
	c.seals = seals{key: o.Pepper.sum("feed cursor", nil)}
	c.readers = readers{console: c, places: map[readerKey]*place{}, seen: map[string]time.Time{}}
	return c
}

// NewServer returns a server that answers for o; the caller gives it a listener
// (see Config.Open) and shuts it down. The metrics of a second server in the
// same registry stay the first one's.
func NewServer(o Options) *http.Server {
	c := newConsole(o)
	stop, cancel := context.WithCancel(context.Background())
	c.stop = stop
	if o.Register != nil {
		_ = o.Register.Register(&c.readers)
	}
	s := newServer(o, c.guard(withApp(c.mux(c.routes()))))
	s.RegisterOnShutdown(cancel)
	return s
}

// NewMetricsServer returns a server for metrics and health alone, which asks for
// no token: it belongs on a network that only the monitoring reaches.
func NewMetricsServer(o Options) *http.Server {
	c := newConsole(o)
	routes := slices.DeleteFunc(c.routes(), func(rt route) bool { return strings.HasPrefix(rt.path, "/api/") })
	for i := range routes {
		routes[i].roles = 0
	}
	return newServer(o, c.guard(c.mux(routes)))
}

func newServer(o Options, h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      answerWithin + 40*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(o.Log),
	}
}

func newHandler(o Options) http.Handler {
	c := newConsole(o)
	return c.guard(withApp(c.mux(c.routes())))
}

// mux answers routes, and every other method and path with a problem.
func (c *console) mux(routes []route) *http.ServeMux {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	var paths []string
	for _, rt := range routes {
		if methods[rt.path] == nil {
			paths = append(paths, rt.path)
		}
		methods[rt.path] = append(methods[rt.path], rt.method)
		if rt.method == http.MethodGet {
			methods[rt.path] = append(methods[rt.path], http.MethodHead)
		}
		mux.Handle(rt.method+" "+rt.path, c.protect(rt)) // GET takes HEAD, too
	}
	for path, allowed := range methods {
		other := func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			refuse(w, &problem{Status: http.StatusMethodNotAllowed, Detail: "this takes " + strings.Join(allowed, " and ")})
		}
		if !shadowed(path, paths) {
			mux.HandleFunc(path, other)
			continue
		}
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions} {
			if !slices.Contains(allowed, method) {
				mux.HandleFunc(method+" "+path, other)
			}
		}
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &problem{Status: http.StatusNotFound, Detail: "there is no " + quote(r.URL.Path) + "; there are " + strings.Join(paths, ", ")})
	})
	return mux
}

// shadowed reports whether path is one that another with a name in its place also
// means.
func shadowed(path string, paths []string) bool {
	parent := path[:strings.LastIndexByte(path, '/')+1]
	return !strings.Contains(path, "{") && slices.ContainsFunc(paths, func(p string) bool {
		return strings.HasPrefix(p, parent+"{") && !strings.Contains(p[len(parent):], "/")
	})
}

// route is one method at one path.
type route struct {
	method, path string
	roles        Roles // who may; 0: everybody, also without a token
	noLocal      bool  // never without a token
	handler      handler
}

// routes is all there is, and who may what; the OpenAPI document has the same.
func (c *console) routes() []route {
	const people = Viewer | Analyst | Engineer | Admin
	const get, post, patch, del = http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete
	return []route{
		{get, "/api/v1/alerts", people, false, c.api(c.alerts)},
		{get, "/api/v1/alerts/groups", people, false, c.shows(c.groups)},
		{get, "/api/v1/alerts/export", people, false, c.export},
		{get, "/api/v1/alerts/stream", people, false, c.changes},
		{post, bulkPath, Analyst | Engineer | Admin, true, c.bulk},
		{get, "/api/v1/alerts/{id}", people, false, c.alertWithTag},
		{get, "/api/v1/alerts/{id}/revisions", people, false, c.shows(c.revisions)},
		{get, "/api/v1/alerts/{id}/requests", Analyst | Engineer | Admin, false, c.shows(c.alertRequests)},
		{get, "/api/v1/alerts/{id}/deliveries", people, false, c.shows(c.deliveries)},
		{get, "/api/v1/alerts/{id}/audit", people, false, c.shows(c.auditOf)},
		{get, "/api/v1/alerts/{id}/related", people, false, c.shows(c.related)},
		{patch, "/api/v1/alerts/{id}", Analyst | Engineer | Admin, true, c.triage},
		{get, "/api/v1/principals/{kind}/{value}", Analyst | Engineer | Admin, false, c.shows(c.principal)},
		{get, "/api/v1/endpoints", people, false, c.shows(c.endpoints)},
		{get, "/api/v1/endpoints/one", people, false, c.shows(c.endpoint)},
		{get, "/api/v1/traffic", people, false, c.shows(c.traffic)},
		{get, "/api/v1/campaigns", people, false, c.shows(c.campaigns)},
		{get, "/api/v1/campaigns/{id}", people, false, c.shows(c.campaign)},
		{get, "/api/v1/detectors", people, false, c.shows(c.detectors)},
		{get, "/api/v1/system", people | Auditor, false, c.shows(c.system)},
		{get, "/api/v1/shadow", people, false, c.api(c.shadow)},
		{get, "/api/v1/requests", Analyst | Engineer | Admin, false, c.api(c.requests)},
		{get, "/api/v1/blindspots", people | Auditor, false, c.api(c.blindspots)},
		{get, "/api/v1/feed/alerts", people | Feed, false, c.feed(feedAlerts)},
		{get, "/api/v1/feed/alerts/stream", people | Feed, false, c.stream(feedAlerts)},
		{get, "/api/v1/feed/audit", Admin | Auditor, false, c.feed(feedAudit)},
		{get, "/api/v1/feed/audit/stream", Admin | Auditor, false, c.stream(feedAudit)},
		{get, "/api/v1/feed/readers", Feed | Engineer | Admin | Auditor, false, c.listReaders},
		{get, "/api/v1/decisions", Analyst | Engineer | Feed | Admin, false, c.decisions},
		{get, "/api/v1/endpoints/limits", Analyst | Engineer | Feed | Admin, false, c.limits},
		{get, "/api/v1/tokens", Admin, true, c.api(c.listTokens)},
		{post, "/api/v1/tokens", Admin, true, c.createToken},
		{del, "/api/v1/tokens/{id}", Admin, true, c.revokeToken},
		{get, "/api/v1/suppressions", people | Auditor, false, c.api(c.listSuppressions)},
		{post, "/api/v1/suppressions", Analyst | Engineer | Admin, true, c.suppress},
		{get, "/api/v1/suppressions/{id}", people | Auditor, false, c.api(c.oneSuppression)},
		{del, "/api/v1/suppressions/{id}", Analyst | Engineer | Admin, true, c.endSuppression},
		{post, "/api/v1/suppressions/preview", people, false, c.preview},
		{post, "/api/v1/reveal", Analyst | Engineer | Admin, true, c.reveal},
		{get, "/api/v1/session", 0, false, c.showSession},
		{post, "/api/v1/session", 0, false, c.signIn},
		{del, "/api/v1/session", 0, false, c.signOut},
		{get, oidcPath, 0, false, c.startOIDC},
		{get, oidcCallback, 0, false, c.finishOIDC},
		{post, "/api/v1/session/first", 0, false, c.first},
		{post, "/api/v1/session/password", anyRole, true, c.changePassword},
		{get, "/api/v1/sessions", people | Auditor, false, c.asks(c.sessions)},
		{del, "/api/v1/sessions/{id}", people | Auditor, true, c.revokeSession},
		{get, "/api/v1/me", anyRole, false, c.asks(c.me)},
		{get, "/api/v1/users", Admin | Auditor, false, c.shows(c.users)},
		{post, "/api/v1/users", Admin, true, c.createUser},
		{patch, "/api/v1/users/{name}", Admin, true, c.changeUser},
		{get, "/api/v1/assignees", people, false, c.shows(c.assignees)},
		{get, "/api/v1/config", Analyst | Engineer | Admin | Auditor, false, c.tuned(c.showConfig)},
		{post, "/api/v1/config/diff", Analyst | Engineer | Admin, false, c.tuned(c.diffConfig)},
		{post, "/api/v1/config/apply", Engineer | Admin, true, c.tuned(c.applyConfig)},
		{post, "/api/v1/backtests", Analyst | Engineer | Admin, true, c.tuned(c.startBacktest)},
		{get, "/api/v1/backtests/{id}", Analyst | Engineer | Admin, false, c.tuned(c.showBacktest)},
		{del, "/api/v1/backtests/{id}", Analyst | Engineer | Admin, true, c.tuned(c.cancelBacktest)},
		{post, "/api/v1/explanations", Analyst | Engineer | Admin, false, c.tuned(c.startExplain)},
		{get, "/api/v1/explanations/{id}", Analyst | Engineer | Admin, false, c.tuned(c.showExplain)},
		{del, "/api/v1/explanations/{id}", Analyst | Engineer | Admin, false, c.tuned(c.cancelExplain)},
		{get, "/api/v1/openapi.json", anyRole, false, c.api(document)},
		{get, "/metrics", people | Feed, false, c.metrics()},
		{get, "/healthz", 0, false, healthy},
		{get, "/readyz", 0, false, c.ready},
	}
}

func (c *console) metrics() handler {
	h := promhttp.HandlerFor(c.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxAnswering, Timeout: answerWithin})
	return func(w http.ResponseWriter, r *http.Request, _ *caller) { h.ServeHTTP(w, r) }
}

// guard gives every answer its id and the headers that keep browsers from
// doing anything with it, and refuses what was addressed to another name.
func (c *console) guard(next http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set(requestID, rand.Text())
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.TLS != nil {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		if !c.Open && !isOurs(r.Host, c.Hosts) {
			refuse(w, &problem{Status: http.StatusMisdirectedRequest, Detail: "the host " + quote(r.Host) + " is not served here; ask for localhost, 127.0.0.1 or [::1], or name it in console.names"})
			return
		}
		if err := origins.Check(r); err != nil {
			refuse(w, &problem{Status: http.StatusForbidden, Detail: "a page of another site asks"})
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, bodyLimit(r.URL.Path))
		next.ServeHTTP(w, r)
	})
}

// api makes a handler of f, which returns a JSON text, or a *problem for the
// caller, or an error for the log.
func (c *console) api(f func(r *http.Request) ([]byte, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, _ *caller) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		// Held until the answer is written: it is memory.
		done, err := c.turn(ctx)
		if err != nil {
			c.busy(w)
			return
		}
		defer done()
		body, err := f(r.WithContext(ctx))
		var p *problem
		var missing *MissingError
		switch {
		case err == nil:
			write(w, http.StatusOK, "application/json", body)
		case errors.As(err, &p):
			refuse(w, p)
		case errors.As(err, &missing):
			if missing.Soon {
				retryAfter(w, 30*time.Second)
			}
			refuse(w, missing.problem())
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("nothing to show within %s; ask for less with since, until or principal", answerWithin)})
		case r.Context().Err() != nil: // nobody waits for the answer
		default:
			c.failed(w, r, err)
		}
	}
}

// asks is api for an f that returns what is to be written as JSON and looks at who
// asks.
func (c *console) asks(f func(r *http.Request, who *caller) (any, error)) handler {
	return func(w http.ResponseWriter, r *http.Request, who *caller) {
		c.api(func(r *http.Request) ([]byte, error) {
			v, err := f(r, who)
			if err != nil {
				return nil, err
			}
			body, err := json.Marshal(v)
			return appendPrintable(nil, append(body, '\n')), err
		})(w, r, who)
	}
}

// shows is asks for what everybody sees who may ask.
func (c *console) shows(f func(r *http.Request) (any, error)) handler {
	return c.asks(func(r *http.Request, _ *caller) (any, error) { return f(r) })
}

// turn waits until one more answer may be made; done must be called.
func (c *console) turn(ctx context.Context) (done func(), err error) {
	select {
	case c.turns <- struct{}{}:
		return func() { <-c.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// retryAfter says when to ask again, in whole seconds.
func retryAfter(w http.ResponseWriter, wait time.Duration) {
	w.Header().Set("Retry-After", strconv.Itoa(max(1, int((wait+time.Second-1)/time.Second))))
}

func (c *console) busy(w http.ResponseWriter) {
	retryAfter(w, 5*time.Second)
	refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: fmt.Sprintf("%d other answers are in the making", maxAnswering)})
}

// failed answers for an error that is not the caller's.
func (c *console) failed(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for the answer
	}
	c.Log.Error("cannot answer", zap.String("path", r.URL.Path), zap.String("request_id", w.Header().Get(requestID)), zap.Error(err))
	refuse(w, &problem{Status: http.StatusInternalServerError, Detail: "the store did not answer; weir's log has the cause under this request_id"})
}

func healthy(w http.ResponseWriter, _ *http.Request, _ *caller) {
	write(w, http.StatusOK, "text/plain; charset=utf-8", []byte("ok\n"))
}

func (c *console) ready(w http.ResponseWriter, r *http.Request, _ *caller) {
	if waits := c.Waits(r.Context()); len(waits) > 0 {
		refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: "weir waits for " + strings.Join(waits, "; "), WaitsFor: waits})
		return
	}
	text := []byte("ready\n")
	if c.Notes != nil {
		for _, note := range c.Notes() {
			text = append(text, "note: "+note+"\n"...)
		}
	}
	write(w, http.StatusOK, "text/plain; charset=utf-8", text)
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
// localhost, or a configured name, with any port.
func isOurs(header string, configured []string) bool {
	host := hostOf(header)
	return slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, host) ||
		host != "" && slices.ContainsFunc(configured, func(name string) bool { return strings.EqualFold(name, host) })
}
