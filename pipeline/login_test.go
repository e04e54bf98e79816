package pipeline

import (
	"strings"
	"testing"
)

func loginRules(t testing.TB, rules ...EndpointRule) *LoginRules {
	t.Helper()
	l, err := NewLoginRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestLoginNames(t *testing.T) {
	l := &LoginRules{}
	f := func(method, path string, want bool) {
		t.Helper()
		if got := l.Attempt(method, path, 200, false); got != want {
			t.Errorf("%s %s: %v, want %v", method, path, got, want)
		}
	}
	for _, p := range []string{
		"/login", "/login/", "/LOGIN", "//login", "/./login", "/x/../login", "/%6Cogin", "/login;jsessionid=1", "/login.php",
		"/Login.aspx", "/login.do", "/login.action", "/login.json", "/en/login", "/api/v1/login", "/user/login", "/users/sign_in",
		"/admin/login", "/account/login", "/signin", "/sign-in", "/log-in", "/logon", "/log_on", "/authenticate", "/auth", "/api/auth",
		"/session", "/api/v2/sessions", "/oauth/token", "/connect/token", "/auth/realms/x/protocol/openid-connect/token", "/token",
		"/wp-login.php", "/blog/wp-login.php", "/xmlrpc.php", "/j_security_check", "/administrator/index.php", "login", "/rest/user/login",
		"/" + strings.Repeat("./", 400) + "login", "/" + strings.Repeat("a/../", 400) + "login", "/login?next=/", "/login%3Bx",
	} {
		f("POST", p, true)
		f("PUT", p, true)
		f("GET", p, false)
	}
	for _, p := range []string{
		"", "/", "/logins", "/blog/how-to-login", "/search", "/login/help", "/push/token", "/chat/sessions", "/broadcasting/auth",
		"/index.php", "/loginx", "/xlogin", "/login.txt", "/orders/session", "/..", "/../..", "/%", "/%6", "/%zz", "/token/refresh",
		"/devices/token", "/va/token", "/logout", "/search?q=/login", "/;/", "/.php",
	} {
		f("POST", p, false)
	}
	if !l.Attempt("GET", "/files", 401, true) || l.Attempt("GET", "/files", 200, true) || l.Attempt("GET", "/files", 401, false) {
		t.Error("HTTP authentication: want an attempt where a user is answered 401, only there")
	}
	if e, ok := l.Endpoint("POST", "/xmlrpc.php"); !ok || e.Weight != "low" || e.Configured {
		t.Errorf("xmlrpc: %+v", e)
	}
}

// TestAskNames: endpoints that ask about an account are no logins, belong to the
// address, and are known by their names.
func TestAskNames(t *testing.T) {
	l := &LoginRules{}
	f := func(path, role string) {
		t.Helper()
		e, _ := l.Endpoint("POST", path)
		if e.Role != role {
			t.Errorf("%s: role %q, want %q", path, e.Role, role)
		}
		want := RequestFlags(0)
		if role != "" {
			want = FlagAsks
		}
		if got := l.flags("POST", path, 404, false); got != want {
			t.Errorf("%s: flags %b, want %b", path, got, want)
		}
		if l.flags("GET", path, 404, false) != 0 {
			t.Errorf("GET %s asks about an account", path)
		}
	}
	for _, p := range []string{"/password-reset", "/api/v1/forgot_password", "/account/recover", "/users/password/reset/../reset", "/Lost-Password.php"} {
		f(p, RoleReset)
	}
	for _, p := range []string{"/signup", "/register", "/api/v2/register", "/users/registration"} {
		f(p, RoleRegister)
	}
	for _, p := range []string{"/check-email", "/api/user_exists", "/username-available"} {
		f(p, RoleLookup)
	}
	for _, p := range []string{"/", "/reset", "/devices/register", "/cart/reset", "/recover", "/password", "/password-reset/done", "/cash/register"} {
		f(p, "")
	}
	l = loginRules(t, EndpointRule{Match: "GET /people/search", Role: RoleLookup}, EndpointRule{Match: "POST /signup", Role: RoleOther})
	if l.flags("GET", "/people/search", 200, false) != FlagAsks || l.flags("POST", "/signup", 200, false) != 0 {
		t.Error("the configuration does not decide what asks about an account")
	}
}

func TestLoginConfigured(t *testing.T) {
	l := loginRules(t,
		EndpointRule{Match: "POST /enter", Role: RoleLogin, Weight: "high"},
		EndpointRule{Match: "GET /t/{tenant}/door*", Role: RoleLogin},
		EndpointRule{Match: "* /any", Role: RoleLogin},
		EndpointRule{Match: "/sso/**", Role: RoleLogin},
		EndpointRule{Match: "POST /api/session", Role: RoleOther},
		EndpointRule{Match: "POST /password-reset", Role: RoleReset},
	)
	f := func(method, path string, want bool) {
		t.Helper()
		if got := l.Attempt(method, path, 200, false); got != want {
			t.Errorf("%s %s: %v, want %v", method, path, got, want)
		}
	}
	f("POST", "/enter", true)
	f("POST", "/Enter/", true)
	f("GET", "/enter", false)
	f("POST", "/enter/x", false)
	f("GET", "/t/acme/door", true)
	f("GET", "/t/acme/doorway.php", true)
	f("GET", "/t/acme/x/door", false)
	f("GET", "/t/door", false)
	f("DELETE", "/any", true)
	f("GET", "/sso", true)
	f("GET", "/sso/a/b", true)
	f("GET", "/ssox", false)
	f("POST", "/api/session", false)
	f("POST", "/password-reset", false)
	f("POST", "/login", true)
	if e, ok := l.Endpoint("POST", "/enter"); !ok || e != (LoginEndpoint{RoleLogin, "high", true}) {
		t.Errorf("enter: %+v %v", e, ok)
	}
	if !globSegment("a*b*c", []byte("axxbyybzc")) || globSegment("a*b", []byte("axbx")) || !globSegment("**", nil) {
		t.Error("glob")
	}
}

func TestLoginRuleProblems(t *testing.T) {
	_, err := NewLoginRules([]EndpointRule{
		{Match: "login", Role: "login"},
		{Match: "POST /a", Role: "door", Weight: "heavy"},
		{Match: "P0ST /a?b", Role: "login", Failure: EndpointFailure{Status: []int{401, 99}, OrSize: "20-10"}},
		{Match: "/a/**/b", Role: "login", Failure: EndpointFailure{OrSize: "x"}},
		{Match: "/a/x{y}", Role: "login"},
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		"endpoints[0].match", "endpoints[1].role", "endpoints[1].weight", "endpoints[2].match",
		"endpoints[2].failure.status[1]", "endpoints[2].failure.or_size", "endpoints[3].match", "endpoints[3].failure.or_size", "endpoints[4].match",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %s in:\n%v", want, err)
		}
	}
	if _, err := NewLoginRules(make([]EndpointRule, maxEndpointRules+1)); err == nil {
		t.Error("too many rules accepted")
	}
}

func TestLoginFailed(t *testing.T) {
	l := loginRules(t,
		EndpointRule{Match: "POST /login", Role: RoleLogin, Failure: EndpointFailure{Status: []int{200}}},
		EndpointRule{Match: "POST /sized", Role: RoleLogin, Failure: EndpointFailure{OrSize: "1900-1920"}},
		EndpointRule{Match: "POST /bare", Role: RoleLogin},
	)
	f := func(path string, status uint16, bytes int64, answers401, failed, known bool, basis string) {
		t.Helper()
		a, b, c := l.Failed("POST", path, status, bytes, answers401)
		if a != failed || b != known || c != basis {
			t.Errorf("%s %d %d %v: %v %v %s, want %v %v %s", path, status, bytes, answers401, a, b, c, failed, known, basis)
		}
	}
	f("/login", 200, 10, false, true, true, "configured")
	f("/login", 302, 10, false, false, true, "configured")
	f("/login", 500, 10, false, false, false, "unknown")
	f("/login", 401, 10, false, true, true, "status")
	f("/sized", 200, 1910, false, true, true, "configured")
	f("/sized", 200, 1921, false, false, true, "configured")
	f("/sized", 200, -1, false, false, false, "unknown")
	f("/sized", 429, 5, false, true, true, "status")
	for _, path := range []string{"/bare", "/other"} {
		f(path, 401, 1, false, true, true, "status")
		f(path, 403, 1, false, true, true, "status")
		f(path, 400, 1, false, true, true, "status")
		f(path, 422, 1, false, true, true, "status")
		f(path, 429, 1, true, true, true, "status")
		f(path, 200, 1, false, false, false, "unknown")
		f(path, 302, 1, false, false, false, "unknown")
		f(path, 200, 1, true, false, true, "learned")
		f(path, 302, 1, true, false, true, "learned")
		f(path, 0, 1, true, false, false, "unknown")
		f(path, 404, 1, true, false, false, "unknown")
		f(path, 503, 1, true, false, false, "unknown")
	}
}

func TestLoginAllocs(t *testing.T) {
	l := loginRules(t, EndpointRule{Match: "GET /a/*/b", Role: RoleLogin})
	path := "/a/" + strings.Repeat("x", 200) + "/b"
	if n := testing.AllocsPerRun(100, func() {
		if !l.Attempt("GET", path, 200, false) || !l.Attempt("POST", "/api/v1/login.php", 200, false) {
			t.Fatal("no attempt")
		}
		l.Failed("POST", path, 200, 1, true)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzLoginPath(f *testing.F) {
	for _, s := range []string{"", "/", "/a/../b;c/%2e%2E/%", "a", "//..//", "/a/./..", "/%2f%3b"} {
		f.Add(s)
	}
	l, err := NewLoginRules([]EndpointRule{{Match: "/a/*x*/**", Role: RoleOther}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := loginPath(nil, path)
		if len(got) > len(path)+1 || len(got) > 0 && (got[0] != '/' || got[len(got)-1] == '/') || strings.Contains(string(got), "//") {
			t.Errorf("%q: %q", path, got)
		}
		l.Attempt("POST", path, 200, false)
	})
}

func BenchmarkLoginAttempt(b *testing.B) {
	l := &LoginRules{}
	for _, c := range []struct{ name, method, path string }{
		{"get", "GET", "/api/v1/products/17"}, {"post", "POST", "/api/v1/orders"}, {"login", "POST", "/api/v1/login"},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				l.Attempt(c.method, c.path, 200, false)
			}
		})
	}
}
