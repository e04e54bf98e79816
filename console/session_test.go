package console

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"weir/pipeline"
)

const adasPassword = "correct horse battery"

// browser keeps the cookie and the csrf of a page.
type browser struct {
	t      *testing.T
	h      http.Handler
	cookie string
	csrf   string
	tls    bool
	from   string
	origin string
}

func (b *browser) ask(method, target, body string, want int) *httptest.ResponseRecorder {
	b.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "localhost:7380"
	if b.tls {
		r.Header.Set("X-Forwarded-Proto", "https")
	}
	if b.from != "" {
		r.RemoteAddr = b.from
	}
	if b.cookie != "" {
		r.Header.Set("Cookie", b.cookie)
	}
	if b.csrf != "" {
		r.Header.Set(csrfHeader, b.csrf)
	}
	if b.origin != "" {
		r.Header.Set("Origin", b.origin)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	b.h.ServeHTTP(w, r)
	if w.Code != want {
		b.t.Errorf("%s %s: %d, want %d: %s", method, target, w.Code, want, w.Body)
	}
	for _, k := range w.Result().Cookies() {
		b.cookie = k.Name + "=" + k.Value
		if k.MaxAge < 0 {
			b.cookie = ""
		}
	}
	return w
}

func (b *browser) signIn(user, password string, want int) (v sessionState) {
	b.t.Helper()
	body, err := json.Marshal(signInRequest{user, password})
	if err != nil {
		b.t.Fatal(err)
	}
	w := b.ask("POST", "/api/v1/session", string(body), want)
	if want != 200 {
		return v
	}
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil || v.Session == nil {
		b.t.Fatalf("%s: %v", w.Body, err)
	}
	b.csrf = v.Session.CSRF
	return v
}

// withAda is a store with a user.
func withAda(roles ...string) *fakeStore {
	s := &fakeStore{}
	s.users = []User{{Name: "ada", Display: "Ada L.", Kind: KindLocal, Roles: roles, Hash: HashPassword(adasPassword)}}
	return s
}

// TestSignIn: a browser comes in, does what its roles allow, and goes.
func TestSignIn(t *testing.T) {
	s := withAda("analyst")
	s.put("a1")
	h := newHandler(options(s))
	for _, overTLS := range []bool{false, true} {
		b := &browser{t: t, h: h, tls: overTLS}
		b.ask("GET", "/api/v1/alerts", "", 401)
		b.signIn("ada", "another password", 401)
		b.signIn("eve", adasPassword, 401)
		w := b.ask("POST", "/api/v1/session", `{"user":"ADA","password":"`+adasPassword+`"}`, 200)
		kept := w.Result().Cookies()[0]
		name := map[bool]string{true: "__Host-weir", false: "weir"}[overTLS]
		if kept.Name != name || !kept.HttpOnly || kept.Secure != overTLS || kept.SameSite != http.SameSiteStrictMode || kept.Path != "/" || kept.Domain != "" {
			t.Errorf("cookie %+v", kept)
		}
		if text := kept.Value; strings.Contains(w.Body.String(), text) {
			t.Error("the page sees its cookie")
		}
		var v sessionState
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		if v.Session.User != "ada" || v.Local || !slices.Equal(v.Session.Roles, []string{"analyst"}) {
			t.Errorf("%+v", v)
		}
		b.ask("GET", "/api/v1/alerts", "", 200)
		b.ask("GET", "/api/v1/users", "", 403)
		// Another page does not know csrf, and one of another site is refused anyway.
		if w := b.ask("PATCH", "/api/v1/alerts/a1", `{"assignee":"ada"}`, 403); !strings.Contains(w.Body.String(), csrfHeader) {
			t.Errorf("%s", w.Body)
		}
		b.csrf = v.Session.CSRF
		b.origin = "https://evil.test"
		b.ask("PATCH", "/api/v1/alerts/a1", `{"assignee":"ada"}`, 403)
		b.ask("POST", "/api/v1/session", `{"user":"ada","password":"`+adasPassword+`"}`, 403)
		b.origin = ""
		b.ask("PATCH", "/api/v1/alerts/a1", `{"assignee":"ada"}`, 200)
		old := b.cookie
		csrf := b.csrf
		b.csrf = ""
		b.ask("DELETE", "/api/v1/session", "", 403)
		b.csrf = csrf
		b.ask("DELETE", "/api/v1/session", "", 204)
		b.cookie = old
		b.ask("GET", "/api/v1/alerts", "", 401)
		b.cookie = old[:len(old)-1] + "A"
		b.ask("GET", "/api/v1/alerts", "", 401)
		b.cookie = name + "=x"
		b.ask("GET", "/api/v1/alerts", "", 401)
	}
	var got []string
	for _, e := range s.entries() {
		got = append(got, e.Action+" "+e.Outcome+" "+e.Who.Name)
		text, err := e.JSON()
		if err != nil || strings.Contains(string(text), adasPassword) || strings.Contains(string(text), "eve") {
			t.Errorf("%s %v", text, err)
		}
	}
	if n := strings.Count(strings.Join(got, ","), "session.create success ada"); n != 2 {
		t.Errorf("%v", got)
	}
	for _, want := range []string{"session.create denied ada", "session.create denied ", "session.end success ada", "alert.triage success ada"} {
		if !slices.Contains(got, want) {
			t.Errorf("the audit lacks %q: %v", want, got)
		}
	}
	if len(s.sessions) != 0 {
		t.Errorf("%d sessions are left", len(s.sessions))
	}
}

// TestSessionEnds: idle, at last, by a change of the user, by a password, by
// revoking it.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withAda("admin")
		h := newHandler(options(s))
		b := &browser{t: t, h: h}
		b.signIn("ada", adasPassword, 200)
		for range 3 { // who works stays
			time.Sleep(29 * time.Minute)
			b.ask("GET", "/api/v1/alerts", "", 200)
		}
		for range 2 { // to look whether one is signed in is no work
			time.Sleep(16 * time.Minute)
			b.ask("GET", "/api/v1/session", "", 200)
		}
		b.ask("GET", "/api/v1/alerts", "", 401)
		b.signIn("ada", adasPassword, 200)
		for i := range 25 { // 12 hours are the end, at work or not
			time.Sleep(29 * time.Minute)
			b.ask("GET", "/api/v1/me", "", map[bool]int{true: 200, false: 401}[i < 24])
		}

		one, two := &browser{t: t, h: h}, &browser{t: t, h: h}
		one.signIn("ada", adasPassword, 200)
		v := two.signIn("ada", adasPassword, 200)
		one.ask("DELETE", "/api/v1/sessions/"+v.Session.ID, "", 204)
		two.ask("GET", "/api/v1/me", "", 401)
		two.csrf = ""
		two.signIn("ada", adasPassword, 200)
		one.ask("POST", "/api/v1/session/password", `{"old":"wrong wrong wrong","new":"staple correct horse"}`, 422)
		one.ask("POST", "/api/v1/session/password", `{"old":"`+adasPassword+`","new":"short"}`, 422)
		one.ask("POST", "/api/v1/session/password", `{"old":"`+adasPassword+`","new":"staple correct horse"}`, 204)
		one.ask("GET", "/api/v1/me", "", 200)
		two.ask("GET", "/api/v1/me", "", 401)
		two.csrf = ""
		two.signIn("ada", adasPassword, 401)
		two.signIn("ada", "staple correct horse", 200)
		one.ask("POST", "/api/v1/users", `{"name":"bob","roles":["viewer"],"password":"a long enough password"}`, 201)
		one.ask("POST", "/api/v1/users", `{"name":"Bob","roles":["viewer"],"password":"a long enough password"}`, 409)
		bob := &browser{t: t, h: h}
		bob.signIn("bob", "a long enough password", 200)
		bob.ask("PATCH", "/api/v1/users/bob", `{"roles":["admin"]}`, 403)
		bob.ask("DELETE", "/api/v1/sessions/"+v.Session.ID, "", 404)
		one.ask("PATCH", "/api/v1/users/bob", `{"roles":["analyst"]}`, 200)
		bob.ask("GET", "/api/v1/requests", "", 200) // at once
		one.ask("PATCH", "/api/v1/users/bob", `{"disabled":true}`, 200)
		bob.ask("GET", "/api/v1/me", "", 401)
		bob.csrf = ""
		bob.signIn("bob", "a long enough password", 401)
	})
}

