// Package alerts turns findings into alerts and brings them to the people who
// act on them.
//
// A Book holds the open incidents: one for each principal and detector family.
// Findings and event time go in, alert revisions come out, and nothing else
// decides what they say. A Deliverer reads the stored revisions and hands them
// to sinks, each at its own pace, at least once.
//
// To add a sink: one file with its configuration and Send, one field in
// SinkConfig, one line in catalog.
package alerts

import (
	"context"
	"errors"
	"fmt"
	"time"

	"weir/pipeline"
)

// Sink delivers alerts to one outside system, one attempt a call. One goroutine
// uses a Sink.
type Sink interface {
	// Send returns nil once the other side has taken the whole batch. Its error
	// wraps pipeline.ErrPermanent when a retry cannot help, ErrRefused or ErrGone
	// when the trouble is the sink and not the alert, and may be a *RetryAfter.
	// It never holds a secret.
	Send(ctx context.Context, batch []pipeline.Alert) error
}

// What a sink's error may wrap, beside pipeline.ErrPermanent.
var (
	// ErrRefused: the sink does not accept us (credentials, address). Retried,
	// and the sink counts as degraded until it accepts something.
	ErrRefused = errors.New("refused by the sink")
	// ErrGone: the sink says it will never take anything again; it is switched
	// off until it is configured anew.
	ErrGone = errors.New("sink is gone")
)

// RetryAfter is an error of a sink that says when to come back.
type RetryAfter struct {
	Wait time.Duration
	Err  error
}

func (r *RetryAfter) Error() string {
	return fmt.Sprintf("%v (asked to wait %s)", r.Err, r.Wait.Round(time.Second))
}

// Unwrap returns the error without the wait.
func (r *RetryAfter) Unwrap() error { return r.Err }

// kind is one entry of the catalog.
type kind struct {
	name     string
	used     func(*SinkConfig) bool
	validate func(*SinkConfig) []error
	open     func(c *SinkConfig, version string) (Sink, error)
}

// catalog lists the kinds of sink.
func catalog() []kind {
	return []kind{
		{
			"webhook",
			func(c *SinkConfig) bool { return c.Webhook != nil },
			func(c *SinkConfig) []error { return c.Webhook.validate() },
			func(c *SinkConfig, version string) (Sink, error) { return newWebhook(*c.Webhook, version) },
		},
	}
}

// OpenSink makes the one sink that c configures; version is weir's, for the
// User-Agent. Files that c names are read here.
func OpenSink(c SinkConfig, version string) (Sink, error) {
	for _, k := range catalog() {
		if k.used(&c) {
			return k.open(&c, version)
		}
	}
	return nil, errors.New("open sink: no kind is configured")
}
