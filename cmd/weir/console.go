package main

import (
	"context"
	"fmt"
	"net/http"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// newServer is the HTTP side of weir run.
func (s *service) newServer() *http.Server {
	return console.NewServer(console.Options{
		Store: consoleStore{s.db}, Waits: s.waits, Blindspots: s.blindspots, Metrics: s.metrics.registry, Log: s.log, Host: s.cfg.Console.Host(),
	})
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
	return consoleAlerts(s.db.Alerts(ctx, storage.AlertFilter(f)))
}

func (s consoleStore) Alert(ctx context.Context, id string) ([]console.Alert, error) {
	return consoleAlerts(s.db.Alert(ctx, id))
}

func consoleAlerts(stored []storage.StoredAlert, err error) ([]console.Alert, error) {
	list := make([]console.Alert, len(stored))
	for i := range stored {
		list[i] = console.Alert{Seq: stored[i].Seq, JSON: alerts.AppendJSON(nil, &stored[i].Alert)}
	}
	return list, err
}

func (s consoleStore) Requests(ctx context.Context, f console.RequestFilter, fn func(r *pipeline.Request, source string) bool) error {
	return s.db.Requests(ctx, storage.RequestFilter(f), fn)
}
