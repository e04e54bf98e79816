package console

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// caller is who asks.
type caller struct {
	kind     string // token, user, local
	id, name string
	roles    Roles
	text     string // the token or the cookie as it was shown; "" for local
	session  string // of a user: its id
	address  string
	shell    *AuditWho // who has the store's file, and no token; nil
}

// localRoles are what a caller on this machine may do while there are no
// tokens: read what the log on this machine says anyway. It opens no names.
const localRoles = Viewer | Analyst | Engineer | Feed | Auditor

// localID is the reader's name of callers without a token.
const localID = "local"

func (w *caller) local() bool { return w.text == "" }

// key tells callers apart: a user may have the name that a token has as id.
func (w *caller) key() string {
	if w.kind == "user" {
		return "user " + w.id
	}
	return w.id
}

func (w *caller) who() AuditWho {
	if w.shell != nil {
		return *w.shell
	}
	return AuditWho{Kind: w.kind, ID: w.id, Name: w.name, Roles: w.roles.Names()}
}

// handler answers somebody who may ask.
type handler func(w http.ResponseWriter, r *http.Request, who *caller)

// protect makes an http.Handler of rt: it lets through who has one of its roles.
func (c *console) protect(rt route) http.Handler {
	if rt.roles == 0 {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !c.elsewhere(w, rt) {
				rt.handler(w, r, nil)
			}
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.elsewhere(w, rt) {
			return
		}
		who, err := c.authenticate(r)
		var p *problem
		switch {
		case errors.As(err, &p):
			if p.Status == http.StatusUnauthorized {
				challenge := `Bearer realm="weir"`
				if r.Header.Get("Authorization") != "" {
					challenge += `, error="invalid_token"`
				}
				w.Header().Set("WWW-Authenticate", challenge)
			}
			refuse(w, p)
			return
		case err != nil:
			c.failed(w, r, err)
			return
		}
		if who.roles&rt.roles == 0 || rt.noLocal && who.local() {
			c.forbid(w, r, who, rt)
			return
		}
		if who.kind == "user" && !c.fromOurPage(r, who.text) {
			refuse(w, noCSRF())
			return
		}
		if !c.rates.take(w.Header(), who, time.Now()) {
			refuse(w, &problem{Status: http.StatusTooManyRequests, Detail: "too many requests with this token; Retry-After says when to go on"})
			return
		}
		if who.kind != "user" || !strings.HasSuffix(rt.path, "/stream") { // a page that is left open is nobody at work
			c.noteUse(r.Context(), who)
		}
		rt.handler(w, r, who)
	})
}

// elsewhere refuses what another weir answers.
func (c *console) elsewhere(w http.ResponseWriter, rt route) bool {
	if c.Away == nil || !strings.HasPrefix(rt.path, "/api/") {
		return false
	}
	why := c.Away()
	if why == "" {
		return false
	}
	retryAfter(w, 30*time.Second)
	refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: why})
	return true
}

func (c *console) forbid(w http.ResponseWriter, r *http.Request, who *caller, rt route) {
	detail := fmt.Sprintf("this is for the roles %s; the %s has %s", strings.Join(rt.roles.Names(), ", "), who.kind, strings.Join(who.roles.Names(), ", "))
	if who.local() {
		detail = "this is for who signs in, or holds a token; make one with weir user add or weir token create"
	}
	c.recordDenial(r.Context(), c.entry(w, r, who, "access", &AuditTarget{Kind: "route", IDs: []string{rt.method + " " + rt.path}}, "none of the roles"))
	refuse(w, &problem{Status: http.StatusForbidden, Detail: detail})
}

// entry is an audit entry of what who does by r; the outcome is the caller's.
func (c *console) entry(w http.ResponseWriter, r *http.Request, who *caller, action string, target *AuditTarget, reason string) AuditEntry {
	where := AuditWhere{Interface: "api", Address: who.address}
	if who.shell != nil {
		where.Interface = "cli"
	}
	return AuditEntry{
		Time: pipeline.TimeOf(time.Now()), Action: action, Who: who.who(), Where: where,
		Target: target, Reason: reason, RequestID: w.Header().Get(requestID),
	}
}

func addressOf(r *http.Request) string {
	address, _, _ := net.SplitHostPort(r.RemoteAddr)
	return address
}

