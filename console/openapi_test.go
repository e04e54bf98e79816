package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"weir/pipeline"
)

// apiDocument is what the tests read of the OpenAPI document.
type apiDocument struct {
	t    *testing.T
	root map[string]any
}

func readDocument(t *testing.T) *apiDocument {
	t.Helper()
	w := ask(newHandler(options(&fakeStore{})), "GET", "/api/v1/openapi.json")
	d := &apiDocument{t: t}
	if err := json.Unmarshal(w.Body.Bytes(), &d.root); err != nil || w.Code != 200 {
		t.Fatalf("%d: %v", w.Code, err)
	}
	if v, _ := d.root["openapi"].(string); !strings.HasPrefix(v, "3.1.") {
		t.Fatalf("openapi: %q", v)
	}
	return d
}

// at follows members from the root.
func (d *apiDocument) at(members ...string) map[string]any {
	d.t.Helper()
	v := d.root
	for _, m := range members {
		next, ok := v[m].(map[string]any)
		if !ok {
			d.t.Fatalf("the document has no %s", strings.Join(members, "/"))
		}
		v = next
	}
	return v
}

// follow replaces a reference by what it names.
func (d *apiDocument) follow(v map[string]any) map[string]any {
	d.t.Helper()
	for {
		ref, ok := v["$ref"].(string)
		if !ok {
			return v
		}
		path, ok := strings.CutPrefix(ref, "#/")
		if !ok {
			d.t.Fatalf("reference %s", ref)
		}
		v = d.at(strings.Split(path, "/")...)
	}
}

// check returns what is wrong with v by a schema. It knows the words that the
// document uses and fails on others; a member that the schema does not name is
// wrong, too: it is not documented.
func (d *apiDocument) check(where string, schema map[string]any, v any) (problems []string) {
	d.t.Helper()
	schema = d.follow(schema)
	bad := func(format string, args ...any) { problems = append(problems, where+": "+fmt.Sprintf(format, args...)) }
	for word := range schema {
		if !slices.Contains([]string{"type", "description", "enum", "required", "properties", "additionalProperties", "items", "format", "pattern", "minimum", "maximum", "maxLength", "default", "oneOf"}, word) {
			d.t.Fatalf("%s: the test does not know the word %s", where, word)
		}
	}
	if list, ok := schema["oneOf"].([]any); ok {
		fits := 0
		for _, one := range list {
			if len(d.check(where, one.(map[string]any), v)) == 0 {
				fits++
			}
		}
		if fits != 1 {
			bad("%d of the schemas fit, want one: %v", fits, d.check(where, list[0].(map[string]any), v))
		}
		return problems
	}
	kind := map[bool]string{true: "null"}[v == nil]
	switch x := v.(type) {
	case bool:
		kind = "boolean"
	case string:
		kind = "string"
		if schema["format"] == "date-time" {
			if _, err := time.Parse(time.RFC3339, x); err != nil {
				bad("%v", err)
			}
		}
		if pattern, ok := schema["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(x) {
			bad("%q does not match %s", x, pattern)
		}
		if most, ok := schema["maxLength"].(float64); ok && float64(len(x)) > most {
			bad("longer than %v", most)
		}
	case float64:
		if kind = "number"; x == math.Trunc(x) {
			kind = "integer"
		}
		if least, ok := schema["minimum"].(float64); ok && x < least {
			bad("%v is below %v", x, least)
		}
		if most, ok := schema["maximum"].(float64); ok && x > most {
			bad("%v is above %v", x, most)
		}
	case []any:
		kind = "array"
		items, _ := schema["items"].(map[string]any)
		for i, e := range x {
			problems = append(problems, d.check(fmt.Sprintf("%s[%d]", where, i), items, e)...)
		}
	case map[string]any:
		kind = "object"
		properties, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, name := range required {
			if _, ok := x[name.(string)]; !ok {
				bad("no %s", name)
			}
		}
		for name, e := range x {
			if p, ok := properties[name].(map[string]any); ok {
				problems = append(problems, d.check(where+"."+name, p, e)...)
			} else if rest, ok := schema["additionalProperties"].(map[string]any); !ok {
				bad("%s is not documented", name)
			} else {
				problems = append(problems, d.check(where+"."+name, rest, e)...)
			}
		}
	}
	if want, ok := schema["type"]; ok {
		allowed, _ := want.([]any)
		if one, ok := want.(string); ok {
			allowed = []any{one}
		}
		if !slices.Contains(allowed, any(kind)) && (kind != "integer" || !slices.Contains(allowed, any("number"))) {
			bad("is of type %s, want %v", kind, want)
		}
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		bad("%v is none of %v", v, enum)
	}
	slices.Sort(problems)
	return problems
}

