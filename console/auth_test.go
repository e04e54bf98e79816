package console

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

// askAs does a request with a token; body "" is none.
func askAs(h http.Handler, token, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:7380"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const goodReveal = `{"tokens":["u_a"],"reason":"reset the password"}`

const (
	goodToken       = `{"name":"siem","roles":["feed"]}`
	goodSuppression = `{"match":{"detector":"auth.bruteforce","principal":{"kind":"ip","value":"203.0.113.7"}},"reason":"a test of the partner"}`
)

const goodTriage = `{"status":"closed","verdict":"benign_positive","comment":"the partner's migration"}`

// wantRoles is who may what, written once more by hand: a change to the table of
// routes is a change here.
func wantRoles() map[string]string {
	return map[string]string{
		"GET /api/v1/alerts":                    "viewer analyst engineer admin",
		"GET /api/v1/alerts/{id}":               "viewer analyst engineer admin",
		"GET /api/v1/alerts/groups":             "viewer analyst engineer admin",
		"GET /api/v1/alerts/stream":             "viewer analyst engineer admin",
		"POST /api/v1/alerts/bulk":              "analyst engineer admin",
		"GET /api/v1/alerts/{id}/revisions":     "viewer analyst engineer admin",
		"GET /api/v1/alerts/{id}/requests":      "analyst engineer admin",
		"GET /api/v1/alerts/{id}/deliveries":    "viewer analyst engineer admin",
		"GET /api/v1/alerts/{id}/audit":         "viewer analyst engineer admin",
		"GET /api/v1/alerts/{id}/related":       "viewer analyst engineer admin",
		"PATCH /api/v1/alerts/{id}":             "analyst engineer admin",
		"GET /api/v1/principals/{kind}/{value}": "analyst engineer admin",
		"GET /api/v1/endpoints":                 "viewer analyst engineer admin",
		"GET /api/v1/endpoints/one":             "viewer analyst engineer admin",
		"GET /api/v1/traffic":                   "viewer analyst engineer admin",
		"GET /api/v1/campaigns":                 "viewer analyst engineer admin",
		"GET /api/v1/campaigns/{id}":            "viewer analyst engineer admin",
		"GET /api/v1/detectors":                 "viewer analyst engineer admin",
		"GET /api/v1/system":                    "viewer analyst engineer admin auditor",
		"GET /api/v1/requests":                  "analyst engineer admin",
		"GET /api/v1/blindspots":                "viewer analyst engineer admin auditor",
		"GET /api/v1/feed/alerts":               "viewer analyst engineer feed admin",
		"GET /api/v1/feed/alerts/stream":        "viewer analyst engineer feed admin",
		"GET /api/v1/feed/audit":                "admin auditor",
		"GET /api/v1/feed/audit/stream":         "admin auditor",
		"GET /api/v1/feed/readers":              "engineer feed admin auditor",
		"GET /api/v1/decisions":                 "analyst engineer feed admin",
		"GET /api/v1/session":                   "everybody",
		"POST /api/v1/session":                  "everybody",
		"DELETE /api/v1/session":                "everybody",
		"GET /api/v1/session/oidc":              "everybody",
		"GET /api/v1/session/oidc/callback":     "everybody",
		"POST /api/v1/session/first":            "everybody",
		"POST /api/v1/session/password":         "viewer analyst engineer feed admin auditor",
		"GET /api/v1/sessions":                  "viewer analyst engineer admin auditor",
		"DELETE /api/v1/sessions/{id}":          "viewer analyst engineer admin auditor",
		"GET /api/v1/me":                        "viewer analyst engineer feed admin auditor",
		"GET /api/v1/users":                     "admin auditor",
		"POST /api/v1/users":                    "admin",
		"PATCH /api/v1/users/{name}":            "admin",
		"GET /api/v1/assignees":                 "viewer analyst engineer admin",
		"GET /api/v1/endpoints/limits":          "analyst engineer feed admin",
		"GET /api/v1/tokens":                    "admin",
		"POST /api/v1/tokens":                   "admin",
		"DELETE /api/v1/tokens/{id}":            "admin",
		"POST /api/v1/reveal":                   "analyst engineer admin",
		"GET /api/v1/openapi.json":              "viewer analyst engineer feed admin auditor",
		"GET /metrics":                          "viewer analyst engineer feed admin",
		"GET /healthz":                          "everybody",
		"GET /readyz":                           "everybody",
		"GET /api/v1/suppressions":              "viewer analyst engineer admin auditor",
		"POST /api/v1/suppressions":             "analyst engineer admin",
		"GET /api/v1/suppressions/{id}":         "viewer analyst engineer admin auditor",
		"DELETE /api/v1/suppressions/{id}":      "analyst engineer admin",
		"POST /api/v1/suppressions/preview":     "viewer analyst engineer admin",
		"GET /api/v1/config":                    "analyst engineer admin auditor",
		"POST /api/v1/config/diff":              "analyst engineer admin",
		"POST /api/v1/config/apply":             "engineer admin",
		"POST /api/v1/backtests":                "analyst engineer admin",
		"GET /api/v1/backtests/{id}":            "analyst engineer admin",
		"DELETE /api/v1/backtests/{id}":         "analyst engineer admin",
		"GET /api/v1/alerts/export":             "viewer analyst engineer admin",
		"POST /api/v1/explanations":             "analyst engineer admin",
		"GET /api/v1/explanations/{id}":         "analyst engineer admin",
		"DELETE /api/v1/explanations/{id}":      "analyst engineer admin",
		"GET /api/v1/shadow":                    "viewer analyst engineer admin",
	}
}

// wantAnswers are what routes answer to those who may, where it is not 200: to a
// token's holder who has no session, to a link that is not out.
func wantAnswers() map[string]int {
	return map[string]int{
		"GET /api/v1/session/oidc": 404, "GET /api/v1/session/oidc/callback": 404, // without a provider
		"POST /api/v1/session": 401, "DELETE /api/v1/session": 204, "POST /api/v1/session/first": 401, "POST /api/v1/session/password": 403,
		"DELETE /api/v1/sessions/{id}": 404, "GET /api/v1/campaigns/{id}": 404, "POST /api/v1/users": 201, "POST /api/v1/tokens": 201, "POST /api/v1/backtests": 202, "DELETE /api/v1/backtests/{id}": 204,
		"POST /api/v1/explanations": 202, "DELETE /api/v1/explanations/{id}": 204,
	}
}

// goodQueries are what routes need in their query.
func goodQueries() map[string]string {
	return map[string]string{"GET /api/v1/alerts/groups": "?by=detector", "GET /api/v1/endpoints/one": "?method=GET&template=/"}
}

// goodBodies are what routes take.
func goodBodies() map[string]string {
	return map[string]string{
		"POST /api/v1/reveal": goodReveal, "PATCH /api/v1/alerts/{id}": goodTriage, "POST /api/v1/tokens": goodToken,
		"POST /api/v1/config/diff": goodConfig, "POST /api/v1/config/apply": goodConfig, "POST /api/v1/backtests": goodBacktest, "POST /api/v1/explanations": goodExplain,
		"POST /api/v1/suppressions": goodSuppression, "POST /api/v1/suppressions/preview": goodSuppression,
		"POST /api/v1/alerts/bulk":      `{"ids":["a1"],"change":{"assignee":"ada"}}`,
		"POST /api/v1/session":          `{"user":"nobody","password":"a long enough password"}`,
		"POST /api/v1/session/first":    `{"token":"x","user":"ada","password":"a long enough password"}`,
		"POST /api/v1/session/password": `{"old":"x","new":"a long enough password"}`,
		"POST /api/v1/users":            `{"name":"new","roles":["viewer"],"password":"a long enough password"}`,
		"PATCH /api/v1/users/{name}":    `{"display":"B"}`,
	}
}

// TestRoutesAndRoles asks every route of the OpenAPI document with every role,
// without a token, and with tokens that do not hold.
func TestRoutesAndRoles(t *testing.T) {
	s := &fakeStore{}
	s.put("a1")
	s.users = []User{{Name: "bob", Kind: KindLocal, Roles: []string{"viewer"}}}
	s.suppressions = []Suppression{{Suppression: pipeline.Suppression{ID: "a1", Expires: pipeline.MaxTime}}}
	o := options(s)
	h := newHandler(o)
	tokens := map[string]string{}
	for i, name := range RoleNames() {
		tokens[name] = s.give(o, name, 1<<i)
	}
	good := tokens["admin"]
	bad := map[string]string{
		"of nobody": func() string { text, _ := NewToken(); return text }(), "of no role": s.give(o, "none", 0),
		"revoked": s.give(o, "revoked", anyRole), "expired": s.give(o, "expired", anyRole), "cut": good[:len(good)-1], "longer": good + "A",
		"no token": "weir_", "with another secret": reseal(good),
	}
	for i := range s.tokens {
		switch s.tokens[i].Name {
		case "revoked":
			s.tokens[i].Revoked = 1
		case "expired":
			s.tokens[i].Expires = pipeline.TimeOf(time.Now())
		}
	}
	d := readDocumentAs(t, h, good)
	spent := s.tokens[slices.IndexFunc(s.tokens, func(k Token) bool { return k.Name == "revoked" })].ID
	asked := 0
	want := wantRoles()
	for path := range d.at("paths") {
		for method := range d.at("paths", path) {
			method = strings.ToUpper(method)
			name := method + " " + path
			roles, ok := want[name]
			if !ok {
				t.Errorf("%s: nobody said who may", name)
				continue
			}
			operation := d.at("paths", path, strings.ToLower(method))
			said, _ := operation["x-roles"].([]any)
			if security, open := operation["security"].([]any); open && len(security) == 0 {
				said = []any{"everybody"}
			}
			if got := strings.Trim(fmt.Sprint(said), "[]"); got != roles {
				t.Errorf("%s: the document says %s, want %s", name, got, roles)
			}
			ask := func(token string) *httptest.ResponseRecorder {
				asked++
				body := strings.ReplaceAll(goodBodies()[name], "nobody", fmt.Sprint("nobody", asked)) // each is asked once
				as := method
				if strings.HasSuffix(path, "/stream") {
					as = http.MethodHead
				}
				s.forgetUser("new")
				id := "a1"
				if strings.HasPrefix(path, "/api/v1/tokens/") {
					id = spent // one whose end changes nothing
				}
				return askAs(h, token, as, strings.NewReplacer("{id}", id, "{name}", "bob", "{kind}", "ip", "{value}", "192.0.2.7").Replace(path)+goodQueries()[name], body)
			}
			for role, token := range tokens {
				code, allowed := 403, roles == "everybody" || slices.Contains(strings.Fields(roles), role)
				if allowed {
					code = cmp.Or(wantAnswers()[name], 200)
				}
				w := ask(token)
				if w.Code != code {
					t.Errorf("%s as %s: %d, want %d: %s", name, role, w.Code, code, w.Body)
				}
				if !allowed {
					wantProblem(t, w, 403, "this is for the roles")
				}
			}
			if roles == "everybody" {
				continue
			}
			if w := ask(""); w.Code != 401 || w.Header().Get("WWW-Authenticate") != `Bearer realm="weir"` {
				t.Errorf("%s without a token: %d %v", name, w.Code, w.Header())
			}
			for what, token := range bad {
				code := map[bool]int{true: 403, false: 401}[what == "of no role"]
				w := ask(token)
				if w.Code != code || code == 401 && w.Header().Get("WWW-Authenticate") != `Bearer realm="weir", error="invalid_token"` {
					t.Errorf("%s with a token %s: %d, want %d, %v", name, what, w.Code, code, w.Header())
				}
			}
			delete(want, name)
		}
	}
	maps.DeleteFunc(want, func(_, roles string) bool { return roles == "everybody" })
	if len(want) > 0 {
		t.Errorf("not in the document: %v", want)
	}
	if asked < 150 {
		t.Errorf("asked %d times only", asked)
	}
	for _, e := range s.entries() {
		text, err := e.JSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			if bytes.Contains(text, []byte(token)) || bytes.Contains(text, []byte(token[20:40])) {
				t.Errorf("a token is in the audit: %s", text)
			}
		}
	}
}

