package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"weir/console"
	"weir/storage"
	"weir/storage/sqlite"
)

// pepperFile is where the secret is under which tokens are stored.
func (c *config) pepperFile() string {
	if c.Console.PepperFile != "" {
		return c.Console.PepperFile
	}
	return filepath.Join(filepath.Dir(c.Store.Path), "weir.pepper")
}

// openAccess opens the store for tokens and the audit, beside a weir run that may
// have it; where there is none yet, it is made.
func openAccess(path string) (*sqlite.DB, error) {
	db, err := sqlite.Open(path, sqlite.Options{Beside: true, Readers: 1})
	if err == nil {
		return db, nil
	}
	return sqlite.Open(path, sqlite.Options{Reserve: -1, Readers: 1})
}

// shellUser is who types, for the audit.
func shellUser() console.AuditWho {
	who := console.AuditWho{Kind: "os", ID: strconv.Itoa(os.Getuid())}
	if u, err := user.Current(); err == nil {
		who.Name = u.Username
	}
	return who
}

// shellEntry is an audit entry of what was typed.
func shellEntry(action string, target *console.AuditTarget, before, after any) (storage.AuditEntry, error) {
	return auditEntry(console.AuditEntry{
		Time: timeOf(time.Now()), Action: action, Outcome: "success", Who: shellUser(), Where: console.AuditWhere{Interface: "cli"},
		Target: target, Before: before, After: after,
	})
}

func auditEntry(e console.AuditEntry) (storage.AuditEntry, error) {
	body, err := e.JSON()
	return storage.AuditEntry{Time: e.Time, Body: body}, err
}

// recordService writes into the audit that weir starts or stops: what is not
// audited meanwhile is for that reason.
func (s *service) recordService(ctx context.Context, action string) error {
	return s.recordAs(ctx, action, nil, map[string]string{"listen": s.cfg.Console.Listen})
}

// recordAs writes into the audit what weir itself did.
func (s *service) recordAs(ctx context.Context, action string, target *console.AuditTarget, after any) error {
	e, err := auditEntry(console.AuditEntry{
		Time: timeOf(time.Now()), Action: action, Outcome: "success", Who: serviceWho(),
		Where: console.AuditWhere{Interface: "service"}, Target: target, After: after,
	})
	if err == nil {
		err = s.db.AppendAudit(ctx, e)
	}
	if err == nil {
		err = s.signAudit(ctx)
	}
	if err != nil {
		return fmt.Errorf("the audit: %w", err)
	}
	return nil
}
