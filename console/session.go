package console

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// The cookie of a session is ID_SECRET, as a token's: the id is what it is looked
// up by, the secret has 256 random bits. Over TLS its name says that no other host
// and no plain answer set it.
const (
	cookiePlain  = "weir"
	cookieSecure = "__Host-weir"
	cookieLength = tokenID + 1 + tokenSecret
	csrfHeader   = "X-CSRF-Token"
	maxAgent     = 200 // bytes kept of a browser's name
)

// SessionConfig says how long a browser stays signed in.
type SessionConfig struct {
	Idle     Duration `yaml:"idle,omitempty"`     // without a request
	Absolute Duration `yaml:"absolute,omitempty"` // at most
}

// Duration is a time.Duration written as 90s, 30m or 7d.
type Duration time.Duration

// UnmarshalText reads such a form.
func (d *Duration) UnmarshalText(b []byte) error {
	text := string(b)
	if n, ok := strings.CutSuffix(text, "d"); ok {
		days, err := strconv.Atoi(n)
		if err != nil || days < 0 || days > 36500 {
			return fmt.Errorf("read duration %q: want a form like 90s, 30m or 7d", text)
		}
		*d = Duration(days) * Duration(24*time.Hour)
		return nil
	}
	v, err := time.ParseDuration(text)
	if err != nil || v < 0 {
		return fmt.Errorf("read duration %q: want a form like 90s, 30m or 7d", text)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it.
func (d Duration) MarshalText() ([]byte, error) {
	text := strings.TrimSuffix(time.Duration(d).String(), "m0s")
	if len(text) < len(time.Duration(d).String()) {
		text = strings.TrimSuffix(text+"m", "h0m")
		if !strings.HasSuffix(text, "m") {
			text += "h"
		}
	}
	return []byte(text), nil
}

func (s SessionConfig) validate() error {
	idle, absolute := s.Idle, s.Absolute
	if idle == 0 {
		idle = Duration(defaultIdle)
	}
	if absolute == 0 {
		absolute = Duration(defaultAbsolute)
	}
	if idle < Duration(2*time.Minute) || absolute < idle || absolute > Duration(31*24*time.Hour) {
		return errors.New("console.sessions: want idle of 2m or more, and absolute from that to 31d")
	}
	return nil
}

// Idle and absolute ends where none are configured.
const (
	defaultIdle     = 30 * time.Minute
	defaultAbsolute = 12 * time.Hour
)

func (c *console) idle() time.Duration {
	if c.Sessions.Idle > 0 {
		return time.Duration(c.Sessions.Idle)
	}
	return defaultIdle
}

func (c *console) absolute() time.Duration {
	if c.Sessions.Absolute > 0 {
		return time.Duration(c.Sessions.Absolute)
	}
	return defaultAbsolute
}

// secure tells whether a browser came by TLS, to weir or to what stands in front
// of it: who lies about that spoils its own cookie.
func secure(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

func cookieName(r *http.Request) string {
	if secure(r) {
		return cookieSecure
	}
	return cookiePlain
}

// setCookie gives a browser its session, or takes it for "".
func setCookie(w http.ResponseWriter, r *http.Request, text string) {
	k := &http.Cookie{Name: cookieName(r), Value: text, Path: "/", HttpOnly: true, Secure: secure(r), SameSite: http.SameSiteStrictMode}
	if text == "" {
		k.MaxAge = -1
	}
	http.SetCookie(w, k)
}

// newSession makes a session for a user; text is its cookie.
func (c *console) newSession(r *http.Request, user string, now time.Time) (s Session, text string) {
	var random [32 + 7]byte
	_, _ = rand.Read(random[:]) // never fails
	s.ID = strings.ToLower(base32.StdEncoding.EncodeToString(random[32:]))[:tokenID]
	text = s.ID + "_" + base64.RawURLEncoding.EncodeToString(random[:32])
	agent := strings.ToValidUTF8(r.UserAgent(), "")
	s.MAC, s.User, s.Address, s.Agent = c.Pepper.sum("session", []byte(text)), user, addressOf(r), strings.ToValidUTF8(agent[:min(len(agent), maxAgent)], "")
	s.Created, s.Seen, s.Ends = pipeline.TimeOf(now), pipeline.TimeOf(now), pipeline.TimeOf(now.Add(c.absolute()))
	return s, text
}

// csrf is what a page of ours shows with its requests and no other page knows.
func (c *console) csrf(text string) string {
	return base64.RawURLEncoding.EncodeToString(c.Pepper.sum("csrf", []byte(text))[:24])
}

// signedIn is a session that holds, and whose.
type signedIn struct {
	Session
	user User
	text string
}

// session returns the session of r's cookie, nil without one that holds; why says
// what is wrong with one that does not.
func (c *console) session(r *http.Request) (s *signedIn, why string, err error) {
	k, err := r.Cookie(cookieName(r))
	if err != nil || k.Value == "" {
		return nil, "", nil
	}
	return c.sessionOf(r.Context(), k.Value)
}

func (c *console) sessionOf(ctx context.Context, text string) (s *signedIn, why string, err error) {
	if len(text) != cookieLength || text[tokenID] != '_' {
		return nil, "no session by its form", nil
	}
	stored, ok, err := c.Store.Session(ctx, text[:tokenID])
	switch now := pipeline.TimeOf(time.Now()); {
	case err != nil:
		return nil, "", err
	case !ok:
		return nil, "unknown", nil
	case subtle.ConstantTimeCompare(c.Pepper.sum("session", []byte(text)), stored.MAC) != 1:
		return nil, "another secret", nil
	case now >= min(stored.Ends, stored.Seen+pipeline.Time(c.idle().Microseconds())):
		return nil, "ended", nil
	}
	user, ok, err := c.Store.User(ctx, stored.User)
	if err != nil {
		return nil, "", err
	}
	if !ok || user.Disabled != 0 {
		return nil, "of nobody", nil
	}
	return &signedIn{stored, user, text}, "", nil
}

// callerOf is who asks with s.
func callerOf(s *signedIn, address string) *caller {
	return &caller{kind: "user", id: s.user.Name, name: s.user.Name, roles: rolesOf(s.user.Roles), text: s.text, session: s.ID, address: address}
}

// fromOurPage tells whether r shows what only a page of ours knows, where it has
// to.
func (c *console) fromOurPage(r *http.Request, text string) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead ||
		subtle.ConstantTimeCompare([]byte(r.Header.Get(csrfHeader)), []byte(c.csrf(text))) == 1
}

func noCSRF() *problem {
	return &problem{Status: http.StatusForbidden, Detail: csrfHeader + " does not have what GET /api/v1/session gives as csrf"}
}

// sessionView is a session as its browser sees it.
type sessionView struct {
	ID       string        `json:"id"`
	User     string        `json:"user"`
	Display  string        `json:"display"`
	Kind     string        `json:"kind"`
	Roles    []string      `json:"roles"`
	CSRF     string        `json:"csrf"`
	Created  pipeline.Time `json:"created"`
	Seen     pipeline.Time `json:"seen"`
	IdleEnds pipeline.Time `json:"idle_ends"`
	Ends     pipeline.Time `json:"ends"`
}

// sessionState is what a page needs to know before anybody signs in, and after.
type sessionState struct {
	Session  *sessionView  `json:"session"`
	Local    bool          `json:"local"` // who is on this machine reads without
	First    bool          `json:"first"` // the first administrator is to come by a link
	Ways     sessionWays   `json:"ways"`
	Password passwordRules `json:"password"`
}

type sessionWays struct {
	Password bool     `json:"password"`
	OIDC     *oidcWay `json:"oidc"`
}

type oidcWay struct {
	Name string `json:"name"`
	Href string `json:"href"`
}

type passwordRules struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

func (c *console) sessionState(ctx context.Context, s *signedIn) (v sessionState, err error) {
	v = sessionState{Ways: sessionWays{Password: true}, Password: passwordRules{minPassword, maxPassword}}
	if c.oidc != nil {
		v.Ways.OIDC = &oidcWay{cmp.Or(c.oidc.Name, "Single sign-on"), oidcPath}
	}
	closed, err := c.closed(ctx)
	if err != nil {
		return v, err
	}
	v.Local = !closed
	if v.First, err = c.Store.HasFirst(ctx, pipeline.TimeOf(time.Now())); err != nil || s == nil {
		return v, err
	}
	v.Session = &sessionView{
		ID: s.ID, User: s.user.Name, Display: s.user.Display, Kind: s.user.Kind, Roles: namesOf(s.user.Roles), CSRF: c.csrf(s.text),
		Created: s.Created, Seen: s.Seen, IdleEnds: min(s.Ends, s.Seen+pipeline.Time(c.idle().Microseconds())), Ends: s.Ends,
	}
	return v, nil
}

// namesOf are the stored roles that this weir knows.
func namesOf(stored []string) []string {
	names := rolesOf(stored).Names()
	if names == nil {
		names = []string{}
	}
	return names
}

func (c *console) answerSession(w http.ResponseWriter, r *http.Request, s *signedIn) {
	v, err := c.sessionState(r.Context(), s)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, v)
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("BUG: an answer is no JSON: " + err.Error())
	}
	write(w, status, "application/json", appendPrintable(nil, append(body, '\n')))
}

