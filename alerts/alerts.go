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
	"net"
	"net/netip"
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

// ItemErrors is an error of a sink that was told of each alert of a batch: Errs
// has one for each, nil for those that were taken.
type ItemErrors struct{ Errs []error }

func (e *ItemErrors) Error() string {
	n, first := 0, error(nil)
	for _, err := range e.Errs {
		if err != nil {
			if n++; first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("%d of %d alerts were not taken: %v", n, len(e.Errs), first)
}

// SinkOptions are what every sink needs besides its configuration.
type SinkOptions struct {
	Version  string                             // of weir, for the User-Agent
	Networks []netip.Prefix                     // special networks that sinks may be in
	Kafka    func(KafkaConfig) (Produce, error) // how topics are written; nil is not at all

	// Of tests; nil is the network.
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
}

// kind is one entry of the catalog.
type kind struct {
	name     string
	used     func(*SinkConfig) bool
	validate func(*SinkConfig) []error
	open     func(*SinkConfig, SinkOptions) (Sink, error)
	format   Format // when none is configured; "" has a form of its own
	batch    int    // alerts in one attempt, when not configured
	perMin   int    // attempts a minute, when not configured; 0 any number
	people   bool   // it opens a GroupSink; the others take every revision
}

// catalog lists the kinds of sink.
func catalog() []kind {
	return []kind{
		{
			name: "webhook", format: FormatNative, batch: 1, people: true,
			used:     func(c *SinkConfig) bool { return c.Webhook != nil },
			validate: func(c *SinkConfig) []error { return c.Webhook.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newWebhook(*c.Webhook, c.writer(), o) },
		},
		{
			name: "splunk", format: FormatNative, batch: 100,
			used:     func(c *SinkConfig) bool { return c.Splunk != nil },
			validate: func(c *SinkConfig) []error { return c.Splunk.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newSplunk(*c.Splunk, c.writer(), o) },
		},
		{
			name: "elasticsearch", format: FormatECS, batch: 100,
			used:     func(c *SinkConfig) bool { return c.Elasticsearch != nil },
			validate: func(c *SinkConfig) []error { return c.Elasticsearch.validate() },
			open: func(c *SinkConfig, o SinkOptions) (Sink, error) {
				return newElasticsearch(*c.Elasticsearch, c.writer(), o)
			},
		},
		{
			name: "sentinel", format: FormatNative, batch: 100,
			used:     func(c *SinkConfig) bool { return c.Sentinel != nil },
			validate: func(c *SinkConfig) []error { return c.Sentinel.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newSentinel(*c.Sentinel, c.writer(), o) },
		},
		{
			name: "syslog", format: FormatCEF, batch: 64,
			used:     func(c *SinkConfig) bool { return c.Syslog != nil },
			validate: func(c *SinkConfig) []error { return c.Syslog.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newSyslog(*c.Syslog, c.writer(), o) },
		},
		{
			name: "file", format: FormatNative, batch: window,
			used:     func(c *SinkConfig) bool { return c.File != nil },
			validate: func(c *SinkConfig) []error { return c.File.validate() },
			open:     func(c *SinkConfig, _ SinkOptions) (Sink, error) { return newFile(*c.File, c.writer()) },
		},
		{
			name: "kafka", format: FormatNative, batch: 100,
			used:     func(c *SinkConfig) bool { return c.Kafka != nil },
			validate: func(c *SinkConfig) []error { return c.Kafka.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newKafka(*c.Kafka, c.writer(), o) },
		},
		{
			name: "pagerduty", batch: 1, perMin: 120, people: true,
			used:     func(c *SinkConfig) bool { return c.PagerDuty != nil },
			validate: func(c *SinkConfig) []error { return c.PagerDuty.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newPagerDuty(*c.PagerDuty, o) },
		},
		{
			name: "slack", batch: 1, perMin: 60, people: true,
			used:     func(c *SinkConfig) bool { return c.Slack != nil },
			validate: func(c *SinkConfig) []error { return c.Slack.validate() },
			open:     func(c *SinkConfig, o SinkOptions) (Sink, error) { return newSlack(*c.Slack, o) },
		},
	}
}

// OpenSink makes the one sink that c configures. Files that c names are read here.
func OpenSink(c SinkConfig, o SinkOptions) (Sink, error) {
	if k := c.kind(); k != nil {
		return k.open(&c, o)
	}
	return nil, errors.New("open sink: no kind is configured")
}
