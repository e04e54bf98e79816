package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
	"weir/storage/clickhouse"
	"weir/storage/sqlite"
)

// The serve role is the console of a fleet. It has a file of its own, the desk: the
// feed of alerts, which it follows in the topic, and what people make of it, which
// is nowhere else. What they decide that others have to hear goes from there into
// the sequence. Requests and charts are ClickHouse's (ADR 27).

// desk is the console of a fleet in this process. Its service is the console's side
// of it: the file, the secrets, the sign-in.
type desk struct {
	service
	f        *fleet
	log      *zap.Logger
	id       string // of the file
	process  string // tells starts apart
	marks    *marksBook
	claimed  atomic.Int64           // offset of this process's claim among the marks; -1 none
	away     atomic.Pointer[string] // why it is not the fleet's; nil while it is
	requests atomic.Pointer[clickhouse.DB]
	dead     deadBook
	news     chan struct{} // has an element when the fleet has others of what adopt takes
	next     atomic.Int64  // offset of the topic of alerts that is next
	behind   atomic.Int64  // records of it that were there at the start and are not read yet
	// shadowNext is the offset among the marks from which on cases in shadow mode are
	// not taken yet; adopt has it.
	shadowNext int64
}

// deskMark says which file is the fleet's desk, and which process has it.
type deskMark struct {
	ID       string    `json:"id"`
	Instance string    `json:"instance"`
	Process  string    `json:"process"`
	File     string    `json:"file"`
	URL      string    `json:"url"`
	Since    time.Time `json:"since"`
}

const deskKey = "desk"

// runServe serves the console until ctx ends.
func runServe(ctx context.Context, f *fleet) (err error) {
	d, err := openDesk(f)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.db.Close()) }()
	return d.run(ctx)
}

// openDesk opens the file and the secrets.
func openDesk(f *fleet) (*desk, error) {
	cfg := *f.cfg
	cfg.Console.MetricsListen = "" // the process serves them
	d := &desk{
		f: f, log: f.log.With(zap.String("role", "serve")), process: rand.Text(),
		service: service{cfg: &cfg, path: f.path, text: f.text, log: f.log, stderr: f.stderr, keys: f.keys, id: f.id, metrics: f.metrics},
	}
	d.claimed.Store(-1)
	d.news = make(chan struct{}, 1)
	d.dead.sinks = map[string]map[int64]kafka.DeadLetter{}
	d.names.of.Store(f.edition)
	d.adapt = d.console
	d.tuning = newTuning(context.Background(), &d.service)
	f.reloaded.Store(d.tuning)
	var err error
	if d.pepper, err = console.LoadOrCreatePepper(cfg.pepperFile()); err != nil {
		return nil, err
	}
	if path := cfg.Console.AuditKeyFile; path != "" {
		if d.auditKey, err = console.LoadOrCreateAuditKey(path); err != nil {
			return nil, err
		}
		d.log.Info("the audit is signed", zap.String("key", d.auditKey.ID()))
	}
	if o := cfg.Console.Decisions; o != nil && o.Enabled {
		if d.never, err = pipeline.NewNeverBlock(cfg.Identity, d.service.id.Context(), o.NeverBlock); err != nil {
			return nil, err
		}
	}
	if d.db, err = sqlite.Open(cfg.Store.Path, sqlite.Options{}); err != nil {
		return nil, err
	}
	d.status.started.Store(time.Now().Unix())
	return d, nil
}

