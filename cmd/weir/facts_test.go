package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
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
	for i := range got {
		if !strings.Contains(got[i], `"sampled":0.5,`) {
			t.Errorf("an alert does not say that half is shown: %.300s", got[i])
		}
		got[i] = strings.ReplaceAll(got[i], `"sampled":0.5,`, `"sampled":1,`)
	}
	mustBeSame(t, "two hops", ref.alerts, got)
}
