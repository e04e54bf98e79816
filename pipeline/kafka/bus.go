package kafka

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"go.uber.org/zap"
)

// Bus is the topics of a fleet: ordered, durable logs. Its methods may be called
// by several goroutines; what they return belongs to one each.
type Bus struct {
	Cluster
	// Session is the length of a group's sessions, DefaultSession when 0. It is set
	// before the first group is joined.
	Session time.Duration
	log     *zap.Logger
	metrics *Metrics
	client  *kafka.Client
}

// NewBus makes a Bus; nothing is connected yet. log and metrics may be nil.
func NewBus(c Cluster, log *zap.Logger, metrics *Metrics) (*Bus, error) {
	m, err := c.mechanism()
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	if metrics == nil {
		metrics = NewMetrics()
	}
	return &Bus{
		Cluster: c, log: log, metrics: metrics,
		client: &kafka.Client{Timeout: 4 * dialWithin, Transport: &kafka.Transport{ClientID: "weir", DialTimeout: dialWithin, TLS: c.TLS, SASL: m}},
	}, nil
}

// Close lets go of connections that wait for the next question.
func (b *Bus) Close() {
	if t, ok := b.client.Transport.(*kafka.Transport); ok {
		t.CloseIdleConnections()
	}
}

// Record is what a partition holds at an offset.
type Record struct {
	// First and Offset are given by the broker: of a record in parts those of its
	// first and its last part.
	First, Offset int64
	Key           []byte
	Value         []byte // nil in a compacted topic deletes the key
	// Epoch is the offset of the claim that the writer holds on Key, NoEpoch
	// without one.
	Epoch int64
	// Time is when it was written, by its writer's clock; the broker keeps it with
	// the record.
	Time time.Time
	// Claim makes this record one: its offset is the epoch of what its writer
	// appends from then on, and lower ones do not count behind it.
	Claim bool
}

// NoEpoch is the epoch of records that nobody fences.
const NoEpoch int64 = -1

// Headers of records.
const (
	headerEpoch = "epoch" // 8 bytes, big endian
	headerClaim = "claim" // empty
	headerPart  = "part"  // two uvarints: which of how many
)

// message is r, or a part of it, as kafka-go has it.
func (r *Record) message(value []byte, part, parts int) kafka.Message {
	m := kafka.Message{Key: r.Key, Value: value, Time: time.Now()}
	if r.Epoch >= 0 {
		m.Headers = append(m.Headers, kafka.Header{Key: headerEpoch, Value: binary.BigEndian.AppendUint64(nil, uint64(r.Epoch))})
	}
	if r.Claim {
		m.Headers = append(m.Headers, kafka.Header{Key: headerClaim})
	}
	if parts > 1 {
		v := binary.AppendUvarint(binary.AppendUvarint(nil, uint64(part)), uint64(parts))
		m.Headers = append(m.Headers, kafka.Header{Key: headerPart, Value: v})
	}
	return m
}

// recordOf reads a message; parts is 0 for one that is whole.
func recordOf(m *kafka.Message) (r Record, part, parts int) {
	r = Record{First: m.Offset, Offset: m.Offset, Key: m.Key, Value: m.Value, Epoch: NoEpoch, Time: m.Time}
	for _, h := range m.Headers {
		switch {
		case h.Key == headerEpoch && len(h.Value) == 8:
			r.Epoch = int64(binary.BigEndian.Uint64(h.Value))
		case h.Key == headerClaim:
			r.Claim = true
		case h.Key == headerPart:
			i, n := binary.Uvarint(h.Value)
			if n <= 0 {
				continue
			}
			of, k := binary.Uvarint(h.Value[n:])
			if k > 0 && i < of && of <= maxParts {
				part, parts = int(i), int(of)
			}
		}
	}
	return r, part, parts
}

// TopicSpec says what a topic has to be.
type TopicSpec struct {
	Name       string
	Partitions int
	Replicas   int
	MinISR     int // replicas that have a record before it counts as written
	// Compact keeps the last record of each key; without it records are kept for
	// Retention and up to RetentionBytes a partition, 0 for ever.
	Compact        bool
	Retention      time.Duration
	RetentionBytes int64
}

