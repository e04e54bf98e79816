package main

import (
	"context"
	"encoding/json"

	"weir/pipeline"
	"weir/storage/sqlite"
)

// suppressionsApart is how the suppressions of a configuration differ from those of
// configurations that a store's log has.
type suppressionsApart struct {
	add  []pipeline.Suppression // from the beginning, as history is read under them
	keep map[string]bool        // ids of the configuration that the log has; others of configurations go
}

// apart compares the suppressions of a configuration with those in the log; what people
// made meanwhile stays.
func apart(ctx context.Context, db *sqlite.DB, cfg *config, keys *pipeline.PrivacyKeys) (*suppressionsApart, error) {
	list, err := cfg.configured(keys)
	if err != nil {
		return nil, err
	}
	stored, err := db.SuppressionsFrom(ctx, 0)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for i := range stored {
		known[stored[i].ID] = stored[i].Ended == nil
	}
	x := &suppressionsApart{keep: map[string]bool{}}
	for _, s := range list {
		if known[s.ID] {
			x.keep[s.ID] = true
		} else {
			x.add = append(x.add, s)
		}
	}
	return x, nil
}

// without makes nothing of the records of suppressions that other configurations had.
func (x *suppressionsApart) without(records []pipeline.Record) []pipeline.Record {
	for i := range records {
		c := records[i].Control
		if c == nil || c.Kind != sqlite.SuppressionControl {
			continue
		}
		var s pipeline.Suppression
		if json.Unmarshal(c.Payload, &s) == nil && x.gone(&s) {
			records[i].Control = &pipeline.Control{Kind: "left out"}
		}
	}
	return records
}

func (x *suppressionsApart) gone(s *pipeline.Suppression) bool {
	return s.Source == "config" && !x.keep[s.ID]
}
