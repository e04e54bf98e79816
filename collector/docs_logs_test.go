package collector

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// docsSnippet is the first fenced block of docs/logs.md in a language.
func docsSnippet(t *testing.T, language string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "logs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(b), "\n```"+language+"\n")
	text, _, closed := strings.Cut(rest, "\n```")
	if !ok || !closed {
		t.Fatalf("docs/logs.md has no block of %s", language)
	}
	return text
}

// TestDocumentedLogs: testdata/logs has lines that the real servers wrote, set up
// as docs/logs.md says (make senders writes them anew); beside them is what
// weir reads from them.
func TestDocumentedLogs(t *testing.T) {
	f := func(name, want, logFormat string) {
		t.Helper()
		text, err := os.ReadFile(filepath.Join("testdata", "logs", name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		lines := linesOf(text)
		var c Format
		if logFormat != "" {
			if c, err = CompileLogFormat(logFormat, ParseOptions{}); err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
		} else {
			d := Detect(lines, ParseOptions{})
			if d.Format == nil {
				t.Errorf("%s: no format: %s", name, d.Problem)
				return
			}
			c = *d.Format
		}
		if c.Name != want || len(lines) < 20 {
			t.Errorf("%s: %d lines read as %s, want 20 or more as %s", name, len(lines), c.Name, want)
		}
		var out strings.Builder
		for _, l := range lines {
			out.WriteString(parse(c, string(l)) + "\n")
		}
		golden := filepath.Join("testdata", "logs", name+".golden")
		if *update {
			if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		b, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(b) {
			t.Errorf("%s: what is read differs from %s:\n%s", name, golden, out.String())
		}
		for _, field := range [...]string{"xff=", "host=", "user=", "key=", "session=", "login=", "location=", "agent=", "referer="} {
			if !strings.Contains(out.String(), " "+field) {
				t.Errorf("%s: no line shows %s", name, field)
			}
		}
		if name != "caddy" && !strings.Contains(out.String(), " id=") {
			t.Errorf("%s: no line shows a request id", name)
		}
	}
	apache := ""
	for line := range strings.Lines(docsSnippet(t, "apache")) {
		if strings.HasPrefix(line, "LogFormat ") {
			apache = strings.TrimSpace(line)
		}
	}
	if apache == "" {
		t.Fatal("docs/logs.md: no LogFormat")
	}
	f("nginx", "json", "")
	f("haproxy", "json", "")
	f("apache", "apache", apache)
	f("caddy", "caddy", "")
}

// TestDocumentedEnvoy: every member of the documented JSON format is read, but
// the upstream's time; the operators are known to be Envoy's by compiling them
// as a line of text, too.
func TestDocumentedEnvoy(t *testing.T) {
	values := map[string]string{
		"start_time": "2026-11-30T08:49:25.982Z", "response_code": "302", "response_flags": "-", "bytes_sent": "7", "duration": "12",
		"downstream_remote_address": "203.0.113.7", "x_forwarded_for": "198.51.100.7", "method": "POST", "path": "/login?a=1", "protocol": "HTTP/1.1",
	}
	object, layout := map[string]string{}, ""
	_, members, _ := strings.Cut(docsSnippet(t, "envoy"), "json_format:\n")
	for line := range strings.Lines(members) {
		name, operator, ok := strings.Cut(strings.TrimSpace(line), ": ")
		operator = strings.Trim(operator, `"`)
		if !ok {
			t.Fatalf("no member: %q", line)
		}
		layout += name + `="` + operator + `" `
		if object[name] = values[name]; object[name] == "" {
			object[name] = "the-" + strings.ReplaceAll(name, "_", "-")
		}
	}
	b, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	d := Detect([][]byte{b}, ParseOptions{})
	if d.Format == nil || d.Format.Name != "envoy" {
		t.Fatalf("detected as %+v", d)
	}
	const want = `time=2026-11-30T08:49:25.982Z remote=203.0.113.7 xff=198.51.100.7 host=the-authority method=POST path=/login query=a=1 protocol=HTTP/1.1 status=302 bytes=7 us=12000 ` +
		`agent=the-user-agent referer=the-referer user=the-user subject=the-subject key=the-api-key session=the-session login=the-login-user ` +
		`ja3=the-ja3 ja4=the-ja4 id=the-request-id location=the-location`
	if got := parse(*d.Format, string(b)); got != want {
		t.Errorf("%s\n got %s\nwant %s", b, got, want)
	}
	if _, err := CompileEnvoy(layout, ParseOptions{}); err != nil {
		t.Error(err)
	}
}

// TestAnswerHeaders: what an application tells the log in headers of its answer
// is read wherever a server logs them.
func TestAnswerHeaders(t *testing.T) {
	f := func(format, layout, line string) {
		t.Helper()
		c, err := Named(format, ParseOptions{})
		if layout != "" {
			c, err = CompileLogFormat(layout, ParseOptions{})
		}
		if err != nil {
			t.Errorf("%s: %v", format, err)
			return
		}
		if got := parse(c, line); !strings.Contains(got, "user=ann") || !strings.Contains(got, "login=bob") {
			t.Errorf("%s: %s\n got %s", format, line, got)
		}
	}
	f("kong", "", `{"request":{"method":"POST","uri":"/login","headers":{"host":"h"}},"response":{"status":200,"size":"434","headers":{"x-log-user":"ann","x-log-login":"bob"}},"latencies":{"request":1921},"session":"5f","client_ip":"127.0.0.1","started_at":1433209822425}`)
	f("traefik", "", `{"ClientHost":"203.0.113.7","DownstreamStatus":200,"RequestMethod":"POST","RequestPath":"/login","StartUTC":"2024-02-09T11:53:32.6Z","origin_X-Log-User":"ann","origin_X-Log-Login":"bob"}`)
	f("caddy", "", `{"ts":1646861401.52,"request":{"remote_ip":"192.0.2.1","proto":"HTTP/2.0","method":"POST","host":"h","uri":"/login"},"resp_headers":{"X-Log-User":["ann"],"X-Log-Login":["bob"]},"duration":0.0009,"size":10900,"status":200}`)
	f("nginx", `$remote_addr [$time_local] "$request" $status "$upstream_http_x_log_user" "$sent_http_x_log_login"`, `192.0.2.1 [06/Feb/2025:12:14:14 +0000] "POST /login HTTP/1.1" 200 "ann" "bob"`)
	f("apache", `%h %t "%r" %>s "%{X-Log-User}o" "%{login_user}n"`, `192.0.2.1 [06/Feb/2025:12:14:14 +0000] "POST /login HTTP/1.1" 200 "ann" "bob"`)
	f("envoy", `[%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" %RESPONSE_CODE% "%RESP(X-LOG-USER)%" "%RESP(X-Log-Login)%"`, `[2026-11-30T08:49:25.982Z] "POST /login HTTP/1.1" 200 "ann" "bob"`)
}
