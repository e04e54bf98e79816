package collector

import (
	"bytes"
	encodedhex "encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"weir/pipeline"
)

// Exports are written here as their JSON encoding, and turned into protobuf by
// the names that opentelemetry-proto gives: both must give the same requests.

// otlpWire encodes a value of the JSON encoding as the message called name.
func otlpWire(t testing.TB, name string, v map[string]any) (out []byte) {
	t.Helper()
	fields := map[string]map[string]struct {
		num  protowire.Number
		kind string
	}{
		"traces": {"resourceSpans": {1, "*resourceSpans"}}, "resourceSpans": {"scopeSpans": {2, "*scopeSpans"}}, "scopeSpans": {"spans": {2, "*span"}},
		"logs": {"resourceLogs": {1, "*resourceLogs"}}, "resourceLogs": {"scopeLogs": {2, "*scopeLogs"}}, "scopeLogs": {"logRecords": {2, "*log"}},
		"span": {"traceId": {1, "hex"}, "name": {5, "string"}, "kind": {6, "int"}, "startTimeUnixNano": {7, "fixed"}, "endTimeUnixNano": {8, "fixed"}, "attributes": {9, "*pair"}},
		"log":  {"timeUnixNano": {1, "fixed"}, "observedTimeUnixNano": {11, "fixed"}, "severityText": {3, "string"}, "body": {5, "any"}, "attributes": {6, "*pair"}, "traceId": {9, "hex"}},
		"pair": {"key": {1, "string"}, "value": {2, "any"}},
		"any":  {"stringValue": {1, "string"}, "boolValue": {2, "bool"}, "intValue": {3, "int"}, "doubleValue": {4, "double"}, "arrayValue": {5, "array"}, "kvlistValue": {6, "map"}},
		"map":  {"values": {1, "*pair"}}, "array": {"values": {1, "*any"}},
	}[name]
	for key, value := range v {
		f, ok := fields[key]
		if !ok {
			t.Fatalf("%s has no field %s", name, key)
		}
		message := func(v any) {
			out = protowire.AppendTag(out, f.num, protowire.BytesType)
			out = protowire.AppendBytes(out, otlpWire(t, strings.TrimPrefix(f.kind, "*"), v.(map[string]any)))
		}
		number := func() uint64 {
			n, err := strconv.ParseInt(fmt.Sprint(value), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return uint64(n)
		}
		switch {
		case f.kind[0] == '*':
			for _, e := range value.([]any) {
				message(e)
			}
		case f.kind == "string":
			out = protowire.AppendString(protowire.AppendTag(out, f.num, protowire.BytesType), value.(string))
		case f.kind == "hex":
			b, err := encodedhex.DecodeString(value.(string))
			if err != nil {
				t.Fatal(err)
			}
			out = protowire.AppendBytes(protowire.AppendTag(out, f.num, protowire.BytesType), b)
		case f.kind == "int":
			out = protowire.AppendVarint(protowire.AppendTag(out, f.num, protowire.VarintType), number())
		case f.kind == "fixed":
			out = protowire.AppendFixed64(protowire.AppendTag(out, f.num, protowire.Fixed64Type), number())
		case f.kind == "bool":
			out = protowire.AppendVarint(protowire.AppendTag(out, f.num, protowire.VarintType), protowire.EncodeBool(value.(bool)))
		case f.kind == "double":
			v, err := value.(json.Number).Float64()
			if err != nil {
				t.Fatal(err)
			}
			out = protowire.AppendFixed64(protowire.AppendTag(out, f.num, protowire.Fixed64Type), math.Float64bits(v))
		default:
			message(value)
		}
	}
	return out
}

// otlpBody wraps records, comma by comma, into an export in JSON and protobuf.
func otlpBody(t testing.TB, kind, records string) (asJSON, asProto []byte) {
	t.Helper()
	text := `{"resourceSpans":[{"scopeSpans":[{"spans":[` + records + `]}]}]}`
	if kind == otlpLogs {
		text = `{"resourceLogs":[{"scopeLogs":[{"logRecords":[` + records + `]}]}]}`
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return []byte(text), otlpWire(t, kind, v)
}

const otlpSpan = `{"traceId":"0102030405060708090a0b0c0d0e0f10","name":"GET /a","kind":2,"startTimeUnixNano":"1772445600000000000","endTimeUnixNano":"1772445600012000000","attributes":[
	{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.path","value":{"stringValue":"/a/\"1\""}},{"key":"url.query","value":{"stringValue":"b=1"}},
	{"key":"http.response.status_code","value":{"intValue":"404"}},{"key":"network.peer.address","value":{"stringValue":"203.0.113.7"}},
	{"key":"user_agent.original","value":{"stringValue":"curl/8"}},{"key":"enduser.id","value":{"stringValue":"ann"}},{"key":"server.address","value":{"stringValue":"api.example.com"}},
	{"key":"http.response.body.size","value":{"intValue":"512"}},{"key":"http.request.header.x-forwarded-for","value":{"arrayValue":{"values":[{"stringValue":"198.51.100.1"},{"stringValue":"198.51.100.2"}]}}},
	{"key":"sampled","value":{"boolValue":true}},{"key":"load","value":{"doubleValue":0.25}}]}`

// otlpSeen is a request as tests write it.
func otlpSeen(r *pipeline.Request, f string) string {
	return fmt.Sprintf("%s %s %s?%s %d %d B %d us %q %s%s", r.Time.Std().UTC().Format("15:04:05.000"), r.Method, r.Path, r.Query, r.Status, r.Bytes, r.Duration, r.Agent, r.RequestID, f)
}

// otlpRig is a Push for OTLP with a log that tells what it was given.
func otlpRig(t *testing.T, cfg PushConfig) (r *pushRig, seen func() []string) {
	t.Helper()
	cfg.OTLP = true
	var list []string
	cfg.NewIdentify = func() Identify {
		return func(q *pipeline.Request, f *Fields) {
			list = append(list, otlpSeen(q, fmt.Sprintf(" from %s for %s host %s user %s", f.Remote, f.Forwarded, f.Host, f.User)))
		}
	}
	r = newPushRig(t, cfg)
	r.read(t)
	return r, func() []string {
		got := list
		list = nil
		return got
	}
}

func TestOTLP(t *testing.T) {
	var skipped int64
	r, seen := otlpRig(t, PushConfig{Skipped: func(n int64) { skipped += n }})
	f := func(name, kind, records string, status int, partial string, want ...string) {
		t.Helper()
		asJSON, asProto := otlpBody(t, kind, records)
		for _, e := range []struct {
			media, coding string
			body          []byte
		}{{"application/json", "", asJSON}, {"application/x-protobuf", "", asProto}, {"application/json; charset=utf-8", "gzip", pushGzip(t, asJSON)}, {"application/x-protobuf", "gzip", pushGzip(t, asProto)}} {
			resp, text := r.post(t, "/v1/"+kind, e.body, "Content-Type", e.media, "Content-Encoding", e.coding)
			if resp.StatusCode != status {
				t.Fatalf("%s, %s: %d %s", name, e.media, resp.StatusCode, text)
			}
			if !strings.HasPrefix(e.media, resp.Header.Get("Content-Type")) {
				t.Errorf("%s: %s is answered as %s", name, e.media, resp.Header.Get("Content-Type"))
			}
			if resp.Header.Get("Content-Type") == "application/x-protobuf" {
				text = partialSuccess(t, text, kind)
			}
			if text != partial {
				t.Errorf("%s, %s: answer %s, want %s", name, e.media, text, partial)
			}
			got := seen()
			if len(got) != len(want) {
				t.Fatalf("%s, %s: %d requests, want %d: %q", name, e.media, len(got), len(want), got)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%s, %s:\n got %s\nwant %s", name, e.media, got[i], want[i])
				}
			}
		}
	}
	const now = `10:00:00.000 GET /a/"1"?b=1 404 512 B 12000 us "curl/8" 0102030405060708090a0b0c0d0e0f10 from 203.0.113.7 for 198.51.100.1, 198.51.100.2 host api.example.com user ann`
	f("a server span", otlpTraces, otlpSpan, 200, "{}", now)
	if skipped != 0 {
		t.Errorf("%d spans skipped", skipped)
	}
	f("a client span", otlpTraces, strings.Replace(otlpSpan, `"kind":2`, `"kind":3`, 1)+","+otlpSpan, 200, "{}", now)
	f("a span without HTTP", otlpTraces, `{"kind":2,"startTimeUnixNano":"1772445600000000000","attributes":[{"key":"rpc.method","value":{"stringValue":"Get"}}]}`, 200, "{}")
	if skipped != 8 {
		t.Errorf("%d spans skipped, want 8", skipped)
	}
	f("old names", otlpTraces, `{"kind":2,"startTimeUnixNano":"1772445600000000000","endTimeUnixNano":"0","attributes":[
		{"key":"http.method","value":{"stringValue":"POST"}},{"key":"http.target","value":{"stringValue":"/login?x=1"}},{"key":"http.status_code","value":{"intValue":"401"}},
		{"key":"net.sock.peer.addr","value":{"stringValue":"2001:db8::1"}},{"key":"http.user_agent","value":{"stringValue":"é\tü"}},{"key":"http.host","value":{"stringValue":"Shop.example:443"}},
		{"key":"http.response_content_length","value":{"intValue":"7"}}]}`, 200, "{}",
		`10:00:00.000 POST /login?x=1 401 7 B -1 us "é\\x09ü"  from 2001:db8::1 for  host shop.example user `)
	f("a span without a time", otlpTraces, strings.Replace(otlpSpan, `"startTimeUnixNano":"1772445600000000000",`, "", 1), 200,
		`{"partialSuccess":{"errorMessage":"some are no request (time 1)","rejectedSpans":"1"}}`)
	f("a log with attributes", otlpLogs, `{"observedTimeUnixNano":"1772445600000000000","body":{"stringValue":"handled"},"attributes":[
		{"key":"http.request.method","value":{"stringValue":"GET"}},{"key":"url.path","value":{"stringValue":"/a"}},{"key":"http.response.status_code","value":{"intValue":"200"}},{"key":"network.peer.address","value":{"stringValue":"203.0.113.7"}}]}`, 200, "{}",
		`10:00:00.000 GET /a? 200 -1 B -1 us ""  from 203.0.113.7 for  host  user `)
	line := `203.0.113.9 - - [02/Mar/2026:10:00:01 +0000] \"GET /p HTTP/1.1\" 200 5 \"-\" \"curl/8\"`
	want := `10:00:01.000 GET /p? 200 5 B -1 us "curl/8"  from 203.0.113.9 for  host  user `
	f("lines", otlpLogs, `{"body":{"stringValue":"`+line+`\n"}},{"body":{"stringValue":"started in 3 s"}},{"body":{"stringValue":"`+line+`"}}`, 200,
		`{"partialSuccess":{"errorMessage":"some are no request (format 1)","rejectedLogRecords":"1"}}`, want, want)
	f("an object", otlpLogs, `{"body":{"kvlistValue":{"values":[{"key":"time","value":{"stringValue":"2026-03-02T10:00:02Z"}},{"key":"remote_addr","value":{"stringValue":"203.0.113.9"}},
		{"key":"request","value":{"kvlistValue":{"values":[{"key":"method","value":{"stringValue":"PUT"}},{"key":"uri","value":{"stringValue":"/o?q=2"}}]}}},{"key":"status","value":{"intValue":"204"}}]}}}`, 200, "{}",
		`10:00:02.000 PUT /o?q=2 204 -1 B -1 us ""  from 203.0.113.9 for  host  user `)
	f("nothing", otlpLogs, "", 200, "{}")
}

// partialSuccess writes an answer in protobuf as its JSON.
func partialSuccess(t *testing.T, body, kind string) string {
	t.Helper()
	if body == "" {
		return "{}"
	}
	name := "rejectedLogRecords"
	if kind == otlpTraces {
		name = "rejectedSpans"
	}
	v := map[string]any{}
	err := eachOTLPField([]byte(body), func(f otlpField) error {
		return eachOTLPField(f.p, func(f otlpField) error {
			if f.num == 1 {
				v[name] = fmt.Sprint(f.v)
			} else {
				v["errorMessage"] = string(f.p)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(marshalOTLP(map[string]any{"partialSuccess": v}))
}

func TestOTLPRefuses(t *testing.T) {
	asJSON, asProto := otlpBody(t, otlpTraces, otlpSpan)
	f := func(name string, cfg PushConfig, path, media string, body []byte, status int, again bool, detail string) {
		t.Helper()
		r, seen := otlpRig(t, cfg)
		resp, text := r.post(t, path, body, "Content-Type", media)
		if resp.StatusCode != status || !strings.Contains(text, detail) || (resp.Header.Get("Retry-After") != "") != again {
			t.Errorf("%s: %d %q, Retry-After %q, want %d with %q", name, resp.StatusCode, text, resp.Header.Get("Retry-After"), status, detail)
		}
		if len(seen()) > 0 {
			t.Errorf("%s: something was taken", name)
		}
	}
	const asJ, asP = "application/json", "application/x-protobuf"
	f("metrics", PushConfig{}, "/v1/metrics", asP, asProto, 404, false, "no metrics")
	f("lines", PushConfig{}, "/ingest/v1/json", asJ, asJSON, 404, false, "/v1/logs")
	f("text", PushConfig{}, "/v1/traces", "text/plain", asProto, 415, false, "application/x-protobuf")
	f("JSON as protobuf", PushConfig{}, "/v1/traces", asP, asJSON, 400, false, "not what OTLP sends")
	f("protobuf as JSON", PushConfig{}, "/v1/traces", asJ, asProto, 400, false, `"code":3`)
	f("cut JSON", PushConfig{}, "/v1/traces", asJ, asJSON[:len(asJSON)/2], 400, false, "nothing of it was taken")
	f("cut protobuf", PushConfig{}, "/v1/traces", asP, asProto[:len(asProto)/2], 400, false, "nothing of it was taken")
	f("too large", PushConfig{MaxBody: 100}, "/v1/traces", asP, asProto, 413, false, "100 bytes")
	f("busy", PushConfig{Busy: func() bool { return true }}, "/v1/traces", asJ, asJSON, 429, true, `"code":14`)
	f("busy", PushConfig{Busy: func() bool { return true }}, "/v1/logs", asP, asProto, 429, true, "\x08\x0e")
	f("no token", PushConfig{Tokens: &Tokens{}}, "/v1/traces", asP, asProto, 401, false, "token")
	r, _ := otlpRig(t, PushConfig{})
	if resp, err := http.Get(r.url + "/v1/logs"); err != nil {
		t.Error(err)
	} else if _ = resp.Body.Close(); resp.StatusCode != 405 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
	if r.pending != 0 {
		t.Errorf("%d bytes are still counted", r.pending)
	}
}

// TestOTLPFull: an export that finds the memory taken is put off whole, and what
// was counted for it is given back.
func TestOTLPFull(t *testing.T) {
	r, seen := otlpRig(t, PushConfig{MaxPending: 64 << 10})
	_, body := otlpBody(t, otlpTraces, strings.Repeat(otlpSpan+",", 200)+otlpSpan)
	if !r.reserve(60<<10, 0) {
		t.Fatal("no room at the start")
	}
	if resp, text := r.post(t, "/v1/traces", body, "Content-Type", "application/x-protobuf"); resp.StatusCode != 429 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %q, want 429 with Retry-After", resp.StatusCode, text)
	}
	if len(seen()) > 0 || r.pending != 60<<10 {
		t.Errorf("%d bytes are counted, want those of before", r.pending)
	}
	r.unreserve(60 << 10)
	if resp, text := r.post(t, "/v1/traces", body, "Content-Type", "application/x-protobuf"); resp.StatusCode != 200 {
		t.Errorf("%d %q with room", resp.StatusCode, text)
	}
	if n := len(seen()); n != 201 || r.pending != 0 {
		t.Errorf("%d requests, want 201; %d bytes are still counted", n, r.pending)
	}
}

// FuzzOTLP: neither encoding breaks anything, every line of text stands alone,
// and each line made of attributes is JSON.
func FuzzOTLP(f *testing.F) {
	for _, kind := range []string{otlpTraces, otlpLogs} {
		records := otlpSpan
		if kind == otlpLogs {
			records = `{"body":{"stringValue":"a\nb"}},{"body":{"kvlistValue":{"values":[{"key":"a","value":{"kvlistValue":{"values":[]}}}]}}},{"attributes":[{"key":"http.method","value":{"stringValue":"GET"}}]}`
		}
		asJSON, asProto := otlpBody(f, kind, records)
		f.Add(asJSON, true, kind == otlpLogs)
		f.Add(asProto, false, kind == otlpLogs)
	}
	f.Add([]byte("{\"resourceLogs\":[{\"scopeLogs\":[{\"logRecords\":[{\"attributes\":[{\"key\":\"http.url\n\",\"value\":{\"intValue\":\"\"}}]}]}]}]}"), true, true)
	f.Fuzz(func(t *testing.T, in []byte, asJSON, logs bool) {
		kind := otlpTraces
		if logs {
			kind = otlpLogs
		}
		l := otlpLines{limit: 1 << 20}
		var err error
		if asJSON {
			err = l.readJSON(bytes.Clone(in), kind)
		} else {
			err = l.readProto(in, kind)
		}
		if err != nil {
			return
		}
		for line := range bytes.Lines(l.requests) {
			if line[0] != '{' || !bytes.HasSuffix(line, []byte("}\n")) {
				t.Fatalf("line %q of %q", line, in)
			}
			if !asJSON && !json.Valid(line) {
				t.Fatalf("%q is no JSON, of %q", line, in)
			}
		}
		if n := len(l.text); n > 0 && l.text[n-1] != '\n' {
			t.Fatalf("text %q", l.text)
		}
	})
}

// BenchmarkOTLP is an export of 512 spans, as SDKs send them, to requests.
func BenchmarkOTLP(b *testing.B) {
	asJSON, asProto := otlpBody(b, otlpTraces, strings.Repeat(otlpSpan+",", 511)+otlpSpan)
	f, err := Named("otel", ParseOptions{})
	if err != nil {
		b.Fatal(err)
	}
	parser := f.New()
	var fields Fields
	for _, e := range []struct {
		name string
		body []byte
		read func(*otlpLines, []byte, string) error
	}{{"protobuf", asProto, (*otlpLines).readProto}, {"json", asJSON, (*otlpLines).readJSON}} {
		b.Run(e.name, func(b *testing.B) {
			b.SetBytes(int64(len(e.body)))
			b.ReportAllocs()
			l := otlpLines{limit: 1 << 30}
			for b.Loop() {
				l.requests, l.text = l.requests[:0], l.text[:0]
				if err := e.read(&l, e.body, otlpTraces); err != nil {
					b.Fatal(err)
				}
				n := 0
				eachLine(l.requests, func(line []byte, _ int) bool {
					if parser.Parse(&fields, line) == nil {
						n++
					}
					return true
				})
				if n != 512 {
					b.Fatalf("%d requests of 512 spans", n)
				}
			}
			b.ReportMetric(512*float64(b.N)/b.Elapsed().Seconds(), "spans/s")
		})
	}
}
