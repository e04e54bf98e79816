package sqlite

import (
	"encoding/json"
	"slices"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

// severities are in the order of their ranks.
func severities() []string { return []string{"info", "low", "medium", "high", "critical"} }

func rankOf(severity string) int { return max(0, slices.Index(severities(), severity)) }

// desk is what lists need of what people made of an alert. It reads the triage
// that the console writes.
type desk struct {
	Status   string   `json:"status"`
	Verdict  string   `json:"verdict"`
	Assignee string   `json:"assignee"`
	Tags     []string `json:"tags"`
}

// readDesk takes what is no triage for one that nobody made.
func readDesk(body []byte) (d desk) {
	if body == nil || json.Unmarshal(body, &d) != nil {
		d = desk{}
	}
	if d.Status == "" {
		d.Status = "new"
	}
	return d
}

// endpointKey is an endpoint as lists have it.
func endpointKey(e pipeline.Endpoint) string { return e.Method + " " + e.Host + " " + e.Template }

// maxListed bounds the addresses of a revision that find its alert: those of any
// revision do.
const maxListed = 256

// list puts the latest revision of an alert into the lists. The schema does the
// same with what an older weir stored.
func (t *tx) list(r *storage.AlertRevision, seq int64) error {
	a := &r.Alert
	var triage []byte
	if _, err := t.row("SELECT body FROM triage WHERE id = ?", []any{a.ID}, &triage); err != nil {
		return err
	}
	d := readDesk(triage)
	labels, err := marshal(a.Labels)
	if err != nil {
		return err
	}
	facet, err := t.facet(rankOf(a.Severity), a.Status, a.Tier, a.Detector, d.Status, d.Verdict, d.Assignee, a.Suppressed(), r.Backfill, string(labels))
	if err != nil {
		return err
	}
	principal, endpoint := a.Principal.Kind.String()+":"+a.Principal.Value, endpointKey(a.Endpoint)
	var n int64
	known, err := t.row("SELECT n FROM alert_list WHERE id = ?", []any{a.ID}, &n)
	if err != nil {
		return err
	}
	place := []any{seq, facet, int64(a.Window.First), int64(a.Window.Last), int64(a.Score.Nats * 1000), principal, endpoint, a.Campaign, a.ID}
	if known {
		_, _, err = t.exec("UPDATE alert_list SET seq = ?, facet = ?, first_time = ?, time = ?, score = ?, principal = ?, endpoint = ?, campaign = ? WHERE id = ?", place...)
	} else {
		_, n, err = t.exec("INSERT INTO alert_list (seq, facet, first_time, time, score, principal, endpoint, campaign, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", place...)
		if err == nil {
			// Triggers insert, too: only the row knows its number.
			_, err = t.row("SELECT n FROM alert_list WHERE id = ?", []any{a.ID}, &n)
		}
	}
	if err != nil {
		return err
	}
	for _, address := range a.Addresses[:min(len(a.Addresses), maxListed)] {
		if _, _, err := t.exec("INSERT OR IGNORE INTO alert_addresses (address, n) VALUES (?, ?)", address, n); err != nil {
			return err
		}
	}
	text := strings.Join([]string{a.Title, a.Reason, principal, endpoint, a.Detector, a.ID, a.Campaign, string(labels), strings.Join(d.Tags, " ")}, "\n")
	_, _, err = t.exec("INSERT OR REPLACE INTO alert_text (rowid, text) VALUES (?, ?)", n, text)
	return err
}

// facet returns the id of a combination, which is made where it is new.
func (t *tx) facet(columns ...any) (id int64, err error) {
	const where = `SELECT id FROM alert_facets WHERE severity = ? AND status = ? AND tier = ? AND detector = ? AND triage = ? AND verdict = ? AND assignee = ?
		AND suppressed = ? AND backfill = ? AND labels = ?`
	if ok, err := t.row(where, columns, &id); ok || err != nil {
		return id, err
	}
	_, id, err = t.exec(`INSERT INTO alert_facets (severity, status, tier, detector, triage, verdict, assignee, suppressed, backfill, labels)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, columns...)
	return id, err
}

// relist moves an alert in the lists to where its triage puts it.
func (t *tx) relist(id string, triage []byte) error {
	d := readDesk(triage)
	var n, rank int64
	var status, tier, detector, labels string
	var suppressed, backfill bool
	ok, err := t.row(`SELECT n, severity, status, tier, detector, suppressed, backfill, labels FROM alert_list l JOIN alert_facets f ON f.id = l.facet WHERE l.id = ?`,
		[]any{id}, &n, &rank, &status, &tier, &detector, &suppressed, &backfill, &labels)
	if err != nil || !ok {
		return err
	}
	facet, err := t.facet(rank, status, tier, detector, d.Status, d.Verdict, d.Assignee, suppressed, backfill, labels)
	if err != nil {
		return err
	}
	if _, _, err := t.exec("UPDATE alert_list SET facet = ? WHERE n = ?", facet, n); err != nil {
		return err
	}
	if _, _, err := t.exec("DELETE FROM alert_tags WHERE n = ?", n); err != nil {
		return err
	}
	for _, tag := range d.Tags {
		if _, _, err := t.exec("INSERT OR IGNORE INTO alert_tags (tag, n) VALUES (?, ?)", tag, n); err != nil {
			return err
		}
	}
	return nil
}
