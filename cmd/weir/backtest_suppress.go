package main

import (
	"encoding/json"

	"weir/pipeline"
	"weir/storage/sqlite"
)

// suppressionsApart is how the suppressions of another configuration differ from
// those in a store's log.
type suppressionsApart struct {
	add  []pipeline.Suppression // from the beginning, as history is read under them
	drop map[string]bool        // ids
}

// apart compares the suppressions of two configurations; what people made
// meanwhile stays.
func apart(was, now *config, keys *pipeline.PrivacyKeys) (*suppressionsApart, error) {
	old, err := was.configured(keys)
	if err != nil {
		return nil, err
	}
	list, err := now.configured(keys)
	if err != nil {
		return nil, err
	}
	x := &suppressionsApart{drop: map[string]bool{}}
	for _, s := range old {
		x.drop[s.ID] = true
	}
	for _, s := range list {
		if x.drop[s.ID] {
			delete(x.drop, s.ID)
		} else {
			x.add = append(x.add, s)
		}
	}
	return x, nil
}

// without makes nothing of the records of suppressions that the configuration no
// longer has.
func (x *suppressionsApart) without(records []pipeline.Record) []pipeline.Record {
	for i := range records {
		c := records[i].Control
		if c == nil || c.Kind != sqlite.SuppressionControl {
			continue
		}
		var s pipeline.Suppression
		if json.Unmarshal(c.Payload, &s) == nil && x.drop[s.ID] {
			records[i].Control = &pipeline.Control{Kind: "left out"}
		}
	}
	return records
}
