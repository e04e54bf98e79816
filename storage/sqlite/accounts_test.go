package sqlite

import (
	"errors"
	"fmt"
	"testing"

	"weir/pipeline"
	"weir/storage"
)

// TestAccounts: users and sessions are stored with their entry in the audit, or
// not at all.
func TestAccounts(t *testing.T) {
	db := openTest(t)
	ctx := t.Context()
	by := storage.AuditEntry{Time: 1, Body: []byte(`{}`)}
	entries := func() int64 {
		t.Helper()
		c, err := db.CheckAudit(ctx)
		if err != nil || c.Broken != 0 {
			t.Fatalf("%+v %v", c, err)
		}
		return c.Rows
	}
	step := func(what string, err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	has := func(want bool) {
		t.Helper()
		if got, err := db.HasUsers(ctx); err != nil || got != want {
			t.Errorf("%t %v", got, err)
		}
	}
	has(false)
	mac := []byte("mac")
	step("save", db.SaveFirst(ctx, mac, 100), nil)
	for at, want := range map[pipeline.Time]bool{99: true, 100: false} {
		if got, err := db.HasFirst(ctx, at); err != nil || got != want {
			t.Errorf("at %d: %t %v", at, got, err)
		}
	}
	root := storage.User{Name: "root", Kind: "local", Roles: []string{"admin"}, Hash: "h", Created: 50}
	s := storage.Session{ID: "s", MAC: mac, User: "root", Created: 50, Seen: 50, Ends: 1000}
	step("another link", db.UseFirst(ctx, []byte("other"), root, s, by), storage.ErrFirst)
	late := root
	late.Created = 100
	step("late", db.UseFirst(ctx, mac, late, s, by), storage.ErrFirst)
	has(false)
	step("first", db.UseFirst(ctx, mac, root, s, by), nil)
	step("again", db.UseFirst(ctx, mac, root, s, by), storage.ErrFirst)
	has(true)
	step("the same name", db.CreateUser(ctx, storage.User{Name: "ROOT", Kind: "local"}, by), storage.ErrUserExists)
	step("another", db.CreateUser(ctx, storage.User{Name: "ada", Kind: "oidc", Subject: "https://id.test 7", Roles: []string{"viewer", "auditor"}}, by), nil)
	step("the same subject", db.CreateUser(ctx, storage.User{Name: "eve", Kind: "oidc", Subject: "https://id.test 7"}, by), storage.ErrUserExists)
	if u, ok, err := db.UserOf(ctx, "https://id.test 7"); err != nil || !ok || u.Name != "ada" || len(u.Roles) != 2 {
		t.Errorf("%+v %t %v", u, ok, err)
	}
	if _, ok, err := db.UserOf(ctx, ""); err != nil || ok {
		t.Errorf("a local user has a subject: %v", err)
	}
	root.Disabled = 60
	step("the last one", db.ChangeUser(ctx, root, true, "", by), storage.ErrLastAdmin)
	if _, ok, err := db.Session(ctx, "s"); err != nil || !ok {
		t.Errorf("what was not done ended a session: %v", err)
	}
	step("nobody", db.ChangeUser(ctx, storage.User{Name: "none"}, false, "", by), storage.ErrNoUser)
	root.Disabled, root.Hash = 0, "h2"
	step("second session", db.CreateSession(ctx, storage.Session{ID: "s2", MAC: mac, User: "root", Created: 70, Seen: 70, Ends: 900}, by), nil)
	step("password", db.ChangeUser(ctx, root, true, "s2", by), nil)
	if list, err := db.Sessions(ctx, "root"); err != nil || len(list) != 1 || list[0].ID != "s2" {
		t.Errorf("%+v %v", list, err)
	}
	step("use", db.UseSession(ctx, "s2", 80), nil)
	if k, _, err := db.Session(ctx, "s2"); err != nil || k.Seen != 80 {
		t.Errorf("%+v %v", k, err)
	}
	step("end", db.EndSession(ctx, "s2", by), nil)
	step("end again", db.EndSession(ctx, "s2", by), storage.ErrNoSession)
	for i := range maxUserSessions + 10 {
		at := pipeline.Time(2000 + i)
		step("many", db.CreateSession(ctx, storage.Session{ID: fmt.Sprint("m", i), MAC: mac, User: "root", Created: at, Seen: at, Ends: 90_000}, by), nil)
	}
	if list, err := db.Sessions(ctx, ""); err != nil || len(list) != maxUserSessions || list[0].ID != fmt.Sprint("m", maxUserSessions+9) {
		t.Errorf("%d sessions, %v", len(list), err)
	}
	if u, _, err := db.User(ctx, "Root"); err != nil || u.Seen != pipeline.Time(2000+maxUserSessions+9) || u.Hash != "h2" {
		t.Errorf("%+v %v", u, err)
	}
	// What was refused is not in the audit.
	if got, want := entries(), int64(6+maxUserSessions+10-1); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}
