package alerts

import (
	"slices"
	"time"

	"weir/pipeline"
)

// Times that decide when an incident speaks again, all in event time.
const (
	minQuiet      = 30 * time.Minute
	maxQuiet      = 7 * 24 * time.Hour
	activeFor     = 5 * time.Minute // without news for longer, it is not "still active"
	stillActive   = 15 * time.Minute
	fewerAfter    = 24 * time.Hour // an incident as old is still active every stillLong
	stillLong     = 6 * time.Hour
	endpointEvery = time.Hour
	growth        = 4
	maxGaps       = 15
	// clearerBy is how many nats more another detector must have, at least, to
	// give an incident its name.
	clearerBy = 3 * pipeline.Nat
)

// place is where an incident belongs: one is open for each.
type place struct {
	Who    pipeline.Principal `json:"who"`
	Family string             `json:"family"`
	Aside  bool               `json:"aside,omitempty"` // of what a suppression set aside
}

// actor is who the place's incidents have in common: what is set aside has nothing
// in common with the rest.
func (p place) actor() pipeline.Principal {
	if p.Aside {
		return pipeline.Principal{Kind: p.Who.Kind, Value: "aside " + p.Who.Value}
	}
	return p.Who
}

// placeOf is the principal and the family of the detector. Health has no
// family: a silent source and rejects of the same source are two jobs.
func placeOf(f *pipeline.Finding) place {
	if isHealth(f.Detector) {
		return place{f.Who, f.Detector, f.Aside}
	}
	return place{f.Who, family(f.Detector), f.Aside}
}

func isHealth(detector string) bool { return family(detector) == "health" }

// incident is one case while it is open. Exported fields are its snapshot.
type incident struct {
	Place    place            `json:"place"`
	ID       string           `json:"id"`
	Revision int              `json:"revision"`
	Finding  pipeline.Finding `json:"finding"` // the strongest detector's latest

	// What all findings said of accounts, whichever names the incident.
	Accounts  []pipeline.AffectedAccount `json:"accounts"`
	Truncated bool                       `json:"truncated"`
	Worked    *int64                     `json:"worked"` // the most logins that any saw succeed; nil unknown

	Peak peak `json:"peak"`
	// Owned are the objects that a finding of a wider view confirmed as another's,
	// whichever finding is the incident's now.
	Owned     []string `json:"owned,omitempty"`
	OwnedMore bool     `json:"owned_more,omitempty"`
	OwnedAll  int64    `json:"owned_all,omitempty"` // how many there are

	Severity  int  `json:"severity"` // the highest so far: a route that took the opening takes the end too
	Tier      int  `json:"tier"`
	Succeeded bool `json:"succeeded"`

	Onset   pipeline.Time   `json:"onset"`
	First   pipeline.Time   `json:"first"`
	Last    pipeline.Time   `json:"last"`
	Opened  pipeline.Time   `json:"opened"`
	Began   pipeline.Time   `json:"began"` // opened or reopened
	Gaps    []time.Duration `json:"gaps"`  // the latest maxGaps between findings' Last
	NextGap int             `json:"next_gap"`

	Said       said          `json:"said"`
	EndpointAt pipeline.Time `json:"endpoint_at"` // of the last new_endpoint, 0 none
	Sent       bool          `json:"sent"`        // some revision was not history
	Prior      int           `json:"prior"`
	Parent     string        `json:"parent"` // id of the campaign it is part of, "" none
	Hush       hush          `json:"hush,omitzero"`
	Quiet      bool          `json:"quiet,omitempty"` // the last revision was kept from sinks
	Mute       bool          `json:"mute,omitempty"`  // and so was every other since it began

	due, weak int // positions in the book's heaps
}

// peak is the strength of the strongest finding so far.
type peak struct {
	Severity int           `json:"severity"`
	Score    pipeline.Nats `json:"score"`
}

