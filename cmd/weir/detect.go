package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// detect is the stage behind the requests log: it takes records in their order
// through the engine, commits what comes out, and checkpoints what it keeps.
type detect struct {
	s         *service
	e         *engine
	codec     *pipeline.Codec
	position  int64  // consumed through
	body      []byte // of the edition in force
	committed time.Time
	saved     time.Time
	savedAt   int64
	blind     *blindLive
	uncounted bool // consumed since the last commit
	asked     bool // of a replay: under the configuration it is asked for, not that of the log
}

const (
	detectStage     = "detect"
	detectRecords   = 16
	commitEvery     = time.Second
	checkpointEvery = 30 * time.Second
	largeCheckpoint = 32 << 20 // bytes
)

// Chunks of a checkpoint beside the shards.
const (
	chunkMerge uint32 = 1<<16 + iota
	chunkBook
	chunkWatch
	chunkEdition
	chunkDedupe
	chunkCross uint32 = 1 << 17 // the first of correlate's shards
)

// manifest is the head of a checkpoint.
type manifest struct {
	Position int64                  `json:"position"`
	First    int64                  `json:"first"`
	Last     int64                  `json:"last"`
	Requests int64                  `json:"requests"`
	Set      detectors.SnapshotHead `json:"set"`

	Cross detectors.CorrelatorHead `json:"cross"`

	Config json.RawMessage `json:"config,omitempty"`
	Facts  json.RawMessage `json:"facts,omitempty"`
	Dedupe bool            `json:"dedupe,omitempty"` // there is a chunk of it

	Suppressions []pipeline.Suppression `json:"suppressions,omitempty"`
}

// newDetect builds the stage from the last checkpoint, or from the beginning.
func (s *service) newDetect(ctx context.Context) (*detect, error) {
	d := &detect{s: s, codec: pipeline.NewCodec(), saved: time.Now(), committed: time.Now()}
	head, chunks, ok, err := s.db.ReadCheckpoint(ctx)
	if err != nil {
		return nil, err
	}
	if ok {
		err = d.restore(head, chunks)
		switch {
		case err == nil:
			s.log.Info("detection goes on", zap.Int64("position", d.position))
			return d, nil
		case !errors.Is(err, detectors.ErrLayout):
			return nil, fmt.Errorf("read checkpoint: %w", err)
		}
		// Another version's state: what was reported stays, profiles start anew.
		s.log.Warn("the stored profiles are of another version of weir: they start cold; baselines and alerts stay")
		if d.position, err = s.db.StageCursor(ctx, detectStage); err != nil {
			return nil, err
		}
	}
	if err := d.start(pipeline.ShippedEdition()); err != nil || !ok {
		return d, err
	}
	list, err := s.db.SuppressionsFrom(ctx, pipeline.TimeOf(time.Now()))
	for i := range list { // what the log says of them is behind the cursor
		d.e.suppress(list[i].Suppression)
	}
	return d, err
}

func (d *detect) start(edition *pipeline.Edition) (err error) {
	if d.body, err = edition.Encode(); err != nil {
		return err
	}
	if d.e, err = newTracedEngine(d.s.cfg, edition, d.s.keys, d.s.labels, d.s.workers, d.s.trace); err != nil {
		return err
	}
	var gauge *prometheus.GaugeVec
	if d.s.metrics != nil {
		gauge = d.s.metrics.blind
	}
	d.s.status.lateness.Store(int64(edition.Lateness))
	d.blind = newBlindLive(d.e.set, d.e.smallestShare, gauge)
	d.e.onBatch = d.blind.observe
	d.s.blind.Store(d.blind)
	return nil
}

