package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"weir/detectors"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// replayFlags say what is detected over again: files under an edition, or what
// weir run has stored.
type replayFlags struct {
	how     collectConfig
	config  string
	edition string
	store   string

	asStored bool    // under the configuration that the store's log has, where it has one
	given    *config // in place of the file config; may be nil
}

func (f *replayFlags) add(fs *flag.FlagSet) {
	fs.StringVar(&f.how.Format, "format", "auto", "")
	fs.StringVar(&f.how.LogFormat, "log-format", "", "")
	fs.StringVar(&f.how.Timezone, "tz", "", "")
	fs.StringVar(&f.config, "c", "", "")
	fs.StringVar(&f.edition, "edition", "", "")
	fs.StringVar(&f.store, "store", "", "")
}

// replay detects the same requests over and over: each run is a fresh engine.
// One goroutine uses a replay.
type replay struct {
	cfg  *config
	keys *pipeline.PrivacyKeys
	id   *pipeline.Identity

	asStored bool

	ins     []input
	edition *pipeline.Edition // of files
	cleanup func()

	db *sqlite.DB // nil for files

	workers  int                             // 0: one
	apart    *suppressionsApart              // of the store: what another configuration suppresses; may be nil
	again    *pipeline.Reidentify            // what amend does under another configuration; may be nil
	onBatch  func([]pipeline.Ordered)        // told of every batch before it is detected; may be nil
	finding  func(*pipeline.Finding, fate)   // told of every finding; may be nil
	amend    func(*pipeline.Block)           // told of every block before it is detected; may be nil
	until    pipeline.Time                   // of the store: event time at which to stop; 0 none
	progress func(done float64, lines int64) // told now and then; may be nil
}

// spot is the place of a request in its source, and its time: a followed file
// begins to count anew when it is rotated.
type spot struct {
	source string
	line   int64
	time   pipeline.Time
}

func spotOf(source string, r *pipeline.Request) spot { return spot{source, r.Line, r.Time} }

// openReplay opens inputs, or the store, as f says. notes are sentences for
// people. The caller closes the replay.
func openReplay(ctx context.Context, f replayFlags, inputs []string, stdin io.Reader) (*replay, error) {
	switch {
	case f.store != "" && len(inputs) > 0:
		return nil, errors.New("give inputs or --store, not both")
	case f.store != "" && f.edition != "":
		return nil, errors.New("--edition is for inputs: the store holds the editions that were in force")
	case f.store == "" && len(inputs) == 0:
		return nil, errors.New("no input; give the log files, or --store weir.db")
	}
	cfg := f.given
	var err error
	if cfg == nil {
		if cfg, err = loadConfig(f.config); err != nil {
			return nil, err
		}
	}
	p := &replay{cfg: cfg, asStored: f.asStored, cleanup: func() {}}
	keyFile := cfg.Privacy.KeyFile
	if f.store != "" && keyFile == "" {
		keyFile = storeKeyFile(f.store)
		if _, err := os.Stat(keyFile); err != nil {
			return nil, fmt.Errorf("find the store's keys: %w; give the service's configuration with -c", err)
		}
	}
	if p.keys, err = openKeys(keyFile); err != nil {
		return nil, err
	}
	logins, err := pipeline.NewLoginRules(cfg.Endpoints)
	if err != nil {
		return nil, err
	}
	if p.id, err = cfg.newIdentity(p.keys, logins); err != nil {
		return nil, err
	}
	if f.store != "" {
		p.db, err = sqlite.Open(f.store, sqlite.Options{ReadOnly: true})
		return p, err
	}
	var problems []error
	p.ins, _, problems, p.cleanup = openInputs(inputs, cfg, f.how, stdin)
	if len(problems) > 0 {
		p.cleanup()
		return nil, errors.Join(problems...)
	}
	if f.edition != "" {
		p.edition, err = pipeline.ReadEdition(f.edition)
	} else {
		var skip *unlearned
		if skip, err = cfg.unlearnedFiles(p.keys, inputLabels(p.ins)); err == nil {
			p.edition, err = fit(ctx, p.ins, p.id, 1, len(cfg.Identity.TrustedProxies) == 0, skip, nil)
		}
	}
	if err != nil {
		p.cleanup()
		return nil, err
	}
	return p, nil
}

