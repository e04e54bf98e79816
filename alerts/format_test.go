package alerts

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/alerts/schemas"
	"weir/pipeline"
)

// published opens the schemas that lie beside the repository.
func published(t testing.TB) *schemas.Set {
	t.Helper()
	s, err := schemas.Open(filepath.Join("..", "..", "shared", "schemas"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("the schemas are not here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hostileAlert is an alert of text that would end a field, a line or a document.
func hostileAlert(s string) *pipeline.Alert {
	n := int64(3)
	return &pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: "7f3c9a", Revision: 2, Status: "open", Change: pipeline.AlertChange{Kind: "grew", Text: s},
		Detector: "auth.stuffing", Severity: "high", Tier: "page", Title: s, Reason: s, Next: []string{s, s}, BenignIf: []string{s},
		Level: "client", Principal: pipeline.Principal{Kind: pipeline.PrincipalIP, Value: s}, Addresses: []string{s, "2001:db8::1%eth0"}, AddressesTotal: 1,
		Members: []pipeline.Principal{{Kind: pipeline.PrincipalIP, Value: s}, {Kind: pipeline.PrincipalAccount, Value: s}}, Predicate: s,
		Window:   pipeline.AlertWindow{Onset: pipeline.NoTime, First: -5, Last: noon, DetectedAt: noon},
		Score:    pipeline.AlertScore{Nats: math.Inf(1), PageAt: math.NaN(), Odds: pipeline.AlertOdds{OneIn: math.Inf(1)}},
		Signals:  []pipeline.AlertSignal{{Name: s, Observed: math.NaN(), Expected: math.Inf(-1), Nats: math.Inf(1), Baseline: pipeline.Baseline{Kind: s}}},
		Outcome:  pipeline.Outcome{Requests: 4, Succeeded: &n, BlockedBy: s},
		Affected: pipeline.AlertAffected{Accounts: []pipeline.AffectedAccount{{Name: s, Session: s}}, Objects: []string{s}},
		Context:  pipeline.AlertContext{ASN: s, Country: s, Network: s, Agents: []string{s}, JA4: []string{s}},
		Exemplars: []pipeline.Exemplar{
			{Time: noon, IP: s, Method: s, Path: s, Status: 200, Agent: s, Source: s},
			{Time: noon, IP: "2001:db8:1:2::7", Method: "GET", Path: "/x", Agent: s},
		},
		Endpoint: pipeline.Endpoint{Method: s, Host: s, Template: s}, Labels: pipeline.AlertLabels{"service": s, "a.b": s, "team": ""},
		Attack: []string{"T1110.004", "T9999.001", s}, OWASP: []string{s}, OAT: []string{s}, Campaign: s,
		Versions: pipeline.AlertVersions{Weir: s, Config: s, Edition: s},
		Envelope: pipeline.AlertEnvelope{Triage: map[string]any{"verdict": "duplicate", "status": "in_progress"}, Links: map[string]any{"console": s}},
	}
}

// corpus is alerts of every kind that this package's tests know, and hostile ones.
func corpus(t testing.TB) []pipeline.Alert {
	t.Helper()
	var out []pipeline.Alert
	for _, name := range sortedKeys(stories()) {
		b := NewBook(DefaultConfig(), versions())
		for _, f := range stories()[name] {
			out = b.Take(out, f)
		}
		out = b.Advance(out, noon.Add(9*24*time.Hour)) // until they are resolved
	}
	for _, s := range []string{
		"", "x", "a|b\\c=d\ne\r\nf", `"}]`, "\x00\x1b[31m\u202e\u2028", strings.Repeat("ä", 400), "\xff\xfe", "2001:db8::/64", "::ffff:192.0.2.1", "a b=c d|e", "\\", "=",
	} {
		a := hostileAlert(s)
		out = append(out, *a)
		a.Envelope.Triage, a.Envelope.Silence = nil, map[string]any{"id": s, "silent": true, "reason": s, "author": s, "expires": noon}
		out = append(out, *a)
		a.Principal.Kind, a.Exemplars, a.Status = pipeline.PrincipalAccount, nil, "resolved"
		out = append(out, *a)
		a.Principal = pipeline.Principal{}
		a.Endpoint, a.Addresses, a.Revision, a.Status = pipeline.Endpoint{}, nil, 1, "open"
		out = append(out, *a)
		a.Principal = pipeline.Principal{Kind: pipeline.PrincipalKey, Value: s}
		out = append(out, *a, pipeline.Alert{Principal: pipeline.Principal{Kind: pipeline.PrincipalSession, Value: s}, Severity: s, Detector: s})
	}
	known := hostileAlert("192.0.2.1")
	known.Context.ASN, known.Context.People = "AS64496", &[2]int{1, 3}
	out = append(out, *known)
	if len(out) < 40 {
		t.Fatalf("there are only %d alerts", len(out))
	}
	return out
}

func TestOCSFIsValid(t *testing.T) {
	set := published(t)
	activities, statuses := map[string]bool{}, map[string]bool{}
	for _, a := range corpus(t) {
		line := AppendOCSF(nil, &a, "")
		if err := set.OCSF(line); err != nil {
			t.Fatalf("%v\n%s", err, line)
		}
		var f struct {
			Activity string `json:"activity_name"`
			Status   string `json:"status"`
			Anomaly  []any  `json:"anomaly_analyses"`
			Metadata struct {
				Sequence int
			}
			Info struct{ UID string } `json:"finding_info"`
		}
		if err := json.Unmarshal(line, &f); err != nil {
			t.Fatal(err)
		}
		if f.Info.UID != a.ID || f.Metadata.Sequence != a.Revision || len(a.Signals) > 0 && len(f.Anomaly) != 1 {
			t.Errorf("%+v of %s.%d", f, a.ID, a.Revision)
		}
		activities[f.Activity], statuses[f.Status] = true, true
	}
	if d := cmp.Diff(map[string]bool{"Create": true, "Update": true, "Close": true}, activities); d != "" {
		t.Error(d)
	}
	if !statuses["New"] || !statuses["In Progress"] || !statuses["Resolved"] {
		t.Errorf("statuses %v", statuses)
	}
}

// TestOCSFOfOlderVersions: what a version does not know is not there, and not lost.
func TestOCSFOfOlderVersions(t *testing.T) {
	for _, version := range OCSFVersions() {
		moved := map[string]bool{}
		for _, a := range corpus(t) {
			var f object
			if err := json.Unmarshal(AppendOCSF(nil, &a, version), &f); err != nil {
				t.Fatal(err)
			}
			unmapped := f["unmapped"].(map[string]any)
			for _, s := range ocsfSince() {
				known := version >= s.version
				var found []any
				takeOut(objects(f).(object), s.path, &found)
				if len(found) > 0 && !known {
					t.Errorf("%s has %s, which came with %s", version, s.path, s.version)
				}
				if unmapped[strings.ReplaceAll(s.path, "[]", "")] != nil {
					moved[s.path] = true
					if known {
						t.Errorf("%s: %s is unmapped though it is known", version, s.path)
					}
				}
			}
			if version < "1.4.0" && f["verdict_id"] != nil {
				t.Errorf("%s has a verdict_id", version)
			}
			for _, e := range asList(f["evidences"]) {
				if x := e.(map[string]any); x["api"] == nil && x["src_endpoint"] == nil && x["actor"] == nil {
					t.Errorf("%s: evidence of nothing: %v", version, x)
				}
			}
			for _, e := range asList(f["observables"]) {
				if id := e.(map[string]any)["type_id"].(float64); version < "1.2.0" && id > 10 && id < 20 {
					t.Errorf("%s: observable of type %v", version, id)
				}
			}
		}
		want := 0
		for _, s := range ocsfSince() {
			if version < s.version {
				want++
			}
		}
		if len(moved) != want {
			t.Errorf("%s: moved %v, want %d attributes", version, moved, want)
		}
	}
}

func asList(v any) []any {
	list, _ := v.([]any)
	return list
}

// objects is a decoded document in the types that it was written from.
func objects(v any) any {
	switch v := v.(type) {
	case object:
		return objects(map[string]any(v))
	case map[string]any:
		o := object{}
		for k, x := range v {
			o[k] = objects(x)
		}
		return o
	case []any:
		var list []object
		for _, x := range v {
			o, ok := objects(x).(object)
			if !ok {
				return v
			}
			list = append(list, o)
		}
		return list
	}
	return v
}

func TestECSIsValid(t *testing.T) {
	set := published(t)
	for _, a := range corpus(t) {
		if a.Title == "" {
			a.Title = "an alert has a title"
		}
		if line := AppendECS(nil, &a); set.ECS(line, "weir") != nil {
			t.Fatalf("%v\n%s", set.ECS(line, "weir"), line)
		}
	}
}

func TestCEFParses(t *testing.T) {
	for _, a := range corpus(t) {
		mustParseCEF(t, &a)
	}
}

func mustParseCEF(t *testing.T, a *pipeline.Alert) {
	t.Helper()
	line := string(AppendCEF(nil, a))
	c, err := schemas.ParseCEF(line)
	if err != nil {
		t.Fatalf("%v\n%q", err, line)
	}
	// What a line cannot hold is a space.
	plain := func(s string) string {
		var b strings.Builder
		for _, r := range strings.ReplaceAll(s, "\r\n", "\n") {
			switch {
			case r == '\r':
				b.WriteByte('\n')
			case r == '\n' || printable(string(r)) == string(r):
				b.WriteRune(r)
			default:
				b.WriteByte(' ')
			}
		}
		return b.String()
	}
	header := [7]string{"0", "weir", "weir", strings.ReplaceAll(plain(a.Versions.Weir), "\n", " "), strings.ReplaceAll(plain(a.Detector), "\n", " "), strings.ReplaceAll(plain(cut(a.Title, 512)), "\n", " "), c.Header[6]}
	if c.Header != header {
		t.Errorf("header %q, want %q", c.Header, header)
	}
	if !regexp.MustCompile(`^([0-9]|10)$`).MatchString(c.Header[6]) {
		t.Errorf("severity %q", c.Header[6])
	}
	for key, want := range map[string]string{"externalId": a.ID, "msg": cut(a.Reason, cefMessage), "cs4": cut(a.Labels["service"], cefCustom), "suser": cut(userOf(a), cefMessage)} {
		if c.Extension[key] != plain(want) {
			t.Errorf("%s %q, want %q", key, c.Extension[key], plain(want))
		}
	}
	if s, prefix := sourceOf(a); !prefix {
		if ip, ok := ipOf(s); ok && c.Extension["src"]+c.Extension["c6a2"] != ip.String() {
			t.Errorf("address %s: src %q, c6a2 %q", s, c.Extension["src"], c.Extension["c6a2"])
		}
	}
	if _, ok := c.Extension["src"]; ok && strings.Contains(c.Extension["src"], ":") {
		t.Errorf("src %s is no IPv4", c.Extension["src"])
	}
}

func FuzzFormats(f *testing.F) {
	for _, s := range []string{"|", `\`, "=", "\n", "a=b|c\\d\ne", "2001:db8::1", "192.0.2.1", "::ffff:192.0.2.1", "fe80::1%25eth0", "\u2028\x00\xff"} {
		f.Add(s)
	}
	set, err := schemas.Open(filepath.Join("..", "..", "shared", "schemas"))
	if err != nil {
		set = nil
	}
	f.Fuzz(func(t *testing.T, s string) {
		a := hostileAlert(s)
		mustParseCEF(t, a)
		for _, version := range OCSFVersions() {
			if !json.Valid(AppendOCSF(nil, a, version)) {
				t.Errorf("no JSON for %q", s)
			}
		}
		if set == nil {
			return
		}
		if err := set.OCSF(AppendOCSF(nil, a, "")); err != nil {
			t.Errorf("OCSF of %q: %v", s, err)
		}
		if a.Title = "t" + s; set.ECS(AppendECS(nil, a), "weir") != nil {
			t.Errorf("ECS of %q: %v", s, set.ECS(AppendECS(nil, a), "weir"))
		}
	})
}

// TestCrosswalk: the tables have a row for each word of ours, and the detectors'
// techniques a name.
func TestCrosswalk(t *testing.T) {
	for i, w := range severityTable() {
		if words := severities(); w.word != words[i] {
			t.Errorf("row %d is %s, want %s", i, w.word, words[i])
		}
		if i > 0 {
			p := severityTable()[i-1]
			if w.ocsf <= p.ocsf || w.ecs < p.ecs || w.cef <= p.cef || w.syslog >= p.syslog {
				t.Errorf("%s is not above %s everywhere", w.word, p.word)
			}
		}
	}
	if severityOf("high").cef != 8 || severityOf("nonsense").word != "medium" {
		t.Error("severityOf")
	}
	files, err := filepath.Glob(filepath.Join("..", "detectors", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no detectors: %v", err)
	}
	named := map[string]bool{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`"(T1\d{3}(?:\.\d{3})?)"`).FindAllStringSubmatch(string(data), -1) {
			named[m[1]] = true
			got, parent := techniqueOf(m[1])
			if got.tactic == "" || parent != nil && parent.tactic == "" {
				t.Errorf("%s names %s, which has no row", file, m[1])
			}
		}
	}
	if len(named) < 8 {
		t.Errorf("the detectors name only %d techniques", len(named))
	}
}

// TestFormatsOfAStory keeps one alert in every format.
func TestFormatsOfAStory(t *testing.T) {
	a := last(t, stories()["stuffing"])
	for _, f := range formats() {
		if f.name == FormatNative {
			continue // has its own
		}
		golden(t, "stuffing."+string(f.name), append(AppendFormat(nil, a, f.name, ""), '\n'))
	}
	var cimOf object
	if err := json.Unmarshal(appendObject(nil, cim(a)), &cimOf); err != nil {
		t.Fatal(err)
	}
	want := object{
		"app": "weir", "id": a.ID, "type": "alert", "severity": "critical", "severity_id": 5.0, "signature": "Credential stuffing", "signature_id": "auth.stuffing",
		"subject": a.Title, "description": a.Reason, "vendor_product": "weir", "status": "New", "src": "203.0.113.7", "http_method": "POST", "url": "/login",
		"vendor_account": "shop", "http_user_agent": "python-requests/2.31.0", "mitre_technique_id": []any{"T1110.004"}, "next": strings.Join(a.Next, "; "),
	}
	if d := cmp.Diff(want, cimOf); d != "" {
		t.Error(d)
	}
}
