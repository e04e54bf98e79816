package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"weir/alerts"
	"weir/pipeline"
)

// alertsOf are the alerts of JSON lines, the last revision of each.
func alertsOf(t *testing.T, out []byte) (ids []string, last map[string]pipeline.Alert) {
	t.Helper()
	last = map[string]pipeline.Alert{}
	for line := range bytes.Lines(out) {
		var a pipeline.Alert
		if err := json.Unmarshal(line, &a); err != nil {
			t.Fatal(err)
		}
		if _, ok := last[a.ID]; !ok {
			ids = append(ids, a.ID)
		}
		last[a.ID] = a
	}
	return ids, last
}

var tracedLine = regexp.MustCompile(`(?m)^ +(?:[-+][0-9.]+|-)  \S+Z  \S+  .*:([0-9]+)$`)

// TestExplainListsTheEvidence: without the lines that explain lists, which are
// taken out of the log itself, the alert is not there under the same edition.
func TestExplainListsTheEvidence(t *testing.T) {
	t.Parallel()
	f := func(t *testing.T, log []byte) {
		dir := t.TempDir()
		path := writeFile(t, dir, "access.log", log)
		edition := filepath.Join(dir, "e.json")
		got := weir(t, "analyze", "--quiet", "--output", "json", "--edition-out", edition, path)
		ids, last := alertsOf(t, got.stdout)
		checked := 0
		tried := map[string]int{}
		for _, id := range ids {
			a := last[id]
			if tried[a.Detector]++; a.Level == "campaign" || tried[a.Detector] > 2 {
				continue
			}
			said := weir(t, "explain", "--alert", id, "--events", "--edition", edition, path)
			if said.code != exitOK || !bytes.Contains(said.stdout, []byte("does not fire.")) {
				t.Errorf("%s %s: exit %d, %s\n%.2000s", a.Detector, a.Principal.Value, said.code, said.stderr, said.stdout)
				continue
			}
			drop := map[string]bool{}
			for _, m := range tracedLine.FindAllSubmatch(said.stdout, -1) {
				drop[string(m[1])] = true
			}
			var rest []byte
			n := 0
			for line := range bytes.Lines(log) {
				if n++; !drop[strconv.Itoa(n)] {
					rest = append(rest, line...)
				}
			}
			if len(drop) == 0 || n-bytes.Count(rest, []byte("\n")) != len(drop) {
				t.Errorf("%s: %d lines listed", id, len(drop))
			}
			without := weir(t, "analyze", "--quiet", "--output", "json", "--edition", edition, writeFile(t, dir, "rest.log", rest))
			_, left := alertsOf(t, without.stdout)
			for _, b := range left {
				if b.Detector == a.Detector && b.Principal == a.Principal {
					t.Errorf("%s against %s is still there without its %d lines", a.Detector, a.Principal.Value, len(drop))
				}
			}
			checked++
		}
		if checked < 2 {
			t.Errorf("%d alerts checked", checked)
		}
	}
	t.Run("generated", func(t *testing.T) { t.Parallel(); f(t, text(trafficLog(1))) })
	t.Run("tools_shop", func(t *testing.T) {
		if testing.Short() {
			t.Skip("short mode")
		}
		t.Parallel()
		packed, err := os.Open(filepath.Join(repositoryRoot(t), "..", "shared", "data", "tools_shop", "access.log.gz"))
		if err != nil {
			t.Skipf("the data is not here: %v", err)
		}
		defer packed.Close()
		z, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		f(t, data)
	})
}

// TestComparedTakesEveryByte: of an alert no byte can change unseen, but in
// envelope and in the exemplars' source.
func TestComparedTakesEveryByte(t *testing.T) {
	t.Parallel()
	a := pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: "7f3c", Revision: 2, Title: `a "quoted" title, with [brackets] {and} envelope`,
		Exemplars: []pipeline.Exemplar{{Path: "/a", Source: "access.log:1"}, {Path: "/b", Source: "access.log:22"}},
		Envelope:  pipeline.AlertEnvelope{Triage: map[string]any{"note": "mine", "source": "x"}},
	}
	line := alerts.AppendJSON(nil, &a)
	want, err := compared(line)
	if err != nil {
		t.Fatal(err)
	}
	free := func(i int) bool {
		for _, s := range []string{`"access.log:1"`, `"access.log:22"`} {
			if at := bytes.Index(line, []byte(s)); i >= at && i < at+len(s) {
				return true
			}
		}
		at := bytes.LastIndex(line, []byte(`"envelope":`)) + len(`"envelope":`)
		return i >= at && i < len(line)-1
	}
	unseen, inside := 0, 0
	for i := range line {
		for _, flip := range []byte{1, 2, 0x20} {
			changed := slices.Clone(line)
			changed[i] ^= flip
			got, err := compared(changed)
			same := err == nil && bytes.Equal(got, want)
			if free(i) {
				inside++
				if same {
					unseen++
				}
			} else if same {
				t.Errorf("byte %d may become %q in %q", i, changed[i], changed[max(0, i-20):min(len(line), i+20)])
			}
		}
	}
	if unseen == 0 || inside == 0 {
		t.Error("what is left out is compared")
	}
	spaced, err := compared([]byte(strings.ReplaceAll(string(line), `,"id"`, `, "id"`)))
	if err != nil || !bytes.Equal(spaced, want) {
		t.Errorf("a space between members counts: %v", err)
	}
	for _, bad := range []string{"", "{", "[]", "null", `{"exemplars":{}}`, `{"exemplars":[1]}`, `{"envelope":{}`} {
		if got, err := compared([]byte(bad)); err == nil {
			t.Errorf("%q gives %q", bad, got)
		}
	}
}