// TestDocumentHasEveryRoute and no other.
func TestDocumentHasEveryRoute(t *testing.T) {
	d := readDocument(t)
	var routes []string
	methods := map[string][]string{}
	for _, r := range newConsole(options(&fakeStore{})).routes() {
		if methods[r.path] == nil {
			routes = append(routes, r.path)
		}
		methods[r.path] = append(methods[r.path], strings.ToLower(r.method))
	}
	if len(routes) == 0 {
		t.Fatal("no route")
	}
	slices.Sort(routes)
	if diff := cmp.Diff(routes, slices.Sorted(maps.Keys(d.at("paths")))); diff != "" {
		t.Error(diff)
	}
	operations := map[string]bool{}
	for _, path := range routes {
		slices.Sort(methods[path])
		if diff := cmp.Diff(methods[path], slices.Sorted(maps.Keys(d.at("paths", path)))); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		for _, method := range methods[path] {
			id, _ := d.at("paths", path, method)["operationId"].(string)
			if id == "" || operations[id] {
				t.Errorf("%s: the operationId %q is empty or used before", path, id)
			}
			operations[id] = true
			if _, ok := d.at("paths", path, method, "responses")["default"]; !ok {
				t.Errorf("%s: no default response", path)
			}
		}
	}
}

// parameters returns the parameters of an operation by name.
func (d *apiDocument) parameters(path, in string) map[string]map[string]any {
	d.t.Helper()
	found := map[string]map[string]any{}
	operation, _ := d.at("paths", path)["get"].(map[string]any)
	list, _ := operation["parameters"].([]any)
	for _, p := range list {
		p := d.follow(p.(map[string]any))
		if p["in"] == in {
			found[p["name"].(string)] = p
		}
	}
	return found
}