// TestEveryChangeIsAudited: each operation of the OpenAPI document that is no reading
// leaves an entry in the audit, with who did it, but for those that change nothing.
func TestEveryChangeIsAudited(t *testing.T) {
	reads := map[string]string{
		"POST /api/v1/session/first":        "of a link that is not out: TestFirst",
		"POST /api/v1/suppressions/preview": "says what would be hidden",
		"POST /api/v1/config/diff":          "compares",
		"POST /api/v1/explanations":         "explains what is stored",
		"DELETE /api/v1/explanations/{id}":  "nobody waits for it any more",
		"DELETE /api/v1/session":            "of nobody, without a session: TestSessionEnds",
		"DELETE /api/v1/sessions/{id}":      "of nobody, without a session: TestSessionEnds",
		"POST /api/v1/session/password":     "of a token, which has none: TestSessionEnds",
	}
	s := &fakeStore{}
	s.put("a1")
	s.users = []User{{Name: "bob", Kind: KindLocal, Roles: []string{"viewer"}}}
	s.suppressions = []Suppression{{Suppression: pipeline.Suppression{ID: "a1", Expires: pipeline.MaxTime}}}
	o := options(s)
	h := newHandler(o)
	good := s.give(o, "admin", Admin)
	s.give(o, "other", Viewer)
	other := s.tokens[slices.IndexFunc(s.tokens, func(k Token) bool { return k.Name == "other" })].ID
	d := readDocumentAs(t, h, good)
	changes := 0
	for path := range d.at("paths") {
		for method := range d.at("paths", path) {
			name := strings.ToUpper(method) + " " + path
			if method == "get" {
				continue
			}
			before := len(s.entries())
			id := "a1"
			if strings.HasPrefix(path, "/api/v1/tokens/") {
				id = other
			}
			token := good
			if d.at("paths", path, method)["security"] != nil {
				token = ""
			}
			w := askAs(h, token, strings.ToUpper(method), strings.NewReplacer("{id}", id, "{name}", "bob").Replace(path)+goodQueries()[name], goodBodies()[name])
			left := s.entries()[before:]
			if why := reads[name]; why != "" {
				delete(reads, name)
				continue
			}
			changes++
			if len(left) == 0 {
				t.Errorf("%s: %d, and nothing of it is in the audit: %s", name, w.Code, w.Body)
			}
			for _, e := range left {
				if e.Action == "" || e.Outcome == "" || e.Time == 0 || token != "" && e.Who.Name != "admin" {
					t.Errorf("%s leaves %+v", name, e)
				}
			}
		}
	}
	if changes < 13 || len(reads) > 0 {
		t.Errorf("%d changes; not asked: %v", changes, reads)
	}
}

