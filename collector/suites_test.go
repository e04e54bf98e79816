package collector

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// suiteRow is one record of a parser suite: the lines of a log up to and with
// the one that ends the record, and what the suite says is in it.
type suiteRow struct {
	suite  string
	format string // the one that is measured
	readAs string // another name or a layout to read it by; "" is format
	lines  []string
	want   map[string]string // time client user method url path query status bytes http_version user_agent referrer host id duration_ms; "" absent
	refuse bool              // it must not be read
}

// suiteDifferences are the ones that were looked at: where the suite is wrong, or
// answers another question. A field of "*" is any.
var suiteDifferences = []struct{ line, field, why string }{
	{"10.0.0.2, 10.0.0.1, 127.0.0.1", "client", forwardedWhy},
	{"10.0.0.2, 10.0.0.1, 67.43.156.14", "client", forwardedWhy},
	{"10.0.0.2, 10.0.0.1, 85.181.35.98", "client", forwardedWhy},
	{"10.5.102.222, 199.96.1.1, 204.246.1.1", "client", forwardedWhy},
	{"10.225.192.17 10.2.2.121", "client", forwardedWhy},
	{`"- http://awseb-awseb-1kgu6fbag3fad-640112591`, "url", "the load balancer could not read the request; what stands there is its own name, not a path"},
	{"2601:6bbc:c529:9dad:6bbc:c529:9dad:6bbc:50599", "*", "the suite's row has the fields of another line: its address, time and agent are not in this one"},
}

const forwardedWhy = "the suite takes one address of X-Forwarded-For; weir keeps the list and walks it by the proxies that are configured"

func TestSuites(t *testing.T) {
	rows := suiteRows(t)
	type count struct{ lines, refused, equal, fields, equalLines, reviewed int }
	counts := map[string]*count{}
	var names []string
	var differences []string
	used := map[int]bool{}
	formats := map[string]Format{}
	for _, r := range rows {
		c := counts[r.format]
		if c == nil {
			c = &count{}
			counts[r.format] = c
			names = append(names, r.format)
		}
		c.lines++
		got, err := readSuite(t, formats, r)
		last := r.lines[len(r.lines)-1]
		if r.refuse {
			if err == nil {
				differences = append(differences, fmt.Sprintf("%s: read, and must not be: %s", r.format, last))
			} else {
				c.refused++
				c.equalLines++
			}
			continue
		}
		if err != nil {
			differences = append(differences, fmt.Sprintf("%s (%s): %v: %s", r.format, r.suite, err, last))
			c.fields += len(r.want)
			continue
		}
		same := true
		for _, field := range sortedFields(r.want) {
			want := r.want[field]
			c.fields++
			if fieldEquals(field, want, &got) {
				c.equal++
				continue
			}
			i := slices.IndexFunc(suiteDifferences, func(d struct{ line, field, why string }) bool {
				return (d.field == field || d.field == "*") && strings.Contains(last, d.line)
			})
			if i >= 0 {
				used[i] = true
				c.equal++
				c.reviewed++
				continue
			}
			same = false
			differences = append(differences, fmt.Sprintf("%s (%s): %s is %q, the suite says %q: %s", r.format, r.suite, field, describe(&got), want, last))
		}
		if same {
			c.equalLines++
		}
	}
	if len(rows) == 0 || len(names) < 12 {
		t.Fatalf("%d lines of %d formats, want all", len(rows), len(names))
	}
	slices.Sort(names)
	t.Logf("%-16s %6s %8s %7s %8s", "format", "lines", "equal", "fields", "reviewed")
	for _, n := range names {
		c := counts[n]
		lines, fields := 100*float64(c.equalLines)/float64(c.lines), 100.0
		if c.fields > 0 {
			fields = 100 * float64(c.equal) / float64(c.fields)
		}
		t.Logf("%-16s %6d %7.1f%% %6.1f%% %8d", n, c.lines, lines, fields, c.reviewed)
		if lines < 99 || fields < 99 {
			t.Errorf("%s: %.1f %% of lines and %.1f %% of fields are equal, want 99", n, lines, fields)
		}
	}
	for _, d := range differences {
		t.Log(d)
	}
	for i, d := range suiteDifferences {
		if !used[i] {
			t.Errorf("the difference in %s of %q is listed and not there", d.field, d.line)
		}
	}
}