// TestGuessing: wrong passwords make the next try wait, whether there is such a
// user or not; the wait ends; others are not kept out for long.
func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := withAda("viewer")
		h := newHandler(options(s))
		answers := map[string]string{}
		for i, user := range []string{"ada", "nobody"} {
			b := &browser{t: t, h: h, from: "203.0.113." + string(rune('1'+i)) + ":5"}
			var said []string
			waited := time.Duration(0)
			for range 12 {
				w := b.ask("POST", "/api/v1/session", `{"user":"`+user+`","password":"wrong"}`, 401)
				said = append(said, http.StatusText(w.Code))
				if after := b.ask("POST", "/api/v1/session", `{"user":"`+user+`","password":"wrong"}`, map[bool]int{true: 401, false: 429}[len(said) <= 2]).Header().Get("Retry-After"); after != "" {
					d, err := time.ParseDuration(after + "s")
					if err != nil {
						t.Fatal(err)
					}
					said = append(said, after)
					waited += d
					time.Sleep(d)
				}
			}
			if waited < 5*time.Minute {
				t.Errorf("%s: 12 tries took %s", user, waited)
			}
			answers[user] = strings.Join(said, " ")
		}
		if answers["ada"] != answers["nobody"] {
			t.Errorf("a user is told from none:\n%s\n%s", answers["ada"], answers["nobody"])
		}
		other := &browser{t: t, h: h, from: "198.51.100.9:5"}
		other.signIn("ada", adasPassword, 200)
	})
}

