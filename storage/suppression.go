package storage

import (
	"errors"

	"weir/pipeline"
)

// ErrNoSuppression is wrapped by the error of a call that names a suppression which
// is not stored.
var ErrNoSuppression = errors.New("no such suppression")

// Suppression is a suppression and how many alerts it kept from sinks so far.
type Suppression struct {
	pipeline.Suppression
	Hidden int64
}

// TruePositive is the evidence of a case that people confirmed: what Who did then is
// no example of what is usual.
type TruePositive struct {
	Who   pipeline.Principal
	First pipeline.Time
	Last  pipeline.Time
}
