package console

import (
	"context"
	"encoding/json"
	"fmt"

	"weir/pipeline"
)

// DeskStore is what the analysts' lists and pages are made from.
type DeskStore interface {
	// FindAlerts returns a page of alerts by their latest revision, with JSON when
	// q.Full.
	FindAlerts(ctx context.Context, q AlertQuery) (AlertList, error)
	// GroupAlerts counts what q selects by one of its properties, most alerts
	// first.
	GroupAlerts(ctx context.Context, q AlertQuery, by string) ([]AlertGroup, error)
	// Found returns the latest revision of those of ids that are stored, in no
	// order.
	Found(ctx context.Context, ids []string) ([]Found, error)
	// Revisions returns all revisions of an alert, the first one first.
	Revisions(ctx context.Context, id string) ([]Found, error)
	// Triages returns what people made of those of ids that are stored: nil before
	// anybody did.
	Triages(ctx context.Context, ids []string) (map[string][]byte, error)
	// SaveTriages stores changes, each with its entry in the audit, in one step, but
	// for those with an error of their own: ErrStale or ErrNoAlert.
	SaveTriages(ctx context.Context, list []TriageSave) (errs []error, err error)
	// TriageAfter returns what changed behind a place in the audit, in that order.
	TriageAfter(ctx context.Context, change int64, limit int) ([]TriageChange, error)
	// AlertAudit returns the audit's entries about an alert, the newest first.
	AlertAudit(ctx context.Context, id string, limit int) ([]AuditRow, error)
}

// AlertQuery selects alerts. Zero fields select everything; a list selects any of
// it, but for Tags, Labels and Words, which select what has all.
type AlertQuery struct {
	Since, Until pipeline.Time
	Severity     []string
	Detector     []string
	Status       []string
	Tier         []string
	Triage       []string
	Assignee     string // - is nobody
	Verdict      []string
	Suppressed   *bool
	Backfill     *bool
	Labels       map[string]string
	Tags         []string
	Principal    pipeline.Principal
	Address      string
	Endpoint     string
	Campaign     string
	Words        []string // the last may be the beginning of one

	AfterSeq, BeforeSeq int64
	Sort                string // newest, severity, score
	After               *AlertPlace
	Limit               int
	Count, Full         bool
}

// AlertPlace is where a page ended.
type AlertPlace struct{ Rank, Seq int64 }

// AlertList is a page.
type AlertList struct {
	Alerts []Found
	Places []AlertPlace
	Total  int64
	Exact  bool
}

// Found is a revision of an alert and what people made of it.
type Found struct {
	Seq      int64
	Alert    pipeline.Alert
	Backfill bool
	Triage   []byte // as SaveTriages has it; nil before the first
	JSON     []byte // the weir.alert/1 object, where it was asked for
}

// AlertGroup are alerts that have one property in common.
type AlertGroup struct {
	Key              string
	Count, Open, New int64
	Severity         string // the highest
	Seq              int64  // of the one that changed last
}

// TriageSave is a change to an alert and who makes it.
type TriageSave struct {
	ID       string
	Revision int64
	Body     []byte
	Audit    AuditEntry
}

// TriageChange is what an alert's triage is now, and where its last change stands
// in the audit.
type TriageChange struct {
	ID     string
	Body   []byte
	Change int64
}

// AuditRow is an entry in its place.
type AuditRow struct {
	Seq   int64
	Entry []byte
}

// Delivery is how far a sink has come with an alert.
type Delivery struct {
	Sink     string         `json:"sink"`
	Kind     string         `json:"kind"`
	State    string         `json:"state"` // delivered, waiting, retrying, dead, not_routed, history
	Revision int            `json:"revision"`
	Seq      int64          `json:"seq"`
	Attempts int            `json:"attempts"`
	Next     *pipeline.Time `json:"next"`
	Reason   string         `json:"reason"`
	Time     *pipeline.Time `json:"time"`
}

