package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

// TestTokensByAPI: an admin makes a token, which works at once and is shown once,
// sees it in the list, and ends it; the audit has both and no secret.
func TestTokensByAPI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		s.put("a1")
		o := options(s)
		h := newHandler(o)
		admin := s.give(o, "anna", Admin)
		made := func(body string, want int) (k tokenMade) {
			t.Helper()
			w := askAs(h, admin, "POST", "/api/v1/tokens", body)
			if w.Code != want {
				t.Fatalf("%s: %d, want %d: %s", body, w.Code, want, w.Body)
			}
			if want == 201 {
				if err := json.Unmarshal(w.Body.Bytes(), &k); err != nil || w.Header().Get("Location") != "/api/v1/tokens/"+k.ID {
					t.Fatalf("%v %v", err, w.Header())
				}
			}
			return k
		}
		k := made(`{"name":"siem","roles":["feed","auditor"]}`, 201)
		if id, ok := idOf(k.Token); !ok || id != k.ID || *k.Expires != pipeline.TimeOf(time.Now().AddDate(0, 0, tokenDays)) || !k.Usable || k.Creator != "anna" {
			t.Errorf("%+v", k)
		}
		if never := made(`{"name":"n","roles":["viewer"],"expires":"never"}`, 201); never.Expires != nil {
			t.Errorf("%+v", never)
		}
		soon := made(fmt.Sprintf(`{"name":"s","roles":["viewer"],"expires":%q}`, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)), 201)
		use := func(token, path string, want int) {
			t.Helper()
			if w := askAs(h, token, "GET", path, ""); w.Code != want {
				t.Errorf("%s: %d, want %d", path, w.Code, want)
			}
		}
		use(k.Token, "/api/v1/feed/alerts", 200)
		use(k.Token, "/api/v1/alerts", 403)
		use(k.Token, "/api/v1/tokens", 403)
		use(soon.Token, "/api/v1/alerts", 200)
		time.Sleep(time.Hour)
		use(soon.Token, "/api/v1/alerts", 401)
		listed := askAs(h, admin, "GET", "/api/v1/tokens", "")
		var list struct{ Data []tokenView }
		if err := json.Unmarshal(listed.Body.Bytes(), &list); err != nil || len(list.Data) != 4 || list.Data[1].ID != k.ID || list.Data[3].Usable {
			t.Errorf("%v: %s", err, listed.Body)
		}
		for range 2 { // again is no other
			if w := askAs(h, admin, "DELETE", "/api/v1/tokens/"+k.ID, ""); w.Code != 200 || !strings.Contains(w.Body.String(), `"usable":false`) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
		use(k.Token, "/api/v1/feed/alerts", 401)
		wantProblem(t, askAs(h, admin, "DELETE", "/api/v1/tokens/none", ""), 404, "no token has this id")
		var actions []string
		for _, e := range s.entries() {
			actions = append(actions, e.Action+" "+e.Outcome)
			text, err := e.JSON()
			if err != nil || strings.Contains(string(text), k.Token[20:]) {
				t.Errorf("%s: %v", text, err)
			}
		}
		if want := []string{"token.create success", "token.create success", "token.create success", "access denied", "access denied", "access denied", "token.revoke success", "access denied"}; !slices.Equal(actions, want) {
			t.Errorf("%v, want %v", actions, want)
		}
		if strings.Contains(listed.Body.String(), k.Token[20:]) {
			t.Error("the list shows a token")
		}
		// What the audit does not take does not happen.
		s.auditErr = errors.New("disk full")
		have := len(s.tokens)
		wantProblem(t, askAs(h, admin, "POST", "/api/v1/tokens", goodToken), 500, "")
		wantProblem(t, askAs(h, admin, "DELETE", "/api/v1/tokens/"+soon.ID, ""), 500, "")
		if len(s.tokens) != have || s.tokens[3].Revoked != 0 {
			t.Error("a token was made or revoked without the audit")
		}
	})
}

func TestTokenRequests(t *testing.T) {
	s := &fakeStore{}
	o := options(s)
	h := newHandler(o)
	admin := s.give(o, "anna", Admin)
	f := func(body string, status int, detail string) {
		t.Helper()
		wantProblem(t, askAs(h, admin, "POST", "/api/v1/tokens", body), status, detail)
	}
	f(`{"name":"","roles":["feed"]}`, 400, "name: ")
	f(`{"name":"`+strings.Repeat("x", 65)+`","roles":["feed"]}`, 400, "name: ")
	f(`{"name":"a\nb","roles":["feed"]}`, 400, "name: ")
	f(`{"name":"a","roles":[]}`, 400, "roles: ")
	f(`{"name":"a","roles":["root"]}`, 400, "roles: ")
	f(`{"name":"a","roles":["feed"],"expires":"90d"}`, 400, "expires: ")
	f(`{"name":"a","roles":["feed"],"expires":"2020-01-01T00:00:00Z"}`, 400, "expires: ")
	f(`{"name":"a","roles":["feed"],"expires":"2999-01-01T00:00:00Z"}`, 400, "expires: ")
	f(`{"name":"a","roles":["feed"],"secret":"x"}`, 400, "read the body")
	f(`{"name":"a","roles":["feed"]} {}`, 400, "read the body")
	if w := askAs(h, admin, "POST", "/api/v1/tokens?x=1", goodToken); w.Code != 400 {
		t.Errorf("%d", w.Code)
	}
	if len(s.tokens) != 1 {
		t.Errorf("%d tokens", len(s.tokens))
	}
}

// TestTokensAreBounded: a stolen token of an admin makes so many and no more.
func TestTokensAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		h := newHandler(o)
		admin := s.give(o, "anna", Admin)
		post := func() int { return askAs(h, admin, "POST", "/api/v1/tokens", goodToken).Code }
		for range maxMinted {
			if code := post(); code != 201 {
				t.Fatal(code)
			}
		}
		w := askAs(h, admin, "POST", "/api/v1/tokens", goodToken)
		wantProblem(t, w, 429, "too many tokens")
		if w.Header().Get("Retry-After") != "30" {
			t.Errorf("%v", w.Header())
		}
		wantProblem(t, askAs(h, admin, "DELETE", "/api/v1/tokens/"+s.tokens[1].ID, ""), http.StatusTooManyRequests, "")
		time.Sleep(mintedEvery)
		if code := post(); code != 201 {
			t.Error(code)
		}
		for len(s.tokens) < maxTokens {
			s.give(o, "x", Viewer)
		}
		time.Sleep(mintedEvery)
		wantProblem(t, askAs(h, admin, "POST", "/api/v1/tokens", goodToken), 409, "revoke some")
		s.tokens[1].Revoked = 1
		time.Sleep(mintedEvery)
		if code := post(); code != 201 {
			t.Error(code)
		}
	})
}