// run serves until ctx ends, or something fails.
func (d *desk) run(ctx context.Context) error {
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var all, late sync.WaitGroup
	defer all.Wait()
	defer fail(nil)
	work := func(g func(ctx context.Context) error) {
		all.Go(func() {
			if err := g(failed); err != nil && failed.Err() == nil {
				fail(err)
			}
		})
	}
	d.marks = newMarksBook(d.f.bus, d.f.topics.marks, deskKey, sinkPrefix, factPrefix, processPrefix, suppressionPrefix, verdictPrefix, startPrefix, shadowPrefix, forcePrefix+controlEdition+"/")
	d.marks.changed = d.marked
	known := make(chan struct{})
	work(func(ctx context.Context) error { return d.marks.follow(ctx, known) })
	select {
	case <-known:
	case <-failed.Done():
		return d.cause(ctx, failed)
	}
	if err := d.claim(failed); err != nil {
		return err
	}
	sockets, err := d.openSockets(ctx)
	if err != nil {
		return err
	}
	if err := d.begin(failed); err != nil {
		return errors.Join(err, sockets.api.Close())
	}
	sockets.serve(&d.service, late.Go, fail)
	defer late.Wait()
	defer sockets.close()
	waits := d.waits
	d.f.waiting.Store(&waits)
	if d.away.Load() == nil {
		work(d.openRequests)
		work(d.followFeed)
		work(d.followDead)
		work(d.forward)
		work(d.adopt)
		work(d.keep)
		if d.auditKey != nil {
			work(func(ctx context.Context) error { d.keepAuditSigned(ctx); return nil })
		}
	}
	d.log.Info("weir serves the console", zap.String("version", version), zap.String("store", d.cfg.Store.Path), zap.String("http", d.url(sockets)))
	<-failed.Done()
	d.status.do("its next start: it is stopping")
	ending := context.WithoutCancel(ctx)
	sockets.shutdown(ending, 2*time.Second)
	all.Wait()
	if db := d.requests.Load(); db != nil {
		_ = db.Close()
	}
	if d.away.Load() == nil {
		if err := d.recordService(ending, "service.stop"); err != nil {
			d.log.Error("cannot say in the audit that weir stops", zap.Error(err))
		}
	}
	return d.cause(ctx, failed)
}

// cause is what ended it, nil when it was asked to.
func (d *desk) cause(ctx, failed context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(failed)
}

// begin writes the start into the audit.
func (d *desk) begin(ctx context.Context) error {
	if d.away.Load() != nil {
		return nil
	}
	if err := d.recordService(ctx, "service.start"); err != nil {
		return err
	}
	return d.recordNames(ctx, nil, d.cfg.Alerts.Sinks)
}

