package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

// auditOf makes a store whose audit has these bodies, with a chain that is whole.
func auditOf(t *testing.T, bodies ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "weir.db")
	db, err := sqlite.Open(path, sqlite.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		if err := db.AppendAudit(t.Context(), storage.AuditEntry{Time: pipeline.Time(i + 1), Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAuditIsSigned: weir signs what its audit has at its start, in between and at
// its stop; whoever writes another chain, whole in itself, is found out.
func TestAuditIsSigned(t *testing.T) {
	s := consoleService(t)
	dir := t.TempDir()
	secret, public := filepath.Join(dir, "audit.key"), filepath.Join(dir, "audit.pub")
	var err error
	if s.auditKey, err = console.LoadOrCreateAuditKey(secret); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	write := func(action string) {
		t.Helper()
		e, err := auditEntry(console.AuditEntry{Time: timeOf(time.Now()), Action: action, Outcome: "success"})
		if err == nil {
			err = s.db.AppendAudit(ctx, e)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.recordService(ctx, "service.start"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is signed is not signed again
		if err := s.signAudit(ctx); err != nil {
			t.Fatal(err)
		}
	}
	write("token.create")
	write("names.reveal")
	if err := s.signAudit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.recordService(ctx, "service.stop"); err != nil {
		t.Fatal(err)
	}
	write("token.revoke")
	rows, err := s.db.AuditAfter(ctx, 0, 100)
	if err != nil || len(rows) != 8 {
		t.Fatalf("%d rows: %v", len(rows), err)
	}
	bodies := make([]string, len(rows))
	for i, r := range rows {
		bodies[i] = string(r.Body)
	}
	for _, i := range []int{1, 4, 6} {
		if !strings.Contains(bodies[i], console.CheckpointAction) {
			t.Fatalf("row %d is %s", i+1, bodies[i])
		}
	}
	pemOf(t, secret, public)
	other := filepath.Join(dir, "other.key")
	if _, err := console.LoadOrCreateAuditKey(other); err != nil {
		t.Fatal(err)
	}
	f := func(want string, code int, store string, keys ...string) {
		t.Helper()
		args := []string{"audit", "verify", "--store", store}
		for _, k := range keys {
			args = append(args, "--key", k)
		}
		got := weir(t, args...)
		if got.code != code || !strings.Contains(string(got.stdout)+got.stderr, want) {
			t.Errorf("%v: exit %d: %s%s, want %q", keys, got.code, got.stdout, got.stderr, want)
		}
	}
	change := func(i int, old, new string) []string {
		list := append([]string(nil), bodies...)
		if list[i] = strings.Replace(list[i], old, new, 1); list[i] == bodies[i] {
			t.Fatalf("row %d has no %s", i+1, old)
		}
		return list
	}
	good := auditOf(t, bodies...)
	f("signed: 3 checkpoints, the last one of ", 0, good, secret)
	f("through row 6; rows behind it: 1", 0, good, public)
	f("signed: 3", 0, good, other, public)
	f("not checked: 3 checkpoints of other keys", 0, good)
	f("no checkpoint is signed by these keys", 1, good, other)
	// Each is a chain that is whole.
	f("row 5: row 4 is not what was signed", 1, auditOf(t, change(3, "names.reveal", "names.nothing")...), public)
	f("row 5: row 4 is not what was signed", 1, auditOf(t, change(3, "names.reveal", "names.nothing")...)) // without a key, too
	f("the signature is not that of the key", 1, auditOf(t, change(4, `"signature":"`, `"signature":"A`)...), public)
	f("the signature is not that of the key", 1, auditOf(t, change(6, `"time":"2`, `"time":"3`)...), public)
	f("signs what comes behind it", 1, auditOf(t, change(1, `"through":1`, `"through":7`)...), public)
	f("row 2: read a checkpoint", 1, auditOf(t, change(1, `"through":1`, `"through":{}`)...), public)
	f("no checkpoint is signed", 1, auditOf(t, bodies[0], bodies[2], bodies[3], bodies[5]), public)
	f("no checkpoint is signed", 1, auditOf(t), public)
	f("row 4: the checkpoint signs what comes behind it", 1, auditOf(t, append([]string{bodies[0], bodies[1], bodies[3]}, bodies[4:]...)...), public)
	// What no signature covers.
	f("signed: 3", 0, auditOf(t, change(7, "token.revoke", "token.create")...), public)
	// Retention takes rows that were signed, and their checkpoints stay.
	for from, want := range map[pipeline.Time]string{4: "signed: 2", 5: "signed: 2", 7: "signed: 1", 8: "no checkpoint is signed"} {
		store := auditOf(t, bodies...)
		db, err := sqlite.Open(store, sqlite.Options{Reserve: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Retain(ctx, storage.RetainPolicy{AuditFrom: from}); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		f(want, map[bool]int{true: 1}[from == 8], store, public)
	}
	f("want an Ed25519 key", 1, good, good)
	if err := os.Chmod(secret, 0o644); err != nil {
		t.Fatal(err)
	}
	f("others can read it", 1, good, secret)
}

// pemOf writes the public half of a key, as openssl does.
func pemOf(t *testing.T, secret, public string) {
	t.Helper()
	data, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.(ed25519.PrivateKey).Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644); err != nil {
		t.Fatal(err)
	}
}
