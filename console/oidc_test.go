package console

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// provider is an OpenID provider: discovery, keys, codes that are good once and
// with their verifier, signed tokens. spoil changes a token before it is signed.
type provider struct {
	t      *testing.T
	server *httptest.Server
	key    *rsa.PrivateKey
	mu     sync.Mutex
	codes  map[string]url.Values // what the code was asked for with
	said   map[string]any        // of the user, beside what each token has
	info   map[string]any        // of the user info
	spoil  func(token map[string]any, header map[string]any)
	signer *rsa.PrivateKey
	errs   []string
}

const (
	providerClient = "weir"
	providerSecret = "the client's secret"
)

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{t: t, key: key, signer: key, codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		base := p.server.URL
		p.write(w, map[string]any{
			"issuer": base, "authorization_endpoint": base + "/authorize", "token_endpoint": base + "/token", "jwks_uri": base + "/keys", "userinfo_endpoint": base + "/info",
			"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"}, "id_token_signing_alg_values_supported": []string{"RS256"},
		})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		p.write(w, map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1", "n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	mux.HandleFunc("GET /authorize", p.authorize)
	mux.HandleFunc("POST /token", p.token)
	mux.HandleFunc("GET /info", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		p.write(w, p.info)
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

func (p *provider) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		p.t.Error(err)
	}
}

