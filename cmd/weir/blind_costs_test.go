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

// labelledSet is a log with its truth.
type labelledSet struct {
	labels string
	log    []byte
	whole  blindCosts
	// absent are attacks of which the set has no episode, though it has others of
	// their detectors: the report may name them.
	absent []string
}

// TestBlindSpotsCost: labelled logs are analyzed without one field at a time. The
// detectors that lose episodes by that are those that the report names, and the
// other way round; what it calls later takes more requests.
func TestBlindSpotsCost(t *testing.T) {
	t.Run("recorded", func(t *testing.T) {
		t.Parallel()
		dir := filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop")
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
		s := &labelledSet{
			labels: filepath.Join(dir, "labels.ndjson"), log: all,
			absent: []string{"enum.object on objects of others that are handed out"},
		}
		s.run(t, 9, "login_user", "user", "api_key_id session xff body_bytes_sent host referer", "user_agent", "status", "method", "remote_addr peer_addr", "?", "=10.0.0.1")
	})
	t.Run("made up", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		path, labels := filepath.Join(dir, "access.json"), filepath.Join(dir, "labels.ndjson")
		if r := weir(t, "simulate", "--quiet", "--scenario", "tiny-attacks", "--out", path, "--labels", labels); r.code != exitOK {
			t.Fatalf("simulate: exit %d: %s", r.code, r.stderr)
		}
		all, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s := &labelledSet{
			labels: labels, log: all,
			absent: []string{"enum.object on objects of others that are handed out", "auth.stuffing by many clients", "enum.object by clients without them", "data.exposure by clients without them"},
		}
		s.run(t, 8, "login_user", "user", "api_key session ja4", "body_bytes_sent", "status", "request_method", "remote_addr", "=10.0.0.1")
	})
}

// run analyzes the log as it is, which must give found detectors or more, then
// without each of fields.
func (s *labelledSet) run(t *testing.T, found int, fields ...string) {
	s.whole = costOf(t, s.labels, s.log)
	if len(s.whole.found) < found || len(s.whole.report.Data) != 0 {
		t.Fatalf("the whole log: found %v, blind %+v", s.whole.found, s.whole.report.Data)
	}
	for _, field := range fields {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			s.compare(t, costOf(t, s.labels, withoutMembers(t, s.log, strings.Fields(field)...)))
		})
	}
}

func (s *labelledSet) compare(t *testing.T, got blindCosts) {
	var named, late, lost []string
	for _, spot := range got.report.Data {
		switch {
		case s.whole.found[spot.Detector] == 0 || slices.Contains(s.absent, spot.Detector+" "+spot.Attacks):
		case spot.Loses == losesAll && got.found[spot.Detector] > 0:
			t.Errorf("%s finds %d episodes, and the report says that it sees none", spot.Detector, got.found[spot.Detector])
		case spot.Loses == losesAll || spot.Loses == losesSome:
			named = append(named, spot.Detector)
		case spot.Loses == losesTime:
			late = append(late, spot.Detector)
		case spot.Loses == losesPrecision && got.false <= s.whole.false:
			t.Errorf("%s: %d false alerts, %d with the field", spot.Detector, got.false, s.whole.false)
		}
	}
	for d, n := range s.whole.found {
		if got.found[d] < n {
			lost = append(lost, d)
		}
	}
	slices.Sort(named)
	slices.Sort(lost)
	if named = slices.Compact(named); !slices.Equal(named, lost) {
		t.Errorf("episodes are lost by %v, the report names %v:\n%s", lost, named, got.text)
	}
	for _, d := range late {
		if got.requests[d] <= s.whole.requests[d] && !slices.Contains(lost, d) {
			t.Errorf("%s takes %d requests, %d with the field: not later", d, got.requests[d], s.whole.requests[d])
		}
	}
	for d, n := range got.requests {
		if n > s.whole.requests[d]*5/4+2 && !slices.Contains(late, d) && !slices.Contains(named, d) {
			t.Errorf("%s takes %d requests, %d with the field, and the report does not say so:\n%s", d, n, s.whole.requests[d], got.text)
		}
	}
}

// blindCosts is what an analysis found of the labelled episodes.
type blindCosts struct {
	report   blindReport
	text     string
	found    map[string]int   // episodes, by detector
	requests map[string]int64 // until they were found, in sum
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
	c := blindCosts{found: map[string]int{}, requests: map[string]int64{}}
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
		if r.Alerts > 0 {
			c.found[r.Type]++
			c.requests[r.Type] += *r.Requests
		}
	}
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
