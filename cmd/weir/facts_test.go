package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// hop is the log as one of several hops writes it: JSON with the request's id,
// stamped a moment later than the hop before it.
func hop(log []entry, delay int) []byte {
	var b bytes.Buffer
	for i, e := range log {
		ip, rest, _ := strings.Cut(e.text, " ")
		_, request, _ := strings.Cut(rest, `"`)
		var method, path, protocol string
		var status, size int
		if _, err := fmt.Sscanf(strings.ReplaceAll(request, `"`, " "), "%s %s %s %d %d", &method, &path, &protocol, &status, &size); err != nil {
			panic(err)
		}
		agent := request[strings.LastIndex(strings.TrimSuffix(request, "\"\n"), `"`)+1 : len(request)-2]
		fmt.Fprintf(&b, `{"time":"%s.%03dZ","remote_addr":%q,"method":%q,"path":%q,"status":%d,"bytes":%d,"user_agent":%q,"request_id":"r%d"}`+"\n",
			e.at.Format("2006-01-02T15:04:05"), delay, ip, method, path, status, size, agent, i)
	}
	return b.Bytes()
}

// TestDedupe: two hops that log the same requests give the alerts of one, across
// kills; both logs are stored whole.
func TestDedupe(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	log := trafficLog(*killSeed)
	one := writeFile(t, dir, "one.jsonl", hop(log, 1))
	two := writeFile(t, dir, "two.jsonl", hop(log, 9))
	ref := referenceFor(t, map[string][]byte{"one.jsonl": hop(log, 1)})
	store := filepath.Join(dir, "weir.db")
	config := writeFile(t, dir, "weir.yaml", fmt.Appendf(nil,
		"collect: [{file: %q, dedupe: request_id, sample_rate: 0.5}, {file: %q, dedupe: request_id}]\n", one, two))
	args := []string{"run", "-c", config, "--store", store, "--listen", "127.0.0.1:0", "--edition", ref.edition}
	d := startDaemon(t, args...)
	eventually(t, "something is stored", d, func() bool { return d.metric("weir_requests_total") > 0 })
	d.kill(t)
	d = startDaemon(t, args...)
	d.waitReady(t)
	eventually(t, "all is detected", d, func() bool {
		return drained(t, store, int64(2*len(log)), 2) && d.metric("weir_detect_lag_records") == 0
	})
	d.stop(t)
	got := storedAlerts(t, store)
	// What the log says of sources is enough to compute the alerts again.
	file := writeFile(t, dir, "alerts.jsonl", []byte(strings.Join(got, "\n")+"\n"))
	if r := weir(t, "verify", "-c", config, "--store", store, file); r.code != exitOK {
		t.Errorf("verify: exit %d\n%s%s", r.code, r.stdout, r.stderr)
	}
	// So does an analysis under the same configuration.
	mustBeSame(t, "analyze", analyzed(t, "-c", config, "--edition", ref.edition, one, two), got)
	for i := range got {
		if !strings.Contains(got[i], `"sampled":0.5,`) {
			t.Errorf("an alert does not say that half is shown: %.300s", got[i])
		}
		got[i] = strings.ReplaceAll(got[i], `"sampled":0.5,`, `"sampled":1,`)
	}
	mustBeSame(t, "two hops", ref.alerts, got)
}

