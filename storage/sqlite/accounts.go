package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	"weir/pipeline"
	"weir/storage"
)

const userColumns = "SELECT name, display, kind, subject, roles, hash, disabled, creator, created, seen FROM users "

func scanUser(rows *sql.Rows, u *storage.User) error {
	var roles string
	if err := rows.Scan(&u.Name, &u.Display, &u.Kind, &u.Subject, &roles, &u.Hash, &u.Disabled, &u.Creator, &u.Created, &u.Seen); err != nil {
		return err
	}
	u.Roles = strings.Fields(roles)
	return nil
}

// HasUsers tells whether anybody may sign in, or might have.
func (db *DB) HasUsers(ctx context.Context) (has bool, err error) {
	if err := db.readers.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM users)").Scan(&has); err != nil {
		return false, fmt.Errorf("look for users: %w", db.wrap(err))
	}
	return has, nil
}

// User returns a user by name, in any case; ok is false without one.
func (db *DB) User(ctx context.Context, name string) (u storage.User, ok bool, err error) {
	return db.oneUser(ctx, "WHERE name = ?", name)
}

// UserOf returns the user that a provider vouches for as subject.
func (db *DB) UserOf(ctx context.Context, subject string) (u storage.User, ok bool, err error) {
	return db.oneUser(ctx, "WHERE subject <> '' AND subject = ?", subject)
}

func (db *DB) oneUser(ctx context.Context, where, value string) (u storage.User, ok bool, err error) {
	list, err := readAll(ctx, db, "read user", scanUser, userColumns+where, value)
	if err != nil || len(list) == 0 {
		return u, false, err
	}
	return list[0], true, nil
}

// Users lists all users by name.
func (db *DB) Users(ctx context.Context) ([]storage.User, error) {
	return readAll(ctx, db, "list users", scanUser, userColumns+"ORDER BY name")
}

// CreateUser stores a user and who made it, both or neither; a name that is taken
// is storage.ErrUserExists.
func (db *DB) CreateUser(ctx context.Context, u storage.User, by storage.AuditEntry) error {
	return db.audited(ctx, "create user", by, func(t *tx) error { return t.createUser(u) })
}

func (t *tx) createUser(u storage.User) error {
	n, _, err := t.exec(`INSERT INTO users (name, display, kind, subject, roles, hash, disabled, creator, created, seen)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`,
		u.Name, u.Display, u.Kind, u.Subject, strings.Join(u.Roles, " "), u.Hash, int64(u.Disabled), u.Creator, int64(u.Created), int64(u.Seen))
	if err == nil && n == 0 {
		err = fmt.Errorf("%w: %s", storage.ErrUserExists, u.Name)
	}
	return err
}

// ChangeUser stores u's display, roles, hash and disabled, with who did it. With
// end its sessions end, but for the one whose id is keep. A change that leaves
// nobody who administers weir is storage.ErrLastAdmin.
func (db *DB) ChangeUser(ctx context.Context, u storage.User, end bool, keep string, by storage.AuditEntry) error {
	return db.audited(ctx, "change user", by, func(t *tx) error {
		admins := func() (n int64, err error) {
			_, err = t.row("SELECT count(*) FROM users WHERE disabled = 0 AND ' ' || roles || ' ' LIKE '% admin %'", nil, &n)
			return n, err
		}
		had, err := admins()
		if err != nil {
			return err
		}
		n, _, err := t.exec("UPDATE users SET display = ?, roles = ?, hash = ?, disabled = ? WHERE name = ?",
			u.Display, strings.Join(u.Roles, " "), u.Hash, int64(u.Disabled), u.Name)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: %s", storage.ErrNoUser, u.Name)
		}
		if err != nil {
			return err
		}
		has, err := admins()
		if err == nil && had > 0 && has == 0 && u.Kind == "local" { // a provider has the last word on its own
			err = fmt.Errorf("%w: %s", storage.ErrLastAdmin, u.Name)
		}
		if err == nil && end {
			_, _, err = t.exec("DELETE FROM sessions WHERE user = ? AND id <> ?", u.Name, keep)
		}
		return err
	})
}

// maxUserSessions bounds how many browsers one user is signed in with: the one
// that was made longest ago ends for a new one.
const maxUserSessions = 50

// CreateSession stores a session and who signed in, both or neither, and forgets
// those that have ended.
func (db *DB) CreateSession(ctx context.Context, s storage.Session, by storage.AuditEntry) error {
	return db.audited(ctx, "create session", by, func(t *tx) error { return t.createSession(s) })
}

