package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"weir/detectors"
	"weir/pipeline"
	"weir/pipeline/kafka"
)

// busSender sends what the members of this process have to say. What several have
// for one partition goes in one record, several times a second. Its methods may be
// called by several goroutines.
type busSender struct {
	bus    *kafka.Bus
	topics busTopics
	shape  fleetShape
	codec  *pipeline.Codec

	mu        sync.Mutex
	signals   map[sendTo]*pipeline.Bundle[pipeline.Signal]
	findings  pipeline.Bundle[pipeline.Finding]
	truths    pipeline.Bundle[detectors.Truth]
	waiting   int           // items
	added     int64         // the last ticket
	sent      int64         // everything up to this ticket is durable
	moved     chan struct{} // closed and made anew when sent changes
	full      chan struct{} // has an element when there is much to send
	failed    error
	producers map[string]map[int]*kafka.Producer // of the sending goroutine
}

// sendTo is a slice of a stage of correlate.
type sendTo struct {
	stage pipeline.Stage
	slice int
}

const (
	sendEvery = 250 * time.Millisecond
	// sendSoon is how many items are sent at once, and sendMost how many may wait.
	sendSoon = 2048
	sendMost = 1 << 15
	// bundleItems bounds a bundle: each of them may be of another request.
	bundleItems = 4096
)

func newBusSender(bus *kafka.Bus, topics busTopics, shape fleetShape) *busSender {
	return &busSender{
		bus: bus, topics: topics, shape: shape, codec: pipeline.NewCodec(), signals: map[sendTo]*pipeline.Bundle[pipeline.Signal]{},
		moved: make(chan struct{}), full: make(chan struct{}, 1), producers: map[string]map[int]*kafka.Producer{},
	}
}

// topic is that of the signals for a stage.
func (t *busTopics) topic(s pipeline.Stage) string {
	switch s {
	case pipeline.StageResource:
		return t.resource
	case pipeline.StageTemplate:
		return t.template
	case pipeline.StagePrincipal:
		return t.principal
	}
	return t.login
}

