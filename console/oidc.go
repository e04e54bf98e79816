package console

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"weir/pipeline"
)

// OIDCConfig is an OpenID provider that vouches for users.
type OIDCConfig struct {
	Name        string              `yaml:"name,omitempty"` // of the way in, on its button
	Issuer      string              `yaml:"issuer"`
	ClientID    string              `yaml:"client_id"`
	SecretFile  string              `yaml:"client_secret_file,omitempty"` // read at each sign-in; none for a public client
	URL         string              `yaml:"url"`                          // where browsers find this console
	Scopes      []string            `yaml:"scopes,omitempty"`             // beside openid; profile and email where there are none
	UserClaim   string              `yaml:"user_claim,omitempty"`         // what a user is called; preferred_username
	GroupsClaim string              `yaml:"groups_claim,omitempty"`       // groups
	Roles       map[string][]string `yaml:"roles"`                        // of a group; * is everybody whom the provider knows
	CAFile      string              `yaml:"ca_file,omitempty"`            // authorities of the provider's certificate, beside the system's
}

const (
	oidcPath       = "/api/v1/session/oidc"
	oidcCallback   = oidcPath + "/callback"
	oidcWithin     = 10 * time.Second // for each request to the provider
	oidcFlow       = 10 * time.Minute // from the way to the provider to the way back
	maxClaimGroups = 2000
)

func (o *OIDCConfig) validate() error {
	if o == nil {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("console.oidc."+format, args...)) }
	for key, value := range map[string]string{"issuer": o.Issuer, "url": o.URL} {
		u, err := url.Parse(value)
		local := err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
		if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !local) {
			bad("%s: %q is no https URL", key, value)
		}
	}
	if o.ClientID == "" {
		bad("client_id: the provider knows weir by it")
	}
	if len(o.Roles) == 0 {
		bad("roles: name groups of the provider and their roles; * is everybody whom it knows")
	}
	for _, group := range slices.Sorted(maps.Keys(o.Roles)) {
		if _, err := ParseRoles(o.Roles[group]); err != nil {
			bad("roles.%s: %w", group, err)
		}
	}
	return errors.Join(errs...)
}

// rolesOfGroups are what the provider's groups may do.
func (o *OIDCConfig) rolesOfGroups(groups []string) (r Roles) {
	for _, group := range append(groups, "*") {
		r |= rolesOf(o.Roles[group])
	}
	return r
}

// relying is weir as the provider's relying party.
type relying struct {
	OIDCConfig
	mu       sync.Mutex
	client   *http.Client
	provider *oidc.Provider
}

// get returns what the provider says of itself, asked for once.
func (p *relying) get() (*oidc.Provider, *http.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.provider != nil {
		return p.provider, p.client, nil
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ResponseHeaderTimeout: oidcWithin, MaxResponseHeaderBytes: 64 << 10}
	if p.CAFile != "" {
		pem, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, nil, fmt.Errorf("read the provider's authority: %w", err)
		}
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("there is no certificate in %s", p.CAFile)
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	client := &http.Client{Transport: transport, Timeout: oidcWithin}
	// The provider's keys are asked for with this context later on.
	provider, err := oidc.NewProvider(oidc.ClientContext(context.Background(), client), p.Issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("discover the provider: %w", err)
	}
	p.provider, p.client = provider, client
	return provider, client, nil
}

// config is what a flow is made with.
func (p *relying) config(provider *oidc.Provider) (*oauth2.Config, error) {
	scopes := p.Scopes
	if len(scopes) == 0 {
		scopes = []string{"profile", "email"}
	}
	k := &oauth2.Config{
		ClientID: p.ClientID, Endpoint: provider.Endpoint(), RedirectURL: strings.TrimSuffix(p.URL, "/") + oidcCallback,
		Scopes: append([]string{oidc.ScopeOpenID}, slices.DeleteFunc(slices.Clone(scopes), func(s string) bool { return s == oidc.ScopeOpenID })...),
	}
	if p.SecretFile != "" {
		secret, err := os.ReadFile(p.SecretFile)
		if err != nil {
			return nil, fmt.Errorf("read the client's secret: %w", err)
		}
		k.ClientSecret = strings.TrimSpace(string(secret))
	}
	return k, nil
}

// flow is what a browser keeps, sealed, while it is at the provider.
type flow struct {
	State    string `json:"s"`
	Nonce    string `json:"n"`
	Verifier string `json:"v"`
	To       string `json:"t"`
	Ends     int64  `json:"e"` // Unix seconds
}