func (d *detect) restore(head []byte, chunks func(uint32) ([]byte, error)) error {
	var m manifest
	if err := json.Unmarshal(head, &m); err != nil {
		return err
	}
	body, err := chunks(chunkEdition)
	if err != nil {
		return err
	}
	edition, err := pipeline.DecodeEdition(body)
	if err != nil {
		return err
	}
	if err := d.start(edition); err != nil {
		return err
	}
	if m.Config != nil {
		if err := d.e.setConfig(m.Config); err != nil {
			return err
		}
	}
	if err := d.e.set.Restore(m.Set, chunks); err != nil {
		return err
	}
	for _, s := range m.Suppressions {
		d.e.suppress(s)
	}
	if m.Facts != nil {
		if err := d.e.setFacts(m.Facts); err != nil {
			return err
		}
	}
	if m.Dedupe && d.e.dedupe != nil {
		data, err := chunks(chunkDedupe)
		if err != nil {
			return err
		}
		if err := d.e.dedupe.RestoreState(data); err != nil {
			return err
		}
	}
	if err := d.e.cross.Restore(m.Cross, func(n uint32) ([]byte, error) { return chunks(chunkCross + n) }); err != nil {
		return err
	}
	for _, part := range []struct {
		chunk   uint32
		restore func([]byte) error
	}{
		{chunkMerge, func(b []byte) error { return d.e.merge.Restore(d.codec, b) }},
		{chunkWatch, d.e.watch.RestoreState},
		{chunkBook, d.e.restoreBook},
	} {
		data, err := chunks(part.chunk)
		if err != nil {
			return err
		}
		if err := part.restore(data); err != nil {
			return err
		}
	}
	d.position, d.savedAt = m.Position, m.Position
	d.e.first, d.e.last, d.e.requests = pipeline.Time(m.First), pipeline.Time(m.Last), m.Requests
	d.s.status.keepFrom.Store(m.Position + 1)
	return nil
}

// run takes records until ctx ends, then commits and checkpoints.
func (d *detect) run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	d.s.status.detected.Store(d.position)
	if d.e.last != pipeline.NoTime { // pages begin where detection has come to, also before the first line
		d.s.status.eventTime.Store(int64(d.e.last))
	}
	for ctx.Err() == nil {
		d.s.status.beat.Store(time.Now().UnixMicro())
		records, err := d.s.db.ReadRecords(work, d.position+1, detectRecords)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			if err := d.idle(ctx); err != nil {
				return err
			}
			continue
		}
		out, err := d.take(records)
		if err != nil {
			return err
		}
		if err := d.commit(work, out, false); err != nil {
			return err
		}
		if time.Since(d.saved) >= checkpointEvery {
			if err := d.checkpoint(work); err != nil {
				return err
			}
		}
	}
	if err := d.commit(work, nil, true); err != nil {
		return err
	}
	return d.checkpoint(work)
}

// idle waits for more; what was consumed is committed first.
func (d *detect) idle(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	if d.uncounted && time.Since(d.committed) >= commitEvery {
		if err := d.commit(work, nil, true); err != nil {
			return err
		}
	}
	if d.position > d.savedAt && time.Since(d.saved) >= checkpointEvery {
		if err := d.checkpoint(work); err != nil {
			return err
		}
	}
	wait, cancel := context.WithTimeout(ctx, commitEvery)
	defer cancel()
	err := d.s.db.WaitAfter(wait, d.position)
	if wait.Err() != nil {
		return nil //nolint:nilerr // it is time to look around, or to stop
	}
	return err
}

// await makes the merge wait for every source from the start, in the order of
// the configuration: ties between sources go to the one named first.
func (d *detect) await(sources []*source) {
	for _, src := range sources {
		d.e.merge.AddSource(src.id())
	}
}

// take runs records through the engine.
func (d *detect) take(records []pipeline.Record) (out []pipeline.Alert, err error) {
	e := d.e
	for i := range records {
		r := &records[i]
		switch {
		case r.Control != nil:
			if r.Control.Kind == controlHealth {
				out, err = d.e.takeHealth(out, r.Control.Payload)
			} else {
				err = d.control(r.Control)
			}
			if err != nil {
				return nil, err
			}
		case r.Block != nil:
			e.merge.Push(r.Block)
			out = e.drain(out)
			if now, ok := e.merge.Clock(); ok {
				out = e.advance(out, now)
			}
		}
		d.position = r.Position
	}
	e.merge.Done(nil)
	d.uncounted = true
	return out, nil
}

