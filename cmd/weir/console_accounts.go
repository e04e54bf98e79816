package main

import (
	"context"
	"errors"
	"fmt"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
)

// The users and sessions of the embedded store, as the console wants them.

// refusals are the store's reasons in the console's words.
func refusals() map[error]error {
	return map[error]error{
		storage.ErrNoUser: console.ErrNoUser, storage.ErrUserExists: console.ErrUserExists, storage.ErrLastAdmin: console.ErrLastAdmin,
		storage.ErrNoSession: console.ErrNoSession, storage.ErrFirst: console.ErrFirst, storage.ErrStale: console.ErrStale,
	}
}

func consoleError(err error) error {
	for ours, theirs := range refusals() {
		if errors.Is(err, ours) {
			return fmt.Errorf("%w: %w", theirs, err)
		}
	}
	return err
}

func (s consoleStore) HasUsers(ctx context.Context) (bool, error) { return s.db.HasUsers(ctx) }

func (s consoleStore) User(ctx context.Context, name string) (console.User, bool, error) {
	u, ok, err := s.db.User(ctx, name)
	return console.User(u), ok, err
}

func (s consoleStore) UserOf(ctx context.Context, subject string) (console.User, bool, error) {
	u, ok, err := s.db.UserOf(ctx, subject)
	return console.User(u), ok, err
}

func (s consoleStore) Users(ctx context.Context) ([]console.User, error) {
	stored, err := s.db.Users(ctx)
	list := make([]console.User, len(stored))
	for i, u := range stored {
		list[i] = console.User(u)
	}
	return list, err
}

func (s consoleStore) CreateUser(ctx context.Context, u console.User, audit console.AuditEntry) error {
	by, err := auditEntry(audit)
	if err == nil {
		err = s.db.CreateUser(ctx, storage.User(u), by)
	}
	return consoleError(err)
}

func (s consoleStore) ChangeUser(ctx context.Context, u console.User, end bool, keep string, audit console.AuditEntry) error {
	by, err := auditEntry(audit)
	if err == nil {
		err = s.db.ChangeUser(ctx, storage.User(u), end, keep, by)
	}
	return consoleError(err)
}

func (s consoleStore) CreateSession(ctx context.Context, k console.Session, audit console.AuditEntry) error {
	by, err := auditEntry(audit)
	if err == nil {
		err = s.db.CreateSession(ctx, storage.Session(k), by)
	}
	return consoleError(err)
}

func (s consoleStore) Session(ctx context.Context, id string) (console.Session, bool, error) {
	k, ok, err := s.db.Session(ctx, id)
	return console.Session(k), ok, err
}

func (s consoleStore) Sessions(ctx context.Context, user string) ([]console.Session, error) {
	stored, err := s.db.Sessions(ctx, user)
	list := make([]console.Session, len(stored))
	for i, k := range stored {
		list[i] = console.Session(k)
	}
	return list, err
}

func (s consoleStore) UseSession(ctx context.Context, id string, at pipeline.Time) error {
	return s.db.UseSession(ctx, id, at)
}

func (s consoleStore) EndSession(ctx context.Context, id string, audit console.AuditEntry) error {
	by, err := auditEntry(audit)
	if err == nil {
		err = s.db.EndSession(ctx, id, by)
	}
	return consoleError(err)
}

func (s consoleStore) HasFirst(ctx context.Context, now pipeline.Time) (bool, error) {
	return s.db.HasFirst(ctx, now)
}

func (s consoleStore) UseFirst(ctx context.Context, mac []byte, u console.User, k console.Session, audit console.AuditEntry) error {
	by, err := auditEntry(audit)
	if err == nil {
		err = s.db.UseFirst(ctx, mac, storage.User(u), storage.Session(k), by)
	}
	return consoleError(err)
}
