package console

import (
	"bytes"
	"context"
	"slices"
	"strings"

	"weir/pipeline"
)

// accounts is the fakeStore's part for users and sessions.
type accounts struct {
	users     []User
	sessions  []Session
	firstMAC  []byte
	firstEnds pipeline.Time
}

func (s *fakeStore) forgetUser(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users = slices.DeleteFunc(s.users, func(u User) bool { return u.Name == name })
}

func (s *fakeStore) HasUsers(context.Context) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.users) > 0, nil
}

func (s *fakeStore) user(is func(u *User) bool) (User, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.users {
		if is(&s.users[i]) {
			return s.users[i], true, nil
		}
	}
	return User{}, false, nil
}

func (s *fakeStore) User(_ context.Context, name string) (User, bool, error) {
	return s.user(func(u *User) bool { return strings.EqualFold(u.Name, name) })
}

func (s *fakeStore) UserOf(_ context.Context, subject string) (User, bool, error) {
	return s.user(func(u *User) bool { return subject != "" && u.Subject == subject })
}

func (s *fakeStore) Users(context.Context) ([]User, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.users), nil
}

// audited stores e and then does f.
func (s *fakeStore) audited(ctx context.Context, e AuditEntry, f func() error) error {
	body, err := e.JSON()
	if err != nil {
		return err
	}
	s.mu.Lock()
	err = f()
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return s.AppendAudit(ctx, e.Time, body)
}

func (s *fakeStore) CreateUser(ctx context.Context, u User, e AuditEntry) error {
	return s.audited(ctx, e, func() error {
		if slices.ContainsFunc(s.users, func(have User) bool { return strings.EqualFold(have.Name, u.Name) }) {
			return ErrUserExists
		}
		s.users = append(s.users, u)
		return nil
	})
}

func (s *fakeStore) ChangeUser(ctx context.Context, u User, end bool, keep string, e AuditEntry) error {
	return s.audited(ctx, e, func() error {
		i := slices.IndexFunc(s.users, func(have User) bool { return have.Name == u.Name })
		if i < 0 {
			return ErrNoUser
		}
		s.users[i] = u
		if end {
			s.sessions = slices.DeleteFunc(s.sessions, func(k Session) bool { return k.User == u.Name && k.ID != keep })
		}
		return nil
	})
}

func (s *fakeStore) CreateSession(ctx context.Context, k Session, e AuditEntry) error {
	return s.audited(ctx, e, func() error { s.sessions = append(s.sessions, k); return nil })
}

func (s *fakeStore) Session(_ context.Context, id string) (Session, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.sessions, func(k Session) bool { return k.ID == id }); i >= 0 {
		return s.sessions[i], true, nil
	}
	return Session{}, false, nil
}

func (s *fakeStore) Sessions(_ context.Context, user string) (list []Session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.sessions {
		if user == "" || k.User == user {
			list = append(list, k)
		}
	}
	return list, nil
}

func (s *fakeStore) UseSession(_ context.Context, id string, at pipeline.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.sessions {
		if s.sessions[i].ID == id {
			s.sessions[i].Seen = at
		}
	}
	return nil
}

func (s *fakeStore) EndSession(ctx context.Context, id string, e AuditEntry) error {
	return s.audited(ctx, e, func() error {
		n := len(s.sessions)
		if s.sessions = slices.DeleteFunc(s.sessions, func(k Session) bool { return k.ID == id }); len(s.sessions) == n {
			return ErrNoSession
		}
		return nil
	})
}

func (s *fakeStore) HasFirst(_ context.Context, now pipeline.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.users) == 0 && s.firstEnds > now, nil
}

func (s *fakeStore) UseFirst(ctx context.Context, mac []byte, u User, k Session, e AuditEntry) error {
	return s.audited(ctx, e, func() error {
		if len(s.users) > 0 || s.firstEnds <= u.Created || !bytes.Equal(mac, s.firstMAC) {
			return ErrFirst
		}
		s.users, s.sessions, s.firstMAC, s.firstEnds = append(s.users, u), append(s.sessions, k), nil, 0
		return nil
	})
}
