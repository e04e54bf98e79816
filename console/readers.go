package console

import (
	"context"
	"encoding/json"
	"net/http"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/pipeline"
)

// Reader is how far a reader of a feed has come.
type Reader struct {
	Feed string
	ID   string        // its token's
	Seq  int64         // it has everything through it
	Time pipeline.Time // of its last request
}

type readerKey struct{ feed, id string }

type place struct {
	name  string
	seq   int64
	time  time.Time
	saved time.Time
}

// saveEvery is how often the place of a busy reader is stored. After a crash it
// shows as a little farther behind until it asks again: the place is for people
// who look, the reader's own cursor says where it goes on.
const saveEvery = 10 * time.Second

// auditEvery is how often the audit has that somebody reads it: a row for every
// page would be a reason for the next page.
const auditEvery = time.Hour

// readers knows who reads the feeds. It is a prometheus.Collector.
type readers struct {
	console *console
	mu      sync.Mutex
	loaded  bool
	places  map[readerKey]*place
	seen    map[string]time.Time // when the audit had that a token reads it
}

// note remembers that who has everything of feed through seq. A person who looks
// is no reader that anybody waits for.
func (l *readers) note(ctx context.Context, feed string, who *caller, seq int64) {
	if who.kind == "user" {
		return
	}
	now := time.Now()
	l.load(ctx)
	l.mu.Lock()
	key := readerKey{feed, who.id}
	p := l.places[key]
	if p == nil {
		if len(l.places) >= maxCallers {
			clear(l.places)
		}
		p = &place{}
		l.places[key] = p
	}
	p.name, p.seq, p.time = who.name, seq, now
	due := now.Sub(p.saved) >= saveEvery
	if due {
		p.saved = now
	}
	l.mu.Unlock()
	if !due {
		return
	}
	err := l.console.Store.SaveReader(ctx, Reader{Feed: feed, ID: who.id, Seq: seq, Time: pipeline.TimeOf(now)})
	if err != nil && ctx.Err() == nil {
		l.console.Log.Warn("cannot store how far a reader has come", zap.String("feed", feed), zap.String("reader", who.id), zap.Error(err))
	}
}

// load reads once what an earlier process knew.
func (l *readers) load(ctx context.Context) {
	l.mu.Lock()
	loaded := l.loaded
	l.mu.Unlock()
	if loaded {
		return
	}
	list, err := l.console.Store.Readers(ctx)
	if err != nil {
		return // the next one tries again
	}
	names := map[string]string{localID: localID}
	for _, r := range list {
		if k, ok, err := l.console.Store.Token(ctx, r.ID); err == nil && ok {
			names[r.ID] = k.Name
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range list {
		key := readerKey{r.Feed, r.ID}
		if name, ok := names[r.ID]; ok && l.places[key] == nil {
			l.places[key] = &place{name: name, seq: r.Seq, time: r.Time.Std(), saved: r.Time.Std()}
		}
	}
	l.loaded = true
}

// readerView is a reader as the API shows it.
type readerView struct {
	Feed     string        `json:"feed"`
	Reader   string        `json:"reader"`
	Name     string        `json:"name"`
	Seq      int64         `json:"seq"`
	Lag      int64         `json:"lag_rows"`
	LastRead pipeline.Time `json:"last_read"`
}

// list returns the readers whose tokens hold, in order; only is one reader's id,
// "" for all.
func (l *readers) list(ctx context.Context, only string) ([]readerView, error) {
	l.load(ctx)
	last := map[string]int64{}
	for _, feed := range []string{feedAlerts, feedAudit} {
		var err error
		if _, last[feed], err = l.console.Store.FeedBounds(ctx, feed); err != nil {
			return nil, err
		}
	}
	l.mu.Lock()
	out := make([]readerView, 0, len(l.places))
	for key, p := range l.places {
		if only == "" || key.id == only {
			out = append(out, readerView{key.feed, key.id, p.name, p.seq, max(0, last[key.feed]-p.seq), pipeline.TimeOf(p.time)})
		}
	}
	l.mu.Unlock()
	held := out[:0]
	for _, v := range out {
		k, ok, err := l.console.Store.Token(ctx, v.Reader)
		if err != nil {
			return nil, err
		}
		if v.Reader == localID || ok && k.fit(time.Now()) == "" {
			held = append(held, v)
		}
	}
	sort.Slice(held, func(i, j int) bool {
		return held[i].Feed < held[j].Feed || held[i].Feed == held[j].Feed && held[i].Reader < held[j].Reader
	})
	return held, nil
}

// listReaders answers {"data":[...]}: who reads the feeds, and how far behind
// they are. A reader that is nothing else sees itself.
func (c *console) listReaders(w http.ResponseWriter, r *http.Request, who *caller) {
	only := ""
	if who.roles&(Engineer|Admin|Auditor) == 0 {
		only = who.id
	}
	c.api(func(r *http.Request) ([]byte, error) {
		if err := newQuery(r.URL.RawQuery).err(); err != nil {
			return nil, err
		}
		list, err := c.readers.list(r.Context(), only)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(map[string]any{"data": list})
		return appendPrintable(nil, append(body, '\n')), err
	})(w, r, who)
}

// auditDue tells whether the audit is to have that who reads it.
func (l *readers) auditDue(id string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.seen[id]; ok && now.Sub(at) < auditEvery {
		return false
	}
	if len(l.seen) >= maxCallers {
		clear(l.seen)
	}
	l.seen[id] = now
	return true
}

// auditFailed says that the audit could not take it.
func (l *readers) auditFailed(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.seen, id)
}

func lagDesc() *prometheus.Desc {
	return prometheus.NewDesc("weir_feed_reader_lag_rows", "Rows of a feed that a reader has not confirmed.", []string{"feed", "reader"}, nil)
}

func lastReadDesc() *prometheus.Desc {
	return prometheus.NewDesc("weir_feed_reader_last_read_timestamp_seconds", "When a reader of a feed asked last.", []string{"feed", "reader"}, nil)
}

// Describe is of prometheus.Collector.
func (l *readers) Describe(ch chan<- *prometheus.Desc) {
	ch <- lagDesc()
	ch <- lastReadDesc()
}

// Collect is of prometheus.Collector. A reader is labelled NAME/ID of its token:
// names may be given twice.
func (l *readers) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	list, err := l.list(ctx, "")
	if err != nil {
		ch <- prometheus.NewInvalidMetric(lagDesc(), err)
		return
	}
	for _, v := range list {
		reader := v.Name + "/" + v.Reader
		if v.Reader == localID {
			reader = localID
		}
		ch <- prometheus.MustNewConstMetric(lagDesc(), prometheus.GaugeValue, float64(v.Lag), v.Feed, reader)
		ch <- prometheus.MustNewConstMetric(lastReadDesc(), prometheus.GaugeValue, float64(v.LastRead)/1e6, v.Feed, reader)
	}
}