// settings are the topic's, as brokers name them.
func (s *TopicSpec) settings() []kafka.ConfigEntry {
	policy, age, size := "delete", int64(-1), int64(-1)
	if s.Compact {
		policy = "compact"
	}
	if s.Retention > 0 {
		age = s.Retention.Milliseconds()
	}
	if s.RetentionBytes > 0 {
		size = s.RetentionBytes
	}
	list := []kafka.ConfigEntry{
		{ConfigName: "cleanup.policy", ConfigValue: policy},
		{ConfigName: "min.insync.replicas", ConfigValue: strconv.Itoa(s.MinISR)},
		{ConfigName: "max.message.bytes", ConfigValue: strconv.Itoa(minMessageBytes)},
		{ConfigName: "unclean.leader.election.enable", ConfigValue: "false"},
	}
	if s.Compact {
		// A state of many megabytes is written again and again.
		return append(list, kafka.ConfigEntry{ConfigName: "segment.bytes", ConfigValue: strconv.Itoa(64 << 20)},
			kafka.ConfigEntry{ConfigName: "min.cleanable.dirty.ratio", ConfigValue: "0.3"})
	}
	return append(list, kafka.ConfigEntry{ConfigName: "retention.ms", ConfigValue: strconv.FormatInt(age, 10)},
		kafka.ConfigEntry{ConfigName: "retention.bytes", ConfigValue: strconv.FormatInt(size, 10)})
}

// ErrTopic is wrapped by errors about a topic that is not what it has to be: time
// does not help.
var ErrTopic = errors.New("the topic does not fit")

// Ensure creates the topics that are not there and checks those that are. The
// error names each that does not fit, and wraps ErrTopic when there is one.
func (b *Bus) Ensure(ctx context.Context, specs []TopicSpec) error {
	req := &kafka.CreateTopicsRequest{Addr: b.addr()}
	for i := range specs {
		req.Topics = append(req.Topics, kafka.TopicConfig{
			Topic: specs[i].Name, NumPartitions: specs[i].Partitions, ReplicationFactor: specs[i].Replicas, ConfigEntries: specs[i].settings(),
		})
	}
	res, err := b.client.CreateTopics(ctx, req)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var errs []error
	for i := range specs {
		err := res.Errors[specs[i].Name]
		switch {
		case err == nil:
			b.log.Info("topic created", zap.String("topic", specs[i].Name), zap.Int("partitions", specs[i].Partitions), zap.Int("replicas", specs[i].Replicas))
		case errors.Is(err, kafka.TopicAlreadyExists):
			errs = append(errs, b.fits(ctx, &specs[i]))
		case errors.Is(err, kafka.InvalidReplicationFactor):
			errs = append(errs, fmt.Errorf("create topic %s: %d replicas need as many brokers: set bus.replication: %w: %w", specs[i].Name, specs[i].Replicas, ErrTopic, err))
		default:
			errs = append(errs, fmt.Errorf("create topic %s: %w", specs[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// addr is all brokers: the first that answers serves.
func (b *Bus) addr() net.Addr { return kafka.TCP(b.Brokers...) }

// fits checks a topic that is there. Kafka can change what it is but for the
// number of partitions, which decides where everything is.
func (b *Bus) fits(ctx context.Context, s *TopicSpec) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("topic %s: %s: %w", s.Name, fmt.Sprintf(format, args...), ErrTopic)
	}
	ids, err := b.Partitions(ctx, s.Name)
	if err != nil {
		return err
	}
	var errs []error
	if len(ids) != s.Partitions {
		errs = append(errs, bad("it has %d partitions, bus.partitions says %d: that is fixed when a fleet begins; set it back, or begin anew with another bus.prefix", len(ids), s.Partitions))
	}
	res, err := b.client.DescribeConfigs(ctx, &kafka.DescribeConfigsRequest{
		Addr: b.addr(), Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: s.Name}},
	})
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("describe topic %s: %w", s.Name, err))...)
	}
	have := map[string]string{}
	for _, r := range res.Resources {
		if r.Error != nil {
			return errors.Join(append(errs, fmt.Errorf("describe topic %s: %w", s.Name, r.Error))...)
		}
		for _, e := range r.ConfigEntries {
			have[e.ConfigName] = e.ConfigValue
		}
	}
	policies := strings.Split(have["cleanup.policy"], ",")
	switch {
	case s.Compact && !slices.Equal(policies, []string{"compact"}):
		errs = append(errs, bad("cleanup.policy is %q, and what is not compacted away or is deleted by age would be lost: set it to compact", have["cleanup.policy"]))
	case !s.Compact && slices.Contains(policies, "compact"):
		errs = append(errs, bad("cleanup.policy is %q: a compacted log has holes: set it to delete", have["cleanup.policy"]))
	}
	if n, err := strconv.Atoi(cmp.Or(have["max.message.bytes"], "0")); err == nil && n != 0 && n < minMessageBytes {
		errs = append(errs, bad("max.message.bytes is %d: set it to %d at least", n, minMessageBytes))
	}
	if n, err := strconv.Atoi(have["min.insync.replicas"]); err == nil && n < s.MinISR {
		errs = append(errs, bad("min.insync.replicas is %d, bus.min_isr says %d: with fewer copies what was acknowledged can be lost", n, s.MinISR))
	}
	if n, err := strconv.ParseInt(have["retention.ms"], 10, 64); err == nil && !s.Compact && n >= 0 && (s.Retention <= 0 || n < s.Retention.Milliseconds()) {
		errs = append(errs, bad("retention.ms is %d: records go before they are due: set it to %d at least", n, cmp.Or(s.Retention.Milliseconds(), -1)))
	}
	return errors.Join(errs...)
}