// TestDocumentHasEveryParameter and no other; its examples are taken, one alone
// and all at once, and its limits are those that hold.
func TestDocumentHasEveryParameter(t *testing.T) {
	d := readDocument(t)
	s := &fakeStore{}
	s.put("681081c5a65329e54204b0b8cdfe766a")
	s.suppressions = []Suppression{{Suppression: pipeline.Suppression{ID: "681081c5a65329e54204b0b8cdfe766a"}}}
	h := newHandler(options(s))
	code := func(path, query string) int {
		method := "GET"
		if strings.HasSuffix(path, "/stream") {
			method = "HEAD" // it has an end
		}
		return ask(h, method, strings.NewReplacer("{id}", "681081c5a65329e54204b0b8cdfe766a", "{kind}", "ip", "{value}", "198.51.100.21").Replace(path)+"?"+query).Code
	}
	known := map[string]func(q *query) error{
		"/api/v1/alerts": func(q *query) error { _, _, err := (&console{}).deskQuery(q); return err },
		"/api/v1/alerts/groups": func(q *query) error {
			q.deskFilter()
			q.one("by", "")
			q.number("limit", 1, 1, 1)
			return q.err()
		},
		"/api/v1/alerts/stream":             (*query).err,
		"/api/v1/system":                    (*query).err,
		"/api/v1/traffic":                   func(q *query) error { (&console{}).span(q); return q.err() },
		"/api/v1/principals/{kind}/{value}": func(q *query) error { (&console{}).span(q); return q.err() },
		"/api/v1/detectors":                 func(q *query) error { q.window(); return q.err() },
		"/api/v1/campaigns": func(q *query) error {
			q.window()
			q.words("status")
			q.number("limit", 1, 1, 1)
			return q.err()
		},
		"/api/v1/endpoints": func(q *query) error {
			(&console{}).span(q)
			for _, name := range []string{"q", "sort", "limit"} {
				q.one(name, "")
			}
			return q.err()
		},
		"/api/v1/alerts/{id}/revisions":  (*query).err,
		"/api/v1/alerts/{id}/deliveries": (*query).err,
		"/api/v1/alerts/{id}/audit":      (*query).err,
		"/api/v1/alerts/{id}/related":    (*query).err,
		"/api/v1/alerts/{id}/requests": func(q *query) error {
			q.number("limit", 1, 1, 1)
			q.time("until")
			return q.err()
		},
		"/api/v1/requests":     func(q *query) error { _, err := q.requestFilter(); return err },
		"/api/v1/alerts/{id}":  (*query).err,
		"/api/v1/blindspots":   (*query).err,
		"/api/v1/openapi.json": (*query).err,

		"/api/v1/feed/alerts":  func(q *query) error { _, err := q.feedPageQuery(feedAlerts); return err },
		"/api/v1/feed/audit":   func(q *query) error { _, err := q.feedPageQuery(feedAudit); return err },
		"/api/v1/feed/readers": (*query).err,
		"/api/v1/suppressions": func(q *query) error {
			q.words("state", "scheduled", "active", "ended")
			return q.err()
		},
		"/api/v1/suppressions/{id}": (*query).err,
		"/api/v1/decisions": func(q *query) error {
			q.one("format", "")
			return q.err()
		},
		"/api/v1/endpoints/limits": func(q *query) error {
			q.one("format", "")
			q.one("by", "")
			return q.err()
		},
		"/api/v1/feed/alerts/stream": func(q *query) error { _, err := q.feedStreamQuery(feedAlerts); return err },
		"/api/v1/feed/audit/stream":  func(q *query) error { _, err := q.feedStreamQuery(feedAudit); return err },
	}
	for path, read := range known {
		q := newQuery("")
		if err := read(q); err != nil {
			t.Fatal(err)
		}
		want := slices.Clone(q.known)
		slices.Sort(want)
		documented := d.parameters(path, "query")
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(documented)), cmp.Transformer("empty", func(l []string) string { return strings.Join(l, " ") })); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
		all := url.Values{}
		for name, p := range documented {
			schema := d.follow(p["schema"].(map[string]any))
			if name == "wait" {
				continue // it is in TestLongPoll
			}
			if feed, ok := strings.CutPrefix(path, "/api/v1/feed/"); ok && name == "cursor" {
				feed = strings.TrimSuffix(feed, "/stream")
				all.Set(name, newConsole(options(s)).seals.seal(filterHash(feed, map[string][]string{feedAlerts: {"high", "critical"}}[feed]), position{}))
				continue
			}
			if name == "cursor" {
				continue // one is of its search: TestPagesBySearch
			}
			if bad := d.check(name, schema, p["example"]); len(bad) > 0 {
				t.Errorf("%s: %v", path, bad)
			}
			text := fmt.Sprint(p["example"])
			switch e := p["example"].(type) {
			case float64:
				text = strconv.FormatFloat(e, 'f', -1, 64)
			case []any:
				text = strings.ReplaceAll(strings.Trim(text, "[]"), " ", ",")
			}
			if name != "start" || documented["since"] == nil { // one place to begin
				all.Set(name, text)
			}
			if got := code(path, url.Values{name: {text}}.Encode()); got != 200 {
				t.Errorf("%s: the example %s=%s is refused", path, name, text)
			}
			for word, step := range map[string]float64{"minimum": -1, "maximum": 1} {
				limit, ok := schema[word].(float64)
				if schema["type"] == "integer" && !ok {
					t.Errorf("%s: %s has no %s", path, name, word)
				}
				if !ok {
					continue
				}
				at := strconv.FormatFloat(limit, 'f', -1, 64)
				behind := strconv.FormatInt(int64(limit)+int64(step), 10)
				if code(path, name+"="+at) != 200 || code(path, name+"="+behind) != 400 {
					t.Errorf("%s: %s %s is no %s: %d at it, %d behind", path, name, at, word, code(path, name+"="+at), code(path, name+"="+behind))
				}
			}
			items, _ := schema["items"].(map[string]any)
			for _, schema := range []map[string]any{schema, d.follow(items)} {
				enum, _ := schema["enum"].([]any)
				for _, word := range enum {
					if code(path, fmt.Sprintf("%s=%s", name, word)) != 200 {
						t.Errorf("%s: %s=%s is refused", path, name, word)
					}
				}
			}
		}
		if got := code(path, all.Encode()); got != 200 {
			t.Errorf("%s?%s: %d", path, all.Encode(), got)
		}
	}
	for path, want := range map[string]int{"/api/v1/alerts": alertsLimit, "/api/v1/requests": requestsLimit} {
		if got := d.parameters(path, "query")["limit"]["schema"].(map[string]any)["default"]; got != float64(want) {
			t.Errorf("%s: the default of limit is %v, want %d", path, got, want)
		}
	}
	if len(d.parameters("/api/v1/alerts/{id}", "path")) != 1 {
		t.Error("the id is not documented")
	}
}

