package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"weir/pipeline"
	"weir/pipeline/kafka"
)

// appendControl puts a fact from outside at the end of the sequence: it holds for
// what comes behind it.
func (f *fleet) appendControl(ctx context.Context, kind string, payload any) error {
	_, err := f.appendControlAt(ctx, kind, payload)
	return err
}

// appendControlAt is appendControl and returns the offset of the record's end.
func (f *fleet) appendControlAt(ctx context.Context, kind string, payload any) (int64, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return 0, err
	}
	value, err := json.Marshal(sequenceEntry{Control: &controlEntry{Kind: kind, From: f.instance, Payload: body}})
	if err != nil {
		return 0, err
	}
	p := f.bus.NewProducer(f.topics.sequence, 0, true)
	defer p.Close()
	// A large one is in parts, among which those of another writer may lie: each has a
	// key of its own.
	list := []kafka.Record{{Key: fmt.Appendf(nil, "control/%s/%s", kind, nonce()), Value: value, Epoch: kafka.NoEpoch}}
	_, err = p.Append(ctx, list)
	return list[0].Offset, err
}

// nonce tells a key from those of other writers.
func nonce() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// controlBook reads controls of the sequence by their places, for the stages that do
// not follow it. Several goroutines use it.
type controlBook struct {
	bus    *kafka.Bus
	topics busTopics

	mu    sync.Mutex
	known map[int64]*controlEntry // the latest, by the offset of their end
}

// knownControls is how many are kept: every slice of this process asks for each.
const knownControls = 32

func newControlBook(bus *kafka.Bus, topics busTopics) *controlBook {
	return &controlBook{bus: bus, topics: topics, known: map[int64]*controlEntry{}}
}

// keep remembers the control whose record ends at offset last.
func (b *controlBook) keep(last int64, c *controlEntry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.put(last, c)
}

func (b *controlBook) put(last int64, c *controlEntry) {
	b.known[last] = c
	if len(b.known) > knownControls {
		delete(b.known, slices.Min(slices.Collect(maps.Keys(b.known))))
	}
}

// look returns what reads controls for a member, until ctx ends.
func (b *controlBook) look(ctx context.Context) controlAt {
	return func(p pipeline.Place) (*controlEntry, error) { return b.at(ctx, p) }
}

// at returns the control at p.
func (b *controlBook) at(ctx context.Context, p pipeline.Place) (*controlEntry, error) {
	first, last := p.Offsets()
	b.mu.Lock() // others most often want the same one
	defer b.mu.Unlock()
	if c := b.known[last]; c != nil {
		return c, nil
	}
	var found *sequenceEntry
	err := b.bus.ReadRange(ctx, b.topics.sequence, 0, first, last+1, false, func(r kafka.Record) (err error) {
		if r.Offset == last {
			found, err = entryOf(&r)
		}
		return err
	})
	if err == nil && (found == nil || found.Control == nil) {
		err = errors.New("it is gone: keep what is on the bus for longer")
	}
	if err != nil {
		return nil, fmt.Errorf("read the control at offset %d of the sequence: %w", last, err)
	}
	b.put(last, found.Control)
	return found.Control, nil
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

// factPrefix is of what collectors say of their sources, by instance, in the topic of
// marks.
const factPrefix = "facts/"

// labelled are the labels of a source.
type labelled = map[string]string

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
