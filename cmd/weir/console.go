package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"go.uber.org/zap"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// newServer is the HTTP side of weir run.
func (s *service) newServer() *http.Server { return console.NewServer(s.consoleOptions()) }

func (s *service) consoleOptions() console.Options {
	o := console.Options{
		Store: consoleStore{s.db}, Waits: s.waits, Notes: s.notes, Blindspots: s.blindspots, Through: func() pipeline.Time { return pipeline.Time(s.status.eventTime.Load()) },
		Names: s.keys.Open, Pepper: s.pepper, Metrics: s.metrics.registry, Register: s.metrics.registry, Log: s.log,
		Hosts: s.cfg.Console.Hosts(), Open: s.cfg.Console.Off(), Sessions: s.cfg.Console.Sessions, OIDC: s.cfg.Console.OIDC, Deliveries: s.deliveries,
		Detectors: s.detectorInfos, System: s.system, Baseline: s.baseline, Template: s.templateOf,
		Resolve: func(m *pipeline.SuppressionMatch) error { return resolveMatch(m, s.cfg, s.keys) },
	}
	if s.tuning != nil { // a nil *tuning is no nil Tuning
		o.Tuning = s.tuning
	}
	if s.never != nil {
		o.NeverBlock, o.Limits = s.never.Why, s.limits.Load
	}
	if s.adapt != nil {
		s.adapt(&o)
	}
	return o
}

// listening are the sockets of the HTTP side.
type listening struct {
	api, metrics net.Listener // metrics may be nil
	servers      []*http.Server
}

// openSockets opens them.
func (s *service) openSockets(ctx context.Context) (l *listening, err error) {
	if err := s.cfg.Console.Validate(); err != nil {
		return nil, err
	}
	l = &listening{}
	if s.listen != nil {
		l.api, err = s.listen()
	} else {
		l.api, err = s.cfg.Console.Open(s.log)
	}
	if err != nil {
		return nil, err
	}
	if l.metrics, err = s.cfg.Console.OpenMetrics(); err != nil {
		return nil, errors.Join(err, l.api.Close())
	}
	if err := s.firstLink(ctx, l); err != nil {
		if l.metrics != nil {
			err = errors.Join(err, l.metrics.Close())
		}
		return nil, errors.Join(err, l.api.Close())
	}
	return l, nil
}

// firstLink prints the link by which the first administrator comes in, at a start
// before there is anybody: neither a user nor a token. It stands on stderr alone:
// logs go to where others read them.
func (s *service) firstLink(ctx context.Context, l *listening) error {
	if o := s.consoleOptions(); o.Away != nil && o.Away() != "" {
		return nil // nobody comes in here
	}
	users, err := s.db.HasUsers(ctx)
	if err != nil || users {
		return err
	}
	tokens, err := s.db.HasTokens(ctx)
	if err != nil {
		return err
	}
	if tokens {
		s.log.Info("nobody signs in to the console yet; weir user add makes a user")
		return nil
	}
	if !s.cfg.Console.Off() {
		s.log.Warn("the API asks nobody who they are: everybody on this machine may read it, and nobody may open names or change anything; the first user or token ends that",
			zap.String("listen", l.api.Addr().String()))
	}
	text, mac := s.pepper.NewFirst()
	ends := time.Now().Add(console.FirstEnds)
	if err := s.db.SaveFirst(ctx, mac, timeOf(ends)); err != nil {
		return err
	}
	if s.stderr != nil {
		fmt.Fprintf(s.stderr, "\nMake the first administrator, once and until %s:\n\n  %s/first#%s\n\n", ends.Format("15:04"), s.base(l), text)
	}
	return nil
}

