package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"weir/pipeline/kafka"
)

// marksBook is the topic of marks as the console needs it: what is under some
// prefixes, as it changes. Several goroutines use it.
type marksBook struct {
	bus    *kafka.Bus
	topic  string
	wanted []string // prefixes of keys

	mu      sync.Mutex
	marks   map[string]markedValue
	changed func(key string, m markedValue) // called for each that comes, without mu; may be nil
}

// markedValue is what is under a key.
type markedValue struct {
	value  []byte
	offset int64
	time   time.Time
}

func newMarksBook(bus *kafka.Bus, topic string, wanted ...string) *marksBook {
	return &marksBook{bus: bus, topic: topic, wanted: wanted, marks: map[string]markedValue{}}
}

// follow reads the topic until ctx ends; known is closed once what was there at the
// start is read.
func (b *marksBook) follow(ctx context.Context, known chan<- struct{}) error {
	first, behind, err := b.bus.Bounds(ctx, b.topic, 0)
	if err != nil {
		return err
	}
	t, err := b.bus.NewTail(ctx, b.topic, 0, first, true)
	if err != nil {
		return err
	}
	defer t.Close()
	for told := false; ; {
		if !told && t.Position() >= behind {
			told = true
			close(known)
		}
		r, err := t.Next(ctx)
		if err != nil {
			return err
		}
		b.take(&r)
	}
}

// take notes a record.
func (b *marksBook) take(r *kafka.Record) {
	key := string(r.Key)
	ours := false
	for _, prefix := range b.wanted {
		ours = ours || strings.HasPrefix(key, prefix)
	}
	if !ours {
		return
	}
	m := markedValue{r.Value, r.Offset, r.Time}
	b.mu.Lock()
	if r.Value == nil {
		delete(b.marks, key)
	} else {
		b.marks[key] = m
	}
	b.mu.Unlock()
	if b.changed != nil {
		b.changed(key, m)
	}
}

// get returns what is under a key.
func (b *marksBook) get(key string) (m markedValue, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, ok = b.marks[key]
	return m, ok
}

// under returns what is under keys with a prefix, by what follows it.
func (b *marksBook) under(prefix string) map[string]markedValue {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := map[string]markedValue{}
	for key, m := range b.marks {
		if rest, ok := strings.CutPrefix(key, prefix); ok {
			found[rest] = m
		}
	}
	return found
}
