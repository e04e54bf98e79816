package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// The feeds, tokens and the audit of the embedded store, as the console wants
// them.

func (s consoleStore) FeedPage(ctx context.Context, feed string, seq int64, severities []string, limit int) ([]console.Alert, int64, error) {
	if feed == "audit" {
		rows, err := s.db.AuditAfter(ctx, seq, limit)
		list := make([]console.Alert, len(rows))
		for i := range rows {
			list[i] = console.Alert{Seq: rows[i].Seq, JSON: auditRow(&rows[i])}
			seq = rows[i].Seq
		}
		return list, seq, err
	}
	stored, through, err := s.db.FeedPage(ctx, seq, severities, limit)
	list, err := s.alerts(ctx, stored, err)
	return list, through, err
}

// auditRow is a row of the audit as its feed has it: the entry is the text that
// was hashed.
func auditRow(r *storage.AuditRow) []byte {
	entry := json.RawMessage(r.Body)
	if !json.Valid(entry) { // somebody changed it; verify says where
		entry = json.RawMessage("null")
	}
	return fmt.Appendf(nil, `{"schema":"weir.audit_row/1","seq":%d,"prev":"%x","hash":"%x","entry":%s}`, r.Seq, r.Prev, r.Hash, entry)
}

func (s consoleStore) FeedBounds(ctx context.Context, feed string) (removed, last int64, err error) {
	if feed == "audit" {
		return s.db.AuditBounds(ctx)
	}
	return s.db.FeedBounds(ctx)
}

func (s consoleStore) FeedWait(ctx context.Context, feed string, seq int64) error {
	if feed == "audit" {
		return s.db.WaitAuditAfter(ctx, seq)
	}
	return s.db.WaitAlertsAfter(ctx, seq)
}

func (s consoleStore) Readers(ctx context.Context) ([]console.Reader, error) {
	stored, err := s.db.FeedReaders(ctx)
	list := make([]console.Reader, len(stored))
	for i, r := range stored {
		list[i] = console.Reader{Feed: r.Feed, ID: r.Reader, Seq: r.Seq, Time: r.Time}
	}
	return list, err
}

func (s consoleStore) SaveReader(ctx context.Context, r console.Reader) error {
	return s.db.SaveFeedReader(ctx, storage.FeedReader{Feed: r.Feed, Reader: r.ID, Seq: r.Seq, Time: r.Time})
}

func (s consoleStore) HasTokens(ctx context.Context) (bool, error) { return s.db.HasTokens(ctx) }

func (s consoleStore) Token(ctx context.Context, id string) (console.Token, bool, error) {
	k, ok, err := s.db.Token(ctx, id)
	return console.Token{ID: k.ID, Name: k.Name, MAC: k.MAC, Roles: k.Roles, Expires: k.Expires, Revoked: k.Revoked}, ok, err
}

func (s consoleStore) UseToken(ctx context.Context, id string, at pipeline.Time) error {
	return s.db.UseToken(ctx, id, at)
}

func (s consoleStore) Triage(ctx context.Context, id string) (body []byte, revision int64, ok bool, err error) {
	t, ok, err := s.db.TriageOf(ctx, id)
	return t.Body, t.Revision, ok, err
}

func (s consoleStore) SaveTriage(ctx context.Context, id string, revision int64, body []byte, at pipeline.Time, audit []byte) error {
	t := storage.Triage{ID: id, Revision: revision, Body: body}
	var of struct {
		Verdict string `json:"verdict"`
	}
	if err := json.Unmarshal(body, &of); err != nil {
		return fmt.Errorf("read triage of %s: %w", id, err)
	}
	if of.Verdict != "" {
		payload, err := json.Marshal(map[string]string{"alert": id, "verdict": of.Verdict})
		if err != nil {
			return err
		}
		t.Control = &pipeline.Control{Kind: sqlite.VerdictControl, Payload: payload}
	}
	err := s.db.SaveTriage(ctx, t, storage.AuditEntry{Time: at, Body: audit})
	if errors.Is(err, storage.ErrStale) {
		return fmt.Errorf("%w: %w", console.ErrStale, err)
	}
	return err
}

func (s consoleStore) AppendAudit(ctx context.Context, at pipeline.Time, body []byte) error {
	return s.db.AppendAudit(ctx, storage.AuditEntry{Time: at, Body: body})
}

func (s consoleStore) Suppressions(ctx context.Context, limit int) ([]console.Suppression, error) {
	stored, err := s.db.Suppressions(ctx, limit)
	list := make([]console.Suppression, len(stored))
	for i := range stored {
		list[i] = console.Suppression(stored[i])
	}
	return list, err
}

func (s consoleStore) Suppression(ctx context.Context, id string) (console.Suppression, bool, error) {
	stored, ok, err := s.db.Suppression(ctx, id)
	return console.Suppression(stored), ok, err
}

func (s consoleStore) PutSuppression(ctx context.Context, x pipeline.Suppression, at pipeline.Time, audit []byte) error {
	return s.db.PutSuppression(ctx, x, storage.AuditEntry{Time: at, Body: audit})
}