// TestSourceOf: which configured source an input is a log of.
func TestSourceOf(t *testing.T) {
	c, err := parseConfig([]byte(`collect:
  - {file: /var/log/a/access.log, timezone: Europe/Berlin}
  - {file: "/var/log/b/*.log", format: json, fields: {path: u}}
  - syslog: {listen: "udp://127.0.0.1:5514"}
`))
	if err != nil {
		t.Fatal(err)
	}
	f := func(name string, flags collectConfig, want string) {
		t.Helper()
		how := c.read(name, flags)
		if got := strings.TrimSpace(fmt.Sprint(how.File, " ", how.Format, " ", how.Timezone, " ", len(how.Fields))); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	auto := collectConfig{Format: "auto"}
	f("/var/log/a/access.log", auto, "/var/log/a/access.log  Europe/Berlin 0")
	f("/var/log/a/../a/access.log.2.gz", auto, "/var/log/a/access.log  Europe/Berlin 0")
	f("/var/log/a/access.log-20261130", auto, "/var/log/a/access.log  Europe/Berlin 0")
	f("/var/log/a/access.logs", auto, "auto  0")
	f("/var/log/b/x.log", auto, "/var/log/b/*.log json  1")
	f("/var/log/b/x.log", collectConfig{Format: "combined", Timezone: "UTC"}, "/var/log/b/*.log combined UTC 0")
	f("other.log", auto, "auto  0")
	f("-", auto, "auto  0")
	c.Collect = c.Collect[:1]
	f("other.log", auto, "/var/log/a/access.log  Europe/Berlin 0")
	f("-", collectConfig{LogFormat: "$request"}, "/var/log/a/access.log  Europe/Berlin 0")
}

// TestCopiesCount: equal lines all count, three hops of one request count once,
// and what a sample shows is said to be one.
func TestCopiesCount(t *testing.T) {
	dir := t.TempDir()
	line := func(at string, id string) string {
		return fmt.Sprintf(`{"time":%q,"remote_addr":"203.0.113.7","method":"POST","path":"/login","status":401,"bytes":64,"user_agent":"app","login_user":"ann","request_id":%q}`+"\n", at, id)
	}
	f := func(name, how string, want int64, sampled string, logs ...string) {
		t.Helper()
		collect := ""
		var paths []string
		for i, log := range logs {
			path := writeFile(t, dir, fmt.Sprintf("%s-%d.json", name, i), []byte(log))
			paths = append(paths, path)
			collect += fmt.Sprintf("  - {file: %q%s}\n", path, how)
		}
		var stdout, stderr bytes.Buffer
		a := &analysis{
			o: analyzeOptions{
				how: collectConfig{Format: "auto"}, output: "json", workers: 1, blindspots: filepath.Join(dir, "blind.json"),
				config: writeFile(t, dir, name+".yaml", []byte("collect:\n"+collect)),
			},
			stdout: bufio.NewWriter(&stdout), stderr: &stderr, start: time.Now(),
		}
		if code := a.run(t.Context(), paths, nil); code != exitOK {
			t.Fatalf("%s: exit %d: %s", name, code, stderr.String())
		}
		_ = a.stdout.Flush()
		if a.engine.requests != want {
			t.Errorf("%s: %d requests count, want %d", name, a.engine.requests, want)
		}
		if got := stdout.String(); !strings.Contains(got, `"auth.bruteforce"`) || !strings.Contains(got, `"sampled":`+sampled+`,`) {
			t.Errorf("%s: no alert, or none that says %s is shown: %s%s", name, sampled, got, stderr.String())
		}
		blind, err := os.ReadFile(filepath.Join(dir, "blind.json"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(blind), `"sampling"`); got != (sampled != "1") {
			t.Errorf("%s: the blind spots say that a sample is shown: %t", name, got)
		}
	}
	var equal strings.Builder
	hops := make([]strings.Builder, 3)
	for s := range 3 {
		for range 100 {
			equal.WriteString(line(fmt.Sprintf("2026-03-02T10:00:%02dZ", s), ""))
		}
		for i := range 100 {
			for h := range hops {
				hops[h].WriteString(line(fmt.Sprintf("2026-03-02T10:00:%02d.%03dZ", s, i*9+h), fmt.Sprintf("r%d-%d", s, i)))
			}
		}
	}
	f("equal", "", 300, "1", equal.String())
	f("hops", ", dedupe: request_id", 300, "1", hops[0].String(), hops[1].String(), hops[2].String())
	f("alone", "", 900, "1", hops[0].String(), hops[1].String(), hops[2].String())
	f("sample", ", sample_rate: 0.1", 300, "0.1", equal.String())
}
