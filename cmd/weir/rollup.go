package main

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"

	"weir/pipeline"
	"weir/storage"
)

const (
	// rollupStage is the cursor of what the charts by endpoint are made from.
	rollupStage   = "rollup"
	rollupRecords = 16  // records read at a time
	rollupMinute  = 300 // endpoints of one minute; those past it are one
	rollupText    = 256 // bytes of a template or host
)

// rollup counts stored requests by minute and endpoint, behind detection and apart
// from it: nothing waits for it. The names of endpoints are those of the edition in
// force when they are counted.
type rollup struct {
	s      *service
	minute map[rollupKey]*storage.EndpointMinute
	each   map[int64]int // endpoints by minute
	text   []byte
}

type rollupKey struct {
	endpoint pipeline.Endpoint
	minute   int64
	class    uint16
}

// templates are those that paths are named by.
type templates struct {
	of atomic.Pointer[pipeline.Edition]
}

func (t *templates) load(ctx context.Context, s *service) error {
	number, _, body, ok, err := s.db.LatestEdition(ctx)
	if err != nil {
		return err
	}
	e := pipeline.ShippedEdition()
	if ok {
		if e, err = pipeline.DecodeEdition(body); err != nil {
			return err
		}
		e.Number = number
	}
	t.of.Store(e)
	return nil
}

// name is the template of a path.
func (t *templates) name(dst []byte, host, path string) []byte {
	e := t.of.Load()
	if e == nil {
		e = pipeline.ShippedEdition()
	}
	return e.Templates.AppendText(dst, host, path)
}

// rollUp counts until ctx ends.
func (s *service) rollUp(ctx context.Context) {
	if err := s.names.load(ctx, s); err != nil && ctx.Err() == nil {
		s.log.Error("cannot read the edition that names endpoints", zap.Error(err))
	}
	r := &rollup{s: s}
	for ctx.Err() == nil {
		if err := r.step(ctx); err != nil && ctx.Err() == nil {
			if !errors.Is(err, storage.ErrFull) {
				s.log.Error("cannot count traffic by endpoint; the charts end here", zap.Error(err))
			}
			return
		}
	}
}

// step counts the next records and waits for more when there are none.
func (r *rollup) step(ctx context.Context) error {
	from, err := r.s.db.StageCursor(ctx, rollupStage)
	if err != nil {
		return err
	}
	records, err := r.s.db.ReadRecords(ctx, from+1, rollupRecords)
	if err != nil {
		return err
	}
	if len(records) == 0 {
		return r.s.db.WaitAfter(ctx, from)
	}
	r.minute, r.each = map[rollupKey]*storage.EndpointMinute{}, map[int64]int{}
	for i := range records {
		if c := records[i].Control; c != nil && c.Kind == controlEdition {
			if err := r.s.names.load(ctx, r.s); err != nil {
				return err
			}
		}
		if b := records[i].Block; b != nil {
			for k := range b.Requests {
				r.add(&b.Requests[k])
			}
		}
	}
	list := make([]storage.EndpointMinute, 0, len(r.minute))
	for _, m := range r.minute {
		list = append(list, *m)
	}
	return r.s.db.AddTraffic(ctx, rollupStage, records[len(records)-1].Position, list)
}

func (r *rollup) add(q *pipeline.Request) {
	r.text = r.s.names.name(r.text[:0], q.Host, q.Path)
	k := rollupKey{minute: int64(q.Time) / 60e6, class: min(q.Status/100, 9)}
	k.endpoint = pipeline.Endpoint{Method: q.Method, Host: q.Host, Template: string(r.text)}
	m := r.minute[k]
	if m == nil {
		if len(q.Method) > 16 || len(q.Host) > rollupText || len(r.text) > rollupText || r.each[k.minute] >= rollupMinute {
			k.endpoint = pipeline.Endpoint{}
		}
		if m = r.minute[k]; m == nil {
			k.endpoint.Method, k.endpoint.Host = strings.Clone(k.endpoint.Method), strings.Clone(k.endpoint.Host)
			m = &storage.EndpointMinute{Endpoint: k.endpoint, Time: q.Time, StatusClass: int(k.class)}
			r.minute[k] = m
			r.each[k.minute]++
		}
	}
	m.Requests++
	m.Bytes += max(q.Bytes, 0)
}