func (p *provider) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("response_type") != "code" || q.Get("client_id") != providerClient || q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 ||
		q.Get("state") == "" || q.Get("nonce") == "" || !slices.Contains(strings.Fields(q.Get("scope")), "openid") {
		http.Error(w, "a bad request", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	p.mu.Lock()
	p.codes[code] = q
	p.mu.Unlock()
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {p.server.URL}}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	bad := func(why string) {
		p.mu.Lock()
		p.errs = append(p.errs, why)
		p.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"`+why+`"}`)
	}
	id, secret, ok := r.BasicAuth()
	if unescaped, err := url.QueryUnescape(secret); err == nil {
		secret = unescaped
	}
	if !ok || id != providerClient || secret != providerSecret {
		bad("the client")
		return
	}
	p.mu.Lock()
	q := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	p.mu.Unlock()
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	switch {
	case q == nil || r.FormValue("grant_type") != "authorization_code":
		bad("the code")
		return
	case q.Get("redirect_uri") != r.FormValue("redirect_uri"):
		bad("the way back")
		return
	case base64.RawURLEncoding.EncodeToString(sum[:]) != q.Get("code_challenge"):
		bad("the verifier")
		return
	}
	access := sha256.Sum256([]byte("access"))
	token := map[string]any{
		"iss": p.server.URL, "aud": providerClient, "sub": "7", "nonce": q.Get("nonce"), "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix(),
		"at_hash": base64.RawURLEncoding.EncodeToString(access[:16]),
	}
	maps.Copy(token, p.said)
	header := map[string]any{"alg": "RS256", "kid": "k1"}
	if p.spoil != nil {
		p.spoil(token, header)
	}
	p.write(w, map[string]any{"access_token": "access", "token_type": "Bearer", "expires_in": 60, "id_token": p.sign(header, token)})
}

func (p *provider) sign(header, token map[string]any) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			p.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(header) + "." + part(token)
	if header["alg"] == "none" {
		return text + "."
	}
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, p.signer, crypto.SHA256, sum[:])
	if err != nil {
		p.t.Error(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

// ssoBrowser is a browser at a console that a provider vouches for.
type ssoBrowser struct {
	t      *testing.T
	base   string
	client *http.Client
}

func newSSO(t *testing.T, s *fakeStore, p *provider) *ssoBrowser {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(providerSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(nil)
	o := options(s)
	o.OIDC = &OIDCConfig{
		Name: "Company", Issuer: p.server.URL, ClientID: providerClient, SecretFile: secret, URL: "http://" + server.Listener.Addr().String(),
		Roles: map[string][]string{"soc": {"analyst"}, "platform": {"engineer", "auditor"}},
	}
	if err := o.OIDC.validate(); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = newHandler(o)
	server.Start()
	t.Cleanup(server.Close)
	return (&ssoBrowser{t: t, base: server.URL}).fresh()
}

// fresh is another browser.
func (b *ssoBrowser) fresh() *ssoBrowser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return &ssoBrowser{b.t, b.base, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (b *ssoBrowser) get(target string) (status int, location, body string) {
	b.t.Helper()
	if strings.HasPrefix(target, "/") {
		target = b.base + target
	}
	resp, err := b.client.Get(target)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

// goIn follows the ways to the provider and back, and returns where that ended.
func (b *ssoBrowser) goIn(to string) string {
	b.t.Helper()
	_, at, _ := b.get("/api/v1/session/oidc?to=" + url.QueryEscape(to))
	_, at, _ = b.get(at)
	_, at, _ = b.get(at)
	return at
}

func (b *ssoBrowser) session() (v sessionState) {
	b.t.Helper()
	if _, _, body := b.get("/api/v1/session"); json.Unmarshal([]byte(body), &v) != nil {
		b.t.Fatalf("%s", body)
	}
	return v
}

// TestProvider: whom the provider vouches for comes in, with the roles of its
// groups, and with those that they are the next time.
func TestProvider(t *testing.T) {
	s := withAda("admin")
	p := newProvider(t)
	p.said = map[string]any{"preferred_username": "ada", "name": "Ada of the provider", "groups": []string{"soc", "others"}}
	b := newSSO(t, s, p)
	if v := b.session(); v.Session != nil || v.Ways.OIDC == nil || v.Ways.OIDC.Name != "Company" {
		t.Errorf("%+v", v)
	}
	if at := b.goIn("/alerts?status=open"); at != "/alerts?status=open" {
		t.Fatalf("ended at %s: %v", at, p.errs)
	}
	v := b.session()
	if v.Session == nil || v.Session.User != "ada-2" || v.Session.Kind != "oidc" || v.Session.Display != "Ada of the provider" || !slices.Equal(v.Session.Roles, []string{"analyst"}) {
		t.Fatalf("%+v: the name of a local user is not given away", v.Session)
	}
	if status, _, _ := b.get("/api/v1/requests"); status != 200 {
		t.Errorf("%d", status)
	}
	p.said["groups"] = "platform"
	again := b.fresh()
	if at := again.goIn("/"); at != "/" {
		t.Fatalf("ended at %s", at)
	}
	if v := again.session(); v.Session == nil || v.Session.User != "ada-2" || !slices.Equal(v.Session.Roles, []string{"engineer", "auditor"}) {
		t.Errorf("%+v", v.Session)
	}
	// Groups that stand in the user info alone.
	delete(p.said, "groups")
	p.info = map[string]any{"sub": "7", "groups": []string{"soc"}}
	if at := b.fresh().goIn("/"); at != "/" {
		t.Errorf("ended at %s", at)
	}
	p.info["sub"] = "8"
	if at := b.fresh().goIn("/"); at != "/sign-in?error=provider" {
		t.Errorf("another's user info: ended at %s", at)
	}
	p.said["groups"] = []string{"others", "*"}
	if at := b.fresh().goIn("/"); at != "/sign-in?error=no_role" {
		t.Errorf("ended at %s", at)
	}
	p.said["groups"] = []string{"soc"}
	s.mu.Lock()
	s.users[1].Disabled = 1
	s.mu.Unlock()
	if at := b.fresh().goIn("/"); at != "/sign-in?error=disabled" {
		t.Errorf("ended at %s", at)
	}
	if v := b.session(); v.Session != nil {
		t.Error("a disabled user is still in")
	}
}

// TestProviderForgeries: what is not the provider's word for this browser is not
// taken.
func TestProviderForgeries(t *testing.T) {
	s := withAda("admin")
	p := newProvider(t)
	p.said = map[string]any{"preferred_username": "eve", "groups": []string{"soc"}}
	b := newSSO(t, s, p)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spoils := map[string]func(token, header map[string]any){
		"another issuer":    func(token, _ map[string]any) { token["iss"] = "https://evil.test" },
		"another client":    func(token, _ map[string]any) { token["aud"] = "other" },
		"expired":           func(token, _ map[string]any) { token["exp"] = time.Now().Add(-time.Hour).Unix() },
		"another nonce":     func(token, _ map[string]any) { token["nonce"] = "x" },
		"no nonce":          func(token, _ map[string]any) { delete(token, "nonce") },
		"no signature":      func(_, header map[string]any) { header["alg"] = "none" },
		"another's access":  func(token, _ map[string]any) { token["at_hash"] = "AAAAAAAAAAAAAAAAAAAAAA" },
		"an HMAC of itself": func(_, header map[string]any) { header["alg"] = "HS256" },
	}
	for what, spoil := range spoils {
		p.spoil = spoil
		if at := b.fresh().goIn("/"); at != "/sign-in?error=provider" {
			t.Errorf("%s: ended at %s", what, at)
		}
	}
	p.spoil, p.signer = nil, other
	if at := b.fresh().goIn("/"); at != "/sign-in?error=provider" {
		t.Errorf("another key: ended at %s", at)
	}
	p.signer = p.key

	// The way back of another browser, a code that was used, another state.
	victim, attacker := b.fresh(), b.fresh()
	_, at, _ := attacker.get("/api/v1/session/oidc")
	_, back, _ := attacker.get(at)
	if _, at, _ := victim.get(back); at != "/sign-in?error=expired" {
		t.Errorf("another's way back: ended at %s", at)
	}
	_, _, _ = victim.get("/api/v1/session/oidc")
	if _, at, _ := victim.get(back); at != "/sign-in?error=expired" {
		t.Errorf("another's state: ended at %s", at)
	}
	if _, at, _ := attacker.get(back); at != "/" {
		t.Errorf("its own: ended at %s", at)
	}
	if _, at, _ := attacker.get(back); at != "/sign-in?error=expired" {
		t.Errorf("twice: ended at %s", at)
	}
	// A code that another flow was given: the verifier does not fit.
	_, at, _ = victim.get("/api/v1/session/oidc")
	_, mine, _ := victim.get(at)
	_, at, _ = attacker.get("/api/v1/session/oidc")
	_, theirs, _ := attacker.get(at)
	my, err := url.Parse(mine)
	if err != nil {
		t.Fatal(err)
	}
	their, err := url.Parse(theirs)
	if err != nil {
		t.Fatal(err)
	}
	q := my.Query()
	q.Set("code", their.Query().Get("code"))
	my.RawQuery = q.Encode()
	if _, at, _ := victim.get(my.String()); at != "/sign-in?error=provider" || !slices.Contains(p.errs, "the verifier") {
		t.Errorf("an injected code: ended at %s, %v", at, p.errs)
	}
	if victim.session().Session != nil {
		t.Error("the victim is in as somebody")
	}
	for _, to := range []string{"https://evil.test/", "//evil.test", "/\\evil.test", "javascript:x"} {
		if status, at, _ := b.fresh().get("/api/v1/session/oidc?to=" + url.QueryEscape(to)); status != 400 {
			t.Errorf("%s: %d %s", to, status, at)
		}
	}
}

func TestOIDCConfig(t *testing.T) {
	good := OIDCConfig{Issuer: "https://id.test", URL: "https://weir.test", ClientID: "weir", Roles: map[string][]string{"*": {"viewer"}}}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for word, spoil := range map[string]func(*OIDCConfig){
		"issuer": func(o *OIDCConfig) { o.Issuer = "http://id.test" }, "url": func(o *OIDCConfig) { o.URL = "weir.test" },
		"client_id": func(o *OIDCConfig) { o.ClientID = "" }, "roles:": func(o *OIDCConfig) { o.Roles = nil }, "roles.x": func(o *OIDCConfig) { o.Roles = map[string][]string{"x": {"boss"}} },
	} {
		bad := good
		spoil(&bad)
		if err := bad.validate(); err == nil || !strings.Contains(err.Error(), "console.oidc."+word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	for said, want := range map[string]string{"ada": "ada", "ada lovelace": "ada-lovelace", "": "user", "ädä": "-d-", "-": "user", strings.Repeat("x", 99): strings.Repeat("x", 62)} {
		if got := userNameOf(said, 1); got != want {
			t.Errorf("%q: %q, want %q", said, got, want)
		}
	}
}