// control applies a fact from outside at its place in the log.
func (d *detect) control(c *pipeline.Control) error {
	switch c.Kind {
	case controlSources:
		return d.e.setFacts(c.Payload)
	case controlConfig:
		if d.asked {
			return nil
		}
		return d.e.setConfig(c.Payload)
	case sqlite.SuppressionControl:
		var s pipeline.Suppression
		if err := json.Unmarshal(c.Payload, &s); err != nil {
			return fmt.Errorf("read the suppression at position %d: %w", d.position+1, err)
		}
		d.e.suppress(s)
		return nil
	case controlEdition:
	default:
		return nil
	}
	edition, err := pipeline.DecodeEdition(c.Payload)
	if err != nil {
		return fmt.Errorf("read the edition at position %d: %w", d.position+1, err)
	}
	d.body = c.Payload
	d.s.status.lateness.Store(int64(edition.Lateness))
	return d.e.setEdition(edition)
}

// commit stores what came out; without anything to store it waits for force or
// for its turn.
func (d *detect) commit(ctx context.Context, out []pipeline.Alert, force bool) error {
	if len(out) == 0 && !force && time.Since(d.committed) < commitEvery {
		return nil
	}
	o := storage.Output{Stage: detectStage, Position: d.position, Findings: d.e.shadow}
	for i := range out {
		o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: out[i], Backfill: alerts.Backfill(&out[i])})
	}
	if err := d.s.whileFull(ctx, func() error { return d.s.db.Commit(ctx, o) }); err != nil {
		return err
	}
	for i := range d.e.shadow {
		d.s.metrics.shadow.WithLabelValues(d.e.shadow[i].Detector).Inc()
	}
	d.e.shadow = d.e.shadow[:0]
	for i := range out {
		d.s.metrics.alerts.WithLabelValues(out[i].Detector, out[i].Severity, out[i].Change.Kind).Inc()
	}
	d.committed, d.uncounted = time.Now(), false
	if err := d.blind.publish(d.committed); err != nil {
		return err
	}
	st := &d.s.status
	st.detected.Store(d.position)
	if d.e.last != pipeline.NoTime {
		st.eventTime.Store(int64(d.e.last))
	}
	return nil
}

// checkpoint writes what changed since the last one.
func (d *detect) checkpoint(ctx context.Context) error {
	if d.position == d.savedAt {
		d.saved = time.Now()
		return nil
	}
	size, err := d.write(ctx)
	if err != nil {
		return err
	}
	if size > largeCheckpoint {
		debug.FreeOSMemory() // else the heap grows to half as much again as with it
	}
	e := d.e
	d.saved, d.savedAt = time.Now(), d.position
	st := &d.s.status
	st.keepFrom.Store(d.position + 1)
	sizes := e.set.Stats()
	st.principals.Store(sizes.Principals)
	st.profiles.Store(sizes.Profiles)
	st.cases.Store(sizes.Cases)
	st.evictions.Store(sizes.EvictedStubs + sizes.EvictedProfiles + sizes.EvictedCases)
	late, skewed := e.merge.Late()
	st.late.Store(late)
	st.skewed.Store(skewed)
	return nil
}

