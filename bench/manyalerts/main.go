// Manyalerts fills a store with copies of the alerts in it, each under an id, a
// client and times of its own: a desk after months, for measuring the console.
// weir must not run on the store meanwhile.
//
//	go run ./bench/manyalerts -store weir.db -n 100000
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"weir/pipeline"
	"weir/storage"
	"weir/storage/sqlite"
)

func main() {
	path := flag.String("store", "weir.db", "the store")
	n := flag.Int("n", 100_000, "alerts to add")
	step := flag.Duration("every", 20*time.Second, "event time between two of them")
	severity := flag.String("severity", "", "copy only alerts of these severities, separated by commas")
	flag.Parse()
	f := storage.AlertFilter{Limit: 1000}
	if *severity != "" {
		f.Severity = strings.Split(*severity, ",")
	}
	if err := fill(context.Background(), *path, f, *n, *step); err != nil {
		fmt.Fprintln(os.Stderr, "manyalerts:", err)
		os.Exit(1)
	}
}

const batch = 500

func fill(ctx context.Context, path string, f storage.AlertFilter, n int, step time.Duration) (err error) {
	db, err := sqlite.Open(path, sqlite.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	models, err := db.Alerts(ctx, f)
	if err != nil {
		return err
	}
	if len(models) == 0 {
		return errors.New("the store has no alert to copy")
	}
	for i := 0; i < n; i += batch {
		o := storage.Output{Stage: "manyalerts"}
		for k := i; k < min(i+batch, n); k++ {
			o.Alerts = append(o.Alerts, storage.AlertRevision{Alert: copyOf(&models[k%len(models)].Alert, k, step), Backfill: true})
		}
		if err := db.Commit(ctx, o); err != nil {
			return err
		}
	}
	fmt.Printf("%d alerts added to %s\n", n, path)
	return nil
}

// copyOf is the k-th copy of a: the first revision of another alert.
func copyOf(a *pipeline.Alert, k int, step time.Duration) pipeline.Alert {
	c := *a
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", a.ID, k))
	c.ID, c.Revision = hex.EncodeToString(sum[:16]), 1
	c.Change.Kind, c.Change.Text = "opened", ""
	if c.Principal.Kind == pipeline.PrincipalIP {
		address := netip.AddrFrom4([4]byte{10, byte(k >> 16), byte(k >> 8), byte(k)}).String()
		c.Title = strings.ReplaceAll(c.Title, c.Principal.Value, address)
		c.Principal.Value = address
		c.Addresses = []string{address}
	}
	later := pipeline.Time(time.Duration(k) * step / time.Microsecond)
	w := &c.Window
	w.Onset, w.First, w.Last, w.DetectedAt = w.Onset+later, w.First+later, w.Last+later, w.DetectedAt+later
	return c
}