func sortedFields(m map[string]string) []string {
	var out []string
	for f := range m {
		out = append(out, f)
	}
	slices.Sort(out)
	return out
}

func readSuite(t *testing.T, formats map[string]Format, r suiteRow) (Fields, error) {
	t.Helper()
	name := r.readAs
	if name == "" {
		name = r.format
	}
	c, ok := formats[name]
	if !ok {
		var err error
		if strings.ContainsAny(name, "$%") {
			c, err = CompileLogFormat(name, ParseOptions{})
		} else {
			c, err = Named(name, ParseOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		formats[name] = c
	}
	p := c.New()
	var f Fields
	for _, l := range r.lines[:len(r.lines)-1] {
		if err := p.Parse(&f, []byte(l)); !errors.Is(err, SkipLine) {
			t.Fatalf("%s: %v: %s", c.Name, err, l)
		}
	}
	return f, p.Parse(&f, []byte(r.lines[len(r.lines)-1]))
}

// fieldEquals compares a field with what the suite says, spelt the suite's way.
func fieldEquals(field, want string, f *Fields) bool {
	absent := want == "-" || want == ""
	is := func(got string) bool { return got == want || absent && got == "" }
	switch field {
	case "time":
		if want == "" {
			return !f.HasTime
		}
		at, err := time.Parse(time.RFC3339Nano, want)
		return err == nil && f.HasTime && at.UnixMilli() == f.Time.Std().UnixMilli()
	case "client":
		for _, got := range []string{f.RealIP, f.Remote, f.Forwarded} {
			if got != "" {
				got = strings.TrimSpace(got)
				if h := string(hostOf([]byte(got))); isAddress([]byte(got)) && strings.ContainsAny(got, ".[") {
					got = h
				}
				if a, err := netip.ParseAddr(got); err == nil {
					got = a.Unmap().String()
					if w, err := netip.ParseAddr(want); err == nil && w.Unmap() == a.Unmap() {
						return true
					}
				}
				if is(got) {
					return true
				}
			}
		}
		return absent && f.Remote == ""
	case "user":
		return is(f.User)
	case "method":
		return strings.EqualFold(f.Method, want) || absent && f.Method == ""
	case "url":
		if u, err := url.Parse(want); err == nil && u.Scheme != "" {
			want = u.Path
			if u.RawQuery != "" {
				want += "?" + u.RawQuery
			}
		}
		if f.Query != "" && strings.Contains(want, "?") {
			return f.Path+"?"+f.Query == want
		}
		return is(f.Path)
	case "query":
		return is(f.Query)
	case "status":
		n, err := strconv.Atoi(want)
		return err == nil && n == int(f.Status) || absent && f.Status == 0
	case "bytes":
		return want == strconv.FormatInt(f.Bytes, 10) || absent && f.Bytes <= 0
	case "duration_ms":
		v, err := strconv.ParseFloat(want, 64)
		return err == nil && int64(v*1000+0.5)/1000 == f.Duration/1000
	case "http_version":
		return is(strings.TrimPrefix(f.Protocol, "HTTP/"))
	case "user_agent":
		return is(f.Agent)
	case "referrer":
		return is(f.Referer)
	case "host":
		return is(f.Host)
	case "id":
		return is(f.RequestID)
	case "forwarded":
		return is(f.Forwarded)
	}
	return false
}

// suiteRows reads all suites.
func suiteRows(t *testing.T) []suiteRow {
	t.Helper()
	var rows []suiteRow
	rows = append(rows, elasticRows(t)...)
	rows = append(rows, vrlRows(t)...)
	rows = append(rows, fail2banRows(t)...)
	return append(rows, extraRows(t)...)
}

const xffLayout = `$http_x_forwarded_for - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`

// elasticRows are the access logs of Elastic's modules, with the fields that
// their pipelines make.
func elasticRows(t *testing.T) []suiteRow {
	var files []struct {
		Log      string
		Expected []map[string]any
	}
	if err := json.Unmarshal(shared(t, "elastic_parse", "expected_simple.json"), &files); err != nil {
		t.Fatal(err)
	}
	var rows []suiteRow
	for _, file := range files {
		format := ""
		for _, known := range [...]struct{ part, format string }{
			{"__error__", ""},
			{"tcplog", ""},
			{"haproxy__log__default", ""}, // no requests in them
			{"access-vhost", "vhost_combined"},
			{"apache", "apache"},
			{"nginx", "nginx"},
			{"elb_logs", "aws_alb"},
			{"haproxy", "haproxy"},
			{"iis__access", "iis"},
			{"traefik", "traefik"},
		} {
			if strings.Contains(file.Log, known.part) {
				format = known.format
				break
			}
		}
		if format == "" {
			continue
		}
		// The old suite has no lines with its fields: they are in order.
		var header, lines []string
		for _, l := range linesOf(shared(t, "elastic_parse", "raw", file.Log)) {
			if len(l) > 0 && l[0] != '#' {
				lines = append(lines, string(l))
			}
		}
		var raw []string
		for _, l := range linesOf(shared(t, "elastic_parse", "raw", file.Log)) {
			raw = append(raw, string(l))
		}
		next := 0
		for i, e := range file.Expected {
			r := suiteRow{suite: "elastic", format: format, want: map[string]string{}}
			original, _ := e["original"].(string)
			switch {
			case strings.Contains(original, "\n"):
				continue // lines that the collector before it joined
			case original == "" && len(lines) == len(file.Expected):
				original = lines[i]
			case original == "":
				t.Errorf("%s: no line for event %d", file.Log, i+1)
				continue
			}
			if format == "iis" { // with the header before it
				for next < len(raw) && raw[next] != original {
					if raw[next][0] == '#' {
						header = append(header, raw[next])
					}
					next++
				}
				next++
				r.lines = append(r.lines, header...)
			}
			r.lines = append(r.lines, original)
			for _, k := range [...]string{"time", "client", "user", "method", "url", "query", "status", "bytes", "http_version", "user_agent", "referrer", "host"} {
				v, ok := e[k]
				if !ok {
					continue
				}
				s := fmt.Sprint(v)
				if n, isNumber := v.(float64); isNumber {
					s = strconv.FormatFloat(n, 'f', -1, 64)
				}
				switch {
				case k == "user_agent" && !strings.Contains(s, "/"):
					continue // a browser's name, not what the line has
				case k == "query" && format != "iis":
					continue // decoded by the suite
				case k == "url" && format == "haproxy": // the whole request line
					method, rest, _ := strings.Cut(s, " ")
					target, version, _ := strings.Cut(rest, " HTTP/")
					r.want["method"], r.want["http_version"], s = method, version, target
				}
				r.want[k] = s
			}
			first, _, _ := strings.Cut(original, " - ")
			switch {
			case strings.Contains(original, "TLSv1.2 ECDHE") && format == "apache":
				r.readAs = `%t %h %{SSL_PROTOCOL}x %{SSL_CIPHER}x "%r" %b`
			case strings.Contains(first, ",") && strings.Contains(first, " ") && !strings.HasPrefix(first, "\""):
				r.readAs = xffLayout
				if !isAddress([]byte(strings.TrimSuffix(strings.Fields(first)[0], ","))) {
					r.readAs = `$host ` + xffLayout
				}
			case strings.HasPrefix(original, `"`):
				r.readAs = `"$http_x_forwarded_for" $remote_addr` + strings.TrimPrefix(xffLayout, "$http_x_forwarded_for")
			}
			rows = append(rows, r)
		}
	}
	return rows
}

var rfc3339 = regexp.MustCompile(`rfc3339\("([^"]+)"\)`)

// vrlRows are the tables of Vector's parse functions.
func vrlRows(t *testing.T) []suiteRow {
	var cases []struct {
		Function, Test, Format, Value, Result string
		Expected                              map[string]any
	}
	if err := json.Unmarshal(shared(t, "vrl_parse", "expected.json"), &cases); err != nil {
		t.Fatal(err)
	}
	var rows []suiteRow
	for _, c := range cases {
		r := suiteRow{suite: "vrl", lines: []string{c.Value}, want: map[string]string{}, refuse: c.Result != "Ok"}
		switch {
		case c.Format == "error" || strings.HasPrefix(c.Value, "- - - -"): // no request, or no brackets around the time
			continue
		case strings.Contains(c.Function, "alb"):
			r.format = "aws_alb"
		case c.Format == "ingress_upstreaminfo":
			r.format = "ingress_nginx"
		case strings.Contains(c.Function, "nginx"):
			r.format = "nginx"
		default:
			r.format = "apache"
		}
		for key, field := range map[string]string{
			"host": "client", "client": "client", "remote_addr": "client", "client_host": "client", "user": "user", "remote_user": "user",
			"method": "method", "request_method": "method", "path": "url", "request_url": "url", "status": "status", "elb_status_code": "status",
			"size": "bytes", "body_bytes_size": "bytes", "sent_bytes": "bytes", "referrer": "referrer", "referer": "referrer", "http_referer": "referrer",
			"agent": "user_agent", "http_user_agent": "user_agent", "user_agent": "user_agent", "request_id": "id", "req_id": "id", "trace_id": "id",
			"http_x_forwarded_for": "forwarded", "timestamp": "time",
		} {
			v, ok := c.Expected[key]
			if !ok {
				continue
			}
			s := fmt.Sprint(v)
			if n, isNumber := v.(float64); isNumber {
				s = strconv.FormatFloat(n, 'f', -1, 64)
			}
			if key == "client_host" {
				s = string(hostOf([]byte(s)))
			}
			r.want[field] = s
		}
		if m := rfc3339.FindStringSubmatch(fmt.Sprint(c.Expected["_timestamp_expr"])); m != nil {
			r.want["time"] = m[1]
		}
		rows = append(rows, r)
	}
	return rows
}

// fail2banRows are access log lines with the address that fail2ban sees in them.
func fail2banRows(t *testing.T) []suiteRow {
	var cases []struct{ Filter, Line, Host string }
	if err := json.Unmarshal(shared(t, "fail2ban_logs", "expected.json"), &cases); err != nil {
		t.Fatal(err)
	}
	var rows []suiteRow
	for _, c := range cases {
		r := suiteRow{suite: "fail2ban", lines: []string{c.Line}, want: map[string]string{}}
		switch {
		case c.Filter == "openhab": // Jetty's, with the months in French
			continue
		case c.Filter == "traefik-auth":
			r.format = "traefik"
		case c.Filter == "haproxy-http-auth":
			r.format = "haproxy"
		case strings.Contains(c.Line, `] "`) && c.Host != "" && !strings.HasPrefix(c.Line, "["):
			r.format = "combined"
			if first, _, _ := strings.Cut(c.Line, " "); !isAddress([]byte(first)) {
				r.readAs = "vhost_combined"
			}
		default:
			continue
		}
		if c.Host != "" {
			r.want["client"] = c.Host
		}
		request := c.Line[strings.Index(c.Line, `"`)+1:]
		if method, rest, ok := strings.Cut(request, " "); ok && strings.HasPrefix(rest, "/") {
			r.want["method"] = method
			if target, _, ok := strings.Cut(rest, " HTTP/"); ok && !strings.ContainsAny(target, `?\"`) {
				r.want["url"] = target
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// extraRows are lines of Elastic's integrations without their expectations:
// another reader, an expression or encoding/json, says what is in them.
func extraRows(t *testing.T) []suiteRow {
	var rows []suiteRow
	add := func(format, line string, want map[string]string) {
		rows = append(rows, suiteRow{suite: "extra", format: format, lines: []string{line}, want: want})
	}
	read := func(file string, each func(line string)) {
		for _, l := range linesOf(shared(t, "elastic_integrations_extra", file)) {
			each(string(l))
		}
	}
	expression := func(file, format, pattern, layout string) {
		re := regexp.MustCompile(pattern)
		read(file, func(line string) {
			m := re.FindStringSubmatch(line)
			if m == nil {
				t.Errorf("%s: the expression does not read %s", file, line)
				return
			}
			want := map[string]string{}
			for i, name := range re.SubexpNames() {
				if name != "" && name != "time" {
					want[name] = m[i]
				}
				if name == "time" {
					at, err := time.Parse(layout, m[i])
					if err != nil {
						t.Fatal(err)
					}
					want["time"] = at.Format(time.RFC3339Nano)
				}
			}
			if want["status"] == "0" {
				want["status"] = ""
			}
			add(format, line, want)
		})
	}
	expression("haproxy.log", "haproxy", `\]: (?P<client>\S+):\d+ \[(?P<time>[^\]]+)\] .* \S+/\S+/\S+/\S+/(?P<duration_ms>\d+) (?P<status>\d+) (?P<bytes>\d+) \S+ \S+ \S{4} \S+ \S+ .*"(?:(?P<method>\w+) (?P<url>\S+) HTTP/(?P<http_version>\S+)|<BADREQ>)"`, "02/Jan/2006:15:04:05.000")
	expression("nginx_ingress.log", "ingress_nginx", `^(?P<client>\S+) - (?P<user>\S+) \[(?P<time>[^\]]+)\] "(?P<method>\S+) (?P<url>\S+) HTTP/(?P<http_version>\S+)" (?P<status>\d+) (?P<bytes>\d+) "(?P<referrer>[^"]*)" "(?P<user_agent>[^"]*)" \d+ (?P<seconds>\S+) .* (?P<id>[0-9a-f]+)$`, "02/Jan/2006:15:04:05 -0700")
	for i := range rows {
		if s, ok := rows[i].want["seconds"]; ok {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			delete(rows[i].want, "seconds")
			rows[i].want["duration_ms"] = fmt.Sprint(v * 1000)
		}
	}
	expression("envoy_istio_text.log", "istio", `^\[(?P<time>[^\]]+)\] "(?P<method>\S+) (?P<url>\S+) HTTP/(?P<http_version>\S+)" (?P<status>\d+) \S+ \S+ \S+ "[^"]*" \d+ (?P<bytes>\d+) (?P<duration_ms>\d+) \S+ "(?P<forwarded>[^"]*)" "(?P<user_agent>[^"]*)" "(?P<id>[^"]*)" "(?P<host>[^":]*)(?::\d+)?" "[^"]*" \S+ \S+ \S+ \[?(?P<client>[^ \]]+)\]?:\d+ \S+ \S+$`, time.RFC3339Nano)
	expression("iis_w3c_xff_noheader.log", "iis", `^(?P<time>\S+ \S+) (?:\S+ )?\d+\.\S+ (?P<method>[A-Z]+) (?P<url>\S+) (?P<query>\S+) \d+ (?P<user>\S+) (?P<client>\S+) (?P<plus_agent>\S+) (?P<referrer>\S+) (?P<status>\d+) \d+ \d+ (?P<duration_ms>\d+) (?P<forwarded>\S+)`, time.DateTime)
	for i := range rows {
		if s, ok := rows[i].want["plus_agent"]; ok {
			delete(rows[i].want, "plus_agent")
			rows[i].want["user_agent"] = strings.ReplaceAll(s, "+", " ")
		}
	}

	var columns []map[string]string
	if err := json.Unmarshal(shared(t, "elastic_integrations_extra", "cloudfront.columns.json"), &columns); err != nil {
		t.Fatal(err)
	}
	var header []string
	read("cloudfront.log", func(line string) {
		if line[0] == '#' {
			header = append(header, line)
			return
		}
		c := columns[0]
		columns = columns[1:]
		agent, err := url.PathUnescape(c["cs(User-Agent)"])
		if err != nil {
			t.Fatal(err)
		}
		bytes := c["sc-content-len"]
		if bytes == "-" {
			bytes = c["sc-bytes"]
		}
		rows = append(rows, suiteRow{suite: "extra", format: "cloudfront", lines: append(slices.Clone(header), line), want: map[string]string{
			"time": c["date"] + "T" + c["time"] + "Z", "client": c["c-ip"], "method": c["cs-method"], "url": c["cs-uri-stem"], "query": c["cs-uri-query"],
			"status": c["sc-status"], "bytes": bytes, "http_version": strings.TrimPrefix(c["cs-protocol-version"], "HTTP/"), "user_agent": agent,
			"referrer": c["cs(Referer)"], "host": c["x-host-header"], "id": c["x-edge-request-id"], "forwarded": c["x-forwarded-for"],
		}})
	})

	object := func(file, format string, names map[string]string, layout string) {
		read(file, func(line string) {
			var o map[string]any
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for field, path := range names {
				for either := range strings.SplitSeq(path, "|") {
					var v any = o
					for part := range strings.SplitSeq(either, ".") {
						m, _ := v.(map[string]any)
						v = m[part]
					}
					if v == nil {
						continue
					}
					s := fmt.Sprint(v)
					if n, ok := v.(float64); ok {
						s = strconv.FormatFloat(n, 'f', -1, 64)
					}
					switch {
					case field == "time" && layout == "ms":
						n, err := strconv.ParseInt(s, 10, 64)
						if err != nil {
							t.Fatal(err)
						}
						s = time.UnixMilli(n).UTC().Format(time.RFC3339Nano)
					case field == "time":
						at, err := time.Parse(layout, s)
						if err != nil {
							t.Fatal(err)
						}
						s = at.Format(time.RFC3339Nano)
					case field == "nanos":
						n, err := strconv.ParseFloat(s, 64)
						if err != nil {
							t.Fatal(err)
						}
						want["duration_ms"] = fmt.Sprint(n / 1e6)
					case field == "http_version":
						s = strings.TrimPrefix(s, "HTTP/")
					case field == "host":
						s, _, _ = strings.Cut(s, ":")
					case field == "client":
						if i := strings.LastIndexByte(s, ':'); i >= 0 && (s[0] == '[' || strings.Count(s, ":") == 1) {
							s = strings.Trim(s[:i], "[]")
						}
					case field == "request":
						want["method"], want["url"], _ = strings.Cut(s, " ")
					}
					if field != "nanos" && field != "request" {
						want[field] = s
					}
					break
				}
			}
			add(format, line, want)
		})
	}
	object("kong_file_log.json", "kong", map[string]string{
		"time": "started_at", "client": "client_ip", "method": "request.method", "url": "request.uri",
		"host": "request.headers.host", "user_agent": "request.headers.user-agent", "status": "response.status", "bytes": "response.headers.Content-Length",
		"duration_ms": "latencies.request", "user": "consumer.username",
	}, "ms")
	object("traefik_json.log", "traefik", map[string]string{
		"time": "StartUTC|StartLocal", "client": "ClientHost|ClientAddr", "user": "ClientUsername", "method": "RequestMethod",
		"url": "RequestPath", "host": "RequestHost", "status": "DownstreamStatus", "bytes": "DownstreamContentSize", "http_version": "RequestProtocol",
		"user_agent": "request_User-Agent", "nanos": "Duration",
	}, time.RFC3339Nano)
	object("envoy_istio_json.log", "envoy", map[string]string{
		"time": "start_time", "client": "downstream_remote_address", "method": "method", "url": "path", "host": "authority",
		"status": "response_code", "bytes": "bytes_sent", "http_version": "protocol", "user_agent": "user_agent", "id": "request_id", "duration_ms": "duration",
	}, time.RFC3339Nano)
	object("apigateway.log", "aws_apigateway", map[string]string{
		"time": "requestTime", "client": "ip", "user": "user", "method": "httpMethod", "url": "resourcePath",
		"request": "routeKey", "status": "status", "bytes": "responseLength", "http_version": "protocol", "id": "requestId", "host": "domainName",
	}, "02/Jan/2006:15:04:05 -0700")
	return rows
}

// Every file of the suites is recognised without being named, or weir says what
// it is not.
func TestSuitesDetected(t *testing.T) {
	f := func(want string, parts ...string) {
		t.Helper()
		d := Detect(linesOf(shared(t, parts...)), ParseOptions{})
		got := d.Chosen
		if d.Format == nil {
			got = "none: " + d.Problem
		}
		t.Logf("%s: %s", parts[len(parts)-1], got)
		if !strings.Contains(got, want) {
			t.Errorf("%v: %q %q, want %q", parts, got, d.Remedy, want)
		}
	}
	extra := "elastic_integrations_extra"
	f("kong: 1 of 1", extra, "kong_file_log.json")
	f("traefik: 3 of 3", extra, "traefik_json.log")
	f("envoy: 2 of 2", extra, "envoy_istio_json.log")
	f("istio: 7 of 7", extra, "envoy_istio_text.log")
	f("aws_apigateway: 4 of 4", extra, "apigateway.log")
	f("haproxy: 6 of 6", extra, "haproxy.log")
	f("cloudfront: 10 of 10", extra, "cloudfront.log")
	f("iis (W3C extended): 3 of 3", extra, "iis_w3c_xff_noheader.log")
	f("--format ingress_nginx reads them, too", extra, "nginx_ingress.log")
	raw := func(want, file string) { t.Helper(); f(want, "elastic_parse", "raw", file) }
	raw("iis (W3C extended): 3 of 3", "filebeat-2018__iis__access__test.log")
	raw("haproxy: 1 of 1", "filebeat-2018__haproxy__log__haproxy.log")
	raw("--format traefik reads them, too", "filebeat-2018__traefik__access__test.log")
	raw("aws_alb (load balancer): 1 of 1", "elastic-package__aws__elb_logs__test-alb.log")
	raw("vhost_combined (Apache): 1 of 1", "elastic-package__apache__access__test-access-vhost.log")
	raw("combined (nginx/Apache): ", "elastic-package__apache__access__test-access-basic.log")
	raw("combined (nginx/Apache): 12 of 14", "elastic-package__nginx__access__test-access.log")
}

// The presets of logs that the common names read, too, read the same from them.
func TestPresetsAgreeWithCommonNames(t *testing.T) {
	common := jsonFormat(nil, ParseOptions{}).New()
	for name, lines := range map[string][][]byte{
		"envoy": linesOf(shared(t, "elastic_integrations_extra", "envoy_istio_json.log")),
		"caddy": {[]byte(caddyLine)},
	} {
		c, err := Named(name, ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		p := c.New()
		for _, l := range lines {
			var a, b Fields
			if err := errors.Join(common.Parse(&a, l), p.Parse(&b, l)); err != nil {
				t.Fatal(err)
			}
			if x, y := describe(&a), describe(&b); x != y {
				t.Errorf("%s:\n common names %s\n preset       %s", name, x, y)
			}
		}
	}
}
