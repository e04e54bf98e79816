package main

import (
	"encoding/json"
	"fmt"

	"weir/pipeline"
	"weir/storage/sqlite"
)

// controlKind is a kind of the facts from outside that travel in a fleet's sequence.
type controlKind struct {
	name string
	// passed says that correlate and alert take it too, at the place where detect met
	// it; the others are for those that follow the sequence.
	passed bool
	// take makes it the case from here on, in the parts that e has, and appends to dst
	// what the book says to it. nil: it says nothing to an engine.
	take func(e *engine, dst []pipeline.Alert, payload json.RawMessage) ([]pipeline.Alert, error)
}

// controlKinds lists them. To add one: its code, and a line here.
func controlKinds() []controlKind {
	quiet := func(take func(*engine, json.RawMessage) error) func(*engine, []pipeline.Alert, json.RawMessage) ([]pipeline.Alert, error) {
		return func(e *engine, dst []pipeline.Alert, payload json.RawMessage) ([]pipeline.Alert, error) {
			return dst, take(e, payload)
		}
	}
	return []controlKind{
		{controlSources, true, quiet((*engine).takeSources)},
		{controlEdition, true, quiet((*engine).takeEdition)},
		{controlConfig, true, quiet(func(e *engine, payload json.RawMessage) error { return e.setConfig(payload) })},
		{sqlite.SuppressionControl, true, quiet((*engine).takeSuppression)},
		{controlHealth, true, (*engine).takeHealth},
		{name: sqlite.VerdictControl}, // for who reads what people said
		{name: controlTick},
		{name: controlSilent}, // read before it comes to an engine
		{name: controlStopped},
	}
}

// kindOf is the kind of c. One that this weir does not know is an error: who passes
// over it would give other alerts than those that do not.
func kindOf(c *controlEntry) (controlKind, error) {
	for _, k := range controlKinds() {
		if k.name == c.Kind {
			return k, nil
		}
	}
	return controlKind{}, fmt.Errorf("the sequence has a control of the kind %q, which %s wrote: weir there is newer than here (%s); bring this process up to date", c.Kind, c.From, version)
}

// meet takes a control at its place.
func (e *engine) meet(dst []pipeline.Alert, c *controlEntry) ([]pipeline.Alert, error) {
	k, err := kindOf(c)
	if err != nil || k.take == nil {
		return dst, err
	}
	if dst, err = k.take(e, dst, c.Payload); err != nil {
		return dst, fmt.Errorf("a control of the kind %q, which %s wrote: %w", c.Kind, c.From, err)
	}
	return dst, nil
}

// takeSources takes what a collector says of its sources. What others said of theirs
// stays.
func (e *engine) takeSources(payload json.RawMessage) error {
	var told fleetSources
	if err := json.Unmarshal(payload, &told); err != nil {
		return fmt.Errorf("read what is said of sources: %w", err)
	}
	var facts sourceFacts
	said := map[uint64]bool{}
	for _, s := range told.Sources {
		said[s.ID] = true
	}
	for _, f := range e.facts.Sources {
		if !said[f.ID] {
			facts.Sources = append(facts.Sources, f)
		}
	}
	for _, s := range told.Sources {
		if e.merge != nil {
			e.merge.AddSource(s.ID)
		}
		if len(s.Labels) > 0 {
			e.labels[s.Name] = s.Labels
		} else {
			delete(e.labels, s.Name)
		}
		if s.Lateness != 0 || s.Sampled != 0 || s.Dedupe {
			facts.Sources = append(facts.Sources, s.sourceFact)
		}
	}
	body, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	return e.setFacts(body)
}

// sentEdition is the payload of a control of the kind controlEdition.
type sentEdition struct {
	Edition []byte `json:"edition"` // encoded
}

func (e *engine) takeEdition(payload json.RawMessage) error {
	var sent sentEdition
	if err := json.Unmarshal(payload, &sent); err != nil {
		return fmt.Errorf("read the edition: %w", err)
	}
	edition, err := pipeline.DecodeEdition(sent.Edition)
	if err != nil {
		return err
	}
	return e.setEdition(edition)
}

func (e *engine) takeSuppression(payload json.RawMessage) error {
	var s pipeline.Suppression
	if err := json.Unmarshal(payload, &s); err != nil {
		return fmt.Errorf("read the suppression: %w", err)
	}
	e.suppress(s)
	return nil
}