// base is where a browser finds the API: by a name where one is configured.
func (s *service) base(l *listening) string {
	host, port, err := net.SplitHostPort(l.api.Addr().String())
	ip := net.ParseIP(host)
	switch {
	case err != nil:
		return s.url(l)
	case len(s.cfg.Console.Names) > 0:
		host = s.cfg.Console.Names[0]
	case ip != nil && ip.IsUnspecified():
		host = "localhost"
	}
	switch {
	case s.cfg.Console.TLS != nil:
		return "https://" + net.JoinHostPort(host, port)
	case s.cfg.Console.InsecureHTTP && len(s.cfg.Console.Names) > 0:
		return "https://" + host // what stands in front does TLS
	}
	return "http://" + net.JoinHostPort(host, port)
}

// serve answers until the servers are closed; failed gets what ends it before.
func (l *listening) serve(s *service, start func(func()), failed func(error)) {
	add := func(server *http.Server, socket net.Listener) {
		l.servers = append(l.servers, server)
		start(func() {
			if err := server.Serve(socket); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed(err)
			}
		})
	}
	add(s.newServer(), l.api)
	if l.metrics != nil {
		o := s.consoleOptions()
		o.Register, o.Open = nil, true
		add(console.NewMetricsServer(o), l.metrics)
	}
}

// shutdown lets answers end, for so long.
func (l *listening) shutdown(ctx context.Context, within time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for _, server := range l.servers {
		_ = server.Shutdown(ctx)
	}
}

func (l *listening) close() {
	for _, server := range l.servers {
		_ = server.Close()
	}
}

// url is where the API is.
func (s *service) url(l *listening) string {
	if s.cfg.Console.TLS != nil {
		return "https://" + l.api.Addr().String()
	}
	return "http://" + l.api.Addr().String()
}

// readyLag is how many records may wait for detection while weir counts as
// ready.
const readyLag = 1000

// waits says what is missing until weir is ready.
func (s *service) waits(ctx context.Context) (list []string) {
	if doing := s.status.doing.Load(); doing != nil {
		list = append(list, *doing)
	}
	last, err := s.db.Last(ctx)
	if err != nil {
		return append(list, "the store, which does not answer")
	}
	if lag := last - s.status.detected.Load(); lag > readyLag {
		list = append(list, fmt.Sprintf("detection, which is %d records behind", lag))
	}
	return list
}

// consoleStore is the embedded store as the console wants it.
type consoleStore struct{ db *sqlite.DB }

func (s consoleStore) Alerts(ctx context.Context, f console.AlertFilter) ([]console.Alert, error) {
	stored, err := s.db.Alerts(ctx, storage.AlertFilter(f))
	return s.alerts(ctx, stored, err)
}

func (s consoleStore) Alert(ctx context.Context, id string) ([]console.Alert, error) {
	stored, err := s.db.Alert(ctx, id)
	return s.alerts(ctx, stored, err)
}

func (s consoleStore) alerts(ctx context.Context, stored []storage.StoredAlert, err error) ([]console.Alert, error) {
	return s.write(ctx, stored, err, alerts.AppendJSON)
}

// write writes what is stored, with what people made of it since.
func (s consoleStore) write(ctx context.Context, stored []storage.StoredAlert, err error, write func(dst []byte, a *pipeline.Alert) []byte) ([]console.Alert, error) {
	if err != nil {
		return nil, err
	}
	var ids []string
	seen := map[string]bool{}
	for i := range stored {
		if id := stored[i].Alert.ID; !seen[id] {
			seen[id] = true
			ids = append(ids, id)
		}
	}
	triages, err := s.db.Triages(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]console.Alert, len(stored))
	for i := range stored {
		a := &stored[i].Alert
		if t, ok := triages[a.ID]; ok {
			if err := json.Unmarshal(t.Body, &a.Envelope.Triage); err != nil {
				return nil, fmt.Errorf("read triage of %s: %w", a.ID, err)
			}
		}
		list[i] = console.Alert{Seq: stored[i].Seq, JSON: write(nil, a)}
	}
	return list, nil
}

func (s consoleStore) Requests(ctx context.Context, f console.RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	return s.db.Requests(ctx, storage.RequestFilter(f), fn)
}
