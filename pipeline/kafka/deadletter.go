package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"go.uber.org/zap"
)

// DeadLetter is a record that could not be read, as the dead-letter topic holds
// it.
type DeadLetter struct {
	Topic     string    `json:"topic"`
	Partition int       `json:"partition"`
	Offset    int64     `json:"offset"`
	Reason    string    `json:"reason"` // a word of a few
	Error     string    `json:"error"`
	Time      time.Time `json:"time"` // when it was put aside
	Key       []byte    `json:"key,omitempty"`
	Value     []byte    `json:"value,omitempty"`
}

// DeadLetters puts records aside. One goroutine uses it.
type DeadLetters struct {
	bus *Bus
	p   *Producer
}

// NewDeadLetters writes to partition 0 of topic.
func (b *Bus) NewDeadLetters(topic string) *DeadLetters {
	return &DeadLetters{bus: b, p: b.NewProducer(topic, 0, true)}
}

// Put puts r of a partition aside, with why, and returns once that is durable:
// reading may then go on behind it. Reasons are a closed set of words.
func (d *DeadLetters) Put(ctx context.Context, topic string, partition int, r Record, reason string, why error) error {
	body, err := json.Marshal(DeadLetter{
		Topic: topic, Partition: partition, Offset: r.Offset, Reason: reason, Error: why.Error(), Time: time.Now().UTC(), Key: r.Key, Value: r.Value,
	})
	if err != nil {
		return err
	}
	d.bus.log.Error("a record cannot be read and is put aside", zap.String("topic", topic), zap.Int("partition", partition),
		zap.Int64("offset", r.Offset), zap.String("reason", reason), zap.Error(why))
	if _, err := d.p.Append(ctx, []Record{{Key: fmt.Appendf(nil, "%s/%d/%d", topic, partition, r.Offset), Value: body, Epoch: NoEpoch}}); err != nil {
		return err
	}
	d.bus.metrics.dead.WithLabelValues(topic, reason).Inc()
	return nil
}

// Close closes the connection.
func (d *DeadLetters) Close() { d.p.Close() }
