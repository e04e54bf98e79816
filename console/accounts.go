package console

import (
	"context"
	"errors"

	"weir/pipeline"
)

// What an AccountStore's errors wrap when it does not do a change.
var (
	ErrNoUser     = errors.New("no user has this name")
	ErrUserExists = errors.New("there is a user of this name")
	ErrLastAdmin  = errors.New("nobody would be left who administers weir")
	ErrNoSession  = errors.New("no session has this id")
	ErrFirst      = errors.New("this link is used, expired or not ours")
)

// AccountStore keeps who signs in and who is signed in. Each change is stored
// with its entry in the audit, both or neither.
type AccountStore interface {
	HasUsers(ctx context.Context) (bool, error)
	// User returns a user by name, in any case; UserOf the one whom a provider
	// vouches for as subject.
	User(ctx context.Context, name string) (u User, ok bool, err error)
	UserOf(ctx context.Context, subject string) (u User, ok bool, err error)
	Users(ctx context.Context) ([]User, error)
	CreateUser(ctx context.Context, u User, audit AuditEntry) error
	// ChangeUser stores display, roles, hash and disabled. With end its sessions
	// end, but for the one whose id is keep.
	ChangeUser(ctx context.Context, u User, end bool, keep string, audit AuditEntry) error

	CreateSession(ctx context.Context, s Session, audit AuditEntry) error
	// Session returns a session by its id, also one that has ended.
	Session(ctx context.Context, id string) (s Session, ok bool, err error)
	// Sessions lists those of a user, for "" all, the newest first.
	Sessions(ctx context.Context, user string) ([]Session, error)
	UseSession(ctx context.Context, id string, at pipeline.Time) error
	EndSession(ctx context.Context, id string, audit AuditEntry) error

	// HasFirst tells whether a link for the first administrator is out. UseFirst
	// makes u and signs it in with s, once.
	HasFirst(ctx context.Context, now pipeline.Time) (bool, error)
	UseFirst(ctx context.Context, mac []byte, u User, s Session, audit AuditEntry) error
}

// The kinds of users.
const (
	KindLocal = "local" // signs in with a password
	KindOIDC  = "oidc"  // a provider vouches for it
)

// User is somebody who signs in.
type User struct {
	Name     string
	Display  string
	Kind     string
	Subject  string // of oidc: issuer and subject
	Roles    []string
	Hash     string // of the password, as HashPassword made it
	Disabled pipeline.Time
	Creator  string
	Created  pipeline.Time
	Seen     pipeline.Time // signed in last; 0: never
}

// Session is what is stored of a signed-in browser.
type Session struct {
	ID      string
	MAC     []byte
	User    string
	Created pipeline.Time
	Seen    pipeline.Time // within a minute or so
	Ends    pipeline.Time
	Address string
	Agent   string
}