func (c *console) sealFlow(f flow) string {
	body, err := json.Marshal(f)
	if err != nil {
		panic("BUG: a flow is no JSON: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(body) + "." + base64.RawURLEncoding.EncodeToString(c.Pepper.sum("oidc flow", body))
}

func (c *console) openFlow(text string, now time.Time) (f flow, ok bool) {
	left, right, _ := strings.Cut(text, ".")
	body, err := base64.RawURLEncoding.DecodeString(left)
	if err != nil {
		return f, false
	}
	mac, err := base64.RawURLEncoding.DecodeString(right)
	if err != nil || !hmac.Equal(mac, c.Pepper.sum("oidc flow", body)) || json.Unmarshal(body, &f) != nil {
		return flow{}, false
	}
	return f, now.Unix() < f.Ends
}

// setFlow keeps a flow with a browser, or takes it for "". Lax: it comes back by a
// link from the provider's site.
func setFlow(w http.ResponseWriter, r *http.Request, text string) {
	k := &http.Cookie{Name: cookieName(r) + "-oidc", Value: text, Path: "/", HttpOnly: true, Secure: secure(r), SameSite: http.SameSiteLaxMode, MaxAge: int(oidcFlow / time.Second)}
	if text == "" {
		k.MaxAge = -1
	}
	http.SetCookie(w, k)
}

// isOurPath tells whether a browser may be sent to it: a path of this site.
func isOurPath(to string) bool {
	u, err := url.Parse(to)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && strings.HasPrefix(to, "/") && !strings.HasPrefix(to, "//") &&
		!strings.ContainsAny(to, "\\\r\n\t") && len(to) <= 2000
}

// startOIDC sends a browser to the provider.
func (c *console) startOIDC(w http.ResponseWriter, r *http.Request, _ *caller) {
	q := newQuery(r.URL.RawQuery)
	to := q.one("to", "a path of this site")
	if to != "" && !isOurPath(to) {
		q.bad("to", to, "a path of this site")
	}
	err := q.err()
	if err == nil && c.oidc == nil {
		err = &problem{Status: http.StatusNotFound, Detail: "no provider vouches for users here; console.oidc names one"}
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	provider, _, err := c.oidc.get()
	var config *oauth2.Config
	if err == nil {
		config, err = c.oidc.config(provider)
	}
	if err != nil {
		c.oidcFailed(w, r, "provider", "", err)
		return
	}
	if to == "" {
		to = "/"
	}
	f := flow{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), To: to, Ends: time.Now().Add(oidcFlow).Unix()}
	setFlow(w, r, c.sealFlow(f))
	http.Redirect(w, r, config.AuthCodeURL(f.State, oidc.Nonce(f.Nonce), oauth2.S256ChallengeOption(f.Verifier)), http.StatusSeeOther)
}

// oidcFailed sends a browser back to sign in; the log and the audit have why.
func (c *console) oidcFailed(w http.ResponseWriter, r *http.Request, code, user string, err error) {
	c.recordDenial(r.Context(), AuditEntry{
		Time: pipeline.TimeOf(time.Now()), Action: "session.create", Who: AuditWho{Kind: "none", Name: user}, Where: AuditWhere{Interface: "api", Address: addressOf(r)},
		Reason: "provider: " + err.Error(), RequestID: w.Header().Get(requestID),
	})
	http.Redirect(w, r, "/sign-in?error="+code, http.StatusSeeOther)
}

// claims are what a provider says of a user.
type claims struct {
	subject, user, display string
	groups                 []string
}

// finishOIDC takes a browser that comes back.
func (c *console) finishOIDC(w http.ResponseWriter, r *http.Request, _ *caller) {
	if c.oidc == nil {
		refuse(w, &problem{Status: http.StatusNotFound, Detail: "no provider vouches for users here"})
		return
	}
	now, keys := time.Now(), ofProvider(addressOf(r))
	if c.mustWait(w, keys, now) {
		return
	}
	k, err := r.Cookie(cookieName(r) + "-oidc")
	setFlow(w, r, "")
	var f flow
	ok := false
	if err == nil {
		f, ok = c.openFlow(k.Value, now)
	}
	q := r.URL.Query()
	switch {
	case !ok:
		c.oidcFailed(w, r, "expired", "", errors.New("no sign-in of this browser is on its way"))
		return
	case subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(f.State)) != 1:
		c.oidcFailed(w, r, "expired", "", errors.New("another state"))
		return
	case q.Get("iss") != "" && q.Get("iss") != c.oidc.Issuer: // RFC 9207
		c.oidcFailed(w, r, "provider", "", errors.New("another issuer"))
		return
	case q.Get("error") != "":
		c.oidcFailed(w, r, "denied", "", fmt.Errorf("it says %s", quote(q.Get("error"))))
		return
	}
	c.attempts.failed(keys, now)
	ctx, cancel := context.WithTimeout(r.Context(), 2*oidcWithin)
	defer cancel()
	who, err := c.oidc.ask(ctx, q.Get("code"), &f)
	if err != nil {
		c.oidcFailed(w, r, "provider", "", err)
		return
	}
	c.attempts.good(keys)
	c.comeIn(w, r, who, f.To)
}

// ask changes the code for what the provider says of a user, and checks that.
func (p *relying) ask(ctx context.Context, code string, f *flow) (who claims, err error) {
	provider, client, err := p.get()
	if err != nil {
		return who, err
	}
	config, err := p.config(provider)
	if err != nil {
		return who, err
	}
	ctx = oidc.ClientContext(ctx, client)
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(f.Verifier))
	if err != nil {
		return who, fmt.Errorf("change the code: %s", quote(err.Error())) // it may hold the answer's text
	}
	raw, _ := token.Extra("id_token").(string)
	id, err := provider.VerifierContext(ctx, &oidc.Config{ClientID: p.ClientID}).Verify(ctx, raw)
	if err != nil {
		return who, fmt.Errorf("the ID token: %w", err)
	}
	if subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(f.Nonce)) != 1 {
		return who, errors.New("the ID token: another nonce")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return who, fmt.Errorf("the ID token: %w", err)
		}
	}
	said := map[string]any{}
	if err := id.Claims(&said); err != nil {
		return who, fmt.Errorf("the ID token: %w", err)
	}
	if _, ok := said[p.groupsClaim()]; !ok && provider.UserInfoEndpoint() != "" {
		info, err := provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
		if err != nil || info.Subject != id.Subject {
			return who, errors.New("the user info is not to be had, or another's")
		}
		more := map[string]any{}
		if err := info.Claims(&more); err != nil {
			return who, fmt.Errorf("the user info: %w", err)
		}
		for name, v := range more {
			if _, ok := said[name]; !ok {
				said[name] = v
			}
		}
	}
	return p.read(id.Issuer, id.Subject, said), nil
}

