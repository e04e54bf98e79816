package collector

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const caddyLine = `{"level":"info","ts":1646861401.5241024,"logger":"http.log.access","msg":"handled request","request":{"remote_ip":"192.0.2.10","remote_port":"41342","client_ip":"203.0.113.7","proto":"HTTP/2.0","method":"GET","host":"Shop.Example:8443","uri":"/api/v1/orders/17?expand=1","headers":{"User-Agent":["curl/7.82.0"],"Accept":["*/*"],"Authorization":["REDACTED"],"Cookie":["REDACTED"],"X-Forwarded-For":["198.51.100.1","203.0.113.7"]},"tls":{"resumed":false,"version":772,"cipher_suite":4865,"proto":"h2","server_name":"example.com"}},"bytes_read":0,"user_id":"ann","duration":0.000929675,"size":10900,"status":200,"resp_headers":{"Server":["Caddy"]}}`

func TestJSON(t *testing.T) {
	c := jsonFormat(nil, ParseOptions{})
	f := func(line, want string) {
		t.Helper()
		if got := parse(c, line); got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
	const at = "time=2025-10-10T11:55:36Z "
	const all = at + "remote=203.0.113.7 method=GET path=/a query=b=1 "
	// nginx variables, plain words, any case.
	f(`{"time_iso8601":"2025-10-10T13:55:36+02:00","remote_addr":"203.0.113.7","request_method":"GET","request_uri":"/a?b=1","status":"200","body_bytes_sent":"5","request_time":"0.012","http_user_agent":"u","http_referer":"-","remote_user":"","http_x_forwarded_for":"192.0.2.1","http_host":"H.example:80","request_id":"x1","bytes_sent":300}`,
		at+"remote=203.0.113.7 xff=192.0.2.1 host=h.example method=GET path=/a query=b=1 status=200 bytes=5 us=12000 agent=u id=x1")
	f(`{"TIME":1760097336,"IP":"203.0.113.7","Method":"GET","Path":"/a?b=1","Status":200,"User_Agent":"u","User":"ann","api_key":"k","Session":"s","login_user":"l","ja3":"j3","ja4":"j4"}`,
		all+"status=200 agent=u user=ann key=k session=s login=l ja3=j3 ja4=j4")
	f(` { "time" : "2025-10-10T11:55:36Z" , "ip" : "203.0.113.7" , "request" : "GET /a?b=1 HTTP/1.1" } `, all+"protocol=HTTP/1.1")
	f(`{"time":"10/Oct/2025:13:55:36 +0200","ip":"203.0.113.7","request":"/a?b=1","method":"GET"},`, all[:len(all)-1])
	f(`{"realip_remote_addr":"10.0.0.1","remote_addr":"203.0.113.7","request":"-","status":400}`, "remote=10.0.0.1 real=203.0.113.7 status=400")
	// Nested and dotted ECS, OpenTelemetry, gateways.
	f(`{"@timestamp":"2025-10-10T11:55:36.000Z","source":{"ip":"203.0.113.7"},"http":{"request":{"method":"GET","referrer":"r"},"response":{"status_code":404,"body":{"bytes":7}},"version":"1.1"},"url":{"original":"/a?b=1","path":"/x"},"user_agent":{"original":"u","name":"n"},"user":{"name":"ann"},"event":{"duration":1500000},"host":{"name":"machine"}}`,
		all+"protocol=1.1 status=404 bytes=7 us=1500 agent=u referer=r user=ann")
	f(`{"@timestamp":"2025-10-10T11:55:36Z","source.ip":"203.0.113.7","http.request.method":"GET","http":{"response.status_code":404},"url.path":"/a","url.query":"b=1","user_agent.original":"u"}`, all+"status=404 agent=u")
	f(`{"timeUnixNano":"1760097336000000000","attributes":{"client.address":"203.0.113.7","http.method":"GET","http.target":"/a?b=1","http.status_code":200,"enduser.id":"ann","http.user_agent":"u"}}`, all+"status=200 agent=u user=ann")
	f(`{"timestamp":"2025-10-10T11:55:36Z","httpRequest":{"requestMethod":"GET","requestUrl":"https://H.example/a?b=1","status":200,"responseSize":"9","userAgent":"u","remoteIp":"203.0.113.7","latency":"0.012s","protocol":"HTTP/1.1"}}`,
		"time=2025-10-10T11:55:36Z remote=203.0.113.7 host=h.example method=GET path=/a query=b=1 protocol=HTTP/1.1 status=200 bytes=9 us=12000 agent=u")
	f(`{"StartUTC":"2025-10-10T11:55:36Z","ClientHost":"203.0.113.7","RequestMethod":"GET","RequestPath":"/a?b=1","RequestHost":"h","DownstreamStatus":200,"OriginStatus":500,"Duration":516000,"DownstreamContentSize":5,"request_User-Agent":"u"}`,
		at+"remote=203.0.113.7 host=h method=GET path=/a query=b=1 status=200 bytes=5 us=516 agent=u")
	f(`{"start_time":"2025-10-10T11:55:36Z","method":"GET","path":"/a?b=1","response_code":200,"duration":12,"x_forwarded_for":"192.0.2.1","downstream_remote_address":"203.0.113.7:4000",":authority":"h"}`,
		at+"remote=203.0.113.7:4000 xff=192.0.2.1 host=h method=GET path=/a query=b=1 status=200 us=12000")
	f(caddyLine, "time=2022-03-09T21:30:01.524102Z remote=192.0.2.10 real=203.0.113.7 xff=198.51.100.1, 203.0.113.7 host=shop.example method=GET path=/api/v1/orders/17 query=expand=1 protocol=HTTP/2.0 status=200 bytes=10900 us=929 agent=curl/7.82.0 user=ann")
	// Absent values, escapes, oddities of writers.
	f(`{"method":"GET","path":"/","user":null,"session":"-","status":200,"bytes":-1,"ok":true,"n":-1.5e3}`, "method=GET path=/ status=200")
	f(`{"method":"GET","path":"/caf\u00e9\ud83d\ude00\u0000\"\\\/","status":200}`, `method=GET path=/café😀\x00"\/ status=200`)
	f(`{"method":"GET","path":"/\xC3\xA9\x22","status":200,"request_time":,"upstream":-}`, `method=GET path=/é" status=200`)
	f(`{"method":"GET","path":"/","forwarded":"for=1.2.3.4","x":[1,{"path":"/no"},"]"],"y":{"path":"/no","z":"}"}}`, "forwarded=for=1.2.3.4 method=GET path=/")
	f(`{"method":"GET","path":"/","x-forwarded-for":"[2001:db8::1]:80"}`, "xff=[2001:db8::1]:80 method=GET path=/")
	f(`{"url":"/low","uri":"/mid","request_uri":"/best","method":"GET"}`, "method=GET path=/best")
	f(`{"request_uri":"/best","url":"/low","method":"GET"}`, "method=GET path=/best")
	f(`{"method":"GET","path":"/","status":"200 OK"}`, "method=GET path=/ status=200")
	f(`{"method":"GET","path":"/","duration":"1.5ms"}`, "method=GET path=/ us=1500")
	f(`{"method":"GET","path":"/","duration":"20µs"}`, "method=GET path=/ us=20")
	f(`{"method":"GET","path":"/","authorization":"bearer x.eyJzdWIiOiJhblwiIn0.y"}`, `method=GET path=/ subject=an" auth=bearer x.eyJzdWIiOiJhblwiIn0.y`)
	f(`{"method":"GET","path":"/","jwt_payload":"{\"sub\":\"ann\"}"}`, "method=GET path=/ subject=ann")
	f(`{"method":"GET","path":"/"`+strings.Repeat(`,"k":1`, 1000)+`,"status":201}`, "method=GET path=/ status=201")
	f(`{"attributes":`+strings.Repeat(`{"attributes":`, 500)+`{"method":"GET"}`+strings.Repeat("}", 500)+`,"path":"/"}`, "path=/")
	// What is no request.
	f(``, "reject: empty")
	f(`{}`, "reject: request")
	f(`{"level":"info","msg":"started","status":"ok"}`, "reject: request")
	f(`{"method":"GET","path":"/","status":"ok"}`, "reject: status")
	f(`{"method":"GET","path":"/","time":"yesterday"}`, "reject: time")
	f(`{"method":"GET","path":"/","time":12}`, "reject: time")
	f(`[{"method":"GET"}]`, "reject: json")
	f(`{"method":"GET"`, "reject: json")
	f(`{"method":"GET`, "reject: json")
	f(`{"method":"GET"}}`, "reject: json")
	f(`{"method":"GET" "path":"/"}`, "reject: json")
	f(`{"method":GET}`, "reject: json")
	f(`{"bytes":1.2.3}`, "reject: json")
	f(`{"x":[1,2}`, "reject: json")
	f("\x00{", "reject: binary")
}

// The guesses from one line do not leak into a line of another make.
func TestJSONGuesses(t *testing.T) {
	p := jsonFormat(nil, ParseOptions{}).New()
	var f Fields
	for i, line := range []string{
		`{"method":"GET","path":"/a","status":200}`, `{"metho":"no","method":"PUT","path":"/b","status":201}`,
		`{"url":{"path":"/c"},"method":"GET","status":200}`, `{"url":{"path":"/d"},"http":{"path":"/no","method":"POST"}}`,
		`{"xxx":{"path":"/no"},"path":"/e"}`,
	} {
		if err := p.Parse(&f, []byte(line)); err != nil {
			t.Fatal(err)
		}
		want := []string{"method=GET path=/a status=200", "method=PUT path=/b status=201", "method=GET path=/c status=200", "method=POST path=/d", "path=/e"}[i]
		if got := describe(&f); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

func TestCompileJSON(t *testing.T) {
	c, err := CompileJSON(ParseOptions{Map: map[string]string{"path": "req.target", "user": "who.Name", "duration_us": "took", "remote": "path"}})
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"method":"GET","request_uri":"/no","req":{"target":"/yes?q"},"who.name":"ann","user":"bob","took":7,"path":"203.0.113.7"}`
	if got, want := parse(c, line), "remote=203.0.113.7 method=GET path=/yes query=q us=7 user=ann"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	f := func(m map[string]string, want string) {
		t.Helper()
		if _, err := CompileJSON(ParseOptions{Map: m}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want %q", m, err, want)
		}
	}
	f(map[string]string{"pth": "x"}, `map field "pth": weir has no such field; its fields are time remote`)
	f(map[string]string{"path": ""}, `map field "path"`)
	f(map[string]string{"a": "x", "b": "y"}, `map field "b"`)
}

// A name means one thing.
func TestJSONNames(t *testing.T) {
	seen := map[string]slot{}
	for _, list := range [][]jsonName{jsonNames()} {
		for _, e := range list {
			for n := range strings.FieldsSeq(e.names) {
				if other, ok := seen[n]; ok {
					t.Errorf("%s is in the list of slot %d and of slot %d", n, other, e.slot)
				}
				if n != strings.ToLower(n) || len(n) > jsonKey || strings.Count(n, ".") > jsonDepth-2 {
					t.Errorf("%s is never found", n)
				}
				seen[n] = e.slot
			}
		}
	}
	if slots > 64 {
		t.Error("slots do not fit the parser's bit set")
	}
	// Every field of a map can be filled.
	for _, e := range jsonFields() {
		for n := range strings.FieldsSeq(e.names) {
			c, err := CompileJSON(ParseOptions{Map: map[string]string{n: "zz"}})
			if err != nil {
				t.Fatal(err)
			}
			v := `"203.0.113.7"`
			switch e.slot {
			case slotTime, slotStatus, slotBytes, slotDuration, slotSeconds, slotMillis, slotMicros, slotNanos:
				v = "200"
				if e.slot == slotTime {
					v = "1760097336"
				}
			case slotCookies:
				v = `"sid=1"`
			case slotBody:
				v = `"{\"operationName\":\"a\"}"`
			case slotBlocked:
				v = "true"
			}
			with := parse(c, fmt.Sprintf(`{"method":"GET","path":"/","zz":%s}`, v))
			if with == "method=GET path=/" || strings.HasPrefix(with, "reject") {
				t.Errorf("map field %s: %s", n, with)
			}
		}
	}
}

// TestJSONArrays: a line may be an array of objects; each is a request, however
// blocks are cut.
func TestJSONArrays(t *testing.T) {
	object := func(i int) string {
		return fmt.Sprintf(`{"time":"2026-03-02T10:00:00Z","ip":"203.0.113.7","method":"GET","path":"/a[]{}","status":200,"bytes":%d}`, i)
	}
	var log strings.Builder
	n := 0
	for i := range 600 {
		if i%3 == 0 {
			log.WriteString(object(n) + "\n")
			n++
			continue
		}
		var list []string
		for range 1 + i%97 {
			list = append(list, object(n))
			n++
		}
		log.WriteString("[" + strings.Join(list, " , ") + "] \n")
	}
	d := Detect(linesOf([]byte(log.String())[:20000]), ParseOptions{})
	if d.Format == nil || d.Format.Name != "json" {
		t.Fatalf("detected as %+v", d)
	}
	path := filepath.Join(t.TempDir(), "x.json")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, workers := range []int{1, 4} {
		r := NewReader(ReaderConfig{Path: path, Format: d.Format, Timed: true, Workers: workers})
		got, lines := 0, int64(0)
		for {
			b, err := r.Next(t.Context())
			if err != nil {
				break
			}
			if len(b.Requests) > blockRequests || len(b.Rejects.Reason) > 0 {
				t.Fatalf("a block of %d requests, rejected %v", len(b.Requests), b.Rejects.Reason)
			}
			for i := range b.Requests {
				if int(b.Requests[i].Bytes) != got {
					t.Fatalf("request %d is number %d", got, b.Requests[i].Bytes)
				}
				got++
			}
			lines += b.Rejects.Lines
			r.Release(b)
		}
		r.Close()
		if got != n || lines != 600 {
			t.Errorf("%d requests of %d lines, want %d of 600", got, lines, n)
		}
	}
	f := func(line string, want ...string) {
		t.Helper()
		var got []string
		for e := range elements([]byte(line)) {
			got = append(got, string(e))
		}
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	f(`[{"a":1},{"b":[{}]}]`, `{"a":1}`, `{"b":[{}]}`)
	f(`[ {"a":"]}"} ]  `, `{"a":"]}"}`)
	f(`[{"a":1}`)
	f(`[{"a":1}] x`)
	f(`[1,2]`)
	f(`[]`)
	f(`[`)
}
