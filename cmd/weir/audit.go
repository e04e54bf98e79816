package main

import (
	"context"
	"flag"
	"fmt"
	"io"

	"weir/console"
	"weir/storage/sqlite"
)

const auditHelp = `Usage: weir audit verify [-c FILE] [--store FILE] [--key FILE...]
       weir audit show [-c FILE] [--store FILE]

The audit: who made and revoked tokens, opened names, was refused, read the audit;
when weir started and stopped. Each row holds the hash of the one before. verify
walks along the whole chain and prints the hash of its end; a copy elsewhere, such
as what a SIEM read from the feed, must have the same rows. With
console.audit_key_file weir signs the chain's end every hour, and verify checks
that with the key of the configuration or of --key. show prints the rows.

Flags:
  -c FILE        configuration: where the store is
  --store FILE   the store (default weir.db)
  --key FILE     the key that signs, in PEM; its public half is enough; repeatable

Exit: 0 the chain is whole; 1 it is not, or cannot be read; 2 usage.
`

func runAudit(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var path, store string
	var keys listFlag
	fs := flag.NewFlagSet("audit", flag.ContinueOnError)
	fs.StringVar(&path, "c", "", "")
	fs.StringVar(&store, "store", "", "")
	fs.Var(&keys, "key", "")
	rest, code, done := parseFlags(fs, auditHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) != 1 || rest[0] != "verify" && rest[0] != "show" {
		fmt.Fprint(stderr, auditHelp)
		return exitUsage
	}
	cfg, err := loadConfig(path)
	if err == nil {
		if store != "" {
			cfg.Store.Path = store
		}
		if cfg.Console.AuditKeyFile != "" && len(keys) == 0 {
			keys = listFlag{cfg.Console.AuditKeyFile}
		}
		err = readStore(cfg.Store.Path, func(db *sqlite.DB) error {
			if rest[0] == "show" {
				return showAudit(ctx, db, stdout)
			}
			return verifyAudit(ctx, db, keys, stdout)
		})
	}
	if err != nil {
		fmt.Fprintf(stderr, "weir audit %s: %v\n", rest[0], err)
		return exitFailed
	}
	return exitOK
}

// readStore opens a store for reading, beside the weir run that may have it.
func readStore(path string, f func(*sqlite.DB) error) error {
	db, err := sqlite.Open(path, sqlite.Options{ReadOnly: true, Readers: 1})
	if err != nil {
		return err
	}
	defer db.Close()
	return f(db)
}

func verifyAudit(ctx context.Context, db *sqlite.DB, files []string, stdout io.Writer) error {
	keys := make([]*console.AuditKey, len(files))
	for i, file := range files {
		var err error
		if keys[i], err = console.LoadAuditKey(file); err != nil {
			return err
		}
	}
	c, err := db.CheckAudit(ctx)
	if err != nil {
		return err
	}
	if c.Broken != 0 {
		return fmt.Errorf("the chain breaks at row %d: %s", c.Broken, c.Why)
	}
	if c.Rows == 0 && len(keys) == 0 {
		fmt.Fprintln(stdout, "the audit is empty")
		return nil
	}
	n, err := checkSignatures(ctx, db, keys)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "whole: rows %d to %d, sha256:%x\n", c.First, c.Last, c.Hash)
	return n.say(stdout, len(keys), c.Last)
}

func showAudit(ctx context.Context, db *sqlite.DB, stdout io.Writer) error {
	for seq := int64(0); ; {
		rows, err := db.AuditAfter(ctx, seq, 500)
		if err != nil || len(rows) == 0 {
			return err
		}
		for i := range rows {
			fmt.Fprintf(stdout, "%s\n", auditRow(&rows[i]))
			seq = rows[i].Seq
		}
	}
}
