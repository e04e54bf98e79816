package alerts

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"weir/pipeline"
)

// KafkaConfig configures a topic: each revision is a message, its key the alert's
// id, so that the revisions of an alert are in one partition, in their order. A
// message counts once all in-sync replicas have it.
type KafkaConfig struct {
	Brokers []string      `yaml:"brokers"` // HOST:PORT
	Topic   string        `yaml:"topic"`
	TLS     *KafkaTLS     `yaml:"tls"`
	SASL    *KafkaAccount `yaml:"sasl"`
}

// KafkaTLS is how brokers are trusted, and how weir shows itself.
type KafkaTLS struct {
	CAFile   string `yaml:"ca_file"` // the system's authorities when absent
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
}

// KafkaAccount is a user of the brokers.
type KafkaAccount struct {
	Mechanism    string `yaml:"mechanism"` // plain, scram-sha-256, scram-sha-512
	User         string `yaml:"user"`
	PasswordFile string `yaml:"password_file"`
}

// Produce appends values to a topic, in order, those of equal keys to the same
// partition, and returns once they are kept. Its error wraps pipeline.ErrPermanent
// when one of them can never be. After another nobody knows which of them are there.
type Produce func(ctx context.Context, keys []string, values [][]byte) error

func (c *KafkaConfig) validate() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(c.Brokers) == 0 {
		bad("brokers: is missing; give HOST:PORT of one at least")
	}
	for i, b := range c.Brokers {
		host, port, err := net.SplitHostPort(b)
		if n, e := strconv.Atoi(port); err != nil || host == "" || e != nil || n < 1 || n > 65535 {
			bad("brokers[%d]: %q is not HOST:PORT", i, b)
		}
	}
	if c.Topic == "" || len(c.Topic) > 249 {
		bad("topic: %q is no name of a topic", c.Topic)
	}
	if c.TLS != nil && (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		bad("tls: cert_file and key_file go together")
	}
	if s := c.SASL; s != nil {
		if !slices.Contains([]string{"plain", "scram-sha-256", "scram-sha-512"}, s.Mechanism) {
			bad("sasl.mechanism: %q is none of plain, scram-sha-256, scram-sha-512", s.Mechanism)
		}
		if s.User == "" || s.PasswordFile == "" {
			bad("sasl.user: needs user and password_file")
		}
		if s.Mechanism == "plain" && c.TLS == nil {
			bad("sasl.mechanism: plain shows the password to whoever listens; give tls, if only tls: {}")
		}
	}
	return errs
}

type kafka struct {
	produce Produce
	topic   string
	write   writer
}

func newKafka(c KafkaConfig, w writer, o SinkOptions) (*kafka, error) {
	if err := errors.Join(c.validate()...); err != nil {
		return nil, fmt.Errorf("open kafka: %w", err)
	}
	if o.Kafka == nil {
		return nil, errors.New("open kafka: this program cannot")
	}
	produce, err := o.Kafka(c)
	if err != nil {
		return nil, fmt.Errorf("open kafka: %w", err)
	}
	return &kafka{produce: produce, topic: c.Topic, write: w}, nil
}

// Send appends a message for each alert.
func (s *kafka) Send(ctx context.Context, batch []pipeline.Alert) error {
	keys, values := make([]string, len(batch)), make([][]byte, len(batch))
	for i := range batch {
		keys[i], values[i] = batch[i].ID, s.write.append(nil, &batch[i])
	}
	if err := s.produce(ctx, keys, values); err != nil {
		return fmt.Errorf("append alerts to topic %s: %w", s.topic, err)
	}
	return nil
}
