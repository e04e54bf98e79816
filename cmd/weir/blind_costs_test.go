package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestBlindSpotsCost: a labelled log is analyzed without one field at a time. The
// detectors that lose episodes by that are those that the report names, and the
// other way round; what it calls later takes more requests.
func TestBlindSpotsCost(t *testing.T) {
	dir := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop")
	labels := filepath.Join(dir, "labels.ndjson")
	packed, err := os.Open(filepath.Join(dir, "access.json.gz"))
	if err != nil {
		t.Skipf("the labelled log is not there: %v", err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	whole := costOf(t, labels, all)
	if len(whole.lost) != 0 || len(whole.found) < 9 || len(whole.report.Data) != 0 {
		t.Fatalf("the whole log: lost %v, found %v, blind %+v", whole.lost, whole.found, whole.report.Data)
	}
	// What the log has no episode of: the report may name it.
	unlabelled := []string{"enum.object on objects of others that are handed out"}
	f := func(name string, members ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := costOf(t, labels, withoutMembers(t, all, members...))
			var named, late []string
			for _, s := range got.report.Data {
				switch {
				case whole.episodes[s.Detector] == 0 || slices.Contains(unlabelled, s.Detector+" "+s.Attacks):
				case s.Loses == losesAll && got.found[s.Detector] > 0:
					t.Errorf("%s loses nothing of %d episodes, and the report says that it sees none", s.Detector, got.found[s.Detector])
				case s.Loses == losesAll || s.Loses == losesSome:
					named = append(named, s.Detector)
				case s.Loses == losesTime:
					late = append(late, s.Detector)
				case s.Loses == losesPrecision && got.false <= whole.false:
					t.Errorf("%s: %d false alerts, %d with the field", s.Detector, got.false, whole.false)
				}
			}
			slices.Sort(named)
			if !slices.Equal(slices.Compact(named), got.lost) {
				t.Errorf("episodes are lost by %v, the report names %v:\n%s", got.lost, named, got.text)
			}
			for _, d := range late {
				if got.requests[d] <= whole.requests[d] {
					t.Errorf("%s takes %d requests, %d with the field: not later", d, got.requests[d], whole.requests[d])
				}
			}
			for d, n := range got.requests {
				if n > whole.requests[d]*5/4 && !slices.Contains(late, d) && !slices.Contains(named, d) {
					t.Errorf("%s takes %d requests, %d with the field, and the report does not say so:\n%s", d, n, whole.requests[d], got.text)
				}
			}
		})
	}
	f("login_user", "login_user")
	f("user", "user")
	f("api_key", "api_key_id")
	f("session", "session")
	f("forwarded", "xff")
	f("bytes", "body_bytes_sent")
	f("agent", "user_agent")
	f("host", "host")
	f("referer", "referer")
	f("status", "status")
	f("method", "method")
	f("address", "remote_addr", "peer_addr")
	f("query", "?")
	f("behind one proxy", "=10.0.0.1")
}

// blindCosts is what an analysis found of the labelled episodes.
type blindCosts struct {
	report   blindReport
	text     string
	episodes map[string]int // by detector
	found    map[string]int
	requests map[string]int64 // until they were found, in sum
	lost     []string         // detectors that lose episodes, sorted
	false    int
}

func costOf(t *testing.T, labels string, log []byte) blindCosts {
	t.Helper()
	dir := t.TempDir()
	path, out := writeFile(t, dir, "access.json", log), filepath.Join(dir, "blind.json")
	var stdout, stderr bytes.Buffer
	a := &analysis{
		o:      analyzeOptions{how: collectConfig{Format: "auto"}, labels: labels, blindspots: out, output: "json", workers: 1},
		stdout: bufio.NewWriter(&stdout), stderr: &stderr, start: time.Now(),
	}
	if code := a.run(t.Context(), []string{path}, nil); code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr.String())
	}
	c := blindCosts{episodes: map[string]int{}, found: map[string]int{}, requests: map[string]int64{}}
	body, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(body, &c.report); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	a.blind.write(&b, 0)
	c.text = b.String()
	ev := Evaluate(a.labels, a.all, a.traffic)
	c.false = ev.False
	for _, r := range ev.Results {
		c.episodes[r.Type]++
		if r.Alerts == 0 {
			c.lost = append(c.lost, r.Type)
			continue
		}
		c.found[r.Type]++
		c.requests[r.Type] += *r.Requests
	}
	slices.Sort(c.lost)
	c.lost = slices.Compact(c.lost)
	return c
}

// withoutMembers returns the log without members, which are given other names;
// "?" takes queries off, "=X" makes X everybody's address.
func withoutMembers(t *testing.T, log []byte, members ...string) []byte {
	t.Helper()
	out := log
	for _, name := range members {
		before := out
		switch {
		case name == "?":
			out = regexp.MustCompile(`("uri":"[^?"]*)\?(?:[^"\\]|\\.)*`).ReplaceAll(out, []byte("$1"))
		case name[0] == '=':
			out = regexp.MustCompile(`("(?:remote|peer)_addr":)"[^"]*"`).ReplaceAll(out, []byte(`$1"`+name[1:]+`"`))
			out = bytes.ReplaceAll(out, []byte(`"xff":`), []byte(`"gone":`))
		default:
			out = bytes.ReplaceAll(out, []byte(`"`+name+`":`), []byte(`"gone":`))
		}
		if bytes.Equal(before, out) {
			t.Fatalf("no line has %s", name)
		}
	}
	return out
}
