package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"weir/pipeline"
)

// Produce appends values to a topic, in order, those of equal keys to the same
// partition: the one that Java's clients choose. It returns when all in-sync
// replicas have them. The error wraps pipeline.ErrPermanent when the brokers never
// take one of them; after another nobody knows which of them are there.
func (c *Cluster) Produce(ctx context.Context, topic string, keys []string, values [][]byte) error {
	if len(keys) != len(values) {
		return fmt.Errorf("write to topic %s: %d keys for %d values", topic, len(keys), len(values))
	}
	ids, err := c.Partitions(ctx, topic)
	if err != nil {
		return err
	}
	balance := kafka.Murmur2Balancer{Consistent: true}
	lists := map[int][]kafka.Message{}
	for i, key := range keys {
		m := kafka.Message{Key: []byte(key), Value: values[i]}
		id := balance.Balance(m, ids...)
		lists[id] = append(lists[id], m)
	}
	for _, id := range ids {
		if len(lists[id]) == 0 {
			continue
		}
		if err := c.write(ctx, topic, id, lists[id]); err != nil {
			return fmt.Errorf("write to topic %s, partition %d: %w", topic, id, err)
		}
	}
	return nil
}

func (c *Cluster) write(ctx context.Context, topic string, partition int, list []kafka.Message) error {
	d, err := c.dialer()
	if err != nil {
		return err
	}
	var errs []error
	for _, broker := range c.Brokers {
		conn, err := d.DialLeader(ctx, "tcp", broker, topic, partition)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		_ = conn.SetDeadline(time.Now().Add(2 * dialWithin))
		if err = conn.SetRequiredAcks(-1); err == nil {
			_, err = conn.WriteMessages(list...)
		}
		_ = conn.Close()
		if errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.InvalidMessageSize) {
			return fmt.Errorf("%w: %w", err, pipeline.ErrPermanent)
		}
		return err
	}
	return errors.Join(errs...)
}