// said is what the last revision told.
type said struct {
	Time      pipeline.Time        `json:"time"`
	Last      pipeline.Time        `json:"last"`
	Tally     tally                `json:"tally"`
	News      tally                `json:"news"` // of the last that was no still_active: growth is measured from it
	Severity  int                  `json:"severity"`
	Endpoint  pipeline.Endpoint    `json:"endpoint"`
	Change    pipeline.AlertChange `json:"change"`
	Detector  string               `json:"detector"`
	Backfill  bool                 `json:"backfill"`
	FindingID string               `json:"finding_id"`
	Members   int                  `json:"members,omitempty"` // of a campaign
	Succeeded bool                 `json:"succeeded,omitempty"`
}

// news is News, in the state of a weir that had none too.
func (s *said) news() *tally {
	if s.News.Noun == "" {
		return &s.Tally
	}
	return &s.News
}

// The ranks of tiers.
const (
	tierContext = iota
	tierReview
	tierPage
)

func tierName(t int) string { return [...]string{"context", "review", "page"}[t] }

// The ranks of severities, indexes of severities().
const (
	info = iota
	low
	medium
	high
	critical
)

// background reports that nothing here answered the client.
func background(f *pipeline.Finding) bool {
	return f.Facts.Opportunistic && !f.Facts.Succeeded
}

// The worth of an endpoint to the operator, see pipeline.EndpointRule.Weight.
const (
	cheap = iota - 1
	ordinary
	precious
)

// grade says how grave f is, at an endpoint of such worth: evidence is not
// importance.
func grade(f *pipeline.Finding, active bool, worth int) (severity, tier int) {
	switch {
	case f.Facts.Notice && isHealth(f.Detector) && f.Score >= pipeline.ReviewAt:
		return low, tierReview
	case f.Facts.Notice:
		return info, tierContext
	case background(f):
		return low, tierReview
	case f.Score < pipeline.ReviewAt:
		return low, tierContext
	case f.Score < pipeline.PageAt:
		return low, tierReview
	case f.Facts.Succeeded && worth != cheap && (active || worth == precious):
		return critical, tierPage
	case f.Facts.Succeeded, worth == precious, f.Facts.CanSucceed && worth != cheap:
		return high, tierPage
	}
	return medium, tierPage
}

// newIncident takes ownership of f.
func newIncident(p place, f *pipeline.Finding, parent string, worth int) *incident {
	inc := &incident{Place: p, ID: f.ID, Finding: *f, Opened: f.Time, Began: f.Time, Onset: f.Onset, First: f.First, Last: f.Last, Parent: parent}
	inc.regrade(f, worth)
	return inc
}

// active reports whether the client was seen lately, measured by its own pace.
func (inc *incident) active(now pipeline.Time) bool {
	return now.Sub(inc.Last) <= max(activeFor, min(3*inc.gap(), maxQuiet))
}

// gap is the median time between findings; until there are two, the pace of
// the requests stands in. It is at most maxQuiet.
func (inc *incident) gap() time.Duration {
	if len(inc.Gaps) == 0 {
		f := &inc.Finding
		if f.Outcome.Requests < 2 {
			return 0
		}
		return min(max(f.Last.Sub(f.First), 0)/time.Duration(f.Outcome.Requests-1), maxQuiet)
	}
	var sorted [maxGaps]time.Duration
	s := sorted[:copy(sorted[:], inc.Gaps)]
	slices.Sort(s)
	return s[len(s)/2]
}

// deadline is when the incident has been silent long enough to be resolved.
func (inc *incident) deadline() pipeline.Time {
	return inc.Last.Add(min(max(10*inc.gap(), minQuiet), maxQuiet))
}

// absorb takes the news of f, which it may keep. It reports whether this is
// the first confirmed success.
func (inc *incident) absorb(f *pipeline.Finding, worth int) (firstSuccess bool) {
	inc.pace(f.Last.Sub(inc.Last))
	inc.Last = max(inc.Last, f.Last)
	inc.Onset, inc.First = min(inc.Onset, f.Onset), min(inc.First, f.First)
	firstSuccess = f.Facts.Succeeded && !inc.Succeeded
	inc.regrade(f, worth)
	return firstSuccess
}

