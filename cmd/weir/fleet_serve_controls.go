package main

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// What people decide goes into the file with its entry in the audit, in one
// transaction, as a control record of the file's log: as in weir run. From there it
// goes into the sequence, in order. After a crash between the two one may go there
// twice: the same again changes nothing.

const (
	// forwardStage is how far that is.
	forwardStage = "sequence"
	// forwardLook is how often it looks for what another process wrote: weir
	// suppress, weir alerts.
	forwardLook    = time.Second
	forwardRecords = 100
)

// forwarded are the kinds of records that the fleet has to hear.
func forwarded() []string { return []string{sqlite.SuppressionControl, sqlite.VerdictControl} }

// forward brings what people decided into the sequence, until ctx ends.
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
		for _, c := range controlsOf(records) {
			err := d.f.insist(ctx, "to put a control into the sequence", nil, func() error { return d.f.appendControl(ctx, c.Kind, json.RawMessage(c.Payload)) })
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

// controlsOf are the records among list that the fleet has to hear.
func controlsOf(list []pipeline.Record) (controls []*pipeline.Control) {
	for i := range list {
		if c := list[i].Control; c != nil && slices.Contains(forwarded(), c.Kind) {
			controls = append(controls, c)
		}
	}
	return controls
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
