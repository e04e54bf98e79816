package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	f := func(want string, args ...string) {
		t.Helper()
		var out strings.Builder
		err := run(args, &out, io.Discard)
		got := out.String()
		if err != nil {
			got += err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%v:\n%s\nwant %s", args, got, want)
		}
	}
	sessions := write("s.log", `- - [27/Oct/2019:18:08:18 +0000] "GET /a HTTP/1.1" 200 764 "https://x/" s1 "Mozilla/5.0 (X11)"
- - [27/Oct/2019:18:08:10 +0000] "GET /b HTTP/1.1" 200 764 "-" s1 "Mozilla/5.0 (X11)"
- - [27/Oct/2019:18:08:20 +0000] "GET /b HTTP/1.1" 200 764 "-" s2 "Mozilla/5.0 (X11)"
- - [27/Oct/2019:18:08:20 +0000] "GET /b HTTP/1.1" 200 764 "-" - "Mozilla/5.0 (X11)"
- - [27/Oct/2019:18:08:20 +0000] "GET /b HTTP/1.1" 200 764 "-" "Mozilla/5.0 (X11)"
`)
	tsv := write("labels.tsv", "session_id\tlabel\ns1\tmoderate_bot\ns2\thuman\ns3\tadvanced_bot\n")
	f(`{"end":"2019-10-27T18:08:18Z","episode":"moderate_bot-s1","note":"moderate_bot","principals":["session:s1"],"requests":2,"start":"2019-10-27T18:08:10Z","type":"scrape.crawl"}
{"benign":"human","principals":["session:s2"]}
`, "-sessions", tsv, sessions)
	log := write("w.log", `192.168.4.25 - - [22/Dec/2016:16:30:52 +0300] "GET / HTTP/1.1" 303 382 "-" "x"
192.168.4.25 - - [22/Dec/2016:16:29:05 +0300] "GET / HTTP/1.1" 303 382 "-" "x"
10.0.0.1 - - [22/Dec/2016:16:00:00 +0300] "GET / HTTP/1.1" 303 382 "-" "x"
`)
	f(`{"end":"2016-12-22T13:30:52Z","episode":"whole","note":"","principals":["ip:192.168.4.25"],"requests":2,"start":"2016-12-22T13:29:05Z","type":"probe.path"}`, "-whole", "probe.path", log)
	f("usage:", log)
	f("no line with a client", "-whole", "probe.path", tsv)
	f("want \"id TAB label\"", "-sessions", write("bad.tsv", "a b\n"), sessions)
}

func TestSessionOf(t *testing.T) {
	f := func(in, want string) {
		t.Helper()
		if got := sessionOf(in); got != want {
			t.Errorf("sessionOf(%q) = %q, want %q", in, got, want)
		}
	}
	f(`"r" abc "agent x"`, "abc")
	f(`"r" abc ""`, "abc")
	f(`"r" "agent"`, "")
	f(``, "")
	f(`"`, "")
}