// pace takes the time between two findings' Last, when it went forward.
func (inc *incident) pace(d time.Duration) {
	switch d = min(d, maxQuiet); {
	case d <= 0:
	case len(inc.Gaps) < maxGaps:
		inc.Gaps = append(inc.Gaps, d)
	default:
		inc.Gaps[inc.NextGap] = d
		inc.NextGap = (inc.NextGap + 1) % maxGaps
	}
}

// regrade decides whether f is the incident's finding from now on: news of the
// same detector and view always, another's when it took over the case, is
// graver, or has clearly more evidence than there was so far.
func (inc *incident) regrade(f *pipeline.Finding, worth int) {
	severity, tier := grade(f, inc.active(f.Time), worth)
	p := peak{severity, f.Score}
	same := f.Detector == inc.Finding.Detector && f.Wide == inc.Finding.Wide
	clearly := inc.Peak.Score
	if f.Detector != inc.Finding.Detector {
		clearly += max(clearerBy, inc.Peak.Score/4)
	}
	stronger := p.Severity > inc.Peak.Severity || p.Severity == inc.Peak.Severity && p.Score > clearly
	takesOver := f.Supersedes != "" && f.Supersedes == inc.Finding.Detector
	inc.gather(f)
	if f.Wide && len(f.Objects) > 0 {
		inc.Owned, inc.OwnedMore, inc.OwnedAll = f.Objects, f.Truncated, f.Outcome.Objects
	}
	if stronger || takesOver || same {
		inc.Finding = *f
	}
	if stronger {
		inc.Peak = p
	}
	inc.hand()
	if inc.Parent != "" && inc.Parent != inc.ID && !f.Facts.Succeeded {
		severity, tier = min(severity, low), tierContext // the campaign tells of it
	}
	inc.Severity, inc.Tier = max(inc.Severity, severity), max(inc.Tier, tier)
	inc.Succeeded = inc.Succeeded || f.Facts.Succeeded
}

// swelled reports that a campaign has several times the members last told of.
func (inc *incident) swelled() bool {
	return inc.Finding.Level == "campaign" && inc.Said.Members > 0 && inc.Finding.MembersTotal >= growth*inc.Said.Members
}

// news decides whether the state after f, taken at now, is worth a revision,
// and of which kind; "" for none.
func (inc *incident) news(f *pipeline.Finding, now pipeline.Time, firstSuccess bool) string {
	t, s := tallyOf(&inc.Finding), &inc.Said
	if inc.Finding.Detector != s.Detector || inc.Finding.ID != s.FindingID {
		// Another count began: it grows from here.
		s.Detector, s.FindingID, s.Tally, s.News = inc.Finding.Detector, inc.Finding.ID, t, t
	}
	e := inc.Finding.Endpoint
	switch {
	case firstSuccess:
		return "succeeded"
	case inc.Severity > s.Severity, t.Count >= growth*max(s.news().Count, 1), inc.swelled():
		return "grew"
	case e != s.Endpoint && e.Template != "" && (inc.EndpointAt == 0 || now.Sub(inc.EndpointAt) >= endpointEvery):
		return "new_endpoint"
	case now.Sub(s.Time) >= inc.stillEvery(now) && inc.Last > s.Last:
		return "still_active"
	case !f.Backfill && !inc.Sent:
		return "still_active" // began in history, and is seen live
	}
	return ""
}

// stillEvery is how often an incident that goes on says so: what pages often on its
// first day, so that who works on it knows; other incidents and later days seldom,
// so that one of many weeks is no flood of revisions.
func (inc *incident) stillEvery(now pipeline.Time) time.Duration {
	if inc.Tier == tierPage && now.Sub(inc.Began) < fewerAfter {
		return stillActive
	}
	return stillLong
}
