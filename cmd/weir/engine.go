package main

import (
	"runtime/debug"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// engine is detect, correlate and alert in one process: ordered requests in,
// alert revisions out. Both wirings of one machine use it as it is: analyze
// feeds it from files, run from the log. The members of a fleet have parts of it; what
// is elsewhere is nil. One goroutine uses an engine.
type engine struct {
	merge *pipeline.Merge
	set   *detectors.Set
	cross *detectors.Correlator
	watch *pipeline.ProxyWatch
	book  *alerts.Book
	keys  *pipeline.PrivacyKeys
	// logins are the configured endpoints.
	logins *pipeline.LoginRules
	// What the log says of the configuration; nil nothing.
	configBody []byte
	bookConfig alerts.Config
	labels     map[string]map[string]string // by source; nil in members that have none of it
	// What the log says of sources.
	facts     sourceFacts
	factsBody []byte
	sampled   map[string]float64 // by source; nil when all are whole
	dedupe    *pipeline.Dedupe   // nil without
	// versions go into every alert.
	versions pipeline.AlertVersions

	batch    []pipeline.Ordered
	findings []pipeline.Finding
	shadow   []pipeline.Finding // of detectors on trial, since the last commit
	requests int64
	first    pipeline.Time
	last     pipeline.Time
	onBatch  func([]pipeline.Ordered) // told of every batch before detection; may be nil
	// onFinding is told of every finding, and whether an alert came of it or went
	// on; may be nil.
	onFinding func(f *pipeline.Finding, fate fate)
}

// engineBatch is how many requests are detected at a time.
const engineBatch = 4096

// newEngine builds the chain for one edition; labels are those of each source.
func newEngine(cfg *config, edition *pipeline.Edition, keys *pipeline.PrivacyKeys, labels map[string]map[string]string, workers int) (*engine, error) {
	return newTracedEngine(cfg, edition, keys, labels, workers, nil)
}

// newTracedEngine is newEngine with somebody who is told what detectors make of
// each request; see detectors.Config.
func newTracedEngine(cfg *config, edition *pipeline.Edition, keys *pipeline.PrivacyKeys, labels map[string]map[string]string, workers int, trace func(detectors.Traced)) (*engine, error) {
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	watch := pipeline.NewProxyWatch(cfg.Identity.TrustedProxies...)
	how := detectors.Config{Modes: cfg.modes(), Watch: watch, Logins: logins, Labels: labels, Workers: workers, Trace: trace}
	cross, err := detectors.NewCorrelator(how, edition)
	if err != nil {
		return nil, err
	}
	how.Cross = cross
	set, err := detectors.NewSet(how, edition)
	if err != nil {
		return nil, err
	}
	versions := pipeline.AlertVersions{Weir: version, Config: cfg.hash(), Edition: edition.Hash()}
	e := &engine{
		merge: pipeline.NewMerge(edition.Lateness, 0), set: set, cross: cross, watch: watch, keys: keys, logins: logins, labels: labels,
		book: alerts.NewBook(cfg.Alerts, versions), bookConfig: cfg.Alerts, versions: versions,
		first: pipeline.NoTime, last: pipeline.NoTime,
	}
	e.book.Weigh(logins)
	return e, nil
}

// restoreBook takes the open incidents from a checkpoint.
func (e *engine) restoreBook(data []byte) error {
	book, err := alerts.Restore(e.bookConfig, e.versions, data)
	if err != nil {
		return err
	}
	book.Weigh(e.logins)
	if e.set != nil { // of a fleet's alert stage it is elsewhere
		for _, s := range e.set.Suppressions() {
			book.Suppress(s)
		}
	}
	e.book = book
	return nil
}

// suppress takes a suppression, or news of one, from here on.
func (e *engine) suppress(s pipeline.Suppression) {
	if e.set != nil {
		e.set.Suppress(s)
	}
	if e.book != nil {
		e.book.Suppress(s)
	}
}

// setEdition makes edition the one in force.
func (e *engine) setEdition(edition *pipeline.Edition) error {
	if e.merge != nil {
		e.merge.SetLateness(edition.Lateness)
	}
	if e.set != nil {
		if err := e.set.SetEdition(edition); err != nil {
			return err
		}
	}
	if e.cross != nil {
		if err := e.cross.SetEdition(edition); err != nil {
			return err
		}
	}
	if e.versions.Edition = edition.Hash(); e.book != nil {
		e.book.Configure(e.bookConfig, e.versions)
	}
	return nil
}

// drain takes every request whose place is certain through the chain and
// appends the alert revisions to dst.
func (e *engine) drain(dst []pipeline.Alert) []pipeline.Alert {
	e.batch = e.merge.Next(e.batch[:0])
	for rest := e.distinct(e.batch); len(rest) > 0; {
		n := min(len(rest), engineBatch)
		part := rest[:n]
		rest = rest[n:]
		if e.onBatch != nil {
			e.onBatch(part)
		}
		if e.first == pipeline.NoTime {
			e.first = part[0].Effective
		}
		e.last = part[n-1].Effective
		e.requests += int64(n)
		e.findings = e.set.Process(e.findings[:0], part)
		dst = e.take(dst)
		dst = e.book.Advance(dst, e.last)
	}
	return dst
}

// advance tells the chain that event time reached now without a request.
func (e *engine) advance(dst []pipeline.Alert, now pipeline.Time) []pipeline.Alert {
	if e.last == pipeline.NoTime || now <= e.last {
		return dst
	}
	e.last = now
	e.findings = e.set.Advance(e.findings[:0], now)
	return e.book.Advance(e.take(dst), now)
}

func (e *engine) take(dst []pipeline.Alert) []pipeline.Alert {
	for i := range e.findings {
		f := &e.findings[i]
		if e.sampled != nil {
			f.Sampled = e.sampledShare(f)
		}
		if f.Shadow {
			if len(e.shadow) >= maxShadow {
				e.shadow = latestFindings(e.shadow, maxShadow/2)
			}
			e.shadow = append(e.shadow, *f)
			if e.onFinding != nil {
				e.onFinding(f, fateShadow)
			}
			continue
		}
		ignored := e.book.Stats().Ignored
		dst = e.book.Take(dst, f)
		if e.onFinding != nil {
			fate := fateTold
			if e.book.Stats().Ignored > ignored {
				fate = fateExcused
			}
			e.onFinding(f, fate)
		}
	}
	return dst
}

// maxShadow bounds what is held of detectors in shadow mode.
const maxShadow = 8192

// latestFindings keeps the latest finding of each case, of the most recent cases at
// most so many, in their order.
func latestFindings(list []pipeline.Finding, most int) []pipeline.Finding {
	seen := map[string]bool{}
	kept := len(list)
	for i := len(list) - 1; i >= 0 && len(seen) < most; i-- {
		if f := list[i]; !seen[f.ID] {
			seen[f.ID] = true
			kept--
			list[kept] = f
		}
	}
	return append(list[:0], list[kept:]...)
}

// fate is what becomes of a finding.
type fate uint8

const (
	fateTold    fate = iota // an alert, or one that was there
	fateShadow              // of a detector in shadow mode
	fateExcused             // too little, once what everybody was refused is taken out
)

// limitMemory keeps Go's heap from doubling: state is bounded by design, and
// the collector runs a little more often instead.
func limitMemory() {
	debug.SetGCPercent(100)
	debug.SetMemoryLimit(900 << 20)
}

// limitService is limitMemory for a process that stays: what it holds hardly
// changes, so that half as much garbage beside it costs little.
func limitService() {
	limitMemory()
	debug.SetGCPercent(50)
}