// reseal is a token of the same id with another secret.
func reseal(text string) string {
	other, _ := NewToken()
	body := text[:len(tokenPrefix)+tokenID+1] + other[len(tokenPrefix)+tokenID+1:][:tokenSecret]
	return body + crcOf(body)
}

func TestTokenText(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		text, id := NewToken()
		got, ok := idOf(text)
		if !ok || got != id || seen[id] || len(text) != tokenLength {
			t.Fatalf("%s: id %q, want %q, seen %t", text, got, id, seen[id])
		}
		seen[id] = true
		// One wrong character anywhere is no token.
		i := len(seen) % len(text)
		wrong := []byte(text)
		if wrong[i] = 'a'; text[i] == 'a' {
			wrong[i] = 'b'
		}
		if _, ok := idOf(string(wrong)); ok {
			t.Errorf("%s is taken with %c at %d", text, wrong[i], i)
		}
	}
	for _, text := range []string{"", "weir_", strings.Repeat("x", tokenLength), tokenPrefix + strings.Repeat("_", tokenLength)} {
		if _, ok := idOf(text); ok {
			t.Errorf("%q is a token", text)
		}
	}
}

// TestLocalMode: on loopback, until the first token was made, everything that
// only reads is served without one, and names stay closed.
func TestLocalMode(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	h := newHandler(o)
	f := func(method, path, body string, want int) {
		t.Helper()
		if w := askAs(h, "", method, path, body); w.Code != want {
			t.Errorf("%s %s: %d, want %d: %s", method, path, w.Code, want, w.Body)
		}
	}
	for _, path := range []string{"/api/v1/alerts", "/api/v1/requests", "/api/v1/feed/alerts", "/api/v1/feed/audit", "/api/v1/feed/readers", "/metrics"} {
		f("GET", path, "", 200)
	}
	f("POST", "/api/v1/reveal", goodReveal, 403)
	f("PATCH", "/api/v1/alerts/a1", goodTriage, 403)
	text := s.give(o, "x", Viewer)
	f("GET", "/api/v1/alerts", "", 401)
	f("GET", "/metrics", "", 401)
	f("GET", "/healthz", "", 200)
	// Revoking the last one opens nothing.
	s.tokens[0].Revoked = 1
	f("GET", "/api/v1/alerts", "", 401)
	if w := askAs(h, text, "GET", "/api/v1/alerts", ""); w.Code != 401 {
		t.Errorf("a revoked token: %d", w.Code)
	}
	// Off loopback a token is always needed, and every name is served.
	o = options(&fakeStore{})
	o.Open = true
	h = newHandler(o)
	f("GET", "/api/v1/alerts", "", 401)
	r := httptest.NewRequest("GET", "/healthz", nil)
	r.Host = "weir.example.com"
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 200 {
		t.Errorf("another name off loopback: %d", w.Code)
	}
}