func FuzzCompared(f *testing.F) {
	f.Add([]byte(`{"exemplars":[{"source":"x"}],"envelope":{}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := compared(line)
		if err != nil {
			return
		}
		again, err := compared(got)
		if err != nil || !bytes.Equal(got, again) {
			t.Errorf("%q, then %q: %v", got, again, err)
		}
	})
}

// TestVerifyFails after one changed byte, in the alert and in the log behind it,
// and holds for what the service stored.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	log := trafficLog(1)
	data := text(log)
	dir := t.TempDir()
	path, edition := writeFile(t, dir, "access.log", data), filepath.Join(dir, "e.json")
	out := weir(t, "analyze", "--quiet", "--output", "json", "--edition-out", edition, path).stdout
	_, last := alertsOf(t, out)
	if len(last) < 2 {
		t.Fatalf("%d alerts", len(last))
	}
	first := out // the first about an address
	for line := range bytes.Lines(out) {
		if bytes.Contains(line, []byte(`"principal":{"kind":"ip"`)) {
			first = line
			break
		}
	}
	at := bytes.Index(first, []byte(`"nats":`)) + len(`"nats":`)
	changed := slices.Clone(out)
	changed[bytes.Index(out, first)+at] ^= 1
	if got := weir(t, "verify", "--edition", edition, writeFile(t, dir, "changed.json", changed), path); got.code != exitFailed || !strings.Contains(got.stderr, "line ") {
		t.Errorf("a changed number: exit %d, %s", got.code, got.stderr)
	}
	// The status of an abuser in the log.
	var a pipeline.Alert
	if err := json.Unmarshal(first, &a); err != nil {
		t.Fatal(err)
	}
	at = bytes.Index(data, []byte(a.Principal.Value+" "))
	at += bytes.Index(data[at:], []byte(`" 4`)) + 2
	forged := slices.Clone(data)
	forged[at] ^= 6 // 4xx becomes 2xx
	alertFile := writeFile(t, dir, "alerts.json", out)
	if got := weir(t, "verify", "--edition", edition, alertFile, writeFile(t, dir, "forged.log", forged)); got.code != exitFailed {
		t.Errorf("a changed status in the log: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := weir(t, "verify", "--edition", edition, alertFile, path); got.code != exitOK {
		t.Errorf("the true log: exit %d, %s", got.code, got.stderr)
	}

	f := newFeed(t, filepath.Join(dir, "live.log"), data, 1)
	store := follow(t, []*feed{f}, 0, "--edition", edition)
	var stored []byte
	var id string
	for _, r := range storedRevisions(t, store) {
		stored = append(alerts.AppendJSON(stored, &r.Alert), '\n')
		id = r.Alert.ID
	}
	storedFile := writeFile(t, dir, "stored.json", stored)
	if got := weir(t, "verify", storedFile, "--store", store); got.code != exitOK || bytes.Count(got.stdout, []byte("as recomputed")) < 2 {
		t.Errorf("from the store: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	stored[bytes.Index(stored, []byte(`"nats":`))+len(`"nats":`)] ^= 1
	if got := weir(t, "verify", writeFile(t, dir, "stored2.json", stored), "--store", store); got.code != exitFailed {
		t.Errorf("a changed number, from the store: exit %d", got.code)
	}
	if got := weir(t, "explain", "--alert", id, "--events", "--store", store); got.code != exitOK || !bytes.Contains(got.stdout, []byte("does not fire.")) {
		t.Errorf("explain from the store: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
	if got := weir(t, "explain", "--client", "ip:"+a.Principal.Value, "--store", store); got.code != exitOK || !bytes.Contains(got.stdout, []byte("  alert ")) {
		t.Errorf("explain a client from the store: exit %d, %s%s", got.code, got.stdout, got.stderr)
	}
}
