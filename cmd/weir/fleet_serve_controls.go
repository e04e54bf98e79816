package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"weir/console"
	"weir/pipeline"
	"weir/pipeline/kafka"
	"weir/storage"
	"weir/storage/sqlite"
)

// What people decide goes into the file with its entry in the audit, in one
// transaction, as a control record of the file's log: as in weir run. From there it
// goes into the sequence, in order, and among the marks. After a crash between the two
// one may go there twice: the same again changes nothing.

const (
	// forwardStage is how far that is.
	forwardStage = "sequence"
	// forwardLook is how often it looks for what another process wrote: weir
	// suppress, weir alerts.
	forwardLook    = time.Second
	forwardRecords = 100

	// verdictPrefix is of the cases that people confirmed, by alert, in the topic of
	// marks: nothing is learned from them.
	verdictPrefix = "verdict/"
)

// forward brings what people decided to the fleet, until ctx ends.
func (d *desk) forward(ctx context.Context) error {
	at, err := d.db.StageCursor(ctx, forwardStage)
	if err != nil {
		return err
	}
	for ctx.Err() == nil && d.away.Load() == nil {
		d.status.keepFrom.Store(at + 1)
		records, err := d.db.ReadRecords(ctx, at+1, forwardRecords)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			if err := d.lookForRecords(ctx, at); err != nil {
				return err
			}
			continue
		}
		for i := range records {
			send, err := d.forwarded(ctx, records[i].Control)
			if err == nil && send != nil {
				err = d.f.insist(ctx, "to put a control into the sequence", nil, func() error { return send(ctx) })
			}
			if err != nil {
				return err
			}
		}
		at = records[len(records)-1].Position
		if err := d.db.Commit(ctx, storage.Output{Stage: forwardStage, Position: at}); err != nil {
			return err
		}
	}
	return nil
}

// lookForRecords waits for one behind a position, for so long.
func (d *desk) lookForRecords(ctx context.Context, at int64) error {
	wait, cancel := context.WithTimeout(ctx, forwardLook)
	defer cancel()
	err := d.db.WaitAfter(wait, at)
	if wait.Err() != nil {
		return nil //nolint:nilerr // it is time to look, or to end
	}
	return err
}

// forwarded is how a record of the file's log is told to the fleet; nil for what is
// no business of the fleet's, or came from there.
func (d *desk) forwarded(ctx context.Context, c *pipeline.Control) (send func(context.Context) error, err error) {
	if c == nil {
		return nil, nil
	}
	switch c.Kind {
	case sqlite.SuppressionControl:
		var s pipeline.Suppression
		if err := json.Unmarshal(c.Payload, &s); err != nil {
			return nil, fmt.Errorf("read a suppression of the log: %w", err)
		}
		if s.Source == "config" { // who judges says those
			return nil, nil
		}
		return func(ctx context.Context) error { return d.f.putSuppression(ctx, s) }, nil
	case sqlite.VerdictControl:
		mark, err := d.verdictMark(ctx, c.Payload)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			if err := d.f.appendControl(ctx, c.Kind, json.RawMessage(c.Payload)); err != nil || mark == nil {
				return err
			}
			return d.f.appendMarks(ctx, []kafka.Record{*mark})
		}, nil
	}
	return nil, nil
}

// verdictMark is the mark of a verdict: the case for one that was confirmed, its
// end for another; nil where there is nothing to say.
func (d *desk) verdictMark(ctx context.Context, payload []byte) (*kafka.Record, error) {
	var v struct {
		Alert   string `json:"alert"`
		Verdict string `json:"verdict"`
	}
	if err := json.Unmarshal(payload, &v); err != nil {
		return nil, fmt.Errorf("read a verdict of the log: %w", err)
	}
	mark := &kafka.Record{Key: []byte(verdictPrefix + v.Alert), Epoch: kafka.NoEpoch}
	if v.Verdict != "true_positive" {
		if _, there := d.marks.get(string(mark.Key)); !there {
			return nil, nil
		}
		return mark, nil
	}
	found, err := d.db.LatestAlerts(ctx, []string{v.Alert})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	a := &found[0].Alert
	mark.Value, err = json.Marshal(storage.TruePositive{Who: a.Principal, First: a.Window.First, Last: a.Window.Last})
	return mark, err
}