// TestDocumentExamples: each follows its schema and reads back, without a rest,
// as what weir writes.
func TestDocumentExamples(t *testing.T) {
	d := readDocument(t)
	into := map[string]func() any{
		"#/components/schemas/Problem": func() any { return new(problem) },
		"#/components/schemas/AlertPage": func() any {
			return new(struct {
				Data          []pipeline.Alert `json:"data"`
				More          bool             `json:"more"`
				Before, After *int64
				Next          *string
				Total         *struct {
					Count int64
					Exact bool
				}
			})
		},
		"#/components/schemas/Blindspots": func() any { return new(map[string]any) },
		"#/components/schemas/AlertFeed": func() any {
			return new(struct {
				Data       []pipeline.Alert `json:"data"`
				NextCursor string           `json:"next_cursor"`
				HasMore    bool             `json:"has_more"`
				Heartbeat  heartbeat        `json:"heartbeat"`
			})
		},
		"#/components/schemas/AuditFeed": func() any {
			return new(struct {
				Data []struct {
					Schema, Prev, Hash string
					Seq                int64
					Entry              AuditEntry
				} `json:"data"`
				NextCursor string    `json:"next_cursor"`
				HasMore    bool      `json:"has_more"`
				Heartbeat  heartbeat `json:"heartbeat"`
			})
		},
		"#/components/schemas/ReaderList": func() any {
			return new(struct {
				Data []readerView `json:"data"`
			})
		},
		"#/components/schemas/PrincipalPage": func() any { return new(principalView) },
		"#/components/schemas/EndpointPage":  func() any { return new(endpointPage) },
		"#/components/schemas/EndpointList": func() any {
			return new(struct {
				Data         []endpointRow
				More         bool
				Since, Until pipeline.Time
				Other        map[string]int64
			})
		},
		"#/components/schemas/Traffic": func() any { return new(trafficView) },
		"#/components/schemas/CampaignList": func() any {
			return new(struct {
				Data []campaignView
				More bool
			})
		},
		"#/components/schemas/CampaignPage": func() any { return new(campaignPage) },
		"#/components/schemas/DetectorList": func() any { return new(struct{ Data []detectorView }) },
		"#/components/schemas/System":       func() any { return new(System) },
		"#/components/schemas/AlertGroups": func() any {
			return new(struct {
				Data  []groupView `json:"data"`
				More  bool
				Total int
			})
		},
		"#/components/schemas/BulkRequest": func() any { return new(bulkRequest) },
		"#/components/schemas/BulkAnswer":  func() any { return new(bulkAnswer) },
		"#/components/schemas/RevisionList": func() any {
			return new(struct {
				Data []revisionRow `json:"data"`
			})
		},
		"#/components/schemas/DeliveryList": func() any {
			return new(struct {
				Data []Delivery `json:"data"`
			})
		},
		"#/components/schemas/RelatedAlerts": func() any {
			return new(struct {
				Data []relatedRow `json:"data"`
			})
		},
		"#/components/schemas/SessionState":   func() any { return new(sessionState) },
		"#/components/schemas/SignIn":         func() any { return new(signInRequest) },
		"#/components/schemas/First":          func() any { return new(firstRequest) },
		"#/components/schemas/PasswordChange": func() any { return new(passwordRequest) },
		"#/components/schemas/SessionList": func() any {
			return new(struct {
				Data []sessionRow `json:"data"`
			})
		},
		"#/components/schemas/Me":   func() any { return new(meView) },
		"#/components/schemas/User": func() any { return new(userView) },
		"#/components/schemas/UserList": func() any {
			return new(struct {
				Data []userView `json:"data"`
			})
		},
		"#/components/schemas/NewUser":    func() any { return new(newUserRequest) },
		"#/components/schemas/UserChange": func() any { return new(userChange) },
		"#/components/schemas/Names": func() any {
			return new(struct {
				Data []string `json:"data"`
			})
		},
		"#/components/schemas/DecisionList":  func() any { return new(decisionList) },
		"#/components/schemas/RevealRequest": func() any { return new(revealRequest) },
		"#/components/schemas/LimitList":     func() any { return new(limitsView) },
		"#/components/schemas/TokenRequest":  func() any { return new(tokenRequest) },
		"#/components/schemas/TokenMade":     func() any { return new(tokenMade) },
		"#/components/schemas/TokenList": func() any {
			return new(struct {
				Data []tokenView `json:"data"`
			})
		},
		"#/components/schemas/ShadowCases": func() any {
			return new(struct {
				Data []ShadowCase `json:"data"`
				More bool         `json:"more"`
			})
		},
		"#/components/schemas/RunningConfig": func() any { return new(RunningConfig) },
		"#/components/schemas/ConfigText": func() any {
			return new(struct {
				YAML string `json:"yaml"`
			})
		},
		"#/components/schemas/ConfigDiff": func() any {
			return new(struct {
				Changes []ConfigChange `json:"changes"`
			})
		},
		"#/components/schemas/ConfigApply": func() any {
			return new(struct {
				YAML     string `json:"yaml"`
				Backtest string `json:"backtest"`
				IfHash   string `json:"if_hash"`
			})
		},
		"#/components/schemas/ConfigApplied": func() any {
			return new(struct {
				Config  RunningConfig `json:"config"`
				Restart string        `json:"restart"`
			})
		},
		"#/components/schemas/BacktestRequest": func() any {
			return new(struct {
				Config string `json:"config"`
				Since  string `json:"since"`
				Until  string `json:"until"`
			})
		},
		"#/components/schemas/BacktestStarted": func() any {
			return new(struct {
				ID string `json:"id"`
			})
		},
		"#/components/schemas/ExplainRequest": func() any { return new(explainBody) },
		"#/components/schemas/ExplainStarted": func() any {
			return new(struct {
				ID string `json:"id"`
			})
		},
		"#/components/schemas/Explanation": func() any {
			return new(struct {
				ID     string          `json:"id"`
				State  string          `json:"state"`
				Error  string          `json:"error"`
				Answer json.RawMessage `json:"answer"`
			})
		},
		"#/components/schemas/Backtest": func() any {
			return new(struct {
				ID       string  `json:"id"`
				State    string  `json:"state"`
				Progress float64 `json:"progress"`
				Error    string  `json:"error"`
			})
		},
		"#/components/schemas/TriageRequest": func() any { return new(triageRequest) },
		"#/components/schemas/Triaged": func() any {
			return new(struct {
				ID       string               `json:"id"`
				Triage   Triage               `json:"triage"`
				Proposed *proposedSuppression `json:"proposed_suppression"`
			})
		},
		"#/components/schemas/Suppression":        func() any { return new(suppressionView) },
		"#/components/schemas/SuppressionRequest": func() any { return new(suppressRequest) },
		"#/components/schemas/SuppressionPreview": func() any { return new(suppressionPreview) },
		"#/components/schemas/SuppressionList": func() any {
			return new(struct {
				Data []suppressionView `json:"data"`
			})
		},
		"#/components/schemas/Revealed": func() any {
			return new(struct {
				Data []revealed `json:"data"`
			})
		},
		"#/components/schemas/RequestList": func() any {
			return new(struct {
				Data []Request `json:"data"`
				More bool      `json:"more"`
			})
		},
	}
	ran := map[string]int{}
	example := func(where string, content map[string]any) {
		t.Helper()
		for kind, c := range content {
			c := c.(map[string]any)
			schema := c["schema"].(map[string]any)
			e, ok := c["example"]
			if !ok {
				continue
			}
			for _, bad := range d.check(where, schema, e) {
				t.Error(bad)
			}
			if !strings.HasSuffix(kind, "json") {
				continue
			}
			ref, _ := schema["$ref"].(string)
			if into[ref] == nil {
				t.Errorf("%s: nothing to read an example of %q into", where, ref)
				continue
			}
			text, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			v := into[ref]()
			read := json.NewDecoder(bytes.NewReader(text))
			read.DisallowUnknownFields()
			if err := read.Decode(v); err != nil {
				t.Errorf("%s: %v", where, err)
			}
			ran[ref]++
		}
	}
	for path := range d.at("paths") {
		for method := range d.at("paths", path) {
			for status, r := range d.at("paths", path, method, "responses") {
				r := r.(map[string]any)
				if _, shared := r["$ref"]; shared {
					continue
				}
				if content, ok := r["content"].(map[string]any); ok || status != "204" {
					example(path+" "+status, content)
				}
			}
			if _, ok := d.at("paths", path, method)["requestBody"]; ok {
				example(path, d.at("paths", path, method, "requestBody", "content"))
			}
		}
	}
	for name := range d.at("components", "responses") {
		example(name, d.at("components", "responses", name, "content"))
	}
	for ref := range into {
		if ran[ref] == 0 {
			t.Errorf("no example of %s", ref)
		}
	}
	// The plain ones are what is answered.
	h := newHandler(options(&fakeStore{}))
	for _, path := range []string{"/healthz", "/readyz"} {
		if got, want := ask(h, "GET", path).Body.String(), d.at("paths", path, "get", "responses", "200", "content", "text/plain")["example"]; got != want {
			t.Errorf("%s: %q, the example is %q", path, got, want)
		}
	}
}

