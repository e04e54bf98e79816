package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"weir/pipeline"
)

// access is the fakeStore's other half: tokens, the audit and the readers.
type access struct {
	tokens   []Token
	audit    [][]byte
	auditErr error
	shadows  []ShadowCase
	readers  map[string]Reader
	used     map[string]pipeline.Time
	removed  int64 // of the feed of alerts
	moved    chan struct{}
	triages  map[string][][]byte // by alert; the revision is how many there are
	changed  []TriageChange

	suppressions []Suppression
}

func (s *fakeStore) Suppressions(_ context.Context, limit int) ([]Suppression, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.suppressions)
	slices.Reverse(list)
	return list[:min(len(list), limit)], s.err
}

func (s *fakeStore) Suppression(_ context.Context, id string) (Suppression, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.suppressions, func(x Suppression) bool { return x.ID == id })
	if i < 0 {
		return Suppression{}, false, s.err
	}
	return s.suppressions[i], true, s.err
}

func (s *fakeStore) PutSuppression(ctx context.Context, x pipeline.Suppression, at pipeline.Time, audit []byte) error {
	if err := s.AppendAudit(ctx, at, audit); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.suppressions, func(y Suppression) bool { return y.ID == x.ID }); i >= 0 {
		s.suppressions[i].Suppression = x
		return nil
	}
	s.suppressions = append(s.suppressions, Suppression{Suppression: x})
	return nil
}

// more wakes who waits for rows; the caller holds mu.
func (s *fakeStore) more() {
	if s.moved != nil {
		close(s.moved)
		s.moved = nil
	}
}

// FeedAt: the feed's rows are made at their Window.Last, those of the audit at
// their time.
func (s *fakeStore) FeedAt(_ context.Context, feed string, t pipeline.Time) (int64, bool, error) {
	if feed == feedAudit {
		for i, e := range s.entries() {
			if e.Time >= t {
				return int64(i), true, s.err
			}
		}
		return 0, false, s.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.feed {
		if int64(i) >= s.removed && s.feed[i].Window.Last >= t {
			return int64(i), true, s.err
		}
	}
	return 0, false, s.err
}

func (s *fakeStore) FeedPage(ctx context.Context, f FeedFilter, seq int64, limit int) (rows []Alert, through int64, err error) {
	if err := s.hold(ctx); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Feed == feedAudit {
		for i := seq; i < min(f.Until, int64(len(s.audit))) && len(rows) < limit; i++ {
			rows = append(rows, Alert{Seq: i + 1, JSON: fmt.Appendf(nil, `{"schema":"weir.audit_row/1","seq":%d,"prev":"","hash":"","entry":%s}`, i+1, s.audit[i])})
		}
		return rows, seq + int64(len(rows)), nil
	}
	last := min(f.Until, int64(len(s.feed)))
	through = max(seq, last)
	for i := max(seq, s.removed); i < last; i++ {
		if len(f.Severity) > 0 && !slices.Contains(f.Severity, s.feed[i].Severity) {
			continue
		}
		row := s.row(int(i))
		switch f.Format {
		case formatNative:
		case formatCEF:
			row.JSON = fmt.Appendf(nil, `CEF:0|weir|weir|"%s.%d`, s.feed[i].ID, s.feed[i].Revision)
		default:
			row.JSON = fmt.Appendf(nil, `{"format":%q,"id":%q,"revision":%d}`, f.Format, s.feed[i].ID, s.feed[i].Revision)
		}
		rows = append(rows, row)
		if len(rows) == limit {
			return rows, i + 1, nil
		}
	}
	return rows, through, nil
}

func (s *fakeStore) FeedBounds(_ context.Context, feed string) (removed, last int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if feed == feedAudit {
		return 0, int64(len(s.audit)), s.err
	}
	return s.removed, int64(len(s.feed)), s.err
}

func (s *fakeStore) FeedWait(ctx context.Context, feed string, seq int64) error {
	for {
		s.mu.Lock()
		last := int64(len(s.feed))
		if feed == feedAudit {
			last = int64(len(s.audit))
		}
		if s.moved == nil {
			s.moved = make(chan struct{})
		}
		moved := s.moved
		s.mu.Unlock()
		if last > seq {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *fakeStore) Readers(context.Context) (list []Reader, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.readers {
		list = append(list, r)
	}
	return list, nil
}

func (s *fakeStore) SaveReader(_ context.Context, r Reader) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers == nil {
		s.readers = map[string]Reader{}
	}
	s.readers[r.Feed+"/"+r.ID] = r
	return nil
}

func (s *fakeStore) HasTokens(context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.tokens) > 0, nil
}

func (s *fakeStore) Token(_ context.Context, id string) (Token, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.tokens {
		if k.ID == id {
			return k, true, nil
		}
	}
	return Token{}, false, nil
}

func (s *fakeStore) Tokens(context.Context) ([]Token, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.tokens), s.err
}

func (s *fakeStore) CreateToken(ctx context.Context, k Token, at pipeline.Time, audit []byte) error {
	if err := s.AppendAudit(ctx, at, audit); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, k)
	return nil
}

func (s *fakeStore) RevokeToken(ctx context.Context, id string, at pipeline.Time, audit []byte) error {
	if err := s.AppendAudit(ctx, at, audit); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.tokens {
		if s.tokens[i].ID == id {
			s.tokens[i].Revoked = at
			return nil
		}
	}
	return ErrNoToken
}

func (s *fakeStore) UseToken(_ context.Context, id string, at pipeline.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used == nil {
		s.used = map[string]pipeline.Time{}
	}
	s.used[id] = at
	return nil
}

func (s *fakeStore) AppendAudit(_ context.Context, _ pipeline.Time, body []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.auditErr != nil {
		return s.auditErr
	}
	if !json.Valid(body) {
		return errors.New("the entry is no JSON")
	}
	s.audit = append(s.audit, body)
	s.more()
	return nil
}

// entries reads the audit.
func (s *fakeStore) entries() (list []AuditEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, body := range s.audit {
		var e AuditEntry
		if err := json.Unmarshal(body, &e); err != nil {
			panic(err)
		}
		list = append(list, e)
	}
	return list
}

// give makes a token with roles for o and returns its text.
func (s *fakeStore) give(o Options, name string, roles Roles) string {
	text, id := NewToken()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = append(s.tokens, Token{ID: id, Name: name, MAC: o.Pepper.MAC(text), Roles: roles.Names()})
	return text
}

func (s *fakeStore) ShadowCases(_ context.Context, f ShadowFilter) (list []ShadowCase, err error) {
	for _, c := range s.shadows {
		if (f.Detector == "" || f.Detector == c.Detector) && len(list) < f.Limit {
			list = append(list, c)
		}
	}
	return list, nil
}