func (p *replay) close() {
	p.cleanup()
	if p.db != nil {
		_ = p.db.Close()
	}
}

// run detects everything but the requests of drop. trace is told what detectors
// make of each, each of every revision as it is stored: with tokens for names.
func (p *replay) run(ctx context.Context, drop map[spot]bool, trace func(detectors.Traced), each func(*pipeline.Alert)) (*engine, error) {
	if p.db != nil {
		return p.runStore(ctx, drop, trace, each)
	}
	e, err := newConfiguredEngine(p.cfg, p.edition, p.keys, inputLabels(p.ins), max(1, p.workers), trace)
	if err != nil {
		return nil, err
	}
	e.onBatch, e.onFinding = p.onBatch, p.finding
	a := &analysis{cfg: p.cfg, keys: p.keys, engine: e, latest: map[string]pipeline.Alert{}, bar: newProgress(io.Discard, true), onAlert: each}
	a.o.workers = max(1, p.workers)
	read, size := int64(0), p.size()
	a.onBlock = func(b *pipeline.Block) {
		without(b, drop)
		if p.amend != nil {
			p.amend(b)
		}
		if p.progress != nil {
			read += b.Cause.To - b.Cause.From
			p.progress(min(1, float64(read)/float64(max(1, size))), b.Rejects.Lines)
		}
	}
	if err := a.detect(ctx, p.ins, p.id); err != nil {
		return nil, err
	}
	return e, errors.Join(a.tally.errs...)
}

// without takes the requests of drop out of b.
func without(b *pipeline.Block, drop map[spot]bool) {
	if len(drop) == 0 {
		return
	}
	n := 0
	for i := range b.Requests {
		if drop[spotOf(b.Source, &b.Requests[i])] {
			continue
		}
		if n != i {
			b.Requests[n] = b.Requests[i]
		}
		n++
	}
	b.Requests = b.Requests[:n]
}

// runStore detects what the store holds under the editions in its log, as the
// service did.
func (p *replay) runStore(ctx context.Context, drop map[spot]bool, trace func(detectors.Traced), each func(*pipeline.Alert)) (*engine, error) {
	d := &detect{asked: !p.asStored, s: &service{cfg: p.cfg, keys: p.keys, id: p.id, labels: p.cfg.sourceLabels(), workers: max(1, p.workers), trace: trace}, codec: pipeline.NewCodec()}
	if err := d.start(pipeline.ShippedEdition()); err != nil {
		return nil, err
	}
	if err := p.sources(ctx, d.e); err != nil {
		return nil, err
	}
	if err := p.lostSuppressions(ctx, d.e); err != nil {
		return nil, err
	}
	d.e.onFinding = p.finding
	if p.apart != nil {
		for _, s := range p.apart.add {
			d.e.suppress(s)
		}
	}
	if p.onBatch != nil {
		d.e.onBatch = p.onBatch
	}
	last, err := p.db.Last(ctx)
	if err != nil {
		return nil, err
	}
	for {
		records, err := p.db.ReadRecords(ctx, d.position+1, detectRecords)
		if err != nil {
			return nil, err
		}
		if records = before(records, last); len(records) == 0 || p.until != 0 && d.e.last > p.until {
			return d.e, ctx.Err()
		}
		lines := int64(0)
		if p.apart != nil {
			records = p.apart.without(records)
		}
		for i := range records {
			if b := records[i].Block; b != nil {
				without(b, drop)
				if p.amend != nil {
					p.amend(b)
				}
				lines += int64(len(b.Requests))
			}
		}
		if p.progress != nil {
			p.progress(float64(records[len(records)-1].Position)/float64(max(1, last)), lines)
		}
		out, err := d.take(records)
		if err != nil {
			return nil, err
		}
		for i := range out {
			each(&out[i])
		}
	}
}