// TestAnswersFollowTheDocument: what the API says is what it documents, member
// by member.
func TestAnswersFollowTheDocument(t *testing.T) {
	d := readDocument(t)
	s := &fakeStore{requests: []pipeline.Request{{Time: 1, Kind: pipeline.PrincipalIP, Status: 200}, {Bytes: -1, Duration: -1}}}
	files, err := filepath.Glob("../alerts/testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no alerts to show: %v", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var a pipeline.Alert
			if err := json.Unmarshal(line, &a); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			s.feed = append(s.feed, a)
		}
	}
	o := options(s)
	h := newHandler(o)
	f := func(path, target string, status int) {
		t.Helper()
		w := ask(h, "GET", target)
		if w.Code != status {
			t.Errorf("%s: %d, want %d", target, w.Code, status)
		}
		responses := d.at("paths", path, "get", "responses")
		r, ok := responses[strconv.Itoa(status)].(map[string]any)
		if !ok {
			r = responses["default"].(map[string]any)
		}
		kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
		content, ok := d.follow(r)["content"].(map[string]any)[kind].(map[string]any)
		if !ok {
			t.Errorf("%s: %d %s is not documented", target, status, kind)
			return
		}
		var v any
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", target, err)
		}
		for _, bad := range d.check(target, content["schema"].(map[string]any), v) {
			t.Error(bad)
		}
	}
	f("/api/v1/alerts", "/api/v1/alerts", 200)
	f("/api/v1/alerts", "/api/v1/alerts?before=1", 200)
	f("/api/v1/alerts", "/api/v1/alerts?x", 400)
	f("/api/v1/alerts/{id}", "/api/v1/alerts/"+url.PathEscape(s.feed[0].ID), 200)
	f("/api/v1/alerts/{id}", "/api/v1/alerts/none", 404)
	f("/api/v1/alerts", "/api/v1/alerts?view=row&limit=2", 200)
	f("/api/v1/alerts/groups", "/api/v1/alerts/groups?by=severity", 200)
	f("/api/v1/alerts/groups", "/api/v1/alerts/groups?by=campaign", 200)
	for _, view := range []string{"revisions", "requests", "deliveries", "audit", "related"} {
		f("/api/v1/alerts/{id}/"+view, "/api/v1/alerts/"+url.PathEscape(s.feed[0].ID)+"/"+view, 200)
		f("/api/v1/alerts/{id}/"+view, "/api/v1/alerts/none/"+view, 404)
	}
	f("/api/v1/principals/{kind}/{value}", "/api/v1/principals/ip/198.51.100.21", 200)
	f("/api/v1/principals/{kind}/{value}", "/api/v1/principals/ip/2001:db8:0:1::%2F64", 200)
	f("/api/v1/principals/{kind}/{value}", "/api/v1/principals/x/y", 400)
	f("/api/v1/endpoints", "/api/v1/endpoints?since=1970-01-01T00:00:00.000001Z&until=1970-01-01T01:00:00Z", 200)
	f("/api/v1/endpoints/one", "/api/v1/endpoints/one?method=GET&template=/", 200)
	f("/api/v1/endpoints/one", "/api/v1/endpoints/one?method=GET", 400)
	f("/api/v1/traffic", "/api/v1/traffic", 200)
	f("/api/v1/campaigns", "/api/v1/campaigns", 200)
	f("/api/v1/campaigns/{id}", "/api/v1/campaigns/none", 404)
	f("/api/v1/detectors", "/api/v1/detectors", 200)
	f("/api/v1/system", "/api/v1/system", 200)
	f("/api/v1/session", "/api/v1/session", 200)
	f("/api/v1/me", "/api/v1/me", 200)
	f("/api/v1/sessions", "/api/v1/sessions", 200)
	f("/api/v1/users", "/api/v1/users", 200)
	f("/api/v1/requests", "/api/v1/requests", 200)
	f("/api/v1/requests", "/api/v1/requests?x", 400)
	f("/api/v1/feed/alerts", "/api/v1/feed/alerts?heartbeat=true", 200)
	f("/api/v1/feed/alerts", "/api/v1/feed/alerts?start=newest", 200)
	f("/api/v1/feed/alerts", "/api/v1/feed/alerts?x", 400)
	f("/api/v1/feed/alerts", "/api/v1/feed/alerts?cursor=x", 400)
	f("/api/v1/feed/audit", "/api/v1/feed/audit?heartbeat=true", 200)
	f("/api/v1/feed/readers", "/api/v1/feed/readers", 200)
	s.err = http.ErrServerClosed
	f("/api/v1/requests", "/api/v1/requests", 500)
}

