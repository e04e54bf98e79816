package sqlite

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"weir/pipeline"
	"weir/storage"
)

// Commit stores a stage's output and moves its cursor to o.Position, in one
// step. Committing the same output again, as a replay does, changes nothing. An
// alert revision that is stored with other content (apart from the envelope and
// the exemplars' sources) stays as it is stored and counts as a replay
// difference. An alert that cannot be written as JSON and read back fails the
// call with pipeline.ErrPermanent.
func (db *DB) Commit(ctx context.Context, o storage.Output) error {
	if o.Stage == "" {
		return errors.New("commit: no stage")
	}
	alerts, findings, err := encodeOutput(o)
	if err != nil {
		return fmt.Errorf("commit %s: %w", o.Stage, err)
	}
	var last, seq int64
	err = db.writeFirst(ctx, "commit "+o.Stage, func(t *tx) error {
		last, seq = 0, 0
		var stored int64
		if _, err := t.row("SELECT position FROM stage_cursors WHERE stage = ?", []any{o.Stage}, &stored); err != nil {
			return err
		}
		differences := int64(0)
		for i := range o.Alerts {
			n, differs, err := t.putAlert(&o.Alerts[i], alerts[i])
			if err != nil {
				return err
			}
			if differs {
				differences++
			}
			seq = max(seq, n)
		}
		if err := t.count("replay_differences", differences); err != nil {
			return err
		}
		for i := range o.Findings {
			if err := t.putFinding(&o.Findings[i], findings[i]); err != nil {
				return err
			}
		}
		if o.Position > stored {
			for _, c := range o.Controls {
				var err error
				if last, err = t.appendControl(c); err != nil {
					return err
				}
			}
		}
		_, _, err := t.exec(`INSERT INTO stage_cursors (stage, position) VALUES (?, ?)
			ON CONFLICT DO UPDATE SET position = max(position, excluded.position)`, o.Stage, o.Position)
		return err
	})
	if err != nil {
		return err
	}
	if last != 0 || seq != 0 {
		db.advance(last, seq)
	}
	return nil
}

// StageCursor returns the position that the stage has consumed through, 0 for a
// stage never seen.
func (db *DB) StageCursor(ctx context.Context, stage string) (position int64, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT position FROM stage_cursors WHERE stage = ?", stage).Scan(&position)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("read cursor of stage %s: %w", stage, db.wrap(err))
	}
	return position, nil
}

type encodedAlert struct{ body, digest []byte }

// encodeOutput does, before the transaction, what needs no database.
func encodeOutput(o storage.Output) (alerts []encodedAlert, findings [][]byte, err error) {
	for i := range o.Alerts {
		a := &o.Alerts[i].Alert
		e, err := encodeAlert(a)
		if err != nil {
			return nil, nil, fmt.Errorf("alert %s revision %d: %w: %w", a.ID, a.Revision, pipeline.ErrPermanent, err)
		}
		alerts = append(alerts, e)
	}
	for i := range o.Findings {
		body, err := marshal(&o.Findings[i])
		if err != nil {
			return nil, nil, fmt.Errorf("finding %s: %w: %w", o.Findings[i].ID, pipeline.ErrPermanent, err)
		}
		findings = append(findings, body)
	}
	return alerts, findings, nil
}

