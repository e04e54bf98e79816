package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"go.uber.org/zap"

	"weir/pipeline"
)

const (
	// minMessageBytes is what brokers take unless told, less what managed ones
	// keep for themselves; a request to write is smaller, so that every cluster
	// takes it.
	minMessageBytes = 1 << 20
	requestBytes    = 960 << 10
	recordOverhead  = 96 // headers, lengths and key of a record, at most
	maxParts        = 1 << 10
	// MaxValue is how large a value may be: it is cut into parts.
	MaxValue = maxParts * (requestBytes - 1<<10) / 2

	produceWithin = 20 * time.Second
	firstWait     = 20 * time.Millisecond
	longestWait   = 2 * time.Second
)

// Producer appends to one partition, in order: one request is on its way at a
// time, with acks=all. One goroutine uses a Producer.
type Producer struct {
	bus       *Bus
	topic     string
	partition int
	compress  bool
	conn      *kafka.Conn
	failing   bool
}

// NewProducer makes a Producer; nothing is connected yet. compress says that the
// values are not compressed.
func (b *Bus) NewProducer(topic string, partition int, compress bool) *Producer {
	return &Producer{bus: b, topic: topic, partition: partition, compress: compress}
}

// Close closes the connection.
func (p *Producer) Close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// Written is where records are.
type Written struct {
	First int64 // offset of the first part of the first of them
	Next  int64 // offset behind the last
	Parts int   // records of the broker that they take; with Next-First they tell whether others, or repetitions, are in between
}

// Append appends records and sets their First and Offset, and returns once all in-sync
// replicas have them. What fails is tried again until ctx ends, so that records
// may be there twice, behind each other; after an error nobody knows which are
// there. The error wraps pipeline.ErrPermanent for a record that can never be
// written.
func (p *Producer) Append(ctx context.Context, list []Record) (w Written, err error) {
	w.First = -1
	var batch []kafka.Message
	type part struct {
		*Record
		first, last bool
	}
	var parts []part // by message
	size := 0
	send := func() error {
		if len(batch) == 0 {
			return nil
		}
		base, err := p.send(ctx, batch, size)
		if err != nil {
			return err
		}
		for i, p := range parts {
			if p.first {
				p.First = base + int64(i)
			}
			if p.last {
				p.Offset = base + int64(i)
			}
		}
		if w.First < 0 {
			w.First = base
		}
		w.Next, w.Parts = base+int64(len(batch)), w.Parts+len(batch)
		batch, parts, size = batch[:0], parts[:0], 0
		return nil
	}
	for i := range list {
		r := &list[i]
		room := requestBytes - recordOverhead - len(r.Key)
		if len(r.Value) > MaxValue || room < requestBytes/2 {
			return w, fmt.Errorf("write to topic %s: a value of %d bytes under a key of %d: %w", p.topic, len(r.Value), len(r.Key), pipeline.ErrPermanent)
		}
		n := max(1, (len(r.Value)+room-1)/room)
		for i := range n {
			value := r.Value
			if n > 1 {
				value = r.Value[i*room : min((i+1)*room, len(r.Value))]
			}
			need := recordOverhead + len(r.Key) + len(value)
			if size+need > requestBytes {
				if err := send(); err != nil {
					return w, err
				}
			}
			batch, size = append(batch, r.message(value, i, n)), size+need
			parts = append(parts, part{r, i == 0, i == n-1})
		}
	}
	return w, send()
}

// send writes a request until it succeeds.
func (p *Producer) send(ctx context.Context, batch []kafka.Message, size int) (base int64, err error) {
	for pause := firstWait; ; pause = min(2*pause, longestWait) {
		base, err := p.try(ctx, batch)
		if err == nil {
			if p.failing {
				p.failing = false
				p.bus.log.Info("the topic takes records again", zap.String("topic", p.topic), zap.Int("partition", p.partition))
			}
			p.bus.metrics.written.WithLabelValues(p.topic).Add(float64(size))
			return base, nil
		}
		p.Close()
		if errors.Is(err, kafka.MessageSizeTooLarge) || errors.Is(err, kafka.InvalidMessageSize) {
			return 0, fmt.Errorf("write to topic %s: %w: set its max.message.bytes to %d at least: %w", p.topic, err, minMessageBytes, pipeline.ErrPermanent)
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("write to topic %s, partition %d: %w", p.topic, p.partition, errors.Join(ctx.Err(), err))
		}
		p.bus.metrics.retries.WithLabelValues(p.topic).Inc()
		if !p.failing {
			p.failing = true
			p.bus.log.Warn("cannot write to the topic, and tries on", zap.String("topic", p.topic), zap.Int("partition", p.partition), zap.Error(err))
		}
		if !wait(ctx, pause/2+rand.N(pause)) {
			return 0, fmt.Errorf("write to topic %s, partition %d: %w", p.topic, p.partition, errors.Join(ctx.Err(), err))
		}
	}
}

// try writes a request once.
func (p *Producer) try(ctx context.Context, batch []kafka.Message) (base int64, err error) {
	if p.conn == nil {
		if p.conn, err = p.bus.leader(ctx, p.topic, p.partition); err != nil {
			return 0, err
		}
		if err := p.conn.SetRequiredAcks(-1); err != nil {
			return 0, err
		}
	}
	conn := p.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Now()) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(produceWithin)); err != nil {
		return 0, err
	}
	var codec kafka.CompressionCodec
	if p.compress {
		codec = kafka.Zstd.Codec()
	}
	_, _, base, _, err = conn.WriteCompressedMessagesAt(codec, batch...)
	return base, err
}

// leader connects to the broker that leads a partition.
func (c *Cluster) leader(ctx context.Context, topic string, partition int) (*kafka.Conn, error) {
	d, err := c.dialer()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, broker := range c.Brokers {
		conn, err := d.DialLeader(ctx, "tcp", broker, topic, partition)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, fmt.Errorf("broker %s: %w", broker, err))
	}
	return nil, errors.Join(errs...)
}

// Claim appends a claim on key and returns its epoch: what others append under
// key with a lower one does not count behind it. owner is for people.
func (p *Producer) Claim(ctx context.Context, key []byte, owner string) (epoch int64, err error) {
	r := []Record{{Key: key, Value: []byte(owner), Epoch: NoEpoch, Claim: true}}
	if _, err := p.Append(ctx, r); err != nil {
		return 0, err
	}
	return r[0].Offset, nil
}
