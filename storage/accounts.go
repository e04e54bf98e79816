package storage

import (
	"errors"

	"weir/pipeline"
)

// What a change of accounts does not do.
var (
	ErrNoUser     = errors.New("no such user")
	ErrUserExists = errors.New("there is a user of this name")
	ErrLastAdmin  = errors.New("this is the last one who administers weir")
	ErrNoSession  = errors.New("no such session")
	ErrFirst      = errors.New("this link is used, expired or another weir's")
)

// User is somebody who signs in.
type User struct {
	Name     string
	Display  string
	Kind     string // local, oidc
	Subject  string // of oidc: issuer and subject; "" of a local one
	Roles    []string
	Hash     string // of the password of a local one, in PHC's form
	Disabled pipeline.Time
	Creator  string
	Created  pipeline.Time
	Seen     pipeline.Time // signed in last; 0: never
}

// Session is a signed-in browser as it is stored: what it is checked by, never
// its cookie.
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
