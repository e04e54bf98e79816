// Package kafka reads and writes Kafka topics. It is the only importer of
// kafka-go: what the rest sees are offsets and bytes.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// Cluster is how brokers are reached.
type Cluster struct {
	Brokers []string // HOST:PORT, each of them enough to find the others
	TLS     *tls.Config
	// Mechanism is "", OAuthBearer or one of Mechanisms.
	Mechanism      string
	User, Password string
	// Token returns the token of OAuthBearer; it is asked for each connection.
	Token func(context.Context) (string, error)
}

// OAuthBearer is the mechanism that shows a token instead of a user.
const OAuthBearer = "oauthbearer"

// Mechanisms are those of Cluster that ask for a user.
func Mechanisms() []string { return []string{"plain", "scram-sha-256", "scram-sha-512"} }

const dialWithin = 5 * time.Second

func (c *Cluster) mechanism() (sasl.Mechanism, error) {
	switch c.Mechanism {
	case "":
		return nil, nil
	case "plain":
		return plain.Mechanism{Username: c.User, Password: c.Password}, nil
	case "scram-sha-256":
		return scram.Mechanism(scram.SHA256, c.User, c.Password)
	case "scram-sha-512":
		return scram.Mechanism(scram.SHA512, c.User, c.Password)
	case OAuthBearer:
		return bearer{c.Token}, nil
	}
	return nil, fmt.Errorf("kafka: %q is none of %v", c.Mechanism, append(Mechanisms(), OAuthBearer))
}

// bearer shows a token as RFC 7628 says.
type bearer struct {
	token func(context.Context) (string, error)
}

func (bearer) Name() string { return "OAUTHBEARER" }

// Start implements sasl.Mechanism.
func (b bearer) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, nil, err
	}
	return b, fmt.Appendf(nil, "n,,\x01auth=Bearer %s\x01\x01", token), nil
}

// Next implements sasl.StateMachine: what a broker answers to a token that it
// takes is empty, else it is why not.
func (bearer) Next(_ context.Context, challenge []byte) (done bool, response []byte, err error) {
	if len(challenge) > 0 {
		return false, nil, fmt.Errorf("the broker does not take the token: %.200s", challenge)
	}
	return true, nil, nil
}

func (c *Cluster) dialer() (*kafka.Dialer, error) {
	m, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	return &kafka.Dialer{ClientID: "weir", Timeout: dialWithin, DualStack: true, TLS: c.TLS, SASLMechanism: m}, nil
}

// each calls f with a connection to one broker after the other until it
// succeeds.
func (c *Cluster) each(ctx context.Context, f func(*kafka.Conn) error) error {
	d, err := c.dialer()
	if err != nil {
		return err
	}
	var errs []error
	for _, broker := range c.Brokers {
		err := func() error {
			conn, err := d.DialContext(ctx, "tcp", broker)
			if err != nil {
				return err
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * dialWithin))
			return f(conn)
		}()
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("broker %s: %w", broker, err))
	}
	return errors.Join(errs...)
}

// Partitions lists the partitions of a topic in order.
func (c *Cluster) Partitions(ctx context.Context, topic string) (ids []int, err error) {
	err = c.each(ctx, func(conn *kafka.Conn) error {
		list, err := conn.ReadPartitions(topic)
		if err != nil {
			return err
		}
		ids = ids[:0]
		for _, p := range list {
			ids = append(ids, p.ID)
		}
		return nil
	})
	if err == nil && len(ids) == 0 {
		err = errors.New("there is no such topic")
	}
	if err != nil {
		return nil, fmt.Errorf("list the partitions of topic %s: %w", topic, err)
	}
	slices.Sort(ids)
	return ids, nil
}

// bounds are the offsets of the first message that a partition still has, of those
// of since or later where since is not zero, and behind the last one.
func (c *Cluster) bounds(ctx context.Context, topic string, partition int, since time.Time) (first, behind int64, err error) {
	d, err := c.dialer()
	if err != nil {
		return 0, 0, err
	}
	var errs []error
	for _, broker := range c.Brokers {
		conn, err := d.DialLeader(ctx, "tcp", broker, topic, partition)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(2 * dialWithin))
		first, behind, err = conn.ReadOffsets()
		if err == nil && !since.IsZero() {
			if since.UnixMilli() < 0 {
				since = time.UnixMilli(0) // what is below means something else
			}
			var at int64
			if at, err = conn.ReadOffset(since); at >= 0 {
				first = at
			} else {
				first = behind // all are older
			}
		}
		_ = conn.Close()
		if err == nil {
			return first, behind, nil
		}
		errs = append(errs, err)
	}
	return 0, 0, fmt.Errorf("read the offsets of topic %s, partition %d: %w", topic, partition, errors.Join(errs...))
}

// Create creates a topic with one replica, unless it is there.
func (c *Cluster) Create(ctx context.Context, topic string, partitions int) error {
	d, err := c.dialer()
	if err != nil {
		return err
	}
	return c.each(ctx, func(conn *kafka.Conn) error {
		controller, err := conn.Controller()
		if err != nil {
			return err
		}
		lead, err := d.DialContext(ctx, "tcp", net.JoinHostPort(controller.Host, fmt.Sprint(controller.Port)))
		if err != nil {
			return err
		}
		defer lead.Close()
		err = lead.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1})
		if errors.Is(err, kafka.TopicAlreadyExists) {
			return nil
		}
		return err
	})
}

// Write appends values to a partition and returns when all in-sync replicas
// have them. After an error nobody knows which of them are there.
func (c *Cluster) Write(ctx context.Context, topic string, partition int, values [][]byte) error {
	d, err := c.dialer()
	if err != nil {
		return err
	}
	list := make([]kafka.Message, len(values))
	for i, v := range values {
		list[i].Value = v
	}
	var errs []error
	for _, broker := range c.Brokers {
		conn, err := d.DialLeader(ctx, "tcp", broker, topic, partition)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * dialWithin))
		if err := conn.SetRequiredAcks(-1); err != nil {
			return err
		}
		_, err = conn.WriteMessages(list...)
		return err
	}
	return errors.Join(errs...)
}
