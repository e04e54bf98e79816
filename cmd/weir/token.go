package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"weir/alerts"
	"weir/console"
	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

const tokenHelp = `Usage: weir token create --name NAME --role ROLE [--role ROLE...] [--expires 365d]
       weir token list
       weir token revoke ID

API tokens and their roles, also while weir runs. A new token is printed once and
kept nowhere; callers show it as "Authorization: Bearer weir_...". From the first
token on nobody is served without one, on loopback too. Everything here goes into
the audit.

  weir token create -c weir.yaml --name siem --role feed

Roles:
  viewer     alerts
  analyst    and requests, and the names behind account tokens, for a reason
  engineer   and who reads the feeds
  feed       a machine: the feed of alerts, the decisions, metrics
  auditor    the audit, and who reads the feeds
  admin      everything

Flags:
  -c FILE            configuration: where the store and the pepper are
  --store FILE       the store (default weir.db)
  --name NAME        how you call it
  --role ROLE        what it may; repeatable
  --expires HOW-LONG like 90d; never for one without an end (default 365d)

Exit: 0 done; 1 failed; 2 usage.
`

// tokenFlags are the flags of weir token.
type tokenFlags struct {
	config, store, name, expires string
	roles                        listFlag
}

func runToken(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var f tokenFlags
	fs := flag.NewFlagSet("token", flag.ContinueOnError)
	fs.StringVar(&f.config, "c", "", "")
	fs.StringVar(&f.store, "store", "", "")
	fs.StringVar(&f.name, "name", "", "")
	fs.StringVar(&f.expires, "expires", "365d", "")
	fs.Var(&f.roles, "role", "")
	rest, code, done := parseFlags(fs, tokenHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) == 0 || len(rest) != map[string]int{"create": 1, "list": 1, "revoke": 2}[rest[0]] {
		fmt.Fprint(stderr, tokenHelp)
		return exitUsage
	}
	cfg, err := loadConfig(f.config)
	if err == nil {
		if f.store != "" {
			cfg.Store.Path = f.store
		}
		switch rest[0] {
		case "create":
			err = createToken(ctx, cfg, f, stdout, stderr)
		case "list":
			err = listTokens(ctx, cfg, stdout)
		case "revoke":
			err = revokeToken(ctx, cfg, rest[1], stderr)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "weir token %s: %v\n", rest[0], err)
		return exitFailed
	}
	return exitOK
}

// newToken reads the flags; text is the token.
func (f *tokenFlags) newToken(now time.Time) (k storage.Token, text string, err error) {
	roles, err := console.ParseRoles(f.roles)
	errs := []error{err}
	if err := console.CheckTokenName(f.name); err != nil {
		errs = append(errs, fmt.Errorf("--name: %w", err))
	}
	if f.expires != "never" {
		var d alerts.Duration
		if err := d.UnmarshalText([]byte(f.expires)); err != nil || d <= 0 {
			errs = append(errs, fmt.Errorf("--expires %q: want a form like 90d, or never", f.expires))
		}
		k.Expires = timeOf(now.Add(time.Duration(d)))
	}
	text, k.ID = console.NewToken()
	k.Name, k.Roles, k.Creator, k.Created = f.name, roles.Names(), shellUser().Name, timeOf(now)
	return k, text, errors.Join(errs...)
}

func timeOf(t time.Time) pipeline.Time { return pipeline.TimeOf(t) }

func createToken(ctx context.Context, cfg *config, f tokenFlags, stdout, stderr io.Writer) error {
	k, text, err := f.newToken(time.Now())
	if err != nil {
		return err
	}
	return withAccess(cfg, func(db *sqlite.DB) error {
		pepper, err := console.LoadOrCreatePepper(cfg.pepperFile())
		if err != nil {
			return err
		}
		k.MAC = pepper.MAC(text)
		by, err := shellEntry("token.create", tokenTarget(k.ID), nil, auditedToken(k))
		if err != nil {
			return err
		}
		had, err := db.HasTokens(ctx)
		if err != nil {
			return err
		}
		if err := db.CreateToken(ctx, k, by); err != nil {
			return err
		}
		fmt.Fprintf(stderr, "token %s (%s) in %s for %s, until %s; it is shown this once:\n", k.ID, k.Name, cfg.Store.Path, strings.Join(k.Roles, ", "), dateOf(k.Expires, "revoked"))
		if !had {
			fmt.Fprintln(stderr, "it is the first one: from now on nobody is served without a token")
		}
		fmt.Fprintln(stdout, text)
		return nil
	})
}

func revokeToken(ctx context.Context, cfg *config, id string, stderr io.Writer) error {
	return withAccess(cfg, func(db *sqlite.DB) error {
		k, ok, err := db.Token(ctx, id)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %q; weir token list has them", storage.ErrNoToken, id)
		}
		now := timeOf(time.Now())
		after := k
		after.Revoked = now
		by, err := shellEntry("token.revoke", tokenTarget(id), auditedToken(k), auditedToken(after))
		if err == nil {
			err = db.RevokeToken(ctx, id, now, by)
		}
		if err == nil {
			fmt.Fprintf(stderr, "token %s (%s) is revoked\n", id, k.Name)
		}
		return err
	})
}

func listTokens(ctx context.Context, cfg *config, stdout io.Writer) error {
	return withAccess(cfg, func(db *sqlite.DB) error {
		list, err := db.Tokens(ctx)
		if err != nil {
			return err
		}
		t := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "ID\tNAME\tROLES\tCREATED\tBY\tEXPIRES\tLAST USED\tSTATE")
		now := timeOf(time.Now())
		for _, k := range list {
			state := "good"
			switch {
			case k.Revoked != 0:
				state = "revoked " + dateOf(k.Revoked, "")
			case k.Expires != 0 && k.Expires <= now:
				state = "expired"
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, k.Name, strings.Join(k.Roles, ","), dateOf(k.Created, "-"), k.Creator,
				dateOf(k.Expires, "never"), dateOf(k.Used, "never"), state)
		}
		return t.Flush()
	})
}

// withAccess gives f the store and closes it.
func withAccess(cfg *config, f func(*sqlite.DB) error) error {
	db, err := openAccess(cfg.Store.Path)
	if err != nil {
		return err
	}
	return errors.Join(f(db), db.Close())
}

func tokenTarget(id string) *console.AuditTarget {
	return &console.AuditTarget{Kind: "token", IDs: []string{id}}
}

func auditedToken(k storage.Token) console.TokenAudit {
	c := console.Token(k)
	return c.Audited()
}

func dateOf(t pipeline.Time, none string) string {
	if t == 0 {
		return none
	}
	return t.Std().UTC().Format("2006-01-02 15:04")
}
