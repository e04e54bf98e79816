package collector

import (
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
