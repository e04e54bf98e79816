package collector

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// describe writes the fields that are set, in a fixed order.
func describe(f *Fields) string {
	var out []string
	add := func(name, v string) {
		if v != "" {
			out = append(out, name+"="+v)
		}
	}
	if f.HasTime {
		add("time", f.Time.Std().Format(time.RFC3339Nano))
	}
	add("remote", f.Remote)
	add("real", f.RealIP)
	add("xff", f.Forwarded)
	add("forwarded", f.ForwardedStd)
	add("host", f.Host)
	add("method", f.Method)
	add("path", f.Path)
	add("query", f.Query)
	add("protocol", f.Protocol)
	if f.Status != 0 {
		add("status", fmt.Sprint(f.Status))
	}
	if f.Bytes >= 0 {
		add("bytes", fmt.Sprint(f.Bytes))
	}
	if f.Duration >= 0 {
		add("us", fmt.Sprint(f.Duration))
	}
	add("agent", f.Agent)
	add("referer", f.Referer)
	add("user", f.User)
	add("subject", f.Subject)
	add("key", f.APIKey)
	add("session", f.Session)
	add("login", f.LoginUser)
	add("auth", f.Authorization)
	add("ja3", f.JA3)
	add("ja4", f.JA4)
	add("id", f.RequestID)
	add("operation", f.Operation)
	add("body", f.Body)
	add("variables", f.Variables)
	add("location", f.Location)
	if f.Known {
		add("app", fmt.Sprint(f.application.Status))
	}
	if f.Blocked {
		add("blocked", "true")
	}
	return strings.Join(out, " ")
}

// parse reads line as format says: what describe writes, or "reject: reason".
func parse(f Format, line string) string {
	var fields Fields
	if err := f.New().Parse(&fields, []byte(line)); err != nil {
		return "reject: " + err.Error()
	}
	return describe(&fields)
}

func TestCatalog(t *testing.T) {
	names := map[string]bool{}
	for _, f := range Formats() {
		if f.Name == "" || f.Describe == "" || f.New == nil || f.ClientPrefix == nil || names[f.Name] {
			t.Errorf("format %q is not complete, or twice", f.Name)
		}
		names[f.Name] = true
		if f.New() == f.New() {
			t.Errorf("format %s: two goroutines would share a parser", f.Name)
		}
		got, err := Named(f.Name, ParseOptions{})
		if err != nil || got.Name != f.Name {
			t.Errorf("Named(%q) = %q, %v", f.Name, got.Name, err)
		}
	}
	for _, want := range []string{"combined", "common", "vhost_combined", "nginx", "apache", "json"} {
		if !names[want] {
			t.Errorf("no format %q", want)
		}
	}
	if _, err := Named("combind", ParseOptions{}); err == nil || !strings.Contains(err.Error(), "vhost_combined") {
		t.Errorf("Named of a misspelt format: %v; want the names that exist", err)
	}
}

// A parser shows nothing of the line before.
func TestParserResets(t *testing.T) {
	full := map[string]string{
		"combined":       `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b HTTP/1.1" 200 9 "r" "a" "192.0.2.1" 0.5`,
		"common":         `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b HTTP/1.1" 200 9`,
		"vhost_combined": `h.example:80 203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b HTTP/1.1" 200 9 "r" "a"`,
		"json":           caddyLine,
	}
	bare := map[string]string{
		"combined": `- - - [-] "-" - -`, "common": `- - - [-] "-" - -`, "vhost_combined": `- - - - [-] "-" - -`, "json": `{"method":"GET"}`,
	}
	want := map[string]string{"combined": "bytes=0", "common": "bytes=0", "vhost_combined": "bytes=0", "json": "method=GET"}
	for _, f := range Formats() {
		if full[f.Name] == "" {
			continue
		}
		p := f.New()
		var fields Fields
		if err := p.Parse(&fields, []byte(full[f.Name])); err != nil || fields.Path == "" {
			t.Errorf("%s: %v", f.Name, err)
		}
		if err := p.Parse(&fields, []byte(bare[f.Name])); err != nil || describe(&fields) != want[f.Name] {
			t.Errorf("%s: %v, left over: %s", f.Name, err, describe(&fields))
		}
	}
}

func TestParseAllocatesNothing(t *testing.T) {
	nginx, err := CompileNginx(`$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	apache, err := CompileApache(`%h %l %u [%{%d/%b/%Y:%T %z}t] \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	f := func(c Format, line string) {
		t.Helper()
		p := c.New()
		var fields Fields
		b := []byte(line)
		if n := testing.AllocsPerRun(100, func() { _ = p.Parse(&fields, b) }); n != 0 {
			t.Errorf("%s: %v allocations: %s", c.Name, n, line)
		}
	}
	combined, vhost, js := combinedFormat(ParseOptions{}), vhostFormat(ParseOptions{}), jsonFormat(nil, ParseOptions{})
	line := fmt.Sprintf(timingLine, 1, 2, 3, 4)
	for _, c := range []Format{combined, vhost, nginx, apache, js} {
		f(c, line)
		f(c, "shop.example:443 "+line)
		f(c, strings.Replace(line, "clocks", `\x22caf\xc3\xa9\"`, 1))
		f(c, "")
		f(c, "\x00\x01\x02")
		f(c, "2025/10/10 13:00:00 [error] 1#1: nothing")
		f(c, strings.Replace(line, "Oct", "Okt", 1))
		f(c, strings.Replace(line, `" 200 `, `" 2x0 `, 1))
		f(c, "{\"method\":\"GET\",\"path\":\"/\",\"time\":\"yesterday\"}")
		f(c, `{"method":"GET","path":"/caf\u00e9","status":200,"ts":1646861401.52,"x":[1,{"y":"z"}]}`)
	}
	f(js, `{"method":"GET","path":"/","authorization":"Bearer a.eyJzdWIiOiJhbm4ifQ.c","cookie":"a=b; sid=1"}`)
	for _, c := range []Format{combined, vhost, nginx, apache, js} {
		for _, l := range []string{line, caddyLine} {
			b := []byte(l)
			if n := testing.AllocsPerRun(100, func() { c.ClientPrefix(b) }); n != 0 {
				t.Errorf("%s: ClientPrefix makes %v allocations", c.Name, n)
			}
		}
	}
	for name, line := range gatewayLines() {
		c, err := Named(name, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := parse(c, line); !strings.Contains(got, "method=") || !strings.Contains(got, "path=/") {
			t.Errorf("%s: %s", name, got)
		}
		f(c, line)
		f(c, "")
		f(c, "2025/10/10 13:00:00 [error] 1#1: nothing")
		f(c, strings.Replace(line, "203.0", "x", 1))
	}
	f(js, strings.Replace(caddyLine, `"Authorization":["REDACTED"]`, `"Authorization":["Basic abc"]`, 1))
}