func (t *tx) createSession(s storage.Session) error {
	if _, _, err := t.exec("DELETE FROM sessions WHERE ends <= ?", int64(s.Created)); err != nil {
		return err
	}
	if _, _, err := t.exec(`DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE user = ? ORDER BY created DESC, id LIMIT -1 OFFSET ?)`,
		s.User, maxUserSessions-1); err != nil {
		return err
	}
	if _, _, err := t.exec("UPDATE users SET seen = ? WHERE name = ?", int64(s.Created), s.User); err != nil {
		return err
	}
	_, _, err := t.exec("INSERT INTO sessions (id, mac, user, created, seen, ends, address, agent) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		s.ID, nonNil(s.MAC), s.User, int64(s.Created), int64(s.Seen), int64(s.Ends), s.Address, s.Agent)
	return err
}

const sessionColumns = "SELECT id, mac, user, created, seen, ends, address, agent FROM sessions "

func scanSession(rows *sql.Rows, s *storage.Session) error {
	return rows.Scan(&s.ID, &s.MAC, &s.User, &s.Created, &s.Seen, &s.Ends, &s.Address, &s.Agent)
}

// Session returns a session by its id, also one that has ended; ok is false
// without one.
func (db *DB) Session(ctx context.Context, id string) (s storage.Session, ok bool, err error) {
	list, err := readAll(ctx, db, "read session", scanSession, sessionColumns+"WHERE id = ?", id)
	if err != nil || len(list) == 0 {
		return s, false, err
	}
	return list[0], true, nil
}

// Sessions lists the sessions of a user, or for "" of all, the newest first.
func (db *DB) Sessions(ctx context.Context, user string) ([]storage.Session, error) {
	return readAll(ctx, db, "list sessions", scanSession, sessionColumns+"WHERE ? = '' OR user = ? ORDER BY created DESC, id", user, user)
}

// UseSession stores when a session was used last.
func (db *DB) UseSession(ctx context.Context, id string, at pipeline.Time) error {
	return db.write(ctx, "store use of session", func(t *tx) error {
		_, _, err := t.exec("UPDATE sessions SET seen = max(seen, ?) WHERE id = ?", int64(at), id)
		return err
	})
}

// EndSession ends a session, with who did it; one that is not there is
// storage.ErrNoSession.
func (db *DB) EndSession(ctx context.Context, id string, by storage.AuditEntry) error {
	return db.audited(ctx, "end session", by, func(t *tx) error {
		n, _, err := t.exec("DELETE FROM sessions WHERE id = ?", id)
		if err == nil && n == 0 {
			err = fmt.Errorf("%w: %s", storage.ErrNoSession, id)
		}
		return err
	})
}

// SaveFirst stores the link by which the first administrator comes in, in place
// of an earlier one.
func (db *DB) SaveFirst(ctx context.Context, mac []byte, ends pipeline.Time) error {
	return db.write(ctx, "store first link", func(t *tx) error {
		_, _, err := t.exec(`INSERT INTO first_link (one, mac, ends) VALUES (1, ?, ?)
			ON CONFLICT DO UPDATE SET mac = excluded.mac, ends = excluded.ends`, mac, int64(ends))
		return err
	})
}

// HasFirst tells whether such a link is out at now.
func (db *DB) HasFirst(ctx context.Context, now pipeline.Time) (has bool, err error) {
	err = db.readers.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM first_link WHERE ends > ?) AND NOT EXISTS (SELECT 1 FROM users)", int64(now)).Scan(&has)
	if err != nil {
		return false, fmt.Errorf("look for a first link: %w", db.wrap(err))
	}
	return has, nil
}

// UseFirst makes u the first user and signs it in with s, once: the link is gone
// with it. Where there is a user already, or the link is another or has ended, it
// is storage.ErrFirst.
func (db *DB) UseFirst(ctx context.Context, mac []byte, u storage.User, s storage.Session, by storage.AuditEntry) error {
	return db.audited(ctx, "make first user", by, func(t *tx) error {
		n, _, err := t.exec("DELETE FROM first_link WHERE mac = ? AND ends > ? AND NOT EXISTS (SELECT 1 FROM users)", mac, int64(u.Created))
		if err == nil && n == 0 {
			err = storage.ErrFirst
		}
		if err == nil {
			err = t.createUser(u)
		}
		if err == nil {
			err = t.createSession(s)
		}
		return err
	})
}
