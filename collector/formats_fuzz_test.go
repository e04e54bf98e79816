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
		`%ci:%cp [%tr] %ft %b/%s %ST %B %hr %hs %{+Q}r`, `%Ts %[req.hdr(host)] %HM\ %HU`, `log-format "%ci %{+Q}[url]"`, envoyDefault, istioDefault,
		`%START_TIME(%s.%3f)% %REQ(:PATH):9%`, `%START_TIME(%`, `%[`, `%h %l %u %t \"%r\" %>s %b`, `%{%d/%b/%Y %T}t.%{msec_frac}t %m %U%q`, `$host$request_uri $upstream_addr`, `${`, `%{`, `'`, `"$`,
	} {
		f.Add(format, []byte(`203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 5`))
	}
	f.Fuzz(func(t *testing.T, format string, line []byte) {
		for _, compile := range []func(string, ParseOptions) (Format, error){CompileNginx, CompileApache, CompileHAProxy, CompileEnvoy, CompileLogFormat} {
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

// gatewayLines are a line or more of each format of gateways and load balancers.
func gatewayLines() map[string]string {
	const head = `203.0.113.7 - ann [10/Oct/2025:13:55:36 +0200] "GET /a?b=1 HTTP/1.1" 200 59 `
	return map[string]string{
		"haproxy":        `Feb  6 12:14:14 lb haproxy[1]: 2001:db8::7:33317 [06/Feb/2025:12:14:14.655] in~ static/srv1 10/0/30/69/+109 200 2750 - - PR-- 1/1/1/1/0 0/0 {h|#22} {} "GET /a#22?b=1 HTTP/1.1"`,
		"envoy":          `[2025-02-06T12:14:14.655Z] "GET /a?b=1 HTTP/1.1" 200 RL 0 178 2 1 "203.0.113.7" "cu"rl/8" "r-1" "h:9080" "10.0.0.1:9080"`,
		"istio":          `[2025-02-06T12:14:14.655Z] "GET /a HTTP/1.1" 200 - via - "-" 0 178 2 1 "-" "curl/8" "r-1" "h" "10.0.0.1:1" c 127.0.0.6:1 10.0.0.1:9080 203.0.113.7:39696 sni default`,
		"aws_alb":        `h2 2025-02-06T12:14:14.655641Z app/lb/50dc [2001:db8::7]:2817 - -1 -1 -1 403 - 0 57 "GET https://h:443/a HTTP/2.0" "a \"b\"" E T - "Root=1" "-" "-" 0 2025-02-06T12:14:14.364000Z "waf" "-" "-" "-" "-" "-" "-"`,
		"cloudfront":     "2025-02-06\t12:14:14\tLAX1\t392\t203.0.113.7\tGET\td1\t/a\t502\thttp://r/\tMozilla/5.0%20(X%ff)\tb=1\tsid=1\tError\tSx==\th\thttps\t23\t0.102\t192.0.2.1\tT\tE\tError\tHTTP/2.0\t-\t-\t1\t0.102\tE\ttext/html\t78\t-\t-",
		"iis":            `2025-02-06 12:14:14 10.0.0.1 POST /a $x=1 443 CORP\ann 203.0.113.7 Mozilla/5.0+(X) https://r.example/ 404 5 0 26 192.0.2.9`,
		"zeek":           "1738844054.655321\tC1\t203.0.113.7\t1\t10.0.0.1\t80\t1\tGET\th\t/a\\x09\t-\t1.1\tcurl/8\t-\t0\t9\t200\tOK\t-\t-\t(empty)\tann\t-\tX-FORWARDED-FOR -> 192.0.2.9\t-\t-\t-\tF1\t-\ttext/html",
		"ingress_nginx":  head + `"-" "curl/8" 89 0.001 [default-web-8080] [] 172.17.0.5:8080 59 0.000 200 529a007902362a5f51385a5fa7049884`,
		"traefik":        head + `"-" "curl/8" 72 "web@docker" "http://10.0.0.9:80" 12ms`,
		"aws_apigateway": head + `c6af9ac6-7b61-11e6-9a41-93e8deadbeef`,
		"docker":         `{"log":"203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] \"GET /\\xc3\\xa9 HTTP/1.1\" 200 5 \"-\" \"\u00e9\ud83d\ude00\"\n","stream":"stdout","time":"2025-10-10T11:55:37.1Z"}`,
		"cri":            `2025-10-10T11:55:37.1Z stdout F {"method":"GET","path":"/a","status":200}`,
		"aws_waf":        `{"timestamp":1760097336041,"webaclId":"arn","action":"BLOCK","httpRequest":{"clientIp":"203.0.113.7","headers":[{"name":"Host","value":"h"},{"name":"x","value":{"a":1}}],"uri":"/a","httpMethod":"GET"}}`,
		"suricata":       `{"timestamp":"2025-10-10T13:55:36.1+0200","event_type":"http","src_ip":"203.0.113.7","http":{"url":"/a","http_method":"GET","status":200}}`,
		"modsecurity":    `{"transaction":{"client_ip":"203.0.113.7","time_stamp":"Fri Oct 10 11:55:36 2025","request":{"method":"GET","uri":"/a"},"response":{"http_code":403}}}`,
	}
}

// Where the lines of a log are cut makes no difference to what is read.
func FuzzCarry(f *testing.F) {
	f.Add([]byte(modSecurityRecord+modSecurityRecord), 100)
	f.Add([]byte("---abCD12---A--\n[10/Oct/2025:13:55:36 +0200] id 203.0.113.7 1 h 80\n---abCD12---B--\nGET / HTTP/1.1\n---abCD12---Z--\n"), 40)
	f.Add([]byte("#Date: 2025-02-06\n#Fields: time c-ip cs-method cs-uri-stem sc-status\n12:14:14 203.0.113.7 GET /b 200\n#Fields: date\n"), 60)
	f.Add([]byte("#separator \\x09\n#fields\tts\tid.orig_h\tmethod\turi\n1738844054.6\t203.0.113.7\tGET\t/\n"), 50)
	f.Add([]byte("2025-10-10T11:55:37.1Z stdout P {\"method\"\n2025-10-10T11:55:37.1Z stderr P a\n2025-10-10T11:55:37.1Z stdout F :\"GET\",\"path\":\"/a\"}\n2025-10-10T11:55:37.1Z stderr F b\n"), 50)
	f.Add([]byte(`{"log":"`+strings.Repeat("x", dockerPiece)+`","stream":"stdout"}`+"\n"+`{"log":"y\n","stream":"stdout"}`+"\n"), 20000)
	formats := []Format{
		modSecurityFormat(ParseOptions{}), iisFormat(ParseOptions{}), cloudFrontFormat(ParseOptions{}), zeekColumnsFormat(ParseOptions{}),
		dockerFormat(ParseOptions{}), criFormat(ParseOptions{}),
	}
	f.Fuzz(func(t *testing.T, text []byte, cut int) {
		if cut < 0 || cut > len(text) {
			return
		}
		cut = bytes.LastIndexByte(text[:cut], '\n') + 1
		for _, c := range formats {
			if bytes.Count(text, []byte("\n")) >= pieceLines {
				break // further back nobody looks for pieces
			}
			read := func(p Parser, data []byte) (out []string) {
				eachLine(data, func(line []byte, _ int) bool {
					var f Fields
					if err := p.Parse(&f, line); err != nil {
						out = append(out, err.Error())
					} else {
						out = append(out, describe(&f))
					}
					return true
				})
				return out
			}
			want := strings.Join(read(c.New(), text), "\n")
			p := c.New()
			carry := c.Carry(c.Carry(nil, nil), text[:cut])
			got := read(c.New(), text[:cut])
			read(p, carry)
			if all := strings.Join(append(got, read(p, text[cut:])...), "\n"); all != want {
				t.Fatalf("%s, cut at %d with %q carried:\n%s\n%s", c.Name, cut, carry, all, want)
			}
		}
	})
}
