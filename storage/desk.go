package storage

import "weir/pipeline"

// AlertQuery selects alerts by their latest revision and by what people made of
// them. Zero fields select everything; a list selects any of it, but for Tags and
// Labels, which select what has all.
type AlertQuery struct {
	Since, Until pipeline.Time // window meets [Since, Until]; 0 open
	Severity     []string
	Detector     []string
	Status       []string
	Tier         []string
	Triage       []string // new, in_progress, closed
	Assignee     string   // "-" is nobody
	Verdict      []string
	Suppressed   *bool
	Backfill     *bool
	Labels       map[string]string
	Tags         []string
	Principal    pipeline.Principal
	Address      string
	Endpoint     string // METHOD TEMPLATE or METHOD HOST TEMPLATE
	Campaign     string
	Words        []string // all of them, the last as the beginning of one

	AfterSeq, BeforeSeq int64
	Sort                string // newest (the default), severity, score
	After               *AlertPlace
	Limit               int  // 0: 100
	Count               bool // tells Total
}

// AlertPlace is where a page ended.
type AlertPlace struct {
	Rank int64 // of the severity, or the score; 0 by newest
	Seq  int64
}

// AlertList is a page.
type AlertList struct {
	Alerts []StoredAlert
	Places []AlertPlace // of each
	Total  int64        // of all that the query selects
	Exact  bool         // else there are more than Total
}

// AlertGroup are alerts that have one property in common.
type AlertGroup struct {
	Key      string
	Count    int64
	Open     int64 // of them not resolved
	New      int64 // of them nobody has looked at
	Severity string
	Seq      int64 // of the one that changed last
}

// TriageChange is a change to one alert, with who made it.
type TriageChange struct {
	Triage Triage
	By     AuditEntry
}

// TriageAt is a triage and the place of its change in the audit.
type TriageAt struct {
	Triage
	Change int64
}

// SinkKept is a revision that a sink did not take: it is tried again, or dead.
type SinkKept struct {
	Retrying bool
	Attempts int
	Dead     bool
	Reason   string
	Time     pipeline.Time // of the next try, or of its end
}

// SinkBacklog counts revisions that a sink did not take.
type SinkBacklog struct{ Retries, Dead int64 }

// EndpointMinute is traffic of one endpoint in one minute.
type EndpointMinute struct {
	Endpoint    pipeline.Endpoint
	Time        pipeline.Time // in it
	StatusClass int
	Requests    int64
	Bytes       int64
}

// EndpointTotal is an endpoint's traffic over a time.
type EndpointTotal struct {
	Endpoint                pipeline.Endpoint
	Requests, Errors, Bytes int64
	Last                    pipeline.Time // the minute of the last one
}
