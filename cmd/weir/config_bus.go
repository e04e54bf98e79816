package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"weir/pipeline/kafka"
)

// busConfig is bus: the Kafka cluster that the processes of a fleet share.
type busConfig struct {
	Brokers     []string         `yaml:"brokers"`
	TLS         *clientTLSConfig `yaml:"tls,omitempty"`
	SASL        *saslConfig      `yaml:"sasl,omitempty"`
	Prefix      string           `yaml:"prefix"` // of the topics and groups
	Partitions  int              `yaml:"partitions"`
	Replication int              `yaml:"replication"`
	MinISR      int              `yaml:"min_isr"`
	Retention   duration         `yaml:"retention"` // of requests, and what follows from them
	Instance    string           `yaml:"instance,omitempty"`
	Silence     duration         `yaml:"silence"` // of a collector, after which nobody waits for it; 0 never
	// SessionTimeout is how long a process that is silent keeps its slices.
	SessionTimeout duration `yaml:"session_timeout"`
}

const (
	maxPartitions = 256
	maxPrefix     = 200 // a topic's name has 249 at most

	// Brokers take 6 s to 30 min unless they are told otherwise.
	minSession = time.Second
	maxSession = 5 * time.Minute
)

func defaultBus() busConfig {
	return busConfig{
		Prefix: "weir-", Partitions: 12, Replication: 3, MinISR: 2, Retention: duration(3 * 24 * time.Hour),
		Silence: duration(30 * time.Second), SessionTimeout: duration(kafka.DefaultSession),
	}
}

// on reports whether there is a bus.
func (c *busConfig) on() bool { return len(c.Brokers) > 0 }

// source is c as a source's cluster is written.
func (c *busConfig) source() kafkaConfig {
	return kafkaConfig{Brokers: c.Brokers, TLS: c.TLS, SASL: c.SASL}
}

// validate returns what is wrong, each with its path.
func (c *busConfig) validate() (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("bus."+key+": "+format, args...))
	}
	from := c.source()
	if c.on() {
		errs = from.validateCluster("bus")
	} else if c.TLS != nil || c.SASL != nil || c.Instance != "" {
		bad("brokers", "it is empty: give HOST:PORT of one at least")
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9._-]+$`).MatchString(c.Prefix) || len(c.Prefix) > maxPrefix {
		bad("prefix", "%q: want letters, digits, dots, hyphens and underscores, at least one", c.Prefix)
	}
	if c.Partitions < 1 || c.Partitions > maxPartitions {
		bad("partitions", "%d: want 1 to %d", c.Partitions, maxPartitions)
	}
	if c.Replication < 1 || c.Replication > 16 {
		bad("replication", "%d: want the number of copies, 1 to 16; 3 survives a broker", c.Replication)
	}
	if c.MinISR < 1 || c.MinISR > c.Replication {
		bad("min_isr", "%d: want 1 to replication, which is %d", c.MinISR, c.Replication)
	} else if c.Replication > 1 && c.MinISR == c.Replication {
		bad("min_isr", "%d of %d copies: one broker that is down would stop everything", c.MinISR, c.Replication)
	}
	if c.Retention < duration(time.Hour) {
		bad("retention", "want 1h at least: what is not detected by then is lost")
	}
	if c.Silence != 0 && c.Silence < duration(3*time.Second) {
		bad("silence", "want 3s at least, or 0 to wait for ever: a collector says something every second")
	}
	if c.SessionTimeout < duration(minSession) || c.SessionTimeout > duration(maxSession) {
		bad("session_timeout", "want 1s to 5m; brokers take no less than their group.min.session.timeout.ms")
	}
	if strings.ContainsAny(c.Instance, "/\x00\n") || len(c.Instance) > 128 {
		bad("instance", "%q: want a name of at most 128 characters without slashes", c.Instance)
	}
	return errs
}

// instance names this process among collectors.
func (c *busConfig) instance() (string, error) {
	if c.Instance != "" {
		return c.Instance, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", fmt.Errorf("name this machine: set bus.instance: %w", cmp.Or(err, errors.New("it has no host name")))
	}
	return name, nil
}

// busTopics are the topics of a fleet.
type busTopics struct {
	requests  string // blocks
	sequence  string // the one order of blocks, and the facts from outside between them
	resource  string // signals, by the stage of correlate that they are for
	template  string
	principal string
	login     string
	truths    string // what correlate learned of logins
	findings  string
	alerts    string // revisions: the feed
	state     string // checkpoints by slice
	marks     string // where sources and sinks are
	dead      string // what could not be read
}

func (c *busConfig) topics() busTopics {
	p := c.Prefix
	return busTopics{
		requests: p + "requests", sequence: p + "sequence", resource: p + "signals-resource", template: p + "signals-template", principal: p + "signals-principal",
		login: p + "signals-login", truths: p + "truths", findings: p + "findings", alerts: p + "alerts", state: p + "state", marks: p + "marks", dead: p + "dead",
	}
}

// specs says what the topics have to be.
func (c *busConfig) specs() []kafka.TopicSpec {
	t := c.topics()
	var list []kafka.TopicSpec
	add := func(name string, partitions int, retention time.Duration, compact bool) {
		list = append(list, kafka.TopicSpec{Name: name, Partitions: partitions, Replicas: c.Replication, MinISR: c.MinISR, Retention: retention, Compact: compact})
	}
	kept := time.Duration(c.Retention)
	for _, name := range []string{t.requests, t.resource, t.template, t.principal} {
		add(name, c.Partitions, kept, false)
	}
	for _, name := range []string{t.sequence, t.login, t.truths, t.findings} {
		add(name, 1, kept, false)
	}
	add(t.alerts, 1, 0, false)
	add(t.dead, 1, 0, false)
	add(t.state, c.Partitions, 0, true)
	add(t.marks, 1, 0, true)
	return list
}

// cluster is how the brokers are reached; the files are read now, a token for each
// connection.
func (c *busConfig) cluster() (kafka.Cluster, error) {
	from := c.source()
	return from.cluster()
}

// readToken returns how to read a token's file: another one in it is how it is
// renewed.
func readToken(file string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return strings.TrimSpace(string(text)), nil
	}
}
