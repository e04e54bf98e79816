package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"go.uber.org/zap"
)

// Message is what a partition holds at an offset. The value is the caller's.
type Message struct {
	Offset int64
	Value  []byte
}

// Partition is who takes the messages of one partition. Its methods are called
// by one goroutine at a time, Kept by another.
type Partition interface {
	// Position is the offset to go on at; ok is false when nothing of the
	// partition was ever taken.
	Position() (offset int64, ok bool)
	// Begin comes before the first message ever: where that will be, and the
	// offset behind what the partition holds already.
	Begin(offset, end int64)
	// Put takes messages, each behind the one before; offsets may be left out.
	// It blocks while there is no room. After an error it is asked for Position
	// and given those behind it again.
	Put(ctx context.Context, list []Message) error
	// Kept is the offset behind the messages that are durable; ok is false
	// before there are any.
	Kept() (offset int64, ok bool)
}

// TopicConfig says what a Topic reads.
type TopicConfig struct {
	Cluster
	Topic string
	Group string // members share the partitions
	// Last begins at the end of partitions that the group never read, instead of
	// at their beginning.
	Last bool
	// Partition returns who takes a partition; nil for one to leave alone.
	Partition func(id int) Partition
	// Lost is told of messages that are gone before they were read; nil is not.
	Lost func(id int, messages int64)
	Log  *zap.Logger
}

// Topic reads the partitions of a topic that the group gives to this member.
// What is durable is committed to the group, once a second and at the end; where
// reading goes on is what the Partition says, or the group where another member
// was further. One goroutine calls Run, once.
type Topic struct {
	cfg    TopicConfig
	dialer *kafka.Dialer

	mu     sync.Mutex
	warned map[int]string // the last trouble of a partition
	gone   map[int]int64  // offset behind the messages that Lost was told of
}

const (
	commitEvery  = time.Second
	retryEvery   = time.Second
	batchBytes   = 256 << 10 // handed to Put at a time, unless one message is larger
	batchSize    = 2048
	fetchAhead   = 256 // messages
	fetchMax     = 4 << 20
	groupTimeout = 6 * time.Second // as low as brokers allow unless told: a member that was killed holds its partitions as long
)

