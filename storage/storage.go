// Package storage holds the words that weir's stores share: what a stage
// commits, what is asked of a store, and the errors whose remedy differs.
package storage

import (
	"errors"
	"fmt"
	"time"

	"weir/pipeline"
)

// ErrFull is wrapped by errors of a write that found no room. Nothing of that
// write is stored; after shedding old requests it may be tried again.
var ErrFull = errors.New("disk full")

// ErrLocked is wrapped by Open's error when another process has the store.
var ErrLocked = errors.New("in use by another weir")

// ErrClosed is returned by calls that wait when the store closes.
var ErrClosed = errors.New("store closed")

// ErrUnfit is wrapped by Open's error for a file that cannot be this weir's
// store: no database, another program's, damaged, or of a newer weir.
var ErrUnfit = errors.New("not usable as a store")

// GapError says that a block does not continue its source: Got does not start
// where what is stored ends. The batch it came in is not stored.
type GapError struct {
	Source string
	Stored int64
	Got    pipeline.CauseRange
}

func (e *GapError) Error() string {
	word := "leaves a gap behind"
	if e.Got.From < e.Stored {
		word = "overlaps"
	}
	return fmt.Sprintf("block [%d, %d) of %s %s position %d, the end of what is stored",
		e.Got.From, e.Got.To, e.Source, word, e.Stored)
}

// Output is what a stage commits in one step: either all of it is stored, or
// nothing.
type Output struct {
	Stage    string
	Position int64 // of the requests log, consumed through; never moves the stored cursor back
	Findings []pipeline.Finding
	Alerts   []AlertRevision
	// Controls go to the end of the requests log, unless the stored cursor was
	// at Position already: then they are there from before a replay.
	Controls []pipeline.Control
}

// AlertRevision is an alert on its way into the feed.
type AlertRevision struct {
	Alert    pipeline.Alert
	Backfill bool  // history: in the feed, not for sinks
	Seq      int64 // its place in the feed, behind all others; 0 the next one
}

// Followed is how far a topic was followed.
type Followed struct {
	Next  int64 // offset of the next record
	Fence int64 // the highest claim before it, -1 none: what comes under a lower one does not count
}

// StoredAlert is a row of the feed.
type StoredAlert struct {
	Seq      int64 // place in the feed: grows, never used twice
	Alert    pipeline.Alert
	Body     []byte // the JSON as committed
	Backfill bool
}

// AlertFilter selects alerts by their latest revision. Zero fields select
// everything; times are those of the alert's window.
type AlertFilter struct {
	Since, Until pipeline.Time // window meets [Since, Until]; 0 open
	Severity     []string
	Detector     string
	Principal    pipeline.Principal
	Status       string
	AfterSeq     int64 // only what changed behind this seq
	BeforeSeq    int64 // only before this seq: the next page
	Limit        int   // 0: 100
}

// FindingFilter selects stored findings. Zero fields select everything; times are
// those of the findings.
type FindingFilter struct {
	Since, Until pipeline.Time
	Detector     string
	Principal    pipeline.Principal
	Limit        int // 0: 100
}

// RequestFilter selects stored requests. Zero fields select everything.
type RequestFilter struct {
	Since, Until pipeline.Time // by the requests' own stamps, inclusive; 0 open
	Principal    pipeline.Principal
	PathPrefix   string
	Status       int
	Limit        int // 0: 1000
}

// RetainPolicy says what a store keeps. A zero age or size does not limit.
type RetainPolicy struct {
	MaxAge   time.Duration // of requests
	MaxBytes int64         // of the whole store
	AlertAge time.Duration // of alerts, findings, dead letters and rollups
	// AuditFrom is the time before which audit entries go, 0 for none. People
	// do things at the wall clock's time.
	AuditFrom pipeline.Time
	// KeepFrom is the lowest position that a stage may still need: blocks at or
	// behind it stay.
	KeepFrom int64
	// Now is where ages count back from. 0 is the earlier of the wall clock and
	// the newest request, so that an old file lasts as long as a live one.
	Now pipeline.Time
}

// Retained counts what retention or shedding removed.
type Retained struct {
	Blocks, Requests, Bytes, Alerts int64
}

// DeadLetter is an alert revision that a sink did not take.
type DeadLetter struct {
	ID       int64
	Sink     string
	Seq      int64
	Reason   string
	Attempts []byte // what was tried, as the sink wrote it
	Time     pipeline.Time
}

// Minute is one row of the traffic chart.
type Minute struct {
	Time        pipeline.Time // its start
	SourceID    uint64
	StatusClass int // 2 is 2xx; 0 unknown
	Requests    int64
	Bytes       int64
}

// Stats describes a store.
type Stats struct {
	First, Last       int64         // positions of the requests log; First 0 when it is empty
	Blocks, Requests  int64         // stored now
	Oldest, Newest    pipeline.Time // of stored requests, NoTime without any
	Alerts            int64         // seq of the last revision
	Bytes             int64         // of the file that are in use
	FileBytes         int64         // of the file and its write-ahead log
	Skipped           int64         // blocks offered again after they were stored
	ReplayDifferences int64         // outputs of a replay that differ from what is stored: a bug
	Shed              int64         // requests given up for room
	ReserveArmed      bool          // the room kept for a full disk is there
	Sources           []SourceStats
}

// SourceStats are a source's totals since it was first read.
type SourceStats struct {
	Source   string
	ID       uint64
	Cause    pipeline.CauseRange
	Requests int64
	Lines    int64
	Rejected int64
}

// SinkRetry is an alert revision that a sink did not take and that is tried
// again apart from the others.
type SinkRetry struct {
	Seq      int64
	Attempts int // failed so far
	Next     pipeline.Time
}

// Told is an open alert that a sink was told of.
type Told struct {
	Alert   string
	Group   string        // that it stays in
	Seq     int64         // the revision told last
	Next    pipeline.Time // when to tell it again; 0 never
	Repeats int           // how often it was told again
}

// SinkGroup is a group of alerts that a sink shows as one thing.
type SinkGroup struct {
	Group  string // key
	Common string // what its alerts have in common, JSON
	Thread string // where the sink keeps its messages together, "" none
}

// ToldChange is how far a sink came and what it was told on the way; it is stored
// as a whole. Over and Closed, which go first, are alerts and groups to be forgotten.
type ToldChange struct {
	Cursor int64
	Over   []string
	Told   []Told
	Closed []string
	Groups []SinkGroup
}

// Rhythm is how a source usually comes.
type Rhythm struct {
	Minutes  int64         // of event time with requests
	Span     time.Duration // from the first of them to the last
	Gap      time.Duration // the longest between two of them; a minute where they join
	Last     pipeline.Time // the beginning of the last one; NoTime for none
	Lines    int64         // ever read, good and bad
	Rejected int64         // of these
}
