package console

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"weir/pipeline"
)

// latest returns the latest revisions that q selects by severity, status, seq and
// place, the one that changed last first; the caller holds mu.
func (s *fakeStore) latest(q *AlertQuery) (list []Found) {
	seen := map[string]bool{}
	for i, v := range slices.Backward(s.feed) {
		a, seq := v, int64(i+1)
		ok := (len(q.Severity) == 0 || slices.Contains(q.Severity, a.Severity)) && (len(q.Status) == 0 || slices.Contains(q.Status, a.Status)) &&
			seq > q.AfterSeq && (q.BeforeSeq == 0 || seq < q.BeforeSeq) && (q.After == nil || seq < q.After.Seq) && (q.Campaign == "" || q.Campaign == a.Campaign)
		if ok && !seen[a.ID] {
			list = append(list, s.found(i, q.Full))
		}
		seen[a.ID] = true
	}
	return list
}

func (s *fakeStore) found(i int, full bool) Found {
	f := Found{Seq: int64(i + 1), Alert: s.feed[i]}
	if list := s.triages[f.Alert.ID]; len(list) > 0 {
		f.Triage = list[len(list)-1]
	}
	if full {
		f.JSON = s.row(i).JSON
	}
	return f
}

func (s *fakeStore) FindAlerts(ctx context.Context, q AlertQuery) (l AlertList, err error) {
	if err := s.hold(ctx); err != nil {
		return l, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alertsBy = q
	all := s.latest(&q)
	l.Total, l.Exact = int64(len(all)), true
	l.Alerts = all[:min(len(all), q.Limit)]
	for _, f := range l.Alerts {
		l.Places = append(l.Places, AlertPlace{Seq: f.Seq})
	}
	return l, nil
}

func (s *fakeStore) GroupAlerts(_ context.Context, q AlertQuery, by string) ([]AlertGroup, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := map[string]AlertGroup{}
	for _, f := range s.latest(&q) {
		key := map[string]string{"severity": f.Alert.Severity, "detector": f.Alert.Detector, "campaign": f.Alert.Campaign}[by]
		g := groups[key]
		g.Key, g.Severity, g.Count, g.Seq = key, f.Alert.Severity, g.Count+1, max(g.Seq, f.Seq)
		groups[key] = g
	}
	list := []AlertGroup{}
	for _, g := range groups {
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b AlertGroup) int { return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Key, b.Key)) })
	return list, s.err
}

func (s *fakeStore) Found(_ context.Context, ids []string) ([]Found, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.latest(&AlertQuery{})
	return slices.DeleteFunc(list, func(f Found) bool { return !slices.Contains(ids, f.Alert.ID) }), s.err
}

func (s *fakeStore) Revisions(_ context.Context, id string) (list []Found, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.feed {
		if s.feed[i].ID == id {
			list = append(list, s.found(i, false))
		}
	}
	return list, s.err
}

func (s *fakeStore) Triages(_ context.Context, ids []string) (map[string][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string][]byte{}
	for i := range s.feed {
		if id := s.feed[i].ID; slices.Contains(ids, id) {
			found[id] = nil
			if list := s.triages[id]; len(list) > 0 {
				found[id] = list[len(list)-1]
			}
		}
	}
	return found, s.err
}

func (s *fakeStore) SaveTriages(_ context.Context, list []TriageSave) ([]error, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.auditErr != nil {
		return nil, s.auditErr
	}
	errs := make([]error, len(list))
	for i, c := range list {
		stored := slices.ContainsFunc(s.feed, func(a pipeline.Alert) bool { return a.ID == c.ID })
		if have := len(s.triages[c.ID]); !stored {
			errs[i] = ErrNoAlert
			continue
		} else if c.Revision != int64(have+1) {
			errs[i] = fmt.Errorf("%w: at %d", ErrStale, have)
			continue
		}
		entry, err := c.Audit.JSON()
		if err != nil {
			return nil, err
		}
		if s.triages == nil {
			s.triages = map[string][][]byte{}
		}
		s.audit = append(s.audit, entry)
		s.triages[c.ID] = append(s.triages[c.ID], c.Body)
		s.changed = append(s.changed, TriageChange{c.ID, c.Body, int64(len(s.audit))})
	}
	s.more()
	return errs, nil
}

func (s *fakeStore) TriageAfter(_ context.Context, change int64, limit int) (list []TriageChange, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.changed {
		if c.Change > change && len(list) < limit {
			list = append(list, c)
		}
	}
	return list, s.err
}

func (s *fakeStore) AlertAudit(_ context.Context, id string, limit int) (list []AuditRow, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.audit) - 1; i >= 0 && len(list) < limit; i-- {
		var e AuditEntry
		if err := json.Unmarshal(s.audit[i], &e); err != nil {
			return nil, err
		}
		if e.Target != nil && e.Target.Kind == "alert" && slices.Contains(e.Target.IDs, id) {
			list = append(list, AuditRow{int64(i + 1), s.audit[i]})
		}
	}
	return list, nil
}

func (s *fakeStore) Minutes(_ context.Context, since, until pipeline.Time, fn func(m Minute)) error {
	for i := range s.requests {
		if r := &s.requests[i]; r.Time >= since && r.Time < until {
			fn(Minute{Time: r.Time, Source: "access.log", Class: int(r.Status / 100), Requests: 1, Bytes: r.Bytes})
		}
	}
	return s.err
}

func (s *fakeStore) EndpointTotals(_ context.Context, since, until pipeline.Time) (list []EndpointTotal, other int64, err error) {
	of := map[pipeline.Endpoint]*EndpointTotal{}
	for i := range s.requests {
		r := &s.requests[i]
		if r.Time < since || r.Time >= until {
			other++
			continue
		}
		e := pipeline.Endpoint{Method: r.Method, Template: r.Path}
		if of[e] == nil {
			of[e] = &EndpointTotal{Endpoint: e, Last: r.Time}
		}
		of[e].Requests++
		if r.Status >= 400 {
			of[e].Errors++
		}
	}
	for _, t := range of {
		list = append(list, *t)
	}
	return list, other, s.err
}

func (s *fakeStore) EndpointMinutes(_ context.Context, of pipeline.Endpoint, since, until pipeline.Time, fn func(m Minute)) error {
	for i := range s.requests {
		if r := &s.requests[i]; r.Time >= since && r.Time < until && r.Method == of.Method && r.Path == of.Template {
			fn(Minute{Time: r.Time, Class: int(r.Status / 100), Requests: 1, Bytes: r.Bytes})
		}
	}
	return s.err
}
