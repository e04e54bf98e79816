package console

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"time"

	"weir/pipeline"
)

// FirstEnds is how long the link for the first administrator holds.
const FirstEnds = time.Hour

// NewFirst makes the link's secret: text is for who started weir alone, mac is
// what is stored.
func (p *Pepper) NewFirst() (text string, mac []byte) {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails
	text = base64.RawURLEncoding.EncodeToString(random[:])
	return text, p.sum("first", []byte(text))
}

// firstRequest makes the first administrator.
type firstRequest struct {
	Token    string `json:"token"`
	User     string `json:"user"`
	Password string `json:"password"`
}

// first answers the link's secret, once, with the session of a new administrator.
func (c *console) first(w http.ResponseWriter, r *http.Request, _ *caller) {
	var q firstRequest
	err := readWhole(r, &q)
	now, address := time.Now(), addressOf(r)
	keys := ofPassword("the first", address)
	if err == nil && c.mustWait(w, keys, now) {
		return
	}
	if err == nil {
		check := newUserRequest{Name: q.User, Roles: Admin.Names(), Password: q.Password}
		err = check.check()
	}
	if err == nil {
		var out bool
		// Only a link that is out is worth the cost of a password.
		if out, err = c.Store.HasFirst(r.Context(), pipeline.TimeOf(now)); err == nil && !out {
			err = ErrFirst
		}
	}
	var u User
	if err == nil {
		c.attempts.failed(keys, now)
		u = User{Name: q.User, Kind: KindLocal, Roles: Admin.Names(), Creator: "first link", Created: pipeline.TimeOf(now), Seen: pipeline.TimeOf(now)}
		u.Hash, err = c.hashPassword(r.Context(), q.Password)
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	s, text := c.newSession(r, u.Name, now)
	in := &signedIn{s, u, text}
	e := c.entry(w, r, callerOf(in, address), "user.create", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, "the first administrator")
	e.Outcome, e.After = "success", AuditedUser(&u)
	if err := c.Store.UseFirst(r.Context(), c.Pepper.sum("first", []byte(q.Token)), u, s, e); err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	c.attempts.good(keys)
	c.shut.Store(true)
	setCookie(w, r, text)
	c.answerSession(w, r, in)
}