// showSession answers who is signed in, and how to.
func (c *console) showSession(w http.ResponseWriter, r *http.Request, _ *caller) {
	err := newQuery(r.URL.RawQuery).err()
	var s *signedIn
	if err == nil {
		s, _, err = c.session(r)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	c.answerSession(w, r, s)
}

// signInRequest is what somebody shows to come in.
type signInRequest struct {
	User     string `json:"user"`
	Password string `json:"password"`
}

// signIn answers a name and its password with a session. A name that is not there
// takes as long as a wrong password, and says the same.
func (c *console) signIn(w http.ResponseWriter, r *http.Request, _ *caller) {
	var q signInRequest
	err := readBody(r, &q)
	if err == nil {
		err = newQuery(r.URL.RawQuery).err()
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	now, address := time.Now(), addressOf(r)
	keys := ofPassword(q.User, address)
	if c.mustWait(w, keys, now) {
		return
	}
	c.attempts.failed(keys, now)
	u, known, err := c.Store.User(r.Context(), q.User)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	usable := known && u.Disabled == 0 && u.Kind == KindLocal
	hash := ""
	if usable {
		hash = u.Hash
	}
	ok, stale, err := c.checkPassword(r.Context(), hash, q.Password)
	if err != nil {
		c.busy(w)
		return
	}
	if !ok || !usable {
		name := "" // what was typed may be a password
		if known {
			name = u.Name
		}
		c.recordDenial(r.Context(), AuditEntry{
			Time: pipeline.TimeOf(now), Action: "session.create", Who: AuditWho{Kind: "none", Name: name}, Where: AuditWhere{Interface: "api", Address: address},
			Reason: signInReason(known, u), RequestID: w.Header().Get(requestID),
		})
		refuse(w, &problem{Status: http.StatusUnauthorized, Detail: "the user or the password is wrong"})
		return
	}
	c.attempts.good(keys)
	if stale {
		c.rehash(r.Context(), u, q.Password, address)
	}
	s, err := c.startSession(w, r, u, "password")
	if err != nil {
		c.failed(w, r, err)
		return
	}
	c.answerSession(w, r, s)
}

func signInReason(known bool, u User) string {
	switch {
	case !known:
		return "no such user"
	case u.Disabled != 0:
		return "the user is disabled"
	case u.Kind != KindLocal:
		return "the user has no password here"
	}
	return "another password"
}

// mustWait refuses who guesses.
func (c *console) mustWait(w http.ResponseWriter, keys []attemptKey, now time.Time) bool {
	wait := c.attempts.wait(keys, now)
	if wait <= 0 {
		return false
	}
	retryAfter(w, wait)
	refuse(w, &problem{Status: http.StatusTooManyRequests, Detail: "too many wrong passwords; Retry-After says when to try again"})
	return true
}

// rehash keeps a password as new ones are kept. It can wait for the next time.
func (c *console) rehash(ctx context.Context, u User, password, address string) {
	u.Hash = HashPassword(password)
	e := AuditEntry{
		Time: pipeline.TimeOf(time.Now()), Action: "user.rehash", Outcome: "success", Who: AuditWho{Kind: "user", ID: u.Name, Name: u.Name, Roles: namesOf(u.Roles)},
		Where: AuditWhere{Interface: "api", Address: address}, Target: &AuditTarget{Kind: "user", IDs: []string{u.Name}},
	}
	if err := c.Store.ChangeUser(ctx, u, false, "", e); err != nil {
		c.Log.Warn("cannot keep a password as new ones are kept", zap.Error(err))
	}
}

// startSession signs u in; an earlier session of this browser ends.
func (c *console) startSession(w http.ResponseWriter, r *http.Request, u User, how string) (*signedIn, error) {
	if old, _, err := c.session(r); err == nil && old != nil {
		if err := c.endSession(w, r, old, "signs in anew"); err != nil {
			return nil, err
		}
	}
	s, text := c.newSession(r, u.Name, time.Now())
	in := &signedIn{s, u, text}
	e := c.entry(w, r, callerOf(in, s.Address), "session.create", &AuditTarget{Kind: "session", IDs: []string{s.ID}}, "")
	e.Outcome, e.After = "success", map[string]string{"by": how}
	if err := c.Store.CreateSession(r.Context(), s, e); err != nil {
		return nil, err
	}
	c.shut.Store(true)
	setCookie(w, r, text)
	return in, nil
}

func (c *console) endSession(w http.ResponseWriter, r *http.Request, s *signedIn, why string) error {
	e := c.entry(w, r, callerOf(s, addressOf(r)), "session.end", &AuditTarget{Kind: "session", IDs: []string{s.ID}}, why)
	e.Outcome = "success"
	if err := c.Store.EndSession(r.Context(), s.ID, e); err != nil && !errors.Is(err, ErrNoSession) {
		return err
	}
	return nil
}

// signOut ends the session of this browser.
func (c *console) signOut(w http.ResponseWriter, r *http.Request, _ *caller) {
	err := newQuery(r.URL.RawQuery).err()
	var s *signedIn
	if err == nil {
		s, _, err = c.session(r)
	}
	if err == nil && s != nil && !c.fromOurPage(r, s.text) {
		err = noCSRF()
	}
	if err == nil && s != nil {
		err = c.endSession(w, r, s, "")
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	setCookie(w, r, "")
	w.WriteHeader(http.StatusNoContent)
}
