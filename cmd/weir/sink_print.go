package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"weir/console"
	"weir/pipeline"
	"weir/storage/sqlite"
)

// sinkListed is a sink as weir sink list --output json prints it.
type sinkListed struct {
	Sink    string `json:"sink"`
	Kind    string `json:"kind"`
	Behind  *int64 `json:"behind"` // revisions; null for a sink that has not begun
	Retries int    `json:"retries"`
	Dead    int    `json:"dead"`
}

// sinkLetter is a dead letter; alert is "" when it is no longer stored.
type sinkLetter struct {
	ID       int64         `json:"id"`
	Sink     string        `json:"sink"`
	Time     pipeline.Time `json:"time"`
	Alert    string        `json:"alert"`
	Revision int           `json:"revision"`
	Reason   string        `json:"reason"`
}

type sinkTested struct {
	Sink  string `json:"sink"`
	Alert string `json:"alert"`
	Took  int64  `json:"milliseconds"`
}

type sinkReplayed struct {
	Sink     string `json:"sink"`
	Replayed int64  `json:"replayed"`
}

func (c *sinkCommand) table() *tabwriter.Writer {
	return tabwriter.NewWriter(c.stdout, 0, 0, 2, ' ', 0)
}

// head prints a table's head for people.
func (c *sinkCommand) head(w io.Writer, columns string) {
	if c.output == "text" {
		fmt.Fprintln(w, columns)
	}
}

// say prints v for programs, the text for people.
func (c *sinkCommand) say(w io.Writer, v any, format string, a ...any) error {
	if c.output == "json" {
		return json.NewEncoder(c.stdout).Encode(v)
	}
	_, err := fmt.Fprintf(w, format, a...)
	return err
}

// record writes into the store's audit what was done to a sink. Without a store there
// is no audit.
func (c *sinkCommand) record(ctx context.Context, action, sink string, done bool, after any) error {
	if _, err := os.Stat(c.cfg.Store.Path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	outcome := "success"
	if !done {
		outcome = "failure"
	}
	e, err := auditEntry(console.AuditEntry{
		Time: timeOf(time.Now()), Action: action, Outcome: outcome, Who: shellUser(), Where: console.AuditWhere{Interface: "cli"},
		Target: &console.AuditTarget{Kind: "sink", IDs: []string{sink}}, After: after,
	})
	if err != nil {
		return err
	}
	return withAccess(c.cfg, func(db *sqlite.DB) error { return db.AppendAudit(ctx, e) })
}