// claim makes this process the fleet's desk, unless that is another file: triage,
// users and the audit are in one alone, and nobody should get another one by
// mistake.
func (d *desk) claim(ctx context.Context) (err error) {
	if d.id, err = d.db.Desk(ctx, strings.ToLower(rand.Text())); err != nil {
		return err
	}
	if m, ok := d.marks.get(deskKey); ok && !d.f.newDesk {
		var have deskMark
		if err := json.Unmarshal(m.value, &have); err != nil {
			return fmt.Errorf("read who has the desk: %w", err)
		}
		if have.ID != d.id {
			d.leave(fmt.Sprintf("the fleet's desk is %s of %q (since %s), and %s here is another file, without its triage, users and audit: start serve there, or with a copy of that file; "+
				"where it is lost for good, --new-desk begins another", have.File, have.Instance, have.Since.Format(time.RFC3339), d.cfg.Store.Path))
			return nil
		}
	}
	file, err := filepath.Abs(d.cfg.Store.Path)
	if err != nil {
		return err
	}
	value, err := json.Marshal(deskMark{ID: d.id, Instance: d.f.instance, Process: d.process, File: file, URL: d.cfg.Console.Listen, Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	list := []kafka.Record{{Key: []byte(deskKey), Value: value, Epoch: kafka.NoEpoch}}
	if err := d.f.appendMarks(ctx, list); err != nil {
		return fmt.Errorf("claim the desk: %w", err)
	}
	d.claimed.Store(list[0].Offset)
	if m, ok := d.marks.get(deskKey); ok { // it came before the claim was known to be there
		d.marked(deskKey, m)
	}
	return nil
}

// marked looks at a mark that came: the last claim of the desk counts.
func (d *desk) marked(key string, m markedValue) {
	if strings.HasPrefix(key, suppressionPrefix) || strings.HasPrefix(key, shadowPrefix) || strings.HasPrefix(key, forcePrefix) || strings.HasPrefix(key, startPrefix) {
		select {
		case d.news <- struct{}{}:
		default:
		}
	}
	claimed := d.claimed.Load()
	if key != deskKey || claimed < 0 || m.offset <= claimed {
		return
	}
	var other deskMark
	if err := json.Unmarshal(m.value, &other); err != nil || other.Process == d.process {
		return // one that was written twice
	}
	d.leave(fmt.Sprintf("%q has the fleet's desk now, %s, since %s", other.Instance, other.File, other.Since.Format(time.RFC3339)))
}

// leave ends what this process does for the fleet; it says why to who asks.
func (d *desk) leave(why string) {
	if d.away.CompareAndSwap(nil, &why) {
		d.log.Error("this process does not have the fleet's desk: it answers nothing but that", zap.String("reason", why))
	}
}

// elsewhere is why the API is not answered here, "" while it is.
func (d *desk) elsewhere() string {
	if why := d.away.Load(); why != nil {
		return *why
	}
	return ""
}

// console is how the console of a fleet differs from that of weir run.
func (d *desk) console(o *console.Options) {
	o.Store = deskStore{consoleStore{d.db}, d}
	o.Waits, o.Away = d.waits, d.elsewhere
	o.Through = d.through
	o.System, o.Deliveries = d.system, d.deliveries
	o.Limits, o.Detectors = nil, d.f.detectorInfos
	o.Blindspots = func() ([]byte, error) {
		return nil, &console.MissingError{Text: "a fleet does not work out what cannot be detected: weir analyze and weir run do, of the same logs"}
	}
	o.Tuning = deskTuning{d.tuning, d}
}

// waits says what is missing until the console is ready.
func (d *desk) waits(ctx context.Context) (list []string) {
	if doing := d.status.doing.Load(); doing != nil {
		list = append(list, *doing)
	}
	if why := d.elsewhere(); why != "" {
		return append(list, why)
	}
	if _, err := d.db.Last(ctx); err != nil {
		return append(list, "the store, which does not answer")
	}
	if behind := d.behind.Load(); behind > readyLag {
		list = append(list, fmt.Sprintf("the feed, of which %d records are not read yet", behind))
	}
	return list
}

// keep applies retention to the file, and tells how large it is.
func (d *desk) keep(ctx context.Context) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		if err := errors.Join(d.retainDesk(ctx), d.forget(ctx)); err != nil && ctx.Err() == nil {
			d.log.Error("cannot apply retention", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// retainDesk removes what is older than configured: alerts and cases in shadow mode by
// the event time of the newest one, or the clock, what is earlier.
func (d *desk) retainDesk(ctx context.Context) error {
	st, err := d.db.Stats(ctx)
	if err != nil {
		return err
	}
	d.f.status.storeBytes.Store(st.Bytes)
	d.f.status.differences.Store(max(d.f.status.differences.Load(), st.ReplayDifferences))
	now := time.Now()
	p := storage.RetainPolicy{KeepFrom: d.status.keepFrom.Load()}
	if age := time.Duration(d.cfg.Store.AuditRetention); age > 0 {
		p.AuditFrom = timeOf(now.Add(-age))
	}
	newest, err := d.db.Alerts(ctx, storage.AlertFilter{Limit: 1})
	if err != nil {
		return err
	}
	shadows, err := d.db.Findings(ctx, storage.FindingFilter{Limit: 1})
	if err != nil {
		return err
	}
	last := pipeline.NoTime
	if len(newest) > 0 {
		last = newest[0].Alert.Window.Last
	}
	if len(shadows) > 0 {
		last = max(last, shadows[0].Time)
	}
	if last != pipeline.NoTime {
		p.AlertAge, p.Now = time.Duration(d.cfg.Store.AlertRetention), min(timeOf(now), last)
	}
	_, err = d.db.Retain(ctx, p)
	return err
}

// forget removes marks that are of no use any more: of processes that have long been
// gone, verdicts on what nobody learns from, and cases that are not kept any more.
func (d *desk) forget(ctx context.Context) error {
	list := d.oldShadows(time.Now())
	reached := d.through()
	for id, m := range d.marks.under(verdictPrefix) {
		var v storage.TruePositive
		if json.Unmarshal(m.value, &v) == nil && reached.Sub(v.Last) > suppressionKept {
			list = append(list, kafka.Record{Key: []byte(verdictPrefix + id), Epoch: kafka.NoEpoch})
		}
	}
	for name, m := range d.marks.under(processPrefix) {
		if time.Since(m.time) > beatForgotten {
			list = append(list, kafka.Record{Key: []byte(processPrefix + name), Epoch: kafka.NoEpoch})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return d.f.appendMarks(ctx, list)
}
