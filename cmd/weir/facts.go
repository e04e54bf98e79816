package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"weir/pipeline"
)

// What detection has to know of the sources enters the log as a control record:
// a replay then treats them as the service did.

// controlSources is the kind of a control record that holds sourceFacts.
const controlSources = "sources"

// sourceFacts is what the configuration says about sources that differ from an
// ordinary one, in its order.
type sourceFacts struct {
	Sources []sourceFact `json:"sources"`
}

type sourceFact struct {
	ID       uint64  `json:"id"`
	Name     string  `json:"name"`
	Lateness int64   `json:"lateness_us,omitempty"`
	Sampled  float64 `json:"sampled,omitempty"` // share of the traffic; 0 all
	Dedupe   bool    `json:"dedupe,omitempty"`
}

// sentLateness is how much senders' lines may be out of order unless the
// configuration says: each sender has its own delay.
const sentLateness = 5 * time.Second

// facts are those of opened sources.
func (s *service) facts(sources []*source) sourceFacts {
	var out sourceFacts
	for _, src := range sources {
		c := src.cfg
		if c == nil {
			continue
		}
		f, ok := c.fact(src.id(), src.name)
		if src.listens && c.Lateness == 0 {
			f.Lateness, ok = sentLateness.Microseconds(), true
		}
		if ok {
			out.Sources = append(out.Sources, f)
		}
	}
	return out
}

// fact is what the configuration says of a source; ok is false when that is
// nothing out of the ordinary.
func (s *collectConfig) fact(id uint64, name string) (f sourceFact, ok bool) {
	f = sourceFact{ID: id, Name: name, Lateness: time.Duration(s.Lateness).Microseconds(), Sampled: s.SampleRate, Dedupe: s.Dedupe != ""}
	if f.Sampled == 1 {
		f.Sampled = 0
	}
	return f, f.Lateness != 0 || f.Sampled != 0 || f.Dedupe
}

// publishFacts puts the facts at the end of the log, when there are any or were.
func (s *service) publishFacts(ctx context.Context, sources []*source, before []byte) error {
	facts := s.facts(sources)
	if len(facts.Sources) == 0 && before == nil {
		return nil
	}
	body, err := json.Marshal(facts)
	if err != nil {
		return err
	}
	_, err = s.db.AppendControl(ctx, pipeline.Control{Kind: controlSources, Payload: body})
	return err
}

// setFacts makes what a control record says the case from here on.
func (e *engine) setFacts(body []byte) error {
	var facts sourceFacts
	if err := json.Unmarshal(body, &facts); err != nil {
		return fmt.Errorf("read what the log says of sources: %w", err)
	}
	e.applyFacts(facts)
	e.factsBody = body
	return nil
}

// applyFacts makes facts the case from here on.
func (e *engine) applyFacts(facts sourceFacts) {
	e.applyToMerge(facts)
	e.sampled = nil
	for _, f := range facts.Sources {
		if f.Sampled > 0 {
			if e.sampled == nil {
				e.sampled = map[string]float64{}
			}
			name := shownName(f.Name)
			if s, ok := e.sampled[name]; !ok || f.Sampled < s {
				e.sampled[name] = f.Sampled
			}
		}
	}
	e.facts = facts
}

// applyToMerge is applyFacts for what orders requests.
func (e *engine) applyToMerge(facts sourceFacts) {
	if e.merge == nil {
		return // it is elsewhere
	}
	for _, f := range e.facts.Sources { // those that are not named any more
		e.merge.SetSourceLateness(f.ID, 0)
	}
	var dedupe []uint64
	for _, f := range facts.Sources {
		e.merge.SetSourceLateness(f.ID, time.Duration(f.Lateness)*time.Microsecond)
		if f.Dedupe {
			dedupe = append(dedupe, f.ID)
		}
	}
	switch {
	case len(dedupe) == 0:
		e.dedupe = nil
	case e.dedupe == nil:
		e.dedupe = pipeline.NewDedupe(dedupe)
	default:
		e.dedupe.SetSources(dedupe)
	}
}

// shownName is a source in the examples of alerts: its last part.
func shownName(source string) string { return source[strings.LastIndexByte(source, '/')+1:] }

// distinct takes out of batch the copies of requests that several sources show.
func (e *engine) distinct(batch []pipeline.Ordered) []pipeline.Ordered {
	if e.dedupe == nil {
		return batch
	}
	n := 0
	for i := range batch {
		if e.dedupe.Copy(batch[i].Request, batch[i].Block.SourceID) {
			continue
		}
		batch[n] = batch[i]
		n++
	}
	return batch[:n]
}

// sampledShare is the share of the traffic behind f that its sources keep: the
// least of those that its examples are from, or of all where it has none.
func (e *engine) sampledShare(f *pipeline.Finding) float64 {
	share, found := 1.0, false
	for i := range f.Exemplars {
		name := f.Exemplars[i].Source
		if at := strings.LastIndexByte(name, ':'); at >= 0 {
			name = name[:at]
		}
		found = true
		if s, ok := e.sampled[name]; ok {
			share = min(share, s)
		}
	}
	if !found {
		return e.smallestShare()
	}
	return share
}

// smallestShare is the least share of the traffic that a source keeps; 1 all.
func (e *engine) smallestShare() float64 {
	share := 1.0
	for _, s := range e.facts.Sources {
		if s.Sampled > 0 {
			share = min(share, s.Sampled)
		}
	}
	return share
}