// add takes what is in o, which is empty then, and returns a ticket to wait for.
// With now it is sent at once. It blocks while too much waits to be sent.
func (s *busSender) add(ctx context.Context, o *outbox, now bool) (ticket int64, err error) {
	for {
		s.mu.Lock()
		failed, waiting, moved := s.failed, s.waiting, s.moved
		if failed == nil && waiting < sendMost {
			break
		}
		s.mu.Unlock()
		if failed != nil {
			return 0, failed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	defer s.mu.Unlock()
	for _, to := range sends(o.from) {
		for i := range o.signals[to] {
			at := sendTo{to, i}
			b := s.signals[at]
			if b == nil {
				b = &pipeline.Bundle[pipeline.Signal]{}
				s.signals[at] = b
			}
			s.waiting += joinBundles(b, &o.signals[to][i])
		}
	}
	if o.from != pipeline.StageResource { // which has none, so that nobody waits for them
		s.waiting += joinBundles(&s.findings, &o.findings)
	}
	if o.from == pipeline.StageLogin {
		s.waiting += joinBundles(&s.truths, &o.truths)
	}
	o.reset()
	s.added++
	if now || s.waiting >= sendSoon {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	return s.added, nil
}

// joinBundles puts what is in src behind what is in dst, and returns how many items
// that are. Spans that follow one another become one.
func joinBundles[T any](dst, src *pipeline.Bundle[T]) int {
	of := make([]uint16, len(src.Spans))
	for i, s := range src.Spans {
		at := slices.IndexFunc(dst.Spans, func(d pipeline.Span) bool { return d.Producer == s.Producer && d.To == s.From })
		if at >= 0 {
			dst.Spans[at].To = s.To
		} else {
			at = len(dst.Spans)
			dst.Spans = append(dst.Spans, s)
		}
		of[i] = uint16(at)
	}
	for i := range src.Items {
		dst.Add(src.Items[i], int(of[src.Of[i]]))
	}
	for _, p := range src.Controls {
		dst.AddControl(p)
	}
	return len(src.Items)
}

// wait returns when what has a ticket is durable.
func (s *busSender) wait(ctx context.Context, ticket int64) error {
	for {
		s.mu.Lock()
		failed, sent, moved := s.failed, s.sent, s.moved
		s.mu.Unlock()
		if failed != nil || sent >= ticket {
			return failed
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run sends until ctx ends. It returns what can never be sent.
func (s *busSender) run(ctx context.Context) error {
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.full:
		case <-ctx.Done():
			for _, list := range s.producers {
				for _, p := range list {
					p.Close()
				}
			}
			return nil
		}
		if err := s.send(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// batchOf is what one send sends.
type batchOf struct {
	signals  map[sendTo]*pipeline.Bundle[pipeline.Signal]
	findings pipeline.Bundle[pipeline.Finding]
	truths   pipeline.Bundle[detectors.Truth]
}

// send sends what waits.
func (s *busSender) send(ctx context.Context) error {
	s.mu.Lock()
	ticket := s.added
	if ticket == s.sent {
		s.mu.Unlock()
		return nil
	}
	b := batchOf{s.signals, s.findings, s.truths}
	s.signals, s.findings, s.truths = map[sendTo]*pipeline.Bundle[pipeline.Signal]{}, pipeline.Bundle[pipeline.Finding]{}, pipeline.Bundle[detectors.Truth]{}
	s.mu.Unlock()
	items, err := s.sendBatch(ctx, &b)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting -= items
	if err == nil {
		s.sent = ticket
	} else {
		s.failed = err
	}
	close(s.moved)
	s.moved = make(chan struct{})
	return err
}

// sendBatch writes to all partitions at a time.
func (s *busSender) sendBatch(ctx context.Context, b *batchOf) (items int, err error) {
	var writing sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	write := func(topic string, partition int, encode func() ([]kafka.Record, error)) {
		p := s.producer(topic, partition)
		writing.Go(func() {
			list, err := encode()
			if err == nil && len(list) > 0 {
				_, err = p.Append(ctx, list)
			}
			mu.Lock()
			errs = append(errs, err)
			mu.Unlock()
		})
	}
	for to, bundle := range b.signals {
		items += len(bundle.Items)
		write(s.topics.topic(to.stage), to.slice, func() ([]kafka.Record, error) { return encodeBundle(bundle, placeOfSignal, s.codec.AppendSignals) })
	}
	items += len(b.findings.Items) + len(b.truths.Items)
	write(s.topics.findings, 0, func() ([]kafka.Record, error) {
		return encodeBundle(&b.findings, placeOfFinding, s.codec.AppendFindings)
	})
	write(s.topics.truths, 0, func() ([]kafka.Record, error) {
		return encodeBundle(&b.truths, detectors.PlaceOfTruth, detectors.AppendTruths)
	})
	writing.Wait()
	return items, errors.Join(errs...)
}

func (s *busSender) producer(topic string, partition int) *kafka.Producer {
	if s.producers[topic] == nil {
		s.producers[topic] = map[int]*kafka.Producer{}
	}
	p := s.producers[topic][partition]
	if p == nil {
		p = s.bus.NewProducer(topic, partition, topic == s.topics.truths)
		s.producers[topic][partition] = p
	}
	return p
}

// encodeBundle writes a bundle as records, several where it is large; none where it
// says nothing.
func encodeBundle[T any](b *pipeline.Bundle[T], place func(*T) pipeline.Place, encode func([]byte, *pipeline.Bundle[T]) ([]byte, error)) (list []kafka.Record, err error) {
	b.Spans, b.Of = withoutEmpty(b)
	for _, part := range cutBundle(b, place, bundleItems) {
		value, err := encode(nil, part)
		if err != nil {
			return nil, err
		}
		list = append(list, kafka.Record{Value: value, Epoch: kafka.NoEpoch})
	}
	return list, nil
}

// withoutEmpty returns the spans of b that say anything, and of which of them each
// item is.
func withoutEmpty[T any](b *pipeline.Bundle[T]) (spans []pipeline.Span, of []uint16) {
	index := make([]uint16, len(b.Spans))
	for i, s := range b.Spans {
		if s.From != s.To {
			index[i] = uint16(len(spans))
			spans = append(spans, s)
		}
	}
	of = b.Of
	for i := range of {
		of[i] = index[of[i]]
	}
	return spans, of
}

// cutBundle cuts a bundle into some of at most n items, but for those of one place.
func cutBundle[T any](b *pipeline.Bundle[T], place func(*T) pipeline.Place, n int) (list []*pipeline.Bundle[T]) {
	for len(b.Items) > n {
		places := make([]pipeline.Place, len(b.Items))
		for i := range b.Items {
			places[i] = place(&b.Items[i])
		}
		slices.SortFunc(places, pipeline.Place.Compare)
		cut := places[n-1]
		head, tail := &pipeline.Bundle[T]{Controls: b.Controls}, &pipeline.Bundle[T]{Controls: b.Controls}
		for _, s := range b.Spans {
			before, behind := s, s
			if cut.Before(s.To) {
				before.To, behind.From = cut, cut
				if cut.Before(s.From) {
					before.To, behind.From = s.From, s.From
				}
			} else {
				behind.From = s.To
			}
			head.Spans, tail.Spans = append(head.Spans, before), append(tail.Spans, behind)
		}
		for i := range b.Items {
			if cut.Before(place(&b.Items[i])) {
				tail.Add(b.Items[i], int(b.Of[i]))
			} else {
				head.Add(b.Items[i], int(b.Of[i]))
			}
		}
		list, b = append(list, head), tail
	}
	if len(b.Spans) > 0 {
		list = append(list, b)
	}
	return list
}
