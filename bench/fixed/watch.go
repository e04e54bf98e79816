// Package fixed plays the fixed "N in M seconds" rules that most tools ship, with
// their published numbers, so that weir can be measured beside them on the same
// traffic.
package fixed

import (
	"fmt"
	"strconv"
	"time"

	"weir/pipeline"
)

const (
	// maxBuckets bounds the buckets of all rules; at the bound empty ones go.
	maxBuckets = 1 << 21
	// ban is how long an address stays reported: a rule that fires again within
	// it extends the incident.
	ban = 4 * time.Hour
)

// bucket is one rule's count for one key.
type bucket struct {
	drops    int
	leaked   pipeline.Time // up to when leaks are taken off; the window's start
	deaf     pipeline.Time // until when events are ignored
	distinct map[string]struct{}
}

// add takes an event at time t and reports an overflow.
func (b *bucket) add(r *rule, t pipeline.Time, value string) bool {
	if t < b.deaf {
		return false
	}
	b.drain(r, t)
	if value != "" {
		if _, seen := b.distinct[value]; seen {
			return false
		}
		if b.distinct == nil {
			b.distinct = make(map[string]struct{})
		}
		b.distinct[value] = struct{}{}
	}
	if b.drops == 0 {
		b.leaked = t
	}
	b.drops++
	if b.drops <= r.capacity {
		return false
	}
	*b = bucket{deaf: t.Add(r.blackhole), leaked: t}
	return true
}

// drain takes off what leaked until t. An empty bucket forgets what it saw.
func (b *bucket) drain(r *rule, t pipeline.Time) {
	age := t.Sub(b.leaked)
	if r.window > 0 {
		if age < r.window {
			return
		}
		b.drops = 0
	} else {
		n := min(int(age/r.leak), b.drops)
		b.drops -= n
		b.leaked = b.leaked.Add(time.Duration(n) * r.leak)
	}
	if b.drops == 0 {
		b.distinct = nil
	}
}

type bucketKey struct {
	rule  int
	owner uint64
	key   string
}

type incidentKey struct {
	rule  int
	owner uint64
}

// Watch plays the rules over events in order of time. One goroutine uses it.
type Watch struct {
	rules     []rule
	buckets   map[bucketKey]*bucket
	open      map[incidentKey]int // → incidents
	incidents []pipeline.Alert
	fired     []int // overflows of each incident
}

// New returns a watch that saw nothing.
func New() *Watch {
	return &Watch{rules: rules(), buckets: make(map[bucketKey]*bucket), open: make(map[incidentKey]int)}
}

// Observe takes the next event; times never go back.
func (w *Watch) Observe(e *Event) {
	owner := e.Address.Owner()
	for i := range w.rules {
		r := &w.rules[i]
		value, key, ok := r.match(e)
		if !ok {
			continue
		}
		k := bucketKey{i, owner, key}
		b := w.buckets[k]
		if b == nil {
			if len(w.buckets) >= maxBuckets {
				w.sweep(e.Time)
			}
			b = &bucket{leaked: e.Time, deaf: pipeline.NoTime}
			w.buckets[k] = b
		}
		if b.add(r, e.Time, value) {
			w.raise(i, owner, e)
		}
	}
}

// sweep drops the buckets that are empty and listening.
func (w *Watch) sweep(now pipeline.Time) {
	for k, b := range w.buckets {
		b.drain(&w.rules[k.rule], now)
		if b.drops == 0 && b.deaf <= now {
			delete(w.buckets, k)
		}
	}
}

func (w *Watch) raise(i int, owner uint64, e *Event) {
	r := &w.rules[i]
	k := incidentKey{i, owner}
	if n, ok := w.open[k]; ok && e.Time.Sub(w.incidents[n].Window.Last) <= ban {
		w.incidents[n].Window.Last = e.Time
		w.fired[n]++
		return
	}
	who := e.Address.PrincipalValue()
	// A leaky bucket keeps no start; what it can have seen began at most
	// capacity leaks ago.
	first := e.Time.Add(-max(r.window, time.Duration(r.capacity)*r.leak))
	w.open[k] = len(w.incidents)
	w.fired = append(w.fired, 1)
	w.incidents = append(w.incidents, pipeline.Alert{
		Schema:   pipeline.AlertSchema,
		ID:       fmt.Sprintf("%016x", pipeline.Mix64(pipeline.Mix64(owner, uint64(i)), uint64(e.Time))),
		Revision: 1, Status: "open",
		Change:   pipeline.AlertChange{Kind: "opened"},
		Detector: r.detector, Severity: "high", Tier: "page", Level: "client",
		Title:     r.name + " from " + who,
		Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: who},
		Addresses: []string{e.Address.String()}, AddressesTotal: 1,
		Window: pipeline.AlertWindow{Onset: first, First: first, Last: e.Time, DetectedAt: e.Time},
		Next:   []string{}, BenignIf: []string{}, Members: []pipeline.Principal{}, Signals: []pipeline.AlertSignal{},
		Exemplars: []pipeline.Exemplar{}, Attack: []string{}, OWASP: []string{}, OAT: []string{},
		Affected: pipeline.AlertAffected{Accounts: []pipeline.AffectedAccount{}, Objects: []string{}},
		Context:  pipeline.AlertContext{Agents: []string{}, JA4: []string{}},
		Labels:   pipeline.AlertLabels{},
		Outcome:  pipeline.Outcome{Basis: "unknown"},
	})
}

// Finish returns the incidents with how often their rule fired.
func (w *Watch) Finish() []pipeline.Alert {
	for i := range w.incidents {
		w.incidents[i].Reason = "the threshold was passed " + strconv.Itoa(w.fired[i]) + " times"
	}
	return w.incidents
}
