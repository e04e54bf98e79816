package pipeline

import (
	"fmt"
	"slices"
)

// Stage names a stage of the fleet whose processes send to others.
type Stage uint8

// The stages that send, in the order in which data flows.
const (
	StageDetect    Stage = 1 + iota
	StageResource        // correlate at objects
	StageTemplate        // at templates
	StagePrincipal       // at principals
	StageLogin           // at accounts, endpoints of logins and what followed them: one slice
)

var stageNames = [...]string{"", "detect", "resource", "template", "principal", "login"}

func (s Stage) String() string {
	if int(s) < len(stageNames) {
		return stageNames[s]
	}
	return "unknown"
}

// StageOf is the stage of correlate where signals of meeting m meet.
func StageOf(m Meeting) Stage {
	switch m {
	case MeetResource:
		return StageResource
	case MeetTemplate:
		return StageTemplate
	case MeetPrincipal:
		return StagePrincipal
	}
	return StageLogin
}

// Producer is one slice of a stage: what it sends is a function of the input alone,
// whichever process owns it.
type Producer struct {
	Stage Stage  `json:"stage"`
	Slice uint16 `json:"slice"`
}

func (p Producer) String() string { return fmt.Sprintf("%s/%d", p.Stage, p.Slice) }

// Span says that a bundle holds everything its producer has for the consumer
// between two places: behind From, up to To and with it. A producer's spans follow
// one another, from the zero Place on; after a restart or from a process that does
// not know yet that it lost the slice they come again, cut differently.
type Span struct {
	Producer
	From, To Place
}

// Bundle is what one process says to one consumer at once, for all of its slices.
// Items are in the order of their places, and each belongs to one of Spans.
type Bundle[T any] struct {
	Spans []Span
	Items []T
	Of    []uint16 // by item: the index of its span
	// Controls are the places of all controls in Spans, rising; others may be among
	// them.
	Controls []Place `json:",omitempty"`
}

// Add appends an item of span of.
func (b *Bundle[T]) Add(item T, of int) {
	b.Items, b.Of = append(b.Items, item), append(b.Of, uint16(of))
}

// AddControl says that a control is at p, once.
func (b *Bundle[T]) AddControl(p Place) { b.Controls = insertPlace(b.Controls, p) }

func insertPlace(list []Place, p Place) []Place {
	i, found := slices.BinarySearchFunc(list, p, Place.Compare)
	if found {
		return list
	}
	return slices.Insert(list, i, p)
}

// Reset empties b and keeps its memory.
func (b *Bundle[T]) Reset() {
	clear(b.Items)
	b.Spans, b.Items, b.Of, b.Controls = b.Spans[:0], b.Items[:0], b.Of[:0], b.Controls[:0]
}

// check reports what is wrong with a bundle that came from outside.
func (b *Bundle[T]) check() error {
	if len(b.Of) != len(b.Items) {
		return fmt.Errorf("%d items, %d of spans", len(b.Items), len(b.Of))
	}
	for i := range b.Spans {
		if s := &b.Spans[i]; s.To.Before(s.From) {
			return fmt.Errorf("%s: a span from %s back to %s", s.Producer, s.From, s.To)
		}
	}
	for i := 1; i < len(b.Controls); i++ {
		if !b.Controls[i-1].Before(b.Controls[i]) {
			return fmt.Errorf("a control at %s behind one at %s", b.Controls[i], b.Controls[i-1])
		}
	}
	for _, of := range b.Of {
		if int(of) >= len(b.Spans) {
			return fmt.Errorf("an item of span %d, there are %d", of, len(b.Spans))
		}
	}
	return nil
}