// NewTopic makes a Topic.
func NewTopic(cfg TopicConfig) (*Topic, error) {
	d, err := cfg.dialer()
	if err != nil {
		return nil, err
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Topic{cfg: cfg, dialer: d, warned: map[int]string{}, gone: map[int]int64{}}, nil
}

// Run reads until ctx ends. Brokers that cannot be reached are tried again and
// again.
func (t *Topic) Run(ctx context.Context) error {
	start := kafka.FirstOffset
	if t.cfg.Last {
		start = kafka.LastOffset
	}
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: t.cfg.Group, Brokers: t.cfg.Brokers, Dialer: t.dialer, Topics: []string{t.cfg.Topic}, StartOffset: start,
		SessionTimeout: groupTimeout, RebalanceTimeout: groupTimeout, HeartbeatInterval: 2 * time.Second, JoinGroupBackoff: retryEvery,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", t.cfg.Group, err)
	}
	defer group.Close()
	for {
		gen, err := group.Next(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if err != nil {
			t.warn(-1, "cannot join the group", err)
			if !wait(ctx, retryEvery) {
				return nil
			}
			continue
		}
		t.generation(ctx, gen)
	}
}

// generation starts what reads and commits until the group is dealt anew.
func (t *Topic) generation(ctx context.Context, gen *kafka.Generation) {
	assigned := gen.Assignments[t.cfg.Topic]
	ids := make([]int, 0, len(assigned))
	takers := map[int]Partition{}
	for _, a := range assigned {
		if p := t.cfg.Partition(a.ID); p != nil {
			ids, takers[a.ID] = append(ids, a.ID), p
		} else {
			t.warn(a.ID, "it came later than weir started and is read from the next start on", nil)
		}
	}
	t.cfg.Log.Info("partitions assigned", zap.String("topic", t.cfg.Topic), zap.String("group", t.cfg.Group), zap.Ints("partitions", ids))
	gen.Start(func(over context.Context) {
		over, cancel := join(ctx, over)
		defer cancel()
		t.commit(over, gen, takers)
	})
	for _, a := range assigned {
		p := takers[a.ID]
		if p == nil {
			continue
		}
		gen.Start(func(over context.Context) {
			over, cancel := join(ctx, over)
			defer cancel()
			for over.Err() == nil {
				if err := t.read(over, p, a); err != nil && over.Err() == nil {
					t.warn(a.ID, "cannot read on", err)
					wait(over, retryEvery)
				}
			}
		})
	}
}

// join ends with either context.
func join(a, b context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(b)
	stop := context.AfterFunc(a, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// wait returns false when ctx ends first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// commit tells the group what is durable, once a second and at the end.
func (t *Topic) commit(ctx context.Context, gen *kafka.Generation, takers map[int]Partition) {
	told := map[int]int64{}
	for more := true; more; {
		more = wait(ctx, commitEvery)
		news := map[int]int64{}
		for id, p := range takers {
			if offset, ok := p.Kept(); ok && offset != told[id] {
				news[id] = offset
			}
		}
		if len(news) == 0 {
			continue
		}
		if err := gen.CommitOffsets(map[string]map[int]int64{t.cfg.Topic: news}); err != nil {
			// Nothing depends on it: the store knows.
			t.cfg.Log.Debug("cannot commit to the group", zap.String("group", t.cfg.Group), zap.Error(err))
			continue
		}
		maps.Copy(told, news)
	}
}

// start is where reading begins: behind what was taken, or where the group is
// when another member took more.
func (t *Topic) start(ctx context.Context, p Partition, a kafka.PartitionAssignment) (int64, error) {
	first, behind, err := t.cfg.bounds(ctx, t.cfg.Topic, a.ID, time.Time{})
	if err != nil {
		return 0, err
	}
	offset, known := p.Position()
	switch {
	case !known && a.Offset == kafka.FirstOffset:
		offset = first
	case !known && a.Offset == kafka.LastOffset:
		offset = behind
	case !known:
		offset = a.Offset
	default:
		offset = max(offset, a.Offset)
	}
	if offset > behind {
		return 0, fmt.Errorf("offset %d is next, and the partition ends at %d: was the topic made anew? Give it another name, or weir another group and store", offset, behind)
	}
	if offset < first {
		t.lose(a.ID, offset, first)
		offset = first
	}
	if !known {
		p.Begin(offset, behind)
	}
	return offset, nil
}

// lose tells of the messages of a partition in [from, to), once.
func (t *Topic) lose(id int, from, to int64) {
	t.mu.Lock()
	from = max(from, t.gone[id])
	t.gone[id] = max(to, t.gone[id])
	t.mu.Unlock()
	if from >= to {
		return
	}
	t.warn(id, fmt.Sprintf("%d messages are gone before they were read", to-from), nil)
	if t.cfg.Lost != nil {
		t.cfg.Lost(id, to-from)
	}
}

// read hands on a partition's messages until ctx ends or something fails.
func (t *Topic) read(ctx context.Context, p Partition, a kafka.PartitionAssignment) error {
	offset, err := t.start(ctx, p, a)
	if err != nil {
		return err
	}
	r := kafka.NewReader(kafka.ReaderConfig{
		Brokers: t.cfg.Brokers, Dialer: t.dialer, Topic: t.cfg.Topic, Partition: a.ID, MinBytes: 1, MaxBytes: fetchMax, QueueCapacity: fetchAhead,
		MaxWait: 500 * time.Millisecond, ReadLagInterval: -1, IsolationLevel: kafka.ReadCommitted,
		ReadBackoffMin: 20 * time.Millisecond, ReadBackoffMax: retryEvery, MaxAttempts: 3,
	})
	defer r.Close()
	if err := r.SetOffset(offset); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	defer cancel()
	fetched := make(chan kafka.Message, fetchAhead)
	var failed error // read once fetched is closed
	fetching.Go(func() {
		defer close(fetched)
		for {
			m, err := r.FetchMessage(ctx)
			if err != nil {
				failed = err
				return
			}
			select {
			case fetched <- m:
			case <-ctx.Done():
				failed = ctx.Err()
				return
			}
		}
	})
	var list []Message
	for m := range fetched {
		list = append(list[:0], Message{m.Offset, m.Value})
		size := len(m.Value)
	more:
		for size < batchBytes && len(list) < batchSize {
			select {
			case m, ok := <-fetched:
				if !ok {
					break more
				}
				list, size = append(list, Message{m.Offset, m.Value}), size+len(m.Value)
			default:
				break more
			}
		}
		if err := p.Put(ctx, list); err != nil {
			return err
		}
		clear(list)
		t.well(a.ID)
	}
	return failed
}

// warn logs a partition's trouble, once while it stays the same; -1 is the
// group's.
func (t *Topic) warn(id int, what string, err error) {
	text := fmt.Sprint(what, err)
	t.mu.Lock()
	same := t.warned[id] == text
	t.warned[id] = text
	t.mu.Unlock()
	if same || errors.Is(err, context.Canceled) {
		return
	}
	t.cfg.Log.Warn(what, zap.String("topic", t.cfg.Topic), zap.Int("partition", id), zap.Error(err))
}

// well says that a partition is read again.
func (t *Topic) well(id int) {
	t.mu.Lock()
	delete(t.warned, id)
	t.mu.Unlock()
}
