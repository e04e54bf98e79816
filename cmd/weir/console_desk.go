package main

import (
	"context"
	"encoding/json"
	"fmt"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// The analysts' lists of the embedded store, as the console wants them.

// deskQuery is q in the store's words.
func deskQuery(q console.AlertQuery) storage.AlertQuery {
	out := storage.AlertQuery{
		Since: q.Since, Until: q.Until, Severity: q.Severity, Detector: q.Detector, Status: q.Status, Tier: q.Tier, Triage: q.Triage, Assignee: q.Assignee, Verdict: q.Verdict,
		Suppressed: q.Suppressed, Backfill: q.Backfill, Labels: q.Labels, Tags: q.Tags, Principal: q.Principal, Address: q.Address, Endpoint: q.Endpoint, Campaign: q.Campaign,
		Words: q.Words, AfterSeq: q.AfterSeq, BeforeSeq: q.BeforeSeq, Sort: q.Sort, Limit: q.Limit, Count: q.Count,
	}
	if q.After != nil {
		out.After = &storage.AlertPlace{Rank: q.After.Rank, Seq: q.After.Seq}
	}
	return out
}

func (s consoleStore) FindAlerts(ctx context.Context, q console.AlertQuery) (console.AlertList, error) {
	list, err := s.db.FindAlerts(ctx, deskQuery(q))
	out := console.AlertList{Total: list.Total, Exact: list.Exact}
	if err != nil {
		return out, err
	}
	if out.Alerts, err = s.found(ctx, list.Alerts, q.Full); err != nil {
		return out, err
	}
	for _, p := range list.Places {
		out.Places = append(out.Places, console.AlertPlace{Rank: p.Rank, Seq: p.Seq})
	}
	return out, nil
}

// found adds what people made of alerts, and with full their JSON.
func (s consoleStore) found(ctx context.Context, stored []storage.StoredAlert, full bool) ([]console.Found, error) {
	ids := make([]string, len(stored))
	for i := range stored {
		ids[i] = stored[i].Alert.ID
	}
	triages, err := s.db.Triages(ctx, ids)
	if err != nil {
		return nil, err
	}
	list := make([]console.Found, len(stored))
	for i := range stored {
		a := &stored[i].Alert
		t := triages[a.ID]
		list[i] = console.Found{Seq: stored[i].Seq, Alert: *a, Backfill: stored[i].Backfill, Triage: t.Body}
		if !full {
			continue
		}
		if t.Body != nil {
			if err := json.Unmarshal(t.Body, &a.Envelope.Triage); err != nil {
				return nil, fmt.Errorf("read triage of %s: %w", a.ID, err)
			}
		}
		list[i].JSON = alerts.AppendJSON(nil, a)
	}
	return list, nil
}

func (s consoleStore) GroupAlerts(ctx context.Context, q console.AlertQuery, by string) ([]console.AlertGroup, error) {
	stored, err := s.db.GroupAlerts(ctx, deskQuery(q), by)
	list := make([]console.AlertGroup, len(stored))
	for i, g := range stored {
		list[i] = console.AlertGroup(g)
	}
	return list, err
}

func (s consoleStore) Found(ctx context.Context, ids []string) ([]console.Found, error) {
	stored, err := s.db.LatestAlerts(ctx, ids)
	if err != nil {
		return nil, err
	}
	return s.found(ctx, stored, false)
}

func (s consoleStore) Revisions(ctx context.Context, id string) ([]console.Found, error) {
	stored, err := s.db.Alert(ctx, id)
	if err != nil {
		return nil, err
	}
	return s.found(ctx, stored, false)
}

func (s consoleStore) Triages(ctx context.Context, ids []string) (map[string][]byte, error) {
	stored, err := s.db.TriagesOf(ctx, ids)
	found := make(map[string][]byte, len(stored))
	for id, t := range stored {
		found[id] = t.Body
	}
	return found, err
}

func (s consoleStore) SaveTriages(ctx context.Context, list []console.TriageSave) ([]error, error) {
	changes := make([]storage.TriageChange, len(list))
	for i, c := range list {
		by, err := auditEntry(c.Audit)
		if err != nil {
			return nil, err
		}
		changes[i] = storage.TriageChange{Triage: storage.Triage{ID: c.ID, Revision: c.Revision, Body: c.Body}, By: by}
		if changes[i].Triage.Control, err = verdictRecord(c.ID, c.Body); err != nil {
			return nil, err
		}
	}
	errs, err := s.db.SaveTriages(ctx, changes)
	for i := range errs {
		errs[i] = consoleError(errs[i])
	}
	return errs, err
}

// verdictRecord is what detection's log has of a verdict, nil without one.
func verdictRecord(id string, triage []byte) (*pipeline.Control, error) {
	var of struct {
		Verdict string `json:"verdict"`
	}
	if err := json.Unmarshal(triage, &of); err != nil {
		return nil, fmt.Errorf("read triage of %s: %w", id, err)
	}
	if of.Verdict == "" {
		return nil, nil //nolint:nilnil // there is none to be had
	}
	payload, err := json.Marshal(map[string]string{"alert": id, "verdict": of.Verdict})
	return &pipeline.Control{Kind: sqlite.VerdictControl, Payload: payload}, err
}

func (s consoleStore) TriageAfter(ctx context.Context, change int64, limit int) ([]console.TriageChange, error) {
	stored, err := s.db.TriageAfter(ctx, change, limit)
	list := make([]console.TriageChange, len(stored))
	for i, t := range stored {
		list[i] = console.TriageChange{ID: t.ID, Body: t.Body, Change: t.Change}
	}
	return list, err
}

func (s consoleStore) AlertAudit(ctx context.Context, id string, limit int) ([]console.AuditRow, error) {
	rows, err := s.db.AuditOfAlert(ctx, id, limit)
	list := make([]console.AuditRow, len(rows))
	for i := range rows {
		list[i] = console.AuditRow{Seq: rows[i].Seq, Entry: rows[i].Body}
	}
	return list, err
}

// deliveries says how far each sink has come with an alert's latest revision.
func (s *service) deliveries(ctx context.Context, a *console.Found) ([]console.Delivery, error) {
	list := []console.Delivery{}
	for _, name := range s.current().Alerts.SinkNames() {
		d := console.Delivery{Sink: name, Kind: s.current().Alerts.SinkKind(name), Revision: a.Alert.Revision, Seq: a.Seq}
		seq, _, err := s.db.SinkPosition(ctx, name)
		if err != nil {
			return nil, err
		}
		kept, err := s.db.SinkKept(ctx, name, a.Seq)
		if err != nil {
			return nil, err
		}
		switch {
		case a.Backfill:
			d.State = "history"
		case kept.Dead:
			d.State, d.Reason, d.Time = "dead", kept.Reason, optionalTime(kept.Time)
		case kept.Retrying:
			d.State, d.Attempts, d.Next = "retrying", kept.Attempts, optionalTime(kept.Time)
		case !s.current().Alerts.Wants(name, &a.Alert):
			d.State = "not_routed"
		case seq >= a.Seq:
			d.State = "delivered"
		default:
			d.State, d.Reason = "waiting", s.sinkTrouble(name)
		}
		list = append(list, d)
	}
	return list, nil
}

// sinkTrouble says why a sink takes nothing at the moment, "" when it does.
func (s *service) sinkTrouble(name string) string {
	if d := s.deliverer.Load(); d != nil {
		for _, st := range d.Status() {
			if st.Name == name && st.State != "ok" && st.Reason != "" {
				return "the sink is " + st.State + ": " + st.Reason
			}
		}
	}
	return ""
}

func optionalTime(t pipeline.Time) *pipeline.Time {
	if t == 0 || t == pipeline.NoTime {
		return nil
	}
	return &t
}
