package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
)

// Cases of detectors in shadow mode are no alerts, and not in their feed. The process
// that makes alerts keeps the latest finding of each among the marks; serve takes them
// from there into its file, which is where the console finds them.

const (
	// shadowPrefix is of those cases, by id, in the topic of marks.
	shadowPrefix = "shadow/"
	// shadowKept is how many the marks have: those that were found latest. A process
	// that starts reads all marks.
	shadowKept = 1000
	// shadowBytes bounds one: it goes without its lists, or not at all.
	shadowBytes = 16 << 10
	// shadowStage is how far serve's file has taken them.
	shadowStage = "shadow"
)

// shadowPlace orders the findings of a case.
type shadowPlace struct {
	Time pipeline.Time `json:"time"`
	Seq  uint64        `json:"seq"`
}

func (p shadowPlace) compare(q shadowPlace) int {
	return cmp.Or(cmp.Compare(p.Time, q.Time), cmp.Compare(p.Seq, q.Seq))
}

func placeOfShadow(f *pipeline.Finding) shadowPlace { return shadowPlace{f.Time, f.Seq} }

// shadowKeeper writes them, some at a time. What it writes follows from the findings
// and from what is there: a replay writes nothing again. One goroutine uses it.
type shadowKeeper struct {
	there map[string]shadowPlace      // among the marks, by id
	wait  map[string]pipeline.Finding // to be written
}

// openShadows reads which are there.
func (f *fleet) openShadows(ctx context.Context) (*shadowKeeper, error) {
	marks, err := f.marks(ctx, shadowPrefix)
	if err != nil {
		return nil, err
	}
	k := &shadowKeeper{map[string]shadowPlace{}, map[string]pipeline.Finding{}}
	for key, r := range marks {
		var p shadowPlace // of one that cannot be read it is none: the next finding replaces it
		_ = json.Unmarshal(r.Value, &p)
		k.there[key[len(shadowPrefix):]] = p
	}
	return k, nil
}

// add takes findings, which it keeps until they are written.
func (k *shadowKeeper) add(list []pipeline.Finding) {
	for i := range list {
		f := &list[i]
		p := placeOfShadow(f)
		if had, ok := k.there[f.ID]; ok && p.compare(had) <= 0 {
			continue
		}
		if had, ok := k.wait[f.ID]; !ok || p.compare(placeOfShadow(&had)) > 0 {
			k.wait[f.ID] = *f
		}
	}
	if len(k.wait) > 2*shadowKept {
		for _, id := range k.waiting()[:len(k.wait)-shadowKept] {
			delete(k.wait, id)
		}
	}
}

// waiting are the ids of what waits, the oldest first.
func (k *shadowKeeper) waiting() []string {
	return slices.SortedFunc(maps.Keys(k.wait), func(a, b string) int {
		x, y := k.wait[a], k.wait[b]
		return cmp.Or(placeOfShadow(&x).compare(placeOfShadow(&y)), cmp.Compare(a, b))
	})
}

// take returns the marks that say what was added, and that the oldest are gone. They
// count as written.
func (k *shadowKeeper) take() (list []kafka.Record, err error) {
	waiting := k.waiting()
	for _, id := range waiting[max(0, len(waiting)-shadowKept):] {
		f := k.wait[id]
		value, err := encodeShadow(&f)
		if err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		k.there[id] = placeOfShadow(&f)
		list = append(list, kafka.Record{Key: []byte(shadowPrefix + id), Value: value, Epoch: kafka.NoEpoch})
	}
	clear(k.wait)
	if len(k.there) <= shadowKept {
		return list, nil
	}
	ids := slices.SortedFunc(maps.Keys(k.there), func(a, b string) int {
		return cmp.Or(k.there[a].compare(k.there[b]), cmp.Compare(a, b))
	})
	for _, id := range ids[:len(ids)-shadowKept] {
		delete(k.there, id)
		list = append(list, kafka.Record{Key: []byte(shadowPrefix + id), Epoch: kafka.NoEpoch})
	}
	return list, nil
}

// encodeShadow is a finding in few enough bytes; nil where that cannot be.
func encodeShadow(f *pipeline.Finding) ([]byte, error) {
	value, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write a case in shadow mode: %w", err)
	}
	if len(value) <= shadowBytes {
		return value, nil
	}
	short := *f
	short.Accounts, short.Objects, short.Members, short.Shares, short.Truncated = nil, nil, nil, nil, true
	if value, err = json.Marshal(&short); err == nil && len(value) > shadowBytes {
		short.Exemplars, short.Labels = nil, nil
		value, err = json.Marshal(&short)
	}
	if err != nil || len(value) > shadowBytes {
		return nil, err
	}
	return value, nil
}

// writeShadows writes what was found since the last time.
func (u *alertUnit) writeShadows(ctx context.Context) error {
	list, err := u.shadows.take()
	if err != nil || len(list) == 0 {
		return err
	}
	return u.f.appendMarks(ctx, list)
}

// adoptShadows takes the cases among the marks that the file does not have yet.
func (d *desk) adoptShadows(ctx context.Context) error {
	o := storage.Output{Stage: shadowStage, Position: d.shadowNext}
	for id, m := range d.marks.under(shadowPrefix) {
		if m.offset < d.shadowNext {
			continue
		}
		o.Position = max(o.Position, m.offset+1)
		var f pipeline.Finding
		if err := json.Unmarshal(m.value, &f); err != nil || f.ID != id {
			d.log.Warn("a case in shadow mode cannot be read", zap.String("id", id), zap.Error(err))
			continue
		}
		o.Findings = append(o.Findings, f)
	}
	if o.Position == d.shadowNext {
		return nil
	}
	if err := d.db.Commit(ctx, o); err != nil {
		return err
	}
	d.shadowNext = o.Position
	return nil
}

// oldShadows are the ends of marks of cases that the file does not keep any more.
func (d *desk) oldShadows(now time.Time) (list []kafka.Record) {
	for id, m := range d.marks.under(shadowPrefix) {
		if age := time.Duration(d.cfg.Store.AlertRetention); age > 0 && now.Sub(m.time) > age {
			list = append(list, kafka.Record{Key: []byte(shadowPrefix + id), Epoch: kafka.NoEpoch})
		}
	}
	return list
}