// before cuts records at last, where the log ended when the run began.
func before(records []pipeline.Record, last int64) []pipeline.Record {
	for i := range records {
		if records[i].Position > last {
			return records[:i]
		}
	}
	return records
}

// size is about how many bytes the files hold, unpacked.
func (p *replay) size() (n int64) {
	for _, in := range p.ins {
		if st, err := os.Stat(in.path); err == nil {
			n += st.Size()
			if compressed(in.path) {
				n += 9 * st.Size()
			}
		}
	}
	return n
}

// lostSuppressions takes those whose records retention took out of the log.
func (p *replay) lostSuppressions(ctx context.Context, e *engine) error {
	whole, err := p.whole(ctx)
	if err != nil || whole {
		return err
	}
	st, err := p.db.Stats(ctx)
	if err != nil {
		return err
	}
	list, err := p.db.SuppressionsFrom(ctx, st.Oldest)
	for i := range list {
		if s := list[i].Suppression; s.Created < st.Oldest && (p.apart == nil || !p.apart.gone(&s)) {
			e.suppress(s)
		}
	}
	return err
}

// sources makes the merge wait for every source, as the service does: those of
// the configuration in its order, then those that the store knows besides.
func (p *replay) sources(ctx context.Context, e *engine) error {
	known := map[uint64]bool{}
	add := func(id uint64) {
		if !known[id] {
			known[id] = true
			e.merge.AddSource(id)
		}
	}
	found, err := p.db.LogSources(ctx)
	if err != nil {
		return err
	}
	for i := range p.cfg.Collect {
		src := source{input: input{name: p.cfg.Collect[i].sourceName()}, listens: p.cfg.Collect[i].File == ""}
		if slices.Contains(found, src.id()) {
			add(src.id())
		}
	}
	for _, id := range found {
		add(id)
	}
	return nil
}

// whole reports whether the store holds its log from the beginning: else what
// came before retention's edge is missing from a replay.
func (p *replay) whole(ctx context.Context) (bool, error) {
	if p.db == nil {
		return true, nil
	}
	return p.db.Whole(ctx)
}

// shown is al as analyze prints it, with names in clear.
func (p *replay) shown(al pipeline.Alert) pipeline.Alert {
	openNames(&al, p.keys)
	return al
}

// principal reads KIND:VALUE, with the value as the log has it or as alerts do.
func (p *replay) principal(text string) (pipeline.Principal, error) {
	kind, value := cutKind(text)
	var k pipeline.PrincipalKind
	_ = k.UnmarshalText([]byte(kind))
	switch k {
	case pipeline.PrincipalNone, pipeline.PrincipalCohort, pipeline.PrincipalEndpoint:
		return pipeline.Principal{}, fmt.Errorf("--client %s: want ip:, account:, subject:, key: or session: and a value", text)
	case pipeline.PrincipalIP:
		a, ok := pipeline.ParseAddress(value)
		if !ok {
			return pipeline.Principal{}, fmt.Errorf("--client %s: %q is no address", text, value)
		}
		return pipeline.Principal{Kind: k, Value: a.PrincipalValue()}, nil
	}
	if value == "" {
		return pipeline.Principal{}, fmt.Errorf("--client %s: the value is missing", text)
	}
	_, token := p.keys.Open(value)
	if token || k == pipeline.PrincipalSession && strings.HasPrefix(value, "s_") || k == pipeline.PrincipalKey && strings.HasPrefix(value, "k_") {
		return pipeline.Principal{Kind: k, Value: value}, nil
	}
	return pipeline.Principal{Kind: k, Value: tokenFor(p.keys, p.cfg.Identity.APIKeyPrefix, k, value)}, nil
}
