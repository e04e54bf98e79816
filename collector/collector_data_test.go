package collector

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// shared returns the bytes of a recorded file, unpacked, or skips the test.
func shared(t testing.TB, parts ...string) []byte {
	t.Helper()
	name := filepath.Join(append([]string{"..", "..", "shared", "data"}, parts...)...)
	b, err := os.ReadFile(name)
	if err != nil {
		t.Skipf("recorded traffic is not here: %v", err)
	}
	if !strings.HasSuffix(name, ".gz") {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func linesOf(b []byte) [][]byte {
	var out [][]byte
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, MaxLine)
	for s.Scan() {
		out = append(out, bytes.Clone(s.Bytes()))
	}
	return out
}

func TestRecordedCombinedLogs(t *testing.T) {
	f := func(want int, parts ...string) {
		t.Helper()
		lines := linesOf(shared(t, parts...))
		d := Detect(lines, ParseOptions{})
		if d.Format == nil || d.Format.Name != "combined" || d.Confidence != 1 {
			t.Errorf("%v: Detect = %+v, want combined", parts, d)
		}
		p := combinedFormat(ParseOptions{}).New()
		var fields Fields
		if len(lines) != want {
			t.Errorf("%v: %d lines, want %d", parts, len(lines), want)
		}
		for i, l := range lines {
			if err := p.Parse(&fields, l); err != nil {
				t.Errorf("%v line %d: %v: %s", parts, i+1, err, l)
			} else if !fields.HasTime || fields.Method == "" || fields.Path == "" && fields.Status != 400 || fields.Remote == "" || fields.Status == 0 || fields.Protocol == "" {
				t.Errorf("%v line %d: fields missing: %+v", parts, i+1, fields)
			}
		}
	}
	f(6539, "apache_scanner_logs", "acunetix.log.gz")
	f(10000, "baseline_access_logs", "apache_logs.gz")
	f(32282, "tools_shop", "access.log.gz")
}

// The two logs of one server say the same.
func TestRecordedJSONMatchesCombined(t *testing.T) {
	text, js := linesOf(shared(t, "tools_shop", "access.log.gz")), linesOf(shared(t, "tools_shop", "access.json.gz"))
	d := Detect(js, ParseOptions{})
	if d.Format == nil || d.Format.Name != "json" || d.Confidence != 1 {
		t.Fatalf("Detect = %+v, want json", d)
	}
	if len(text) != len(js) {
		t.Fatalf("%d lines of text, %d of JSON", len(text), len(js))
	}
	pt, pj := combinedFormat(ParseOptions{}).New(), d.Format.New()
	var a, b Fields
	sessions, logins, keys, forwarded := 0, 0, 0, 0
	for i := range text {
		if err := pt.Parse(&a, text[i]); err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		if err := pj.Parse(&b, js[i]); err != nil {
			t.Fatalf("JSON line %d: %v: %s", i+1, err, js[i])
		}
		if a.Method != b.Method || a.Path != b.Path || a.Query != b.Query || a.Status != b.Status || a.Bytes != b.Bytes ||
			a.User != b.User || a.Remote != clientOf(&b) || a.Agent != b.Agent || a.Referer != b.Referer ||
			a.Protocol != b.Protocol || a.Time != b.Time/second*second || b.Duration < 0 || b.Host != "shop.test" && b.Host == "" {
			t.Fatalf("line %d differs:\n%s\n%s\n%+v\n%+v", i+1, text[i], js[i], a, b)
		}
		if b.Session != "" {
			sessions++
		}
		if b.LoginUser != "" {
			logins++
		}
		if b.APIKey != "" {
			keys++
		}
		if b.Forwarded != "" {
			forwarded++
		}
	}
	t.Logf("sessions %d logins %d keys %d forwarded %d", sessions, logins, keys, forwarded)
	if sessions == 0 || logins == 0 || keys == 0 || forwarded == 0 {
		t.Errorf("identity is missing: sessions %d logins %d keys %d forwarded %d", sessions, logins, keys, forwarded)
	}
}

// clientOf is the address that the server took for the client.
func clientOf(f *Fields) string {
	if f.RealIP != "" {
		return f.RealIP
	}
	return f.Remote
}

func TestRecordedOwnLayout(t *testing.T) {
	lines := linesOf(shared(t, "web_bot_sessions", "split_dev", "access.log.gz"))
	d := Detect(lines, ParseOptions{})
	if d.Format != nil || d.Problem == "" {
		t.Fatalf("Detect = %+v, want a problem", d)
	}
	t.Log(d.Problem, "\n", d.Remedy)
	format, ok := strings.CutPrefix(d.Remedy, "--log-format '")
	if !ok {
		t.Fatalf("remedy %q is no --log-format", d.Remedy)
	}
	f := func(format string) {
		t.Helper()
		c, err := CompileLogFormat(format, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := c.New()
		var fields Fields
		for i, l := range lines {
			if err := p.Parse(&fields, l); err != nil {
				t.Fatalf("line %d: %v: %s", i+1, err, l)
			}
			if len(fields.Session) != 26 || fields.Path == "" || !fields.HasTime || fields.Status == 0 || fields.Agent == "" {
				t.Fatalf("line %d: %+v", i+1, fields)
			}
			if got := c.ClientPrefix(l); string(got) != fields.Session {
				t.Fatalf("line %d: client prefix %q", i+1, got)
			}
		}
	}
	f(strings.TrimSuffix(format, "'"))
	f(`- - [$time_local] "$request" $status $body_bytes_sent "$http_referer" $cookie_PHPSESSID "$http_user_agent"`)
}

func TestRecordedSuites(t *testing.T) {
	vhost, combined := vhostFormat(ParseOptions{}), combinedFormat(ParseOptions{})
	xff, err := CompileNginx(`$http_x_forwarded_for - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	formats := []Format{combined, vhost, xff}
	read := func(line string) (f Fields, name string, err error) {
		for _, c := range formats {
			if err = c.New().Parse(&f, []byte(line)); err == nil {
				return f, c.Name, nil
			}
		}
		return f, "", err
	}
	var vrl []struct {
		Function, Test, Format, Value, Result string
		Expected                              map[string]any
	}
	if err := json.Unmarshal(shared(t, "vrl_parse", "expected.json"), &vrl); err != nil {
		t.Fatal(err)
	}
	text := func(v any) string {
		switch v := v.(type) {
		case string:
			if v == "-" {
				return ""
			}
			return v
		case float64:
			return strings.TrimSuffix(strings.TrimSuffix(jsonNumber(v), ".0"), ".")
		}
		return ""
	}
	parsed, total := 0, 0
	for _, c := range vrl {
		if c.Format == "error" || strings.Contains(c.Function, "aws") || c.Result != "Ok" || !strings.Contains(c.Value, `] "`) {
			continue
		}
		total++
		f, name, err := read(c.Value)
		if err != nil {
			t.Errorf("vrl %s: %v: %s", c.Test, err, c.Value)
			continue
		}
		parsed++
		for _, key := range [...]struct{ want, got string }{
			{text(c.Expected["method"]), f.Method},
			{text(c.Expected["user"]), f.User},
			{text(c.Expected["agent"]), f.Agent},
			{text(c.Expected["status"]), jsonNumber(float64(f.Status))},
		} {
			if key.want != "" && key.want != key.got && !strings.Contains(key.got, "\\x") {
				t.Errorf("vrl %s (%s): got %q, want %q", c.Test, name, key.got, key.want)
			}
		}
	}
	t.Logf("vrl: %d of %d access lines", parsed, total)

	var elastic []struct {
		Log      string
		Expected []struct {
			Time, Client, Method, URL, Original string
			Status                              any
		}
	}
	if err := json.Unmarshal(shared(t, "elastic_parse", "expected_simple.json"), &elastic); err != nil {
		t.Fatal(err)
	}
	parsed, total = 0, 0
	for _, file := range elastic {
		if !strings.Contains(file.Log, "access") && !strings.Contains(file.Log, "nginx__nginx") || strings.Contains(file.Log, "iis") {
			continue
		}
		for _, e := range file.Expected {
			if e.Original == "" {
				continue
			}
			total++
			f, name, err := read(e.Original)
			if err != nil {
				t.Logf("elastic %s: %v: %s", file.Log, err, e.Original)
				continue
			}
			parsed++
			if text(e.Status) != jsonNumber(float64(f.Status)) || e.Method != "" && !strings.EqualFold(e.Method, f.Method) {
				t.Errorf("elastic %s (%s): status %d method %q: %s", file.Log, name, f.Status, f.Method, e.Original)
			}
			if f.Time.Std().Format("2006-01-02T15:04:05.000Z") != e.Time {
				t.Errorf("elastic %s (%s): time %v, want %s", file.Log, name, f.Time.Std(), e.Time)
			}
		}
	}
	t.Logf("elastic: %d of %d access lines", parsed, total)
	if parsed < total-8 {
		t.Errorf("elastic: only %d of %d access lines", parsed, total)
	}

	var f2b []struct{ Filter, Line, Host string }
	if err := json.Unmarshal(shared(t, "fail2ban_logs", "expected.json"), &f2b); err != nil {
		t.Fatal(err)
	}
	parsed, total = 0, 0
	for _, c := range f2b {
		if !strings.Contains(c.Line, `] "`) || strings.Contains(c.Line, "haproxy") || strings.HasPrefix(c.Line, "[") || c.Host == "" {
			continue
		}
		total++
		f, _, err := read(c.Line)
		if err != nil {
			t.Logf("fail2ban %s: %v: %s", c.Filter, err, c.Line)
			continue
		}
		parsed++
		if f.Remote != c.Host && f.Remote != "" {
			t.Errorf("fail2ban %s: remote %q, want %q: %s", c.Filter, f.Remote, c.Host, c.Line)
		}
	}
	t.Logf("fail2ban: %d of %d access lines", parsed, total)
}

func jsonNumber(v float64) string {
	b, _ := json.Marshal(v)
	return string(b)
}
