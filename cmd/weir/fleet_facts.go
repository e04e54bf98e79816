package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"weir/pipeline/kafka"
)

// factBook is what collectors said of their sources, for the stages that do not
// follow the sequence. A collector says it before the first block of a source, so
// that whoever meets a source can look it up. Several goroutines use it.
type factBook struct {
	bus    *kafka.Bus
	topics busTopics

	mu      sync.Mutex
	sources map[string]fleetFact // by the name on the bus
}

const (
	factPrefix = "facts/"
	// factsWithin is how long a fact may take that was written before it is needed.
	factsWithin = 10 * time.Second
	factsAgain  = 100 * time.Millisecond
)

func newFactBook(bus *kafka.Bus, topics busTopics) *factBook {
	return &factBook{bus: bus, topics: topics, sources: map[string]fleetFact{}}
}

// read looks at what there is now.
func (b *factBook) read(ctx context.Context) error {
	return readCompacted(ctx, b.bus, b.topics.marks, factPrefix, func(key string, value []byte) error {
		var told fleetSources
		if err := json.Unmarshal(value, &told); err != nil {
			return fmt.Errorf("read %s: %w", key, err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, s := range told.Sources {
			b.sources[s.Name] = s
		}
		return nil
	})
}

// look calls f with what is known, until it is satisfied.
func (b *factBook) look(ctx context.Context, what string, f func(sources map[string]fleetFact) bool) error {
	for end := time.Now().Add(factsWithin); ; {
		b.mu.Lock()
		ok := f(b.sources)
		b.mu.Unlock()
		if ok {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("no collector has said anything of source %q", what)
		}
		if err := b.read(ctx); err != nil {
			return err
		}
		b.mu.Lock()
		ok = f(b.sources)
		b.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-time.After(factsAgain):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// labels are those of a source.
func (b *factBook) labels(ctx context.Context, source string) (labels map[string]string, err error) {
	err = b.look(ctx, source, func(sources map[string]fleetFact) bool {
		s, ok := sources[source]
		labels = s.Labels
		return ok
	})
	return labels, err
}

// shown returns what is known of all sources, once there is one that is shown as
// name in examples.
func (b *factBook) shown(ctx context.Context, name string) (facts sourceFacts, err error) {
	err = b.look(ctx, name, func(sources map[string]fleetFact) bool {
		found := false
		facts = sourceFacts{}
		for full, s := range sources {
			found = found || shownName(full) == name
			if s.Lateness != 0 || s.Sampled != 0 || s.Dedupe {
				facts.Sources = append(facts.Sources, s.sourceFact)
			}
		}
		return found
	})
	return facts, err
}
