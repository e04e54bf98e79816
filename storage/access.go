package storage

import (
	"errors"

	"weir/pipeline"
)

// ErrNoToken is wrapped by the error of a call that names a token which is not
// stored.
var ErrNoToken = errors.New("no such token")

// Token is an API token as it is stored: what it is checked by, never itself.
type Token struct {
	ID      string
	Name    string // how people call it
	MAC     []byte
	Roles   []string
	Creator string
	Created pipeline.Time
	Expires pipeline.Time // 0: never
	Revoked pipeline.Time // 0: it is not
	Used    pipeline.Time // within a minute or so; 0: never
}

// AuditEntry is what somebody did, on its way into the audit. Body is one JSON
// object, as the caller writes it.
type AuditEntry struct {
	Time pipeline.Time
	Body []byte
}

// AuditRow is a row of the audit.
type AuditRow struct {
	Seq        int64 // grows, never used twice
	Time       pipeline.Time
	Prev, Hash []byte // SHA-256
	Body       []byte
}

// AuditCheck is what a walk along the audit's chain found.
type AuditCheck struct {
	Rows        int64
	First, Last int64  // seqs; 0 without rows
	Hash        []byte // of the last row
	// Broken is the seq of the first row that does not continue the one before
	// or does not hash to what it says, 0 for none.
	Broken int64
	Why    string
}

// FeedReader is how far a reader of a feed has come.
type FeedReader struct {
	Feed   string
	Reader string        // its token's id
	Seq    int64         // it has everything through it
	Time   pipeline.Time // of its last request
}