// alertRow is an alert in a list.
type alertRow struct {
	ID         string               `json:"id"`
	Seq        int64                `json:"seq"`
	Revision   int                  `json:"revision"`
	Status     string               `json:"status"`
	Severity   string               `json:"severity"`
	Tier       string               `json:"tier"`
	Detector   string               `json:"detector"`
	Title      string               `json:"title"`
	Reason     string               `json:"reason"`
	Level      string               `json:"level"`
	Principal  pipeline.Principal   `json:"principal"`
	Endpoint   pipeline.Endpoint    `json:"endpoint"`
	Campaign   string               `json:"campaign"`
	First      pipeline.Time        `json:"first"`
	Last       pipeline.Time        `json:"last"`
	DetectedAt pipeline.Time        `json:"detected_at"`
	Ongoing    bool                 `json:"ongoing"`
	Score      float64              `json:"score"`
	Requests   int64                `json:"requests"`
	Succeeded  *int64               `json:"succeeded"`
	Accounts   *int64               `json:"accounts"`
	Objects    int64                `json:"objects"`
	Addresses  int                  `json:"addresses_total"`
	Members    int                  `json:"members_total"`
	Network    string               `json:"network"`
	Country    string               `json:"country"`
	Labels     pipeline.AlertLabels `json:"labels"`
	Change     pipeline.AlertChange `json:"change"`
	Suppressed bool                 `json:"suppressed"`
	Backfill   bool                 `json:"backfill"`
	Triage     triageRow            `json:"triage"`
}

// triageRow is a triage in a list.
type triageRow struct {
	Revision int64          `json:"revision"`
	Status   string         `json:"status"`
	Assignee string         `json:"assignee"`
	Verdict  string         `json:"verdict"`
	Tags     []string       `json:"tags"`
	Comments int            `json:"comments"`
	Time     *pipeline.Time `json:"time"`
	Who      string         `json:"who"`
}

// newTriage is an alert's before anybody did anything.
func newTriage() Triage {
	return Triage{Status: "new", Tags: []string{}, Comments: []TriageComment{}}
}

func readTriageBody(body []byte) (Triage, error) {
	t := newTriage()
	if body != nil {
		if err := json.Unmarshal(body, &t); err != nil {
			return t, fmt.Errorf("read triage: %w", err)
		}
	}
	return t, nil
}

func rowOfTriage(t *Triage) triageRow {
	row := triageRow{Revision: t.Revision, Status: t.Status, Assignee: t.Assignee, Verdict: t.Verdict, Tags: t.Tags, Comments: len(t.Comments), Who: t.Who}
	if row.Tags == nil {
		row.Tags = []string{}
	}
	if t.Time != 0 {
		row.Time = &t.Time
	}
	return row
}

func rowOf(f *Found) (alertRow, error) {
	a := &f.Alert
	t, err := readTriageBody(f.Triage)
	if err != nil {
		return alertRow{}, fmt.Errorf("alert %s: %w", a.ID, err)
	}
	return alertRow{
		ID: a.ID, Seq: f.Seq, Revision: a.Revision, Status: a.Status, Severity: a.Severity, Tier: a.Tier, Detector: a.Detector, Title: a.Title, Reason: a.Reason,
		Level: a.Level, Principal: a.Principal, Endpoint: a.Endpoint, Campaign: a.Campaign, First: a.Window.First, Last: a.Window.Last, DetectedAt: a.Window.DetectedAt,
		Ongoing: a.Ongoing, Score: a.Score.Nats, Requests: a.Outcome.Requests, Succeeded: a.Outcome.Succeeded, Accounts: a.Outcome.Accounts, Objects: a.Outcome.Objects,
		Addresses: a.AddressesTotal, Members: a.MembersTotal, Network: a.Context.Network, Country: a.Context.Country, Labels: a.Labels, Change: a.Change,
		Suppressed: a.Suppressed(), Backfill: f.Backfill, Triage: rowOfTriage(&t),
	}, nil
}

func rowsOf(list []Found) ([]alertRow, error) {
	rows := make([]alertRow, len(list))
	for i := range list {
		var err error
		if rows[i], err = rowOf(&list[i]); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
