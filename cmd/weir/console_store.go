package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
)

// The feeds, tokens and the audit of the embedded store, as the console wants
// them.

func (s consoleStore) FeedPage(ctx context.Context, f console.FeedFilter, seq int64, limit int) ([]console.Alert, int64, error) {
	if f.Feed == "audit" {
		rows, err := s.db.AuditAfter(ctx, seq, limit)
		list := make([]console.Alert, 0, len(rows))
		for i := range rows {
			if rows[i].Seq > f.Until {
				break
			}
			list = append(list, console.Alert{Seq: rows[i].Seq, JSON: auditRow(&rows[i])})
			seq = rows[i].Seq
		}
		return list, seq, err
	}
	stored, through, err := s.db.FeedPage(ctx, seq, f.Until, f.Severity, limit)
	write := alerts.AppendCIM
	if f.Format != "cim" {
		write = func(dst []byte, a *pipeline.Alert) []byte {
			return alerts.AppendFormat(dst, a, alerts.Format(f.Format), "")
		}
	}
	list, err := s.write(ctx, stored, err, write)
	return list, through, err
}

func (s consoleStore) FeedAt(ctx context.Context, feed string, t pipeline.Time) (seq int64, ok bool, err error) {
	if feed == "audit" {
		return s.db.AuditAt(ctx, t)
	}
	return s.db.FeedAt(ctx, t)
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
	return console.Token(k), ok, err
}

func (s consoleStore) Tokens(ctx context.Context) ([]console.Token, error) {
	stored, err := s.db.Tokens(ctx)
	list := make([]console.Token, len(stored))
	for i, k := range stored {
		list[i] = console.Token(k)
	}
	return list, err
}

func (s consoleStore) CreateToken(ctx context.Context, k console.Token, at pipeline.Time, audit []byte) error {
	return s.db.CreateToken(ctx, storage.Token(k), storage.AuditEntry{Time: at, Body: audit})
}

func (s consoleStore) RevokeToken(ctx context.Context, id string, at pipeline.Time, audit []byte) error {
	err := s.db.RevokeToken(ctx, id, at, storage.AuditEntry{Time: at, Body: audit})
	if errors.Is(err, storage.ErrNoToken) {
		return fmt.Errorf("%w: %w", console.ErrNoToken, err)
	}
	return err
}

func (s consoleStore) UseToken(ctx context.Context, id string, at pipeline.Time) error {
	return s.db.UseToken(ctx, id, at)
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

func (s consoleStore) ShadowCases(ctx context.Context, f console.ShadowFilter) ([]console.ShadowCase, error) {
	found, err := s.db.Findings(ctx, storage.FindingFilter(f))
	list := make([]console.ShadowCase, len(found))
	for i := range found {
		list[i] = console.NewShadowCase(&found[i])
	}
	return list, err
}