// write writes a checkpoint, a few chunks at a time: the state may be large, and
// is not in memory a second time. It returns how many bytes that took.
func (d *detect) write(ctx context.Context) (size int, err error) {
	e, s := d.e, d.s
	var cp *sqlite.Checkpoint
	if err := s.whileFull(ctx, func() (err error) {
		cp, err = s.db.BeginCheckpoint(ctx, d.position)
		return err
	}); err != nil {
		return 0, err
	}
	defer cp.Close()
	put := func(n uint32, data []byte, err error) error {
		size += len(data)
		if err == nil && cp.Put(n, data) {
			err = s.whileFull(ctx, func() error { return cp.Flush(ctx) })
		}
		return err
	}
	merged, err := e.merge.Snapshot(d.codec)
	if err := put(chunkMerge, merged, err); err != nil {
		return size, err
	}
	book, err := e.book.Snapshot()
	if err := put(chunkBook, book, err); err != nil {
		return size, err
	}
	watch, err := e.watch.AppendState(nil)
	if err := put(chunkWatch, watch, err); err != nil {
		return size, err
	}
	if err := put(chunkEdition, d.body, nil); err != nil {
		return size, err
	}
	all := d.savedAt == 0
	if err := e.set.Changed(all, func(n uint32, data []byte) error { return put(n, data, nil) }); err != nil {
		return size, err
	}
	if err := e.cross.Changed(all, func(n uint32, data []byte) error { return put(chunkCross+n, data, nil) }); err != nil {
		return size, err
	}
	if e.dedupe != nil {
		if err := put(chunkDedupe, e.dedupe.AppendState(nil), nil); err != nil {
			return size, err
		}
		s.status.copies.Store(e.dedupe.Copies())
	}
	head, err := json.Marshal(manifest{
		Position: d.position, First: int64(e.first), Last: int64(e.last), Requests: e.requests, Set: e.set.Head(), Cross: e.cross.Head(),
		Config: e.configBody, Facts: e.factsBody, Dedupe: e.dedupe != nil, Suppressions: e.set.Suppressions(),
	})
	if err != nil {
		return size, err
	}
	return size, s.whileFull(ctx, func() error { return cp.Finish(ctx, head) })
}

// controlEdition is the kind of a control record that carries an edition.
const controlEdition = "edition"

// firstEdition puts the edition to start with into the log: the given one, or
// one learned from what the inputs hold already.
func (s *service) firstEdition(ctx context.Context, sources []*source) error {
	_, _, current, known, err := s.db.LatestEdition(ctx)
	if err != nil {
		return err
	}
	if s.edition != "" {
		edition, err := pipeline.ReadEdition(s.edition)
		if err != nil {
			return err
		}
		if known {
			if old, err := pipeline.DecodeEdition(current); err == nil && old.Hash() == edition.Hash() {
				return nil
			}
		}
		return s.publish(ctx, edition)
	}
	if known {
		return nil
	}
	var history []input
	for _, src := range sources {
		if st, err := os.Stat(src.path); err == nil && st.Size() > 0 {
			in := src.input
			if src.cfg != nil {
				in.how = *src.cfg
			}
			history = append(history, in)
		}
	}
	if len(history) == 0 {
		return nil
	}
	s.log.Info("learning from what the inputs hold")
	skip, err := s.cfg.unlearnedFiles(s.keys, s.labels)
	if err != nil {
		return err
	}
	edition, err := fit(ctx, history, s.id, s.workers, len(s.cfg.Identity.TrustedProxies) == 0, skip, nil)
	if err != nil {
		return err
	}
	return s.publish(ctx, edition)
}

// publish stores an edition and puts it at the end of the log: what comes
// behind it is detected with it, now and in a replay.
func (s *service) publish(ctx context.Context, edition *pipeline.Edition) error {
	number, _, _, _, err := s.db.LatestEdition(ctx)
	if err != nil {
		return err
	}
	edition.Number = number + 1
	body, err := edition.Encode()
	if err != nil {
		return err
	}
	if _, err := s.db.AppendControl(ctx, pipeline.Control{Kind: controlEdition, Payload: body}); err != nil {
		return err
	}
	if err := s.db.PutEdition(ctx, edition.Number, edition.Effective, body); err != nil {
		return err
	}
	s.log.Info("edition in force", zap.Int64("number", edition.Number), zap.String("hash", edition.Hash()), zap.Int("templates", edition.Templates.Len()))
	return nil
}
