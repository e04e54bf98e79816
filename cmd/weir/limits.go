package main

import (
	"context"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/console"
	"weir/detectors"
	"weir/pipeline"
	"weir/storage"
)

// What limits are read off, and how often.
const (
	limitsWindow   = 24 * time.Hour // of event time
	limitsRequests = 2_000_000
	limitsAlerts   = 20_000 // the newest: a few seconds' work
	limitsEvery    = time.Hour
	limitsLook     = 20 * time.Second // for the first time
)

// keepLimits works out how much clients ask of each endpoint, until ctx ends.
// console.decisions turns it on.
func (s *service) keepLimits(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		again := limitsEvery
		if ok, err := s.readLimits(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("cannot work out limits; the old ones stay", zap.Error(err))
		} else if !ok && s.limits.Load() == nil {
			again = limitsLook
		}
		debug.FreeOSMemory() // it takes tens of MB, once an hour
		t.Reset(again)
	}
}

// readLimits reads the newest stored requests; ok is false while there is nothing
// to read or no edition to read it by.
func (s *service) readLimits(ctx context.Context) (ok bool, err error) {
	_, _, body, known, err := s.db.LatestEdition(ctx)
	if err != nil || !known {
		return false, err
	}
	edition, err := pipeline.DecodeEdition(body)
	if err != nil || edition.Templates == nil || edition.Templates.Len() == 0 {
		return false, err
	}
	st, err := s.db.Stats(ctx)
	if err != nil || st.Requests < learnFirst || s.status.appended.Load()-s.status.detected.Load() > readyLag {
		return false, err // who has an alert is not known yet
	}
	since := st.Newest.Add(-limitsWindow)
	position, err := s.db.RecentFrom(ctx, since, limitsRequests)
	if err != nil || position == 0 {
		return false, err
	}
	addresses, keys := detectors.NewLimitCounter(edition.Templates), detectors.NewLimitCounter(edition.Templates)
	l := &console.Limits{Until: st.Newest}
	for {
		records, err := s.db.ReadRecords(ctx, position, detectRecords)
		if err != nil {
			return false, err
		}
		if len(records) == 0 {
			break
		}
		for _, r := range records {
			if position = r.Position + 1; r.Block == nil {
				continue
			}
			for i := range r.Block.Requests {
				q := &r.Block.Requests[i]
				if q.Time < since || q.Time > st.Newest {
					continue
				}
				if l.Requests++; l.Since == 0 || q.Time < l.Since {
					l.Since = q.Time
				}
				if !q.Address.IsZero() {
					addresses.Add(q, q.Address.Owner())
				}
				switch q.Kind {
				case pipeline.PrincipalKey, pipeline.PrincipalSubject, pipeline.PrincipalAccount:
					keys.Add(q, q.Owner)
				}
			}
		}
	}
	alerted, err := s.alertedClients(ctx, since, st.Newest)
	if err != nil {
		return false, err
	}
	has := func(client uint64) bool { return alerted[client] }
	for _, e := range addresses.Limits(has) {
		l.ByAddress = append(l.ByAddress, console.EndpointLimit(e))
	}
	for _, e := range keys.Limits(has) {
		l.ByKey = append(l.ByKey, console.EndpointLimit(e))
	}
	s.limits.Store(l)
	return true, nil
}

// alertedClients are the owner hashes of clients that an alert between the two is
// about, of limitsAlerts the newest: what they ask for is not what clients ask for. Others behind the
// addresses of a credential have nothing to do with it.
func (s *service) alertedClients(ctx context.Context, since, until pipeline.Time) (map[uint64]bool, error) {
	clients := map[uint64]bool{}
	add := func(p pipeline.Principal) {
		if p.Kind == pipeline.PrincipalIP {
			if a, ok := pipeline.ParseAddress(strings.TrimSuffix(p.Value, "/64")); ok {
				clients[a.Owner()] = true
			}
			return
		}
		clients[p.Hash()] = true
	}
	f := storage.AlertFilter{Since: since, Until: until, Severity: []string{"low", "medium", "high", "critical"}, Limit: 1000}
	for read := 0; ; {
		list, err := s.db.Alerts(ctx, f)
		if err != nil {
			return nil, err
		}
		for i := range list {
			f.BeforeSeq = list[i].Seq
			a := &list[i].Alert
			if strings.HasPrefix(a.Detector, "health.") {
				continue
			}
			add(a.Principal)
			for _, m := range a.Members {
				add(m)
			}
		}
		if read += len(list); len(list) < f.Limit || read >= limitsAlerts {
			return clients, nil
		}
	}
}
