package collector

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func fuzzLines(f *testing.F) {
	for _, l := range []string{
		`203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 5 "-" "Mozilla/5.0" "192.0.2.1" 0.012`,
		`h.example:80 2001:db8::1 - - [10/Oct/2025:13:55:36 +0200] "\x16\x03\x01" 400 - "-" "a \"b\""`,
		`203.0.113.7 - "" [10/Oct/2025:13:55:36.1] "CONNECT a:1 HTTP/1.1" 405 0`,
		`- - - [-] "-" - -`, `{"method":"GET","path":"/caf\u00e9","status":200,"ts":1646861401.5,"x":[1,{"y":null}]}`, caddyLine,
		`{"authorization":"Bearer a.eyJzdWIiOiJhIn0.c","method":"GET"}`, "\x00\xff\xfe", "", `{"a":`, `"""""`, `\\\"`,
	} {
		f.Add([]byte(l))
	}
}

// check parses line and fails on what no line may cause.
func check(t *testing.T, c Format, line []byte) (Fields, error) {
	t.Helper()
	var f Fields
	before := bytes.Clone(line)
	err := c.New().Parse(&f, line)
	if !bytes.Equal(before, line) {
		t.Fatalf("%s changed the line", c.Name)
	}
	c.ClientPrefix(line)
	if err != nil {
		r, ok := errors.AsType[Reject](err)
		if !ok || !errors.Is(r.err(), r) || r == "" {
			t.Fatalf("%s: error %v is no reason", c.Name, err)
		}
		return f, err
	}
	if f.Status > 999 || f.Bytes < -1 || f.Duration < -1 || strings.Contains(f.Host, "\n") && !bytes.Contains(line, []byte("\n")) {
		t.Fatalf("%s: impossible fields %+v", c.Name, f)
	}
	if f.HasTime && (f.Time < 0 || f.Time.Std().Year() > 9999+1) {
		t.Fatalf("%s: time %v", c.Name, f.Time.Std())
	}
	for _, v := range []string{f.Path, f.Query, f.Agent, f.Referer, f.User, f.Session, f.Subject} {
		if utf8.Valid(line) && !utf8.ValidString(v) && !bytes.ContainsAny(line, `\`) {
			t.Fatalf("%s: %q is cut inside a character", c.Name, v)
		}
		if len(v) > 6*len(line) {
			t.Fatalf("%s: a value grew to %d bytes", c.Name, len(v))
		}
	}
	// The same again with used memory.
	var again Fields
	p := c.New()
	_ = p.Parse(&again, []byte(timingLine))
	_ = p.Parse(&again, []byte(caddyLine))
	if err := p.Parse(&again, line); err != nil || describe(&again) != describe(&f) {
		t.Fatalf("%s: %v, and on second reading\n%s\n%s", c.Name, err, describe(&f), describe(&again))
	}
	return f, nil
}

func FuzzCombined(f *testing.F) {
	fuzzLines(f)
	formats := []Format{combinedFormat(ParseOptions{}), commonFormat(ParseOptions{}), vhostFormat(ParseOptions{})}
	f.Fuzz(func(t *testing.T, line []byte) {
		_, combined := check(t, formats[0], line)
		if _, common := check(t, formats[1], line); common == nil && combined != nil {
			t.Fatalf("common reads it, combined says %v", combined)
		}
		check(t, formats[2], line)
	})
}

func FuzzJSON(f *testing.F) {
	fuzzLines(f)
	c := jsonFormat(nil, ParseOptions{})
	f.Fuzz(func(t *testing.T, line []byte) {
		_, err := check(t, c, line)
		if errors.Is(err, RejectJSON) && json.Valid(line) && bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")) {
			t.Fatal("valid JSON is refused")
		}
	})
}

// The request that goes into a line comes out of it, whatever it holds.
func FuzzCombinedRoundTrip(f *testing.F) {
	f.Add("GET", "/a b", "q=1", "ua")
	f.Add("PROPFIND", `/"\`, `" 200 1 "`, `x" "y`)
	f.Add("GET", "/] [", "[10/Oct/2025:13:55:36 +0200]", "-")
	c := combinedFormat(ParseOptions{})
	f.Fuzz(func(t *testing.T, method, path, query, agent string) {
		if !isUpperWord([]byte(method)) || path == "" || path[0] != '/' || strings.Contains(path, "?") || agent == "-" {
			return
		}
		for _, s := range []string{path, query, agent} {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
				return
			}
		}
		line := `203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "` + method + " " + apacheEscape(path) + "?" + apacheEscape(query) + ` HTTP/1.1" 200 5 "-" "` + apacheEscape(agent) + `"`
		var got Fields
		if err := c.New().Parse(&got, []byte(line)); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if query == "-" {
			query = ""
		}
		if got.Method != method || got.Path != path || got.Query != query || got.Agent != agent || got.Status != 200 {
			t.Fatalf("%s\n%+v", line, got)
		}
	})
}

// apacheEscape escapes as Apache does, for quotes and backslashes.
func apacheEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s)
}

func FuzzCompile(f *testing.F) {
	for _, format := range []string{
		`$remote_addr - $remote_user [$time_local] "$request" $status`, `log_format m escape=json '{"a":"$request"}';`,
		`%h %l %u %t \"%r\" %>s %b`, `%{%d/%b/%Y %T}t.%{msec_frac}t %m %U%q`, `$host$request_uri $upstream_addr`, `${`, `%{`, `'`, `"$`,
	} {
		f.Add(format, []byte(`203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 5`))
	}
	f.Fuzz(func(t *testing.T, format string, line []byte) {
		for _, compile := range []func(string, ParseOptions) (Format, error){CompileNginx, CompileApache, CompileLogFormat} {
			c, err := compile(format, ParseOptions{})
			if err == nil {
				check(t, c, line)
			} else if len(err.Error()) > 100_000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
		}
	})
}

func FuzzDetect(f *testing.F) {
	fuzzLines(f)
	f.Add([]byte("- - [10/Oct/2025:13:55:36 +0200] \"GET / HTTP/1.1\" 200 5 \"-\" dr09rk5eagjuu87gedvdqmq3gl \"a\""))
	f.Add([]byte("#Fields: a\nb\tc\td\te"))
	f.Fuzz(func(t *testing.T, text []byte) {
		lines := bytes.Split(text, []byte("\n"))
		d := Detect(lines, ParseOptions{})
		if (d.Format == nil) != (d.Problem != "") || (d.Format == nil) == (d.Chosen != "") || d.Problem != "" && d.Remedy == "" {
			t.Fatalf("half an answer: %+v", d)
		}
		if quoted, ok := strings.CutPrefix(d.Remedy, "--log-format '"); ok {
			format := strings.ReplaceAll(strings.TrimSuffix(quoted, "'"), `'\''`, "'")
			if _, err := CompileLogFormat(format, ParseOptions{}); err != nil {
				t.Fatalf("the proposal does not compile: %v", err)
			}
		}
	})
}
