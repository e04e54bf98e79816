package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"path"

	"weir/storage/clickhouse"
)

const migrateHelp = `Usage: weir migrate -c weir.yaml

Brings the schema of store.clickhouse up to date: makes the database and its
tables, or changes those of an older weir, and sets how long rows stay. It is
safe to run again. The roles of a fleet refuse to start before it was run.

The embedded store (weir.db) brings itself up to date and needs none of this.

Flags:
  -c FILE   configuration
`

func runMigrate(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	var file string
	fs := flag.NewFlagSet("migrate", flag.ContinueOnError)
	fs.StringVar(&file, "c", "", "")
	rest, code, done := parseFlags(fs, migrateHelp, args, stdout, stderr)
	if done {
		return code
	}
	if len(rest) > 0 || file == "" {
		fmt.Fprint(stderr, migrateHelp)
		return exitUsage
	}
	if err := migrate(ctx, file, stdout); err != nil {
		fmt.Fprintf(stderr, "weir migrate: %v\n", err)
		return exitFailed
	}
	return exitOK
}

func migrate(ctx context.Context, file string, stdout io.Writer) error {
	cfg, err := loadConfig(file)
	if err != nil {
		return err
	}
	if cfg.Store.ClickHouse == nil {
		return errNoClickHouse
	}
	o, err := cfg.Store.ClickHouse.options()
	if err != nil {
		return err
	}
	applied, err := clickhouse.Migrate(ctx, o, cfg.clickHouseRetention())
	for _, name := range applied {
		fmt.Fprintf(stdout, "%s applied\n", path.Base(name))
	}
	if err == nil && len(applied) == 0 {
		_, err = fmt.Fprintln(stdout, "The schema is up to date.")
	}
	return err
}
