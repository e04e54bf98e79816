package storage

import (
	"errors"

	"weir/pipeline"
)

// ErrNoAlert is wrapped by the error of a call that names an alert which is not
// stored, ErrStale by that of a change which is made to an older revision than the
// stored one.
var (
	ErrNoAlert = errors.New("no such alert")
	ErrStale   = errors.New("somebody else changed it meanwhile")
)

// Triage is what people made of an alert. Body is one JSON object, as the caller
// writes it.
type Triage struct {
	ID       string // the alert's
	Revision int64  // grows by one with each change; 0 before the first
	Body     []byte // nil before the first
	// Control goes to the end of the requests log with it; nil none.
	Control *pipeline.Control
}
