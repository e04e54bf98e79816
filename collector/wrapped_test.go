package collector

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrapped(t *testing.T) {
	const (
		combined = `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /caf\xc3\xa9 HTTP/1.1" 200 5 "-" "a \"b\" <é>"`
		want     = `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/café protocol=HTTP/1.1 status=200 bytes=5 agent=a "b" <é>`
	)
	docker := func(line string) string {
		return `{"log":"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "<", `\u003c`, ">", `\u003e`, "é", `\u00e9`).Replace(line) + `\n","stream":"stdout","attrs":{"x":"y"},"time":"2025-10-10T11:55:37.123456789Z"}`
	}
	cri := func(line string) string { return "2025-10-10T11:55:37.123456789Z stdout F " + line }
	f := func(name, line, want string) {
		t.Helper()
		c, err := Named(name, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(c, line); got != want || c.Name != name {
			t.Errorf("%s (%s): %s\n got %s\nwant %s", name, c.Name, line, got, want)
		}
	}
	f("docker", docker(combined), want)
	f("docker", docker(`{"method":"GET","path":"/a😀","status":200}`), `time=2025-10-10T11:55:37.123456Z method=GET path=/a😀 status=200`)
	f("docker", `{"log":"{\"method\":\"GET\",\"path\":\"/\ud83d\ude00\",\"status\":200}\n","stream":"stdout","time":"2025-10-10T11:55:37Z"}`, `time=2025-10-10T11:55:37Z method=GET path=/😀 status=200`)
	f("docker", `{"log":"started\n","stream":"stdout","time":"2025-10-10T11:55:37Z"}`, "reject: format")
	f("docker", `{"log":"\n","stream":"stdout"}`, "reject: skip")
	f("docker", `{"stream":"stdout"}`, "reject: format")
	f("docker", `{"log":"`, "reject: format")
	f("docker+kong", docker(`{"client_ip":"203.0.113.7","started_at":1760097336000,"request":{"method":"GET","uri":"/"},"latencies":{"request":2}}`), `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/ us=2000`)
	f("cri", cri(combined), want)
	f("cri", cri(`{"method":"GET","path":"/a","status":200}`), `time=2025-10-10T11:55:37.123456Z method=GET path=/a status=200`)
	f("cri+haproxy", cri(`203.0.113.7:1 [06/Feb/2025:12:14:14.655] a b/c 1/0/3/6/10 200 5 - - ---- 1/1/1/1/0 0/0 "GET / HTTP/1.1"`), `time=2025-02-06T12:14:14.655Z remote=203.0.113.7 method=GET path=/ protocol=HTTP/1.1 status=200 bytes=5 us=10000`)
	f("cri", `2025-10-10T11:55:37.123456789Z stdout P 203.0.113.7 - -`, "reject: skip")
	f("cri", `yesterday stdout F x`, "reject: format")
	for _, name := range []string{"docker+iis", "cri+nothing", "docker+", "podman+json"} {
		if _, err := Named(name, ParseOptions{}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	detect := func(lines [][]byte, want string) {
		t.Helper()
		d := Detect(lines, ParseOptions{})
		if d.Format == nil || d.Format.Name+", "+d.Chosen != want {
			t.Fatalf("Detect says %q %q, want %q", d.Chosen, d.Problem, want)
		}
		if _, err := Named(d.Format.Name, ParseOptions{}); err != nil {
			t.Error(err)
		}
	}
	detect(sample(docker(combined), docker(combined)), "docker+combined, a container engine's log around combined (nginx/Apache): 2 of 2 lines")
	detect(sample(cri(caddyLine), cri(caddyLine)), "cri+caddy, a container engine's log around caddy: 2 of 2 lines")
}

// TestPieces: what a container engine cut is one line again, stream by stream.
func TestPieces(t *testing.T) {
	f := func(name, want string, lines ...string) {
		t.Helper()
		c, err := Named(name, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := parseAll(c, lines...); got != want {
			t.Errorf("%s: %.300s\n got %.300s\nwant %.300s", name, lines, got, want)
		}
	}
	const want = `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/a protocol=HTTP/1.1 status=200 bytes=5`
	cri := func(stream, tag, s string) string {
		return "2025-10-10T11:55:37.123456789Z " + stream + " " + tag + " " + s
	}
	const a, b, c = `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GE`, `T /a HTTP/1.1" 2`, `00 5`
	f("cri", want, cri("stdout", "P", a), cri("stdout", "P", b), cri("stdout", "F", c))
	f("cri", want+"\n"+want, cri("stdout", "P", a), cri("stderr", "F", a+b+c), cri("stdout", "P", b), cri("stdout", "F", c))
	f("cri", "reject: format\n"+want, cri("stderr", "P", "one"), cri("stdout", "P", a+b), cri("stderr", "F", "two"), cri("stdout", "F", c))
	f("cri", "reject: format\n"+want, cri("stdout", "F", b), cri("stdout", "F", a+b+c))
	f("cri", want, cri("stdout", "P", a+b+c), cri("stdout", "F", ""))
	long := []string{cri("stdout", "P", a)}
	for range 5 {
		long = append(long, cri("stdout", "P", strings.Repeat("x", 16<<10)))
	}
	f("cri", "reject: too_long\n"+want, append(long, cri("stdout", "F", c), cri("stdout", "F", a+b+c))...)
	docker := func(stream, s string) string {
		return `{"log":"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s) + `","stream":"` + stream + `","time":"2025-10-10T11:55:37.123456789Z"}`
	}
	agent := strings.Repeat("Mozilla\"\\ ", 2000)
	line := `{"time":"2025-10-10T11:55:36Z","ip":"203.0.113.7","method":"GET","path":"/a","status":200,"agent":"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(agent) + `"}` + "\n"
	f("docker", `time=2025-10-10T11:55:36Z remote=203.0.113.7 method=GET path=/a status=200 agent=`+agent,
		docker("stdout", line[:16384]), docker("stderr", "x\n")[:0]+docker("stdout", line[16384:]))
	f("docker", want+"\n"+want, docker("stdout", a+b+c), docker("stdout", a+b+c)) // others write no newlines
}

// TestPiecesAcrossChunks: how the input is cut into chunks changes nothing, nor
// where a Follower is started again.
func TestPiecesAcrossChunks(t *testing.T) {
	var log strings.Builder
	want := 0
	for i := range 12_000 {
		line := fmt.Sprintf(`203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /p%d/%s HTTP/1.1" 200 %d`, i, strings.Repeat("x", i%211), i)
		stream := []string{"stdout", "stderr"}[i%7/6]
		want++
		for len(line) > 60 && i%5 != 0 {
			n := 20 + i%40
			fmt.Fprintf(&log, "2025-10-10T11:55:37.1Z %s P %s\n", stream, line[:n])
			if i%11 == 0 {
				fmt.Fprintf(&log, "2025-10-10T11:55:37.1Z %s F noise\n", []string{"stderr", "stdout"}[i%7/6])
			}
			line = line[n:]
		}
		fmt.Fprintf(&log, "2025-10-10T11:55:37.1Z %s F %s\n", stream, line)
	}
	c, err := Named("cri+combined", ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	text := []byte(log.String())
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 4} {
		r := NewReader(ReaderConfig{Path: path, Format: &c, Workers: workers})
		got := 0
		for {
			b, err := r.Next(t.Context())
			if err != nil {
				break
			}
			for i := range b.Requests {
				if int(b.Requests[i].Bytes) != got {
					t.Fatalf("%d workers: request %d is number %d", workers, got, b.Requests[i].Bytes)
				}
				got++
			}
			r.Release(b)
		}
		r.Close()
		if got != want {
			t.Errorf("%d workers: %d requests, want %d", workers, got, want)
		}
	}
	// From any line on, what was open before it is known.
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	f := func(offset int64) {
		t.Helper()
		var all, rest []string
		p, q := c.New(), c.New()
		var fields Fields
		for _, line := range linesOf(priorLines(file, offset, c.Carry)) {
			_ = q.Parse(&fields, line)
		}
		at := int64(0)
		eachLine(text[:min(len(text), int(offset)+4096)], func(line []byte, next int) bool {
			if err := p.Parse(&fields, line); err == nil && at >= offset {
				all = append(all, describe(&fields))
			}
			if at >= offset {
				if err := q.Parse(&fields, line); err == nil {
					rest = append(rest, describe(&fields))
				}
			}
			at = int64(next)
			return true
		})
		if len(all) == 0 || strings.Join(all, "\n") != strings.Join(rest, "\n") {
			t.Errorf("from byte %d: %d requests, want %d", offset, len(rest), len(all))
		}
	}
	n := int64(0)
	for i := 0; i < len(text)-4096; i += 1 + i/2 {
		if end := bytes.IndexByte(text[i:], '\n'); end >= 0 {
			f(int64(i + end + 1))
			n++
		}
	}
	if n < 20 {
		t.Errorf("%d places were tried", n)
	}
}