// TestTimeTellsNoUsers: whatever is stored of a user, or nothing, a try costs the
// memory of a real hash.
func TestTimeTellsNoUsers(t *testing.T) {
	for _, hash := range []string{"", "x", "$argon2id$v=19$m=1,t=1,p=1$$", "$argon2id$v=19$m=99999999,t=2,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAA", HashPassword(adasPassword)} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		ok, _ := checkHash(hash, "wrong")
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; ok || took < argonMemory<<10 || took > 2*argonMemory<<10 {
			t.Errorf("%q: %t, %d bytes", hash, ok, took)
		}
	}
}

func TestPasswords(t *testing.T) {
	hash := HashPassword(adasPassword)
	if !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") || hash == HashPassword(adasPassword) {
		t.Errorf("%s", hash)
	}
	if ok, stale := checkHash(hash, adasPassword); !ok || stale {
		t.Errorf("%t %t", ok, stale)
	}
	// As another program writes it, with less memory: taken, and to be hashed anew.
	const old = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	if ok, stale := checkHash(old, "password"); !ok || !stale {
		t.Errorf("the reference's hash: %t %t", ok, stale)
	}
	for password, good := range map[string]bool{"": false, "short": false, "fourteen chars": false, "fifteen chars !": true, strings.Repeat("a", 40): false, strings.Repeat("ab", 600): false, "ünïcödé pässwörd": true, "\xff" + adasPassword: false} {
		if said := CheckPassword("ada", password); (said == "") != good {
			t.Errorf("%q: %s", password, said)
		}
	}
	if CheckPassword("ada.lovelace@example.com", "Ada.Lovelace@example.com") == "" {
		t.Error("the name is a password")
	}
}

// TestFirst: the link makes one administrator, once, in its time.
func TestFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeStore{}
		o := options(s)
		text, mac := o.Pepper.NewFirst()
		s.firstMAC, s.firstEnds = mac, pipeline.TimeOf(time.Now().Add(FirstEnds))
		h := newHandler(o)
		body := func(token string) string {
			return `{"token":"` + token + `","user":"root","password":"` + adasPassword + `"}`
		}
		b := &browser{t: t, h: h}
		if w := b.ask("GET", "/api/v1/session", "", 200); !strings.Contains(w.Body.String(), `"local":true,"first":true`) {
			t.Errorf("%s", w.Body)
		}
		b.ask("POST", "/api/v1/session/first", body("x"), 401)
		b.ask("POST", "/api/v1/session/first", strings.Replace(body(text), adasPassword, "short", 1), 422)
		b.ask("POST", "/api/v1/session/first", body(text), 200)
		b.ask("GET", "/api/v1/users", "", 200)
		other := &browser{t: t, h: h}
		other.ask("GET", "/api/v1/alerts", "", 401) // it asks from now on
		other.ask("POST", "/api/v1/session/first", body(text), 401)
		if w := other.ask("GET", "/api/v1/session", "", 200); !strings.Contains(w.Body.String(), `"local":false,"first":false`) {
			t.Errorf("%s", w.Body)
		}
		late := &fakeStore{}
		late.firstMAC, late.firstEnds = mac, pipeline.TimeOf(time.Now().Add(FirstEnds))
		time.Sleep(FirstEnds)
		b = &browser{t: t, h: newHandler(options(late))}
		b.ask("POST", "/api/v1/session/first", body(text), 401)
	})
}