// TestAuthFailsClosed: a store that does not answer lets nobody in.
func TestAuthFailsClosed(t *testing.T) {
	o := options(&fakeStore{})
	o.Store = failing{&fakeStore{}}
	h := newHandler(o)
	text, _ := NewToken()
	for _, token := range []string{"", text} {
		wantProblem(t, askAs(h, token, "GET", "/api/v1/openapi.json", ""), 500, "the store did not answer")
	}
}

type failing struct{ *fakeStore }

func (failing) HasTokens(context.Context) (bool, error) { return false, errors.New("disk I/O error") }

func (failing) Token(context.Context, string) (Token, bool, error) {
	return Token{}, false, errors.New("disk I/O error")
}

// TestDenialsAreAudited, and a flood of them does not fill the disk.
func TestDenialsAreAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		h := newHandler(o)
		viewer := s.give(o, "anna", Viewer)
		if w := askAs(h, viewer, "GET", "/api/v1/requests", ""); w.Code != 403 {
			t.Fatal(w.Code)
		}
		e := s.entries()[0]
		if e.Action != "access" || e.Outcome != "denied" || e.Who.Name != "anna" || e.Target.IDs[0] != "GET /api/v1/requests" || e.RequestID == "" || e.Where.Address != "192.0.2.1" {
			t.Errorf("%+v", e)
		}
		const flood = 1000
		for range flood {
			askAs(h, reseal(viewer), "GET", "/api/v1/requests", "")
		}
		if n := len(s.entries()); n != maxDenials {
			t.Errorf("%d entries, want %d", n, maxDenials)
		}
		time.Sleep(denialsEvery)
		for range 2 { // the first one alone
			askAs(h, "rubbish", "GET", "/api/v1/requests", "")
		}
		list := s.entries()
		if len(list) != maxDenials+1 {
			t.Errorf("%d entries", len(list))
		}
		last := list[len(list)-1]
		if last.Who.Kind != "none" || !strings.Contains(last.Reason, "no token by its form") ||
			fmt.Sprint(last.After) != fmt.Sprintf("map[not_written_before:%d]", flood+1-maxDenials) {
			t.Errorf("%+v", last)
		}
		s.auditErr = errors.New("disk full")
		if w := askAs(h, viewer, "GET", "/api/v1/requests", ""); w.Code != 403 {
			t.Errorf("refused otherwise when the audit is full: %d", w.Code)
		}
	})
}