// authenticate tells who sent r: by its token, else by its cookie. The error is a
// *problem for the caller, or the store's.
func (c *console) authenticate(r *http.Request) (*caller, error) {
	address := addressOf(r)
	header := r.Header.Get("Authorization")
	if header == "" {
		return c.withoutToken(r, address)
	}
	scheme, text, _ := strings.Cut(header, " ")
	refused := &problem{Status: http.StatusUnauthorized, Detail: "this token is not valid"}
	id, ok := idOf(text)
	if !strings.EqualFold(scheme, "Bearer") || !ok {
		c.recordDenial(r.Context(), c.stranger(r, address, "", "no token by its form"))
		return nil, refused
	}
	k, ok, err := c.Store.Token(r.Context(), id)
	if err != nil {
		return nil, err
	}
	var why string
	switch {
	case !ok:
		why = "unknown"
	case subtle.ConstantTimeCompare(c.Pepper.MAC(text), k.MAC) != 1:
		why = "another secret"
	default:
		why = k.fit(time.Now())
	}
	if why != "" {
		c.recordDenial(r.Context(), c.stranger(r, address, id, why))
		return nil, refused
	}
	return &caller{kind: "token", id: k.ID, name: k.Name, roles: rolesOf(k.Roles), text: text, address: address}, nil
}

// withoutToken tells who sent r by its cookie, or because nobody is asked.
func (c *console) withoutToken(r *http.Request, address string) (*caller, error) {
	s, why, err := c.session(r)
	if err != nil {
		return nil, err
	}
	if s != nil {
		return callerOf(s, address), nil
	}
	closed, err := c.closed(r.Context())
	if err != nil {
		return nil, err
	}
	switch {
	case !closed:
		return &caller{kind: "local", id: localID, name: localID, roles: localRoles, address: address}, nil
	case why == "ended" || why == "unknown":
		return nil, &problem{Status: http.StatusUnauthorized, Detail: "the session has ended; sign in again"}
	case why != "":
		c.recordDenial(r.Context(), c.stranger(r, address, "", why))
		return nil, &problem{Status: http.StatusUnauthorized, Detail: "this session is not valid; sign in"}
	}
	return nil, &problem{Status: http.StatusUnauthorized, Detail: "sign in, or show a token: Authorization: Bearer weir_..."}
}

// stranger is the entry of a token that was not taken.
func (c *console) stranger(r *http.Request, address, id, why string) AuditEntry {
	return AuditEntry{
		Time: pipeline.TimeOf(time.Now()), Action: "access", Who: AuditWho{Kind: "none", ID: id}, Where: AuditWhere{Interface: "api", Address: address},
		Target: &AuditTarget{Kind: "route", IDs: []string{r.Method + " " + r.URL.Path}}, Reason: map[bool]string{true: "token: ", false: "session: "}[r.Header.Get("Authorization") != ""] + why,
	}
}

// closed tells whether callers are asked who they are: on loopback from the first
// token or user on that was ever made.
func (c *console) closed(ctx context.Context) (bool, error) {
	if c.Open || c.shut.Load() {
		return true, nil
	}
	has, err := c.Store.HasTokens(ctx)
	if err == nil && !has {
		has, err = c.Store.HasUsers(ctx)
	}
	if has {
		c.shut.Store(true)
	}
	return has, err
}

// still tells whether who may go on, for answers that last.
func (c *console) still(ctx context.Context, who *caller) bool {
	switch who.kind {
	case "local":
		closed, err := c.closed(ctx)
		return err == nil && !closed
	case "user":
		s, _, err := c.sessionOf(ctx, who.text)
		return err == nil && s != nil && rolesOf(s.user.Roles) == who.roles
	}
	k, ok, err := c.Store.Token(ctx, who.id)
	return err == nil && ok && subtle.ConstantTimeCompare(c.Pepper.MAC(who.text), k.MAC) == 1 && k.fit(time.Now()) == ""
}

// uses remembers when the use of a token was last stored.
type uses struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// usesEvery is how exactly the last use of a token is known: each costs a write.
const usesEvery = time.Minute

func (c *console) noteUse(ctx context.Context, who *caller) {
	if who.local() {
		return
	}
	key := who.key() + who.session
	now := time.Now()
	c.uses.mu.Lock()
	due := now.Sub(c.uses.last[key]) >= usesEvery
	if due {
		if len(c.uses.last) >= maxCallers {
			clear(c.uses.last)
		}
		c.uses.last[key] = now
	}
	c.uses.mu.Unlock()
	if !due {
		return
	}
	var err error
	if who.kind == "user" {
		err = c.Store.UseSession(ctx, who.session, pipeline.TimeOf(now))
	} else {
		err = c.Store.UseToken(ctx, who.id, pipeline.TimeOf(now))
	}
	if err != nil && ctx.Err() == nil {
		c.Log.Warn("cannot store the use of a token or session", zap.String("who", who.id), zap.Error(err))
	}
}
