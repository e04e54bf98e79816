package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.uber.org/zap"

	"weir/storage"
)

// BenchmarkFeed reads a page of 500 alerts from the store, as NDJSON.
func BenchmarkFeed(b *testing.B) {
	cfg := defaultConfig()
	cfg.Store.Path = b.TempDir() + "/weir.db"
	s := &service{cfg: cfg, log: zap.NewNop()}
	if err := s.open(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer s.db.Close()
	o := storage.Output{Stage: detectStage}
	for i := range 500 {
		o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: consoleAlert(fmt.Sprint("a", i), 1, "high")})
	}
	if err := s.db.Commit(b.Context(), o); err != nil {
		b.Fatal(err)
	}
	h := s.newServer().Handler
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequestWithContext(b.Context(), http.MethodGet, "/api/v1/feed/alerts?limit=500", nil)
		r.Host = "localhost"
		r.Header.Set("Accept", "application/x-ndjson")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
	b.ReportMetric(float64(500*b.N)/b.Elapsed().Seconds(), "rows/s")
}