// TestDocumentKnowsTheSchema: every member of an alert and of a request is
// documented, and required.
func TestDocumentKnowsTheSchema(t *testing.T) {
	d := readDocument(t)
	looked := 0
	var walk func(where string, schema map[string]any, typ reflect.Type)
	walk = func(where string, schema map[string]any, typ reflect.Type) {
		schema = d.follow(schema)
		if list, ok := schema["oneOf"].([]any); ok && typ.Kind() == reflect.Pointer { // or null
			schema = d.follow(list[0].(map[string]any))
		}
		for typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice {
			if items, ok := schema["items"].(map[string]any); ok && typ.Kind() == reflect.Slice {
				schema = d.follow(items)
			}
			typ = typ.Elem()
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		var members []string
		properties, _ := schema["properties"].(map[string]any)
		for field := range typ.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			members = append(members, name)
			looked++
			if p, ok := properties[name].(map[string]any); ok {
				walk(where+"."+name, p, field.Type)
			}
		}
		var required []string
		list, _ := schema["required"].([]any)
		for _, name := range list {
			required = append(required, name.(string))
		}
		slices.Sort(members)
		slices.Sort(required)
		if diff := cmp.Diff(members, slices.Sorted(maps.Keys(properties))); diff != "" {
			t.Errorf("%s: properties: %s", where, diff)
		}
		if diff := cmp.Diff(members, required); diff != "" {
			t.Errorf("%s: required: %s", where, diff)
		}
	}
	walk("alert", d.at("components", "schemas", "Alert"), reflect.TypeFor[pipeline.Alert]())
	walk("request", d.at("components", "schemas", "Request"), reflect.TypeFor[Request]())
	walk("heartbeat", d.at("components", "schemas", "Heartbeat"), reflect.TypeFor[heartbeat]())
	walk("audit entry", d.at("components", "schemas", "AuditEntry"), reflect.TypeFor[AuditEntry]())
	walk("decision", d.at("components", "schemas", "Decision"), reflect.TypeFor[decision]())
	walk("endpoint", d.at("components", "schemas", "EndpointPage"), reflect.TypeFor[endpointPage]())
	walk("principal", d.at("components", "schemas", "PrincipalPage", "properties", "series"), reflect.TypeFor[series]())
	walk("campaign", d.at("components", "schemas", "Campaign"), reflect.TypeFor[campaignView]())
	walk("detector", d.at("components", "schemas", "DetectorList", "properties", "data"), reflect.TypeFor[[]detectorView]())
	walk("system", d.at("components", "schemas", "System"), reflect.TypeFor[System]())
	walk("alert row", d.at("components", "schemas", "AlertItem"), reflect.TypeFor[alertRow]())
	walk("triage row", d.at("components", "schemas", "TriageRow"), reflect.TypeFor[triageRow]())
	walk("group", d.at("components", "schemas", "AlertGroups", "properties", "data"), reflect.TypeFor[[]groupView]())
	walk("revision", d.at("components", "schemas", "RevisionList", "properties", "data"), reflect.TypeFor[[]revisionRow]())
	walk("delivery", d.at("components", "schemas", "DeliveryList", "properties", "data"), reflect.TypeFor[[]Delivery]())
	walk("bulk", d.at("components", "schemas", "BulkAnswer"), reflect.TypeFor[bulkAnswer]())
	walk("session", d.at("components", "schemas", "SessionState"), reflect.TypeFor[sessionState]())
	walk("own session", d.at("components", "schemas", "OwnSession"), reflect.TypeFor[sessionView]())
	walk("user", d.at("components", "schemas", "User"), reflect.TypeFor[userView]())
	walk("me", d.at("components", "schemas", "Me"), reflect.TypeFor[meView]())
	walk("limit", d.at("components", "schemas", "EndpointLimit"), reflect.TypeFor[EndpointLimit]())
	walk("token", d.at("components", "schemas", "ApiToken"), reflect.TypeFor[tokenView]())
	walk("reader", d.at("components", "schemas", "ReaderList", "properties", "data"), reflect.TypeFor[[]readerView]())
	if looked < 100 {
		t.Errorf("looked at %d members only", looked)
	}
}
