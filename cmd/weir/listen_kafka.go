package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"weir/collector"
	"weir/pipeline/kafka"
)

// kafkaConfig is collect[].kafka: an existing topic of log lines.
type kafkaConfig struct {
	Brokers []string         `yaml:"brokers"`
	Topic   string           `yaml:"topic"`
	Group   string           `yaml:"group"` // weir when absent
	Start   string           `yaml:"start"` // first or last
	TLS     *clientTLSConfig `yaml:"tls"`
	SASL    *saslConfig      `yaml:"sasl"`
}

// clientTLSConfig is how servers are trusted, and how weir shows itself.
type clientTLSConfig struct {
	CAFile   string `yaml:"ca_file"` // the system's authorities when absent
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// saslConfig is a user of the brokers.
type saslConfig struct {
	Mechanism    string `yaml:"mechanism"`
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
	TokenFile    string `yaml:"token_file,omitempty"` // of oauthbearer
}

const (
	defaultGroup = "weir"
	// partitionsWithin is how long brokers may take to say what a topic has.
	partitionsWithin = time.Minute
	// kafkaPending is shared by the partitions of a topic: memory of lines that
	// are not kept yet.
	kafkaPending = 64 << 20
)

// validate returns what is wrong, each with its path below at.
func (c *kafkaConfig) validate(at string) (errs []error) {
	errs = c.validateCluster(at)
	if c.Topic == "" {
		errs = append(errs, fmt.Errorf("%s.topic: it is empty", at))
	}
	if c.Start != "" && c.Start != "first" && c.Start != "last" {
		errs = append(errs, fmt.Errorf("%s.start: %q is neither first nor last", at, c.Start))
	}
	return errs
}

// validateCluster is validate of how brokers are reached.
func (c *kafkaConfig) validateCluster(at string) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	if len(c.Brokers) == 0 {
		bad("brokers", "it is empty: give HOST:PORT of one at least")
	}
	for i, b := range c.Brokers {
		if host, port, err := net.SplitHostPort(b); err != nil || host == "" {
			bad(fmt.Sprintf("brokers[%d]", i), "%q is not HOST:PORT", b)
		} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			bad(fmt.Sprintf("brokers[%d]", i), "the port %q is no number up to 65535", port)
		}
	}
	if c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls", "cert_file and key_file go together")
	}
	if c.SASL != nil {
		errs = append(errs, c.SASL.validate(at+".sasl", c.TLS != nil)...)
	}
	return errs
}

// validate returns what is wrong, each with its path below at; sealed says that
// nobody else can listen.
func (s *saslConfig) validate(at string, sealed bool) (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf(at+"."+key+": "+format, args...))
	}
	if s.Mechanism == kafka.OAuthBearer {
		if s.TokenFile == "" {
			bad("token_file", "it is empty")
		}
		if s.User != "" || s.PasswordFile != "" {
			bad("mechanism", "oauthbearer takes token_file, no user and no password")
		}
		if !sealed {
			bad("mechanism", "oauthbearer shows the token to whoever listens: give tls, if only tls: {}")
		}
		return errs
	}
	if !slices.Contains(kafka.Mechanisms(), s.Mechanism) {
		bad("mechanism", "%q is none of %s, %s", s.Mechanism, strings.Join(kafka.Mechanisms(), ", "), kafka.OAuthBearer)
	}
	if s.User == "" {
		bad("user", "it is empty")
	}
	if s.PasswordFile == "" {
		bad("password_file", "it is empty")
	}
	if s.TokenFile != "" {
		bad("token_file", "it is for oauthbearer")
	}
	if s.Mechanism == "plain" && !sealed {
		bad("mechanism", "plain shows the password to whoever listens: give tls, if only tls: {}")
	}
	return errs
}

// cluster reads the files.
func (c *kafkaConfig) cluster() (out kafka.Cluster, err error) {
	out.Brokers = c.Brokers
	if c.TLS != nil {
		if out.TLS, err = c.TLS.open(); err != nil {
			return out, err
		}
	}
	if s := c.SASL; s != nil && s.Mechanism == kafka.OAuthBearer {
		out.Mechanism, out.Token = s.Mechanism, readToken(s.TokenFile)
	} else if s != nil {
		password, err := os.ReadFile(s.PasswordFile)
		if err != nil {
			return out, fmt.Errorf("read the password: %w", err)
		}
		out.Mechanism, out.User, out.Password = s.Mechanism, s.User, strings.TrimRight(string(password), "\r\n")
	}
	return out, nil
}

