package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"weir/pipeline/kafka"
)

// appendControl puts a fact from outside at the end of the sequence: it holds for
// what comes behind it.
func (f *fleet) appendControl(ctx context.Context, kind string, payload any) error {
	body, err := json.Marshal(payload)
	if err != nil {
		return err
	}
	value, err := json.Marshal(sequenceEntry{Control: &controlEntry{Kind: kind, From: f.instance, Payload: body}})
	if err != nil {
		return err
	}
	p := f.bus.NewProducer(f.topics.sequence, 0, true)
	defer p.Close()
	_, err = p.Append(ctx, []kafka.Record{{Key: []byte("control/" + kind), Value: value, Epoch: kafka.NoEpoch}})
	return err
}

// checkPrivacy sees that this process has the key of the fleet: with another one
// the same account would be two.
func (f *fleet) checkPrivacy(ctx context.Context) error {
	const prefix = "privacy/"
	ours := f.keys.Fingerprint()
	look := func() (known bool, err error) {
		err = readCompacted(ctx, f.bus, f.topics.marks, prefix, func(key string, _ []byte) error {
			if theirs := strings.TrimPrefix(key, prefix); theirs != ours {
				return fmt.Errorf("privacy.key_file: the fleet's key is %s, the one in %s is %s: copy the file from a machine where weir runs; another key would make two of every account",
					theirs, f.cfg.Privacy.KeyFile, ours)
			}
			known = true
			return nil
		})
		return known, err
	}
	known, err := look()
	if known || err != nil {
		return err
	}
	p := f.bus.NewProducer(f.topics.marks, 0, true)
	defer p.Close()
	if _, err := p.Append(ctx, []kafka.Record{{Key: []byte(prefix + ours), Value: []byte(f.instance), Epoch: kafka.NoEpoch}}); err != nil {
		return err
	}
	_, err = look() // two that come first at once see each other
	return err
}

// fleetSources is what a collector says of its sources, in its order: the payload
// of a control of the kind controlSources.
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
		fact := known[src.id()]
		fact.ID, fact.Name = l.busID(src.id()), l.busName(src.name)
		out.Sources = append(out.Sources, fleetFact{fact, f.labels[src.name]})
	}
	value, err := json.Marshal(out)
	if err != nil {
		return err
	}
	p := f.bus.NewProducer(f.topics.marks, 0, true)
	defer p.Close()
	if _, err := p.Append(ctx, []kafka.Record{{Key: []byte(factPrefix + l.instance), Value: value, Epoch: kafka.NoEpoch}}); err != nil {
		return err
	}
	return f.appendControl(ctx, controlSources, out)
}
