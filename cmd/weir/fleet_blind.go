package main

import (
	"bytes"
	"context"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/pipeline/kafka"
)

// What cannot be detected in the traffic is worked out by the process of a fleet that
// has the first slice of detect, which takes all requests as the others do. It is a
// mark, whole each time, which the console shows.

const (
	blindKey = "blindspots"
	// blindTold is how often it is written at most.
	blindTold = time.Minute
	// blindBytes is what a record holds.
	blindBytes = markPiece
)

// blindTeller writes it. One goroutine uses it.
type blindTeller struct {
	last []byte
	at   time.Time
}

// due returns the report of this process when it is time to write it, nil else.
func (b *blindTeller) due(l *blindLive, now time.Time) []byte {
	if l == nil || now.Sub(b.at) < blindTold {
		return nil
	}
	body := l.body.Load()
	if body == nil || bytes.Equal(*body, b.last) || len(*body) > blindBytes {
		return nil
	}
	b.last, b.at = *body, now
	return b.last
}

// tellBlind writes what cannot be detected, where this process knows it.
func (f *fleet) tellBlind(ctx context.Context, p *kafka.Producer, b *blindTeller) {
	body := b.due(f.blind.Load(), time.Now())
	if body == nil {
		return
	}
	if _, err := p.Append(ctx, []kafka.Record{{Key: []byte(blindKey), Value: body, Epoch: kafka.NoEpoch}}); err != nil && ctx.Err() == nil {
		f.log.Warn("cannot say what cannot be detected", zap.Error(err))
	}
}

// blindspots is what the fleet says last of what cannot be detected.
func (d *desk) blindspots() ([]byte, error) {
	if m, ok := d.marks.get(blindKey); ok {
		return m.value, nil
	}
	return nil, &console.MissingError{Text: "what cannot be detected is not worked out yet: a process that detects says it, once a minute", Soon: true}
}