// InSync reports whether each partition of a topic has so many replicas in sync.
func (b *Bus) InSync(ctx context.Context, topic string, replicas int) error {
	return b.each(ctx, func(conn *kafka.Conn) error {
		list, err := conn.ReadPartitions(topic)
		if err != nil {
			return err
		}
		for _, p := range list {
			if len(p.Isr) < replicas {
				return fmt.Errorf("topic %s, partition %d: %d of %d replicas are in sync", topic, p.ID, len(p.Isr), replicas)
			}
		}
		return nil
	})
}

// Bounds are the offsets of the first record that a partition still has and
// behind the last one. Brokers that cannot tell are asked until ctx ends: a topic
// that was just made has no leader yet.
func (b *Bus) Bounds(ctx context.Context, topic string, partition int) (first, behind int64, err error) {
	return b.boundsSince(ctx, topic, partition, time.Time{})
}

// OffsetAt is the offset of the first record that was written at since or later, by
// its writer's clock; behind the last one where there is none.
func (b *Bus) OffsetAt(ctx context.Context, topic string, partition int, since time.Time) (int64, error) {
	first, _, err := b.boundsSince(ctx, topic, partition, since)
	return first, err
}

func (b *Bus) boundsSince(ctx context.Context, topic string, partition int, since time.Time) (first, behind int64, err error) {
	for warned := false; ; warned = true {
		first, behind, err = b.bounds(ctx, topic, partition, since)
		if err == nil || ctx.Err() != nil {
			return first, behind, err
		}
		if !warned {
			b.log.Debug("cannot read offsets, and tries on", zap.Error(err))
		}
		if !wait(ctx, retryEvery/4) {
			return 0, 0, errors.Join(ctx.Err(), err)
		}
	}
}

// TopicPartition names a partition.
type TopicPartition struct {
	Topic     string
	Partition int
}

// Ends are the offsets behind the last records of partitions, asked for at once.
// Those that cannot be told are left out.
func (b *Bus) Ends(ctx context.Context, list []TopicPartition) (map[TopicPartition]int64, error) {
	topics := map[string][]kafka.OffsetRequest{}
	for _, p := range list {
		topics[p.Topic] = append(topics[p.Topic], kafka.LastOffsetOf(p.Partition))
	}
	answer, err := b.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Addr: b.addr(), Topics: topics})
	if err != nil {
		return nil, fmt.Errorf("read the ends of topics: %w", err)
	}
	ends := map[TopicPartition]int64{}
	for topic, partitions := range answer.Topics {
		for _, p := range partitions {
			if p.Error == nil && p.LastOffset >= 0 {
				ends[TopicPartition{topic, p.Partition}] = p.LastOffset
			}
		}
	}
	return ends, nil
}