func encodeAlert(a *pipeline.Alert) (e encodedAlert, err error) {
	if e.body, err = marshal(a); err != nil {
		return e, err
	}
	// A body that does not read back would stop delivery later.
	var back pipeline.Alert
	if err := json.Unmarshal(e.body, &back); err != nil {
		return e, err
	}
	plain := *a
	plain.Envelope = pipeline.AlertEnvelope{}
	plain.Exemplars = slices.Clone(a.Exemplars)
	for i := range plain.Exemplars {
		plain.Exemplars[i].Source = ""
	}
	body, err := marshal(&plain)
	sum := sha256.Sum256(body)
	e.digest = sum[:]
	return e, err
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// putAlert stores a revision and returns its seq, 0 for one stored before.
func (t *tx) putAlert(r *storage.AlertRevision, e encodedAlert) (seq int64, differs bool, err error) {
	a := &r.Alert
	var digest []byte
	known, err := t.row("SELECT digest FROM alerts WHERE id = ? AND revision = ?", []any{a.ID, a.Revision}, &digest)
	if err != nil {
		return 0, false, err
	}
	if known {
		return 0, !bytes.Equal(digest, e.digest), nil
	}
	if _, _, err := t.exec("UPDATE alerts SET latest = 0 WHERE id = ? AND latest = 1 AND revision < ?", a.ID, a.Revision); err != nil {
		return 0, false, err
	}
	_, seq, err = t.exec(`INSERT INTO alerts (id, revision, latest, first_time, time, detected_at, severity, tier, detector,
		principal_kind, principal_value, status, backfill, digest, body, seq)
		VALUES (?1, ?2, NOT EXISTS (SELECT 1 FROM alerts WHERE id = ?1 AND revision > ?2), ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, nullif(?15, 0))`,
		a.ID, a.Revision, int64(a.Window.First), int64(a.Window.Last), int64(a.Window.DetectedAt), a.Severity, a.Tier, a.Detector,
		a.Principal.Kind.String(), a.Principal.Value, a.Status, r.Backfill, e.digest, e.body, r.Seq)
	if err == nil {
		err = t.noteSilence(a)
	}
	if err != nil {
		return 0, false, err
	}
	var later int64
	if newer, err := t.row("SELECT 1 FROM alerts WHERE id = ? AND revision > ? LIMIT 1", []any{a.ID, a.Revision}, &later); err != nil || newer {
		return seq, false, err
	}
	return seq, false, t.list(r, seq)
}

// putFinding keeps the latest finding of an id.
func (t *tx) putFinding(f *pipeline.Finding, body []byte) error {
	_, _, err := t.exec(`INSERT INTO findings (id, time, seq, detector, principal_kind, principal_value, body) VALUES (?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET time = excluded.time, seq = excluded.seq, detector = excluded.detector,
		principal_kind = excluded.principal_kind, principal_value = excluded.principal_value, body = excluded.body
		WHERE (excluded.time, excluded.seq) >= (time, seq)`,
		f.ID, int64(f.Time), int64(f.Seq), f.Detector, f.Who.Kind.String(), f.Who.Value, body)
	return err
}

// Finding returns the latest finding of an id as the JSON it was committed
// with; ok is false without one.
func (db *DB) Finding(ctx context.Context, id string) (body []byte, ok bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT body FROM findings WHERE id = ?", id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("read finding %s: %w", id, db.wrap(err))
	}
	return body, true, nil
}

// PutEdition stores an edition. A number that is stored with another body keeps
// the one it has and counts as a replay difference.
func (db *DB) PutEdition(ctx context.Context, number int64, effective pipeline.Time, body []byte) error {
	return db.writeFirst(ctx, "store edition", func(t *tx) error {
		var have []byte
		var at int64
		known, err := t.row("SELECT effective, body FROM editions WHERE number = ?", []any{number}, &at, &have)
		if err != nil {
			return err
		}
		if known {
			if at != int64(effective) || !bytes.Equal(have, body) {
				return t.count("replay_differences", 1)
			}
			return nil
		}
		_, _, err = t.exec("INSERT INTO editions (number, effective, body) VALUES (?, ?, ?)", number, int64(effective), nonNil(body))
		return err
	})
}

// LatestEdition returns the edition with the highest number; ok is false
// without any.
func (db *DB) LatestEdition(ctx context.Context) (number int64, effective pipeline.Time, body []byte, ok bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT number, effective, body FROM editions ORDER BY number DESC LIMIT 1").
		Scan(&number, &effective, &body)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, 0, nil, false, nil
	}
	if err != nil {
		return 0, 0, nil, false, fmt.Errorf("read edition: %w", db.wrap(err))
	}
	return number, effective, body, true, nil
}

// nonNil keeps an empty blob from becoming NULL.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