// open reads the files.
func (t *clientTLSConfig) open() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the servers' authority: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read the servers' authority %s: there is no certificate in it", t.CAFile)
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// topicPartition hands the messages of a partition to its reader.
type topicPartition struct{ *collector.Records }

// Put implements kafka.Partition.
func (p topicPartition) Put(ctx context.Context, list []kafka.Message) error {
	messages := make([]collector.Message, len(list))
	for i, m := range list {
		messages[i] = collector.Message(m)
	}
	return p.Records.Put(ctx, messages)
}

// kafkaSources opens a topic: each partition is a source, as its order holds
// within it only.
func (s *service) kafkaSources(ctx context.Context, c *collectConfig) ([]*source, error) {
	fail := func(err error) ([]*source, error) { return nil, fmt.Errorf("%s: %w", c.sourceName(), err) }
	opt, err := c.options()
	if err != nil {
		return fail(err)
	}
	given, _, err := c.format(nil, false)
	if err != nil {
		return fail(err)
	}
	cluster, err := c.Kafka.cluster()
	if err != nil {
		return fail(err)
	}
	ids, err := s.partitions(ctx, c, &cluster)
	if err != nil {
		return fail(err)
	}
	parts, lost := map[int]topicPartition{}, map[int]*atomic.Int64{}
	var list []*source
	for _, id := range ids {
		src := &source{input: input{name: c.sourceName() + "/" + strconv.Itoa(id)}, follow: true, listens: true}
		cursor, cause, _, err := s.requests.SourceCursor(ctx, src.id())
		if err != nil {
			return fail(err)
		}
		r, err := collector.NewRecords(collector.RecordsConfig{
			Source: src.name, Format: given, Options: opt, NewIdentify: identify(s.id), Cursor: cursor, Cause: cause.To,
			MaxPending: max(4<<20, kafkaPending/int64(len(ids))), Log: s.log,
		})
		if err != nil {
			return fail(err)
		}
		parts[id], lost[id] = topicPartition{r}, new(atomic.Int64)
		src.next, src.release, src.close, src.lost = r.Next, r.Release, r.Close, lost[id].Load
		list = append(list, src)
	}
	group := c.Kafka.Group
	if group == "" {
		group = defaultGroup
	}
	topic, err := kafka.NewTopic(kafka.TopicConfig{
		Cluster: cluster, Topic: c.Kafka.Topic, Group: group, Last: c.Kafka.Start == "last", Log: s.log,
		Partition: func(id int) kafka.Partition {
			if p, ok := parts[id]; ok {
				return p
			}
			return nil
		},
		Lost: func(id int, n int64) { lost[id].Add(n) },
	})
	if err != nil {
		return fail(err)
	}
	s.runTopic(topic, c, list)
	return list, nil
}

// runTopic makes the first of a topic's sources start and stop its reading.
func (s *service) runTopic(topic *kafka.Topic, c *collectConfig, list []*source) {
	var reading sync.WaitGroup
	run, stop := context.WithCancel(context.Background())
	list[0].start = func() {
		s.log.Info("taking lines", zap.String("source", c.sourceName()), zap.Strings("kafka", c.Kafka.Brokers), zap.Int("partitions", len(list)))
		reading.Go(func() {
			if err := topic.Run(run); err != nil {
				s.log.Error("cannot take lines any more", zap.String("source", c.sourceName()), zap.Error(err))
			}
		})
	}
	closeFirst := list[0].close
	list[0].close = func() error {
		err := closeFirst()
		stop()
		reading.Wait()
		return err
	}
}

// partitions asks until somebody answers: brokers may start after weir.
func (s *service) partitions(ctx context.Context, c *collectConfig, cluster *kafka.Cluster) ([]int, error) {
	within, cancel := context.WithTimeout(ctx, partitionsWithin)
	defer cancel()
	for warned := false; ; {
		ids, err := cluster.Partitions(within, c.Kafka.Topic)
		if err == nil {
			return ids, nil
		}
		if !warned {
			warned = true
			s.log.Warn("waiting for brokers", zap.String("source", c.sourceName()), zap.Error(err))
		}
		t := time.NewTimer(time.Second)
		select {
		case <-t.C:
		case <-within.Done():
			t.Stop()
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}
