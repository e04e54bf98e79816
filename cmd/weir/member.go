package main

import (
	"maps"

	"weir/detectors"
	"weir/pipeline"
)

// A fleet's processes are made of members: one detect member, which has several
// slices, members of correlate, one for each slice of each stage, and the alert
// member. A member is the logic alone: it takes what it is given and collects what it
// has to send; who runs it moves both, and keeps its state. Each is used by one
// goroutine.
//
// A control of the sequence takes effect between two items of it, which is a place in
// the order of everything: detect passes the place on, and every stage behind it takes
// the control there.

// controlAt reads the control of the sequence whose place is p.
type controlAt func(p pipeline.Place) (*controlEntry, error)

// cloneLabels is a member's own copy of the labels of sources, by source.
func cloneLabels(labels map[string]map[string]string) map[string]map[string]string {
	own := map[string]map[string]string{}
	maps.Copy(own, labels)
	return own
}

// fleetShape is into how many slices the stages of a fleet are dealt. It is fixed
// when the fleet is made.
type fleetShape struct{ slices int }

// width is how many slices a stage has.
func (f fleetShape) width(s pipeline.Stage) int {
	if s == pipeline.StageLogin {
		return 1
	}
	return f.slices
}

// crossStages are the stages of correlate, in the order in which data flows.
func crossStages() []pipeline.Stage {
	return []pipeline.Stage{pipeline.StageResource, pipeline.StageTemplate, pipeline.StagePrincipal, pipeline.StageLogin}
}

// producers are who sends to a stage of correlate; of stage 0, who has findings.
func (f fleetShape) producers(to pipeline.Stage) (list []pipeline.Producer) {
	from := []pipeline.Stage{pipeline.StageDetect}
	switch to {
	case pipeline.StageTemplate:
		from = append(from, pipeline.StageResource)
	case pipeline.StagePrincipal:
		from = append(from, pipeline.StageTemplate)
	case 0:
		from = append(from, pipeline.StageTemplate, pipeline.StagePrincipal, pipeline.StageLogin)
	}
	for _, s := range from {
		for i := range f.width(s) {
			list = append(list, pipeline.Producer{Stage: s, Slice: uint16(i)})
		}
	}
	return list
}

// sends are the stages of correlate that a stage sends signals to.
func sends(from pipeline.Stage) []pipeline.Stage {
	switch from {
	case pipeline.StageDetect:
		return crossStages()
	case pipeline.StageResource:
		return []pipeline.Stage{pipeline.StageTemplate}
	case pipeline.StageTemplate:
		return []pipeline.Stage{pipeline.StagePrincipal}
	}
	return nil
}

// outbox is what a member has to send: a bundle for each slice of each stage that
// it sends to, one of findings, one of truths. Every bundle says how far the member
// is, whether there is anything in it or not.
type outbox struct {
	shape    fleetShape
	from     pipeline.Stage
	signals  map[pipeline.Stage][]pipeline.Bundle[pipeline.Signal]
	findings pipeline.Bundle[pipeline.Finding]
	truths   pipeline.Bundle[detectors.Truth]
	controls []pipeline.Place // that were met, for all but truths
}

func newOutbox(shape fleetShape, from pipeline.Stage) *outbox {
	o := &outbox{shape: shape, from: from, signals: map[pipeline.Stage][]pipeline.Bundle[pipeline.Signal]{}}
	for _, to := range sends(from) {
		o.signals[to] = make([]pipeline.Bundle[pipeline.Signal], shape.width(to))
	}
	return o
}

// signal adds a signal of the span with this index.
func (o *outbox) signal(s *pipeline.Signal, of int) {
	to := pipeline.StageOf(s.Meeting)
	o.signals[to][pipeline.SliceOf(pipeline.Shard(s.Key), o.shape.width(to))].Add(*s, of)
}

// seal writes the spans into every bundle.
func (o *outbox) seal(spans []pipeline.Span) {
	for _, to := range sends(o.from) {
		for i := range o.signals[to] {
			b := &o.signals[to][i]
			b.Spans, b.Controls = append(b.Spans[:0], spans...), append(b.Controls[:0], o.controls...)
		}
	}
	o.findings.Spans, o.findings.Controls = append(o.findings.Spans[:0], spans...), append(o.findings.Controls[:0], o.controls...)
	o.truths.Spans = append(o.truths.Spans[:0], spans...)
}

// reset empties the bundles, once they are sent or encoded: signals point into the
// blocks that they came from.
func (o *outbox) reset() {
	for _, to := range sends(o.from) {
		for i := range o.signals[to] {
			o.signals[to][i].Reset()
		}
	}
	o.findings.Reset()
	o.truths.Reset()
	o.controls = o.controls[:0]
}