// TestRates: a token has so many requests a minute, says so in every dialect, and
// takes none from others.
func TestRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		h := newHandler(o)
		a, b := s.give(o, "a", Viewer), s.give(o, "b", Viewer)
		reset := fmt.Sprint(time.Now().Add(time.Minute).Unix())
		for i := range ratePerMinute {
			w := askAs(h, a, "GET", "/api/v1/openapi.json", "")
			left := fmt.Sprint(ratePerMinute - 1 - i)
			for name, want := range map[string]string{
				"RateLimit-Policy": `"requests";q=600;w=60`, "RateLimit": `"requests";r=` + left + ";t=60",
				"X-RateLimit-Limit": "600", "X-RateLimit-Remaining": left, "X-RateLimit-Reset": reset,
				"X-Rate-Limit-Limit": "600", "X-Rate-Limit-Remaining": left, "X-Rate-Limit-Reset": reset, "Retry-After": "",
			} {
				if got := w.Header().Get(name); w.Code != 200 || got != want {
					t.Fatalf("request %d: %d %s: %q, want %q", i, w.Code, name, got, want)
				}
			}
		}
		time.Sleep(20 * time.Second)
		w := askAs(h, a, "GET", "/api/v1/openapi.json", "")
		wantProblem(t, w, 429, "Retry-After")
		if w.Header().Get("Retry-After") != "40" || w.Header().Get("X-RateLimit-Remaining") != "0" {
			t.Errorf("%v", w.Header())
		}
		if w := askAs(h, b, "GET", "/api/v1/openapi.json", ""); w.Code != 200 {
			t.Errorf("another token: %d", w.Code)
		}
		time.Sleep(40 * time.Second)
		if w := askAs(h, a, "GET", "/api/v1/openapi.json", ""); w.Code != 200 {
			t.Errorf("a minute later: %d", w.Code)
		}
		if len(s.used) != 2 {
			t.Errorf("used: %v", s.used)
		}
	})
}

func TestPepperFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "weir.pepper")
	a, err := LoadOrCreatePepper(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadOrCreatePepper(path)
	if err != nil || a.key != b.key || a.key == [32]byte{} {
		t.Errorf("another one the second time: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %s %x", a, *a, a, *a); strings.Contains(text, fmt.Sprintf("%x", a.key)) || strings.Contains(text, "{") {
		t.Errorf("it prints: %s", text)
	}
	f := func(text string, mode os.FileMode, want string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "p")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrCreatePepper(path); err == nil || !strings.Contains(err.Error(), want) || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%q %o: %v, want %s", text, mode, err, want)
		}
	}
	f("", 0o600, "hex digits")
	f("secretsecret", 0o600, "hex digits")
	f(strings.Repeat("ab", 31), 0o600, "hex digits")
	f(strings.Repeat("ab", 32), 0o644, "chmod 600")
}

func TestReveal(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	h := newHandler(o)
	anna := s.give(o, "anna", Analyst)
	w := askAs(h, anna, "POST", "/api/v1/reveal", `{"tokens":["u_a","u_none"],"reason":" reset the password ","alert":"a1"}`)
	if got, want := w.Body.String(), `{"data":[{"token":"u_a","name":"name of u_a"},{"token":"u_none","name":null}]}`+"\n"; w.Code != 200 || got != want {
		t.Errorf("%d %s, want %s", w.Code, got, want)
	}
	list := s.entries()
	if len(list) != 1 {
		t.Fatalf("%d entries", len(list))
	}
	e := list[0]
	if e.Action != "names.reveal" || e.Outcome != "success" || e.Who.Name != "anna" || e.Who.ID == "" || e.Reason != "reset the password" ||
		!slices.Equal(e.Target.IDs, []string{"u_a", "u_none"}) || e.RequestID != w.Header().Get(requestID) || e.Where.Address != "192.0.2.1" {
		t.Errorf("%+v", e)
	}
	if text, _ := e.JSON(); bytes.Contains(text, []byte("name of")) {
		t.Errorf("the audit has a name: %s", text)
	}
	f := func(body string, status int, detail string) {
		t.Helper()
		wantProblem(t, askAs(h, anna, "POST", "/api/v1/reveal", body), status, detail)
	}
	f(`{"tokens":[],"reason":"reset the password"}`, 400, "tokens: give 1 to 200")
	f(`{"tokens":["u_a"],"reason":"because"}`, 400, "reason:")
	f(`{"tokens":["u_a"],"reason":"reset\nthe password"}`, 400, "reason:")
	f(`{"tokens":["u_a"],"reason":"`+strings.Repeat("x", 501)+`"}`, 400, "reason:")
	f(`{"tokens":["s_a"],"reason":"reset the password"}`, 400, "no account's token")
	f(`{"tokens":["u_`+strings.Repeat("x", 2000)+`"],"reason":"reset the password"}`, 400, "no account's token")
	f(`{"tokens":["u_a"],"reason":"reset the password","x":1}`, 400, "unknown field")
	f(goodReveal+goodReveal, 400, "more than one value")
	f(`{`, 400, "read the body")
	f(`{"tokens":["`+strings.Repeat("u_", maxBody)+`"]}`, 413, "larger than")
	r := httptest.NewRequest("POST", "/api/v1/reveal", strings.NewReader(goodReveal))
	r.Host = "localhost"
	r.Header.Set("Authorization", "Bearer "+anna)
	r.Header.Set("Content-Type", "text/plain")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	wantProblem(t, w, 415, "application/json")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	wantProblem(t, w, 403, "another site")
	if n := len(s.entries()); n != 1 {
		t.Errorf("%d entries of what was not done", n-1)
	}
	s.auditErr = errors.New("disk full")
	w = askAs(h, anna, "POST", "/api/v1/reveal", goodReveal)
	if strings.Contains(w.Body.String(), "name of") {
		t.Errorf("names without an audit: %s", w.Body)
	}
	wantProblem(t, w, 500, "the store did not answer")
}
