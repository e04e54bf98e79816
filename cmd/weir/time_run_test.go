package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
	"weir/storage"
)

// stamped is a line in combined form.
func stamped(at time.Time, ip, method, path string, status int) string {
	return fmt.Sprintf(`%s - - [%s] "%s %s HTTP/1.1" %d %d "-" "Mozilla/5.0 (X11; Linux x86_64) Firefox/125.0"`,
		ip, at.Format("02/Jan/2006:15:04:05 -0700"), method, path, status, 500+len(path))
}

// TestSourcesApartInTime: beside a live log one is ten minutes fast, one an hour
// late, and one silent; the alerts are those of analyze on the same files.
func TestSourcesApartInTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	names := []string{"live.log", "fast.log", "late.log", "silent.log"}
	offset := map[string]time.Duration{"fast.log": 10 * time.Minute, "late.log": -time.Hour}
	config, paths := "collect:\n", []string(nil)
	for _, name := range names {
		config += "  - {file: DIR/" + name + ", format: combined}\n"
		paths = append(paths, filepath.Join(dir, name))
	}
	keys := fmt.Sprintf("privacy: {key_file: %q}\n", filepath.Join(dir, "key"))
	ordinary := func(r *liveRun, name string, i int) {
		at := time.Now().Add(offset[name])
		r.log(name, stamped(at, fmt.Sprintf("203.0.113.%d", i%60), "GET", fmt.Sprintf("/page-%d", i%9), 200))
	}
	got := map[string]string{}
	for _, a := range runLive(t, dir, config+keys, editionFile(t, dir), func(r *liveRun) {
		for _, name := range names {
			ordinary(r, name, 0)
		}
	}, func(r *liveRun) {
		for i := range 4 * 60 {
			for n, name := range names[:3] {
				ordinary(r, name, i*3+n)
				if i >= 60 && i < 160 { // each has an attacker of its own
					r.log(name, stamped(time.Now().Add(offset[name]), fmt.Sprintf("198.51.100.%d", n+1), "POST", "/login", 401))
				}
			}
			time.Sleep(time.Second)
		}
		time.Sleep(11 * time.Minute) // the fast log's stamps pass
	}) {
		if !strings.HasPrefix(a.Detector, "health.") {
			got[a.ID] = canonical(a)
		}
	}
	want := map[string]string{} // the latest revisions
	for _, line := range analyzed(t, append([]string{"-c", writeFile(t, dir, "weir.yaml", []byte(keys)), "--edition", filepath.Join(dir, "edition.json")}, paths...)...) {
		var a pipeline.Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		want[a.ID] = line
	}
	if len(want) != 3 {
		t.Errorf("analyze has %d alerts, want one for each attacker", len(want))
	}
	for id, line := range want {
		if got[id] != line {
			t.Errorf("run differs in %s:\n%s", id, cmp.Diff(indented(line), indented(got[id])))
		}
	}
	if len(got) != len(want) {
		t.Errorf("run has %d alerts, analyze %d", len(got), len(want))
	}
}

// editionFile writes the edition that weir ships.
func editionFile(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "edition.json")
	edition := pipeline.ShippedEdition()
	edition.Number = 1 // as run counts
	if err := pipeline.WriteEdition(path, edition); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLastLineAlerts: a log stops with the line that proves an attack; the alert
// is stored within the source's lateness and two seconds, whatever other sources
// do.
func TestLastLineAlerts(t *testing.T) {
	t.Parallel()
	f := func(name, options string, lateness time.Duration, others int, live bool) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config := "collect:\n  - {file: DIR/access.log, format: combined" + options + "}\n"
			for i := range others {
				config += fmt.Sprintf("  - {file: DIR/other%d.log, format: combined}\n", i)
			}
			ordinary := func(r *liveRun, name string, i int) {
				r.log(name, stamped(time.Now(), fmt.Sprintf("203.0.113.%d", i%60), "GET", fmt.Sprintf("/page-%d", i%9), 200))
			}
			took := time.Duration(-1)
			runLive(t, dir, config, editionFile(t, dir), func(r *liveRun) {
				ordinary(r, "access.log", 0)
				for i := range others {
					ordinary(r, fmt.Sprintf("other%d.log", i), 0)
				}
			}, func(r *liveRun) {
				for i := range 60 {
					ordinary(r, "access.log", i)
					for n := range others {
						if live || i < 20 {
							ordinary(r, fmt.Sprintf("other%d.log", n), i)
						}
					}
					if i >= 20 && i < 47 {
						r.log("access.log", stamped(time.Now(), "198.51.100.1", "POST", "/login", 401))
					}
					time.Sleep(time.Second)
				}
				// One after the other until an alert is there: the last line proves it.
				for i := range 60 {
					r.log("access.log", stamped(time.Now(), "198.51.100.1", "POST", "/login", 401))
					last := time.Now()
					for time.Since(last) < lateness+30*time.Second && took < 0 {
						if live {
							for n := range others {
								ordinary(r, fmt.Sprintf("other%d.log", n), i)
							}
						}
						time.Sleep(100 * time.Millisecond)
						list, err := r.db().Alerts(r.t.Context(), storage.AlertFilter{Detector: "auth.bruteforce"})
						if err != nil {
							t.Fatal(err)
						}
						if len(list) > 0 {
							took = time.Since(last)
						}
					}
					if took >= 0 {
						break
					}
				}
			})
			if took < 0 || took > lateness+2*time.Second {
				t.Errorf("the alert came %s after the last line, want %s at most", took, lateness+2*time.Second)
			}
		})
	}
	f("alone", "", 0, 0, false)
	f("alone out of order", ", lateness: 5s", 5*time.Second, 0, false)
	f("beside live ones", "", 0, 2, true)
	f("beside a silent one", "", 0, 1, false)
	f("beside silent ones out of order", ", lateness: 3s", 3*time.Second, 2, false)
}
