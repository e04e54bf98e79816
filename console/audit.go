package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// AuditSchema names the form of an audit entry.
const AuditSchema = "weir.audit/1"

// AuditEntry is what somebody did or tried to do. Account names stand in it as
// tokens.
type AuditEntry struct {
	Schema    string        `json:"schema"` // set by JSON
	Time      pipeline.Time `json:"time"`
	Action    string        `json:"action"`  // names.reveal, token.create ...
	Outcome   string        `json:"outcome"` // success, failure, denied
	Who       AuditWho      `json:"who"`
	Where     AuditWhere    `json:"where"`
	Target    *AuditTarget  `json:"target"`
	Reason    string        `json:"reason"`
	Before    any           `json:"before"`
	After     any           `json:"after"`
	RequestID string        `json:"request_id"`
}

// AuditWho is who did it.
type AuditWho struct {
	Kind  string   `json:"kind"` // token, local (nobody was asked), os (a user of this machine), service, none
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
}

// AuditWhere is where from, and through what.
type AuditWhere struct {
	Interface string `json:"interface"` // api, cli, service
	Address   string `json:"address"`
}

// AuditTarget is what it was done to.
type AuditTarget struct {
	Kind string   `json:"kind"`
	IDs  []string `json:"ids"`
}

// JSON is e as it is stored, one line without the line's end.
func (e AuditEntry) JSON() ([]byte, error) {
	e.Schema = AuditSchema
	if e.Who.Roles == nil {
		e.Who.Roles = []string{}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("write audit entry: %w", err)
	}
	return appendPrintable(nil, bytes.TrimSuffix(b.Bytes(), []byte("\n"))), nil
}

// record writes into the audit. What it describes must not happen when it fails.
func (c *console) record(ctx context.Context, e AuditEntry) error {
	body, err := e.JSON()
	if err != nil {
		return err
	}
	return c.Store.AppendAudit(ctx, e.Time, body)
}

// How many refusals the audit takes: so many at once, and then one every while.
// Callers without a token choose their number, and the audit is kept for years.
const (
	maxDenials   = 60
	denialsEvery = 30 * time.Second
)

// trickle lets through most of something at once, and then one every while.
type trickle struct {
	most  int
	every time.Duration
	mu    sync.Mutex
	spent int       // of most
	paid  time.Time // when the last one was given back
	left  int       // not let through since the last one that was
}

// admit tells whether one more is let through, and how many were not before it.
func (d *trickle) admit(now time.Time) (ok bool, left int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := int(now.Sub(d.paid) / d.every); n > 0 && d.spent > 0 {
		d.spent = max(0, d.spent-n)
		d.paid = d.paid.Add(time.Duration(n) * d.every)
	}
	if d.spent == 0 {
		d.paid = now
	}
	if d.spent >= d.most {
		d.left++
		return false, 0
	}
	d.spent++
	left, d.left = d.left, 0
	return true, left
}

// recordDenial writes a refusal, as far as they are written. The caller is
// refused either way.
func (c *console) recordDenial(ctx context.Context, e AuditEntry) {
	ok, left := c.denials.admit(e.Time.Std())
	if !ok {
		return
	}
	e.Outcome = "denied"
	if left > 0 {
		e.After = map[string]int{"not_written_before": left}
	}
	if err := c.record(ctx, e); err != nil {
		c.Log.Error("cannot write a refusal into the audit", zap.Error(err))
	}
}