func (p *relying) groupsClaim() string {
	if p.GroupsClaim != "" {
		return p.GroupsClaim
	}
	return "groups"
}

// read takes from claims what weir needs.
func (p *relying) read(issuer, subject string, said map[string]any) (who claims) {
	text := func(name string) string { s, _ := said[name].(string); return s }
	who.subject = issuer + " " + subject
	for _, name := range []string{p.UserClaim, "preferred_username", "email"} {
		if who.user == "" && name != "" {
			who.user = text(name)
		}
	}
	if who.user == "" {
		who.user = subject
	}
	who.display = text("name")
	if len(who.display) > maxDisplay || strings.ContainsFunc(who.display, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		who.display = ""
	}
	switch list := said[p.groupsClaim()].(type) {
	case string:
		who.groups = []string{list}
	case []any:
		for _, g := range list[:min(len(list), maxClaimGroups)] {
			if s, ok := g.(string); ok && s != "*" {
				who.groups = append(who.groups, s)
			}
		}
	}
	return who
}

// comeIn signs in whom the provider vouches for: its user is made at the first
// time, and has the roles of its groups from this time on.
func (c *console) comeIn(w http.ResponseWriter, r *http.Request, who claims, to string) {
	roles := c.oidc.rolesOfGroups(who.groups)
	u, known, err := c.Store.UserOf(r.Context(), who.subject)
	switch {
	case err != nil:
		c.failed(w, r, err)
		return
	case known && u.Disabled != 0:
		c.oidcFailed(w, r, "disabled", u.Name, errors.New("the user is disabled"))
		return
	case roles == 0:
		c.oidcFailed(w, r, "no_role", u.Name, errors.New("none of the groups has a role"))
		return
	}
	e := c.entry(w, r, &caller{kind: "provider", id: c.oidc.Issuer, name: c.oidc.Name, address: addressOf(r)}, "user.create", nil, "")
	e.Outcome = "success"
	if known {
		before := u
		u.Display, u.Roles = who.display, roles.Names()
		if !slices.Equal(before.Roles, u.Roles) || before.Display != u.Display {
			e.Action, e.Target, e.Before, e.After = "user.change", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, AuditedUser(&before), AuditedUser(&u)
			err = c.Store.ChangeUser(r.Context(), u, false, "", e)
		}
	} else {
		u = User{Display: who.display, Kind: KindOIDC, Subject: who.subject, Roles: roles.Names(), Creator: c.oidc.Issuer, Created: pipeline.TimeOf(time.Now())}
		err = ErrUserExists
		for n := 1; n < 10 && errors.Is(err, ErrUserExists); n++ {
			u.Name = userNameOf(who.user, n)
			e.Target, e.After = &AuditTarget{Kind: "user", IDs: []string{u.Name}}, AuditedUser(&u)
			err = c.Store.CreateUser(r.Context(), u, e)
		}
	}
	if err == nil {
		_, err = c.startSession(w, r, u, "oidc")
	}
	if err != nil {
		c.failed(w, r, err)
		return
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// userNameOf makes a name of what a provider calls a user; n tells it from others'.
func userNameOf(said string, n int) string {
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && CheckUserName("x"+string(r)) == "" {
			return r
		}
		return '-'
	}, said)
	name = name[:min(len(name), maxUserName-2)]
	if name == "" || name == "-" {
		name = "user"
	}
	if n > 1 {
		name = fmt.Sprint(name, "-", n)
	}
	return name
}
