package main

import (
	"context"
	"encoding/json"
	"fmt"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// controlRecord is a record of the control topic: a fact from outside, which all
// processes of a fleet take at the same event time. Effective is NoTime for one
// that holds for everything.
type controlRecord struct {
	Kind      string          `json:"kind"`
	From      string          `json:"from"` // the instance that says so
	Effective int64           `json:"effective"`
	Payload   json.RawMessage `json:"payload"`
}

// controlPrivacy is the kind of a control record that holds the fingerprint of
// the fleet's privacy key: the first one counts.
const controlPrivacy = "privacy"

// appendControl puts a record at the end of the control topic.
func (f *fleet) appendControl(ctx context.Context, kind string, payload any) error {
	instance, err := f.cfg.Bus.instance()
	if err != nil {
		return err
	}
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	value, err := json.Marshal(controlRecord{Kind: kind, From: instance, Effective: int64(pipeline.NoTime), Payload: body})
	if err != nil {
		return err
	}
	p := f.bus.NewProducer(f.topics.control, 0, true)
	defer p.Close()
	_, err = p.Append(ctx, []kafka.Record{{Key: []byte(kind + "/" + instance), Value: value, Epoch: kafka.NoEpoch}})
	return err
}

// controls calls g with every record that the control topic holds now.
func (f *fleet) controls(ctx context.Context, g func(c *controlRecord) error) error {
	first, behind, err := f.bus.Bounds(ctx, f.topics.control, 0)
	if err != nil {
		return err
	}
	return f.bus.ReadRange(ctx, f.topics.control, 0, first, behind, false, func(r kafka.Record) error {
		var c controlRecord
		if err := json.Unmarshal(r.Value, &c); err != nil {
			return fmt.Errorf("read the control record at offset %d: %w", r.Offset, err)
		}
		return g(&c)
	})
}

// checkPrivacy sees that this process has the key of the fleet, which is that of
// its first process: with another one the same account is two.
func (f *fleet) checkPrivacy(ctx context.Context) error {
	for tell := true; ; tell = false {
		var fleets string
		err := f.controls(ctx, func(c *controlRecord) error {
			if c.Kind != controlPrivacy || fleets != "" {
				return nil
			}
			return json.Unmarshal(c.Payload, &fleets)
		})
		ours := f.keys.Fingerprint()
		switch {
		case err != nil:
			return err
		case fleets == ours:
			return nil
		case fleets != "":
			return fmt.Errorf("privacy.key_file: the fleet's key is %s, the one in %s is %s: copy the file from a process that runs; another key would make two of every account",
				fleets, f.cfg.Privacy.KeyFile, ours)
		case !tell:
			return fmt.Errorf("topic %s does not keep what is written to it", f.topics.control)
		}
		if err := f.appendControl(ctx, controlPrivacy, ours); err != nil {
			return err
		}
	}
}

// fleetSources is what a collector says of its sources, in its order: the
// payload of a control record of the kind controlSources.
type fleetSources struct {
	Sources []fleetFact `json:"sources"`
}

type fleetFact struct {
	sourceFact
	Labels map[string]string `json:"labels,omitempty"`
}

// tellSources registers the sources with the fleet before their first block.
func (f *fleet) tellSources(ctx context.Context, l *fleetLog, sources []*source) error {
	known := map[uint64]sourceFact{}
	for _, fact := range f.facts(sources).Sources {
		known[fact.ID] = fact
	}
	var out fleetSources
	for _, src := range sources {
		fact, ok := known[src.id()]
		if !ok {
			fact.Name = src.name
		}
		fact.ID, fact.Name = l.busID(src.id()), l.instance+":"+src.name
		out.Sources = append(out.Sources, fleetFact{fact, f.labels[src.name]})
	}
	return f.appendControl(ctx, controlSources, out)
}