// confirmed are the cases that people confirmed.
func (f *fleet) confirmed(ctx context.Context) (list []storage.TruePositive, err error) {
	marks, err := f.marks(ctx, verdictPrefix)
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(marks)) {
		var v storage.TruePositive
		if err := json.Unmarshal(marks[key].Value, &v); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		list = append(list, v)
	}
	return list, nil
}

// adopt takes what the fleet knows and the file does not, until ctx ends: the
// suppressions of the configuration, and after a file was lost the others, too;
// the edition in force, which names endpoints; cases of detectors in shadow mode.
func (d *desk) adopt(ctx context.Context) error {
	for {
		if err := d.adoptSuppressions(ctx); err != nil {
			return err
		}
		if err := d.adoptEdition(); err != nil {
			return err
		}
		if err := d.adoptShadows(ctx); err != nil {
			return err
		}
		select {
		case <-d.news:
		case <-ctx.Done():
			return nil
		}
	}
}

func (d *desk) adoptSuppressions(ctx context.Context) error {
	marks := d.marks.under(suppressionPrefix)
	for _, id := range slices.Sorted(maps.Keys(marks)) {
		var s pipeline.Suppression
		if err := json.Unmarshal(marks[id].value, &s); err != nil {
			return fmt.Errorf("read %s%s: %w", suppressionPrefix, id, err)
		}
		have, known, err := d.db.Suppression(ctx, s.ID)
		if err != nil {
			return err
		}
		// Of one that was made here the file has the latest news.
		if known && (s.Source != "config" || have.End() == s.End()) {
			continue
		}
		action := "suppression.create"
		if known {
			action = "suppression.end"
		}
		entry, err := auditEntry(console.AuditEntry{
			Time: timeOf(time.Now()), Action: action, Outcome: "success", Who: serviceWho(), Where: console.AuditWhere{Interface: "service"},
			Target: &console.AuditTarget{Kind: "suppression", IDs: []string{s.ID}}, Reason: s.Reason,
		})
		if err == nil {
			err = d.db.PutSuppression(ctx, s, entry)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// adoptEdition makes the edition in force the one that endpoints are named by.
func (d *desk) adoptEdition() error {
	marks := map[string]kafka.Record{}
	for _, prefix := range []string{startPrefix, forcePrefix} {
		for rest, m := range d.marks.under(prefix) {
			marks[prefix+rest] = kafka.Record{Offset: m.offset, Value: m.value}
		}
	}
	body, err := editionAmong(marks)
	if err != nil || body == nil {
		return err
	}
	e, err := pipeline.DecodeEdition(body)
	if err == nil {
		d.names.of.Store(e)
	}
	return err
}

// editionAmong is the edition in force by the marks: what came into the sequence
// last, or what the fleet began with; nil before there is any.
func editionAmong(marks map[string]kafka.Record) ([]byte, error) {
	last := ""
	all := whole(marks, 2)
	for key := range all {
		if strings.HasPrefix(key, forcePrefix+controlEdition+"/") {
			last = max(last, key)
		}
	}
	if last != "" {
		return all[last], nil
	}
	var first *kafka.Record
	var text []byte
	for key, value := range whole(marks, 1) {
		if r := marks[key]; strings.HasPrefix(key, startPrefix) && (first == nil || r.Offset < first.Offset) {
			first, text = &r, value
		}
	}
	if first == nil {
		return nil, nil
	}
	var s fleetStart
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("read with what the fleet began: %w", err)
	}
	return s.Edition, nil
}
