package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fillDisk takes all room that is left where dir is; removing what it returns
// gives it back.
func fillDisk(t *testing.T, dir string) (ballast string) {
	t.Helper()
	f, err := os.CreateTemp(dir, "ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size >= 1; {
		_, err := f.Write(make([]byte, size))
		switch {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			t.Fatal(err)
		}
	}
	return f.Name()
}

// TestFullDisk: when something else fills the disk, old requests are given up
// and counted, and weir runs on. Nothing else is lost: once there is room, the
// alerts are as if nothing had been.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	})
	log := trafficLog(*killSeed)
	ref := referenceFor(t, map[string][]byte{"access.log": text(log)})
	store := filepath.Join(disk, "weir.db")
	data := text(log)
	f := newFeed(t, filepath.Join(t.TempDir(), "access.log"), data, *killSeed)
	args := []string{"run", "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition, f.path}

	d := startDaemon(t, args...)
	begin(t, d, f)
	for f.written < len(data)/3 {
		f.write(t, 0.02)
	}
	before := bytes.Count(data[:f.written], []byte("\n"))
	eventually(t, "a third is stored and detected", d, func() bool {
		return d.metric("weir_requests_total") == float64(before) && d.metric("weir_detect_lag_records") == 0
	})
	d.stop(t) // what is behind its checkpoint may be shed
	d = startDaemon(t, args...)
	d.waitReady(t)
	ballast := fillDisk(t, disk)
	for f.write(t, 0.02) {
	}
	eventually(t, "old requests are given up", d, func() bool { return d.metric("weir_shed_requests_total") > 0 })
	if status, _, body := d.get("/healthz"); status != 200 {
		t.Errorf("/healthz on a full disk: %d %s", status, body)
	}
	if status, _, _ := d.get("/api/v1/alerts"); status != 200 {
		t.Errorf("/api/v1/alerts on a full disk: %d", status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "all lines are read", d, func() bool {
		return d.metric("weir_requests_total") == float64(len(log)-before) && d.metric("weir_detect_lag_records") == 0
	})
	if n := d.metric("weir_store_full_total"); n < 1 {
		t.Errorf("weir_store_full_total %v: the disk was never full", n)
	}
	if n := d.metric("weir_shed_requests_total"); n < 1 || n > float64(before) {
		t.Errorf("weir_shed_requests_total %v, want 1 to %d", n, before)
	}
	if n := d.metric("weir_replay_differences"); n != 0 {
		t.Errorf("weir_replay_differences %v", n)
	}
	shed := d.metric("weir_shed_requests_total")
	d.stop(t)
	stored := slices.DeleteFunc(storedAlerts(t, store), func(s string) bool {
		return strings.Contains(s, `"detector":"health.loss"`) // told when it takes a minute
	})
	mustBeSame(t, "weir run", ref.alerts, stored)
	db := openStored(t, store)
	defer db.Close()
	st, err := db.Stats(t.Context())
	if err != nil || float64(st.Requests)+shed != float64(len(log)) || float64(st.Shed) != shed {
		t.Errorf("%d requests stored and %d (%v) shed of %d: %v", st.Requests, st.Shed, shed, len(log), err)
	}
}
