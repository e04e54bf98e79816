package console

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// What a user's name may be.
const (
	maxUserName = 64
	maxDisplay  = 128
)

// CheckUserName says in a phrase why name is none for a user, "" when it is.
func CheckUserName(name string) string {
	if name == "" || len(name) > maxUserName || name == "-" ||
		strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._@+-") != "" {
		return fmt.Sprintf("a user's name has 1 to %d letters, digits and ._@+-", maxUserName)
	}
	return ""
}

// userView is a user as administrators see it.
type userView struct {
	Name     string         `json:"name"`
	Display  string         `json:"display"`
	Kind     string         `json:"kind"`
	Roles    []string       `json:"roles"`
	Disabled bool           `json:"disabled"`
	Created  pipeline.Time  `json:"created"`
	Creator  string         `json:"creator"`
	Seen     *pipeline.Time `json:"seen"`
	Sessions int            `json:"sessions"`
}

func viewOfUser(u *User, sessions int) userView {
	v := userView{Name: u.Name, Display: u.Display, Kind: u.Kind, Roles: namesOf(u.Roles), Disabled: u.Disabled != 0, Created: u.Created, Creator: u.Creator, Sessions: sessions}
	if u.Seen != 0 {
		v.Seen = &u.Seen
	}
	return v
}

// AuditedUser is a user as the audit has it.
func AuditedUser(u *User) any {
	return map[string]any{"kind": u.Kind, "roles": namesOf(u.Roles), "disabled": u.Disabled != 0}
}

// live counts the sessions that hold, by user.
func (c *console) live(ctx context.Context, user string) (list []Session, err error) {
	all, err := c.Store.Sessions(ctx, user)
	now := pipeline.TimeOf(time.Now())
	for _, s := range all {
		if now < min(s.Ends, s.Seen+pipeline.Time(c.idle().Microseconds())) {
			list = append(list, s)
		}
	}
	return list, err
}

// users answers {"data":[...]}.
func (c *console) users(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	users, err := c.Store.Users(r.Context())
	if err != nil {
		return nil, err
	}
	sessions, err := c.live(r.Context(), "")
	if err != nil {
		return nil, err
	}
	of := map[string]int{}
	for _, s := range sessions {
		of[strings.ToLower(s.User)]++
	}
	list := make([]userView, len(users))
	for i := range users {
		list[i] = viewOfUser(&users[i], of[strings.ToLower(users[i].Name)])
	}
	return map[string]any{"data": list}, nil
}

// assignees answers {"data":[NAME...]}: who may be given an alert.
func (c *console) assignees(r *http.Request) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	users, err := c.Store.Users(r.Context())
	names := []string{}
	for i := range users {
		if users[i].Disabled == 0 && rolesOf(users[i].Roles)&(Analyst|Engineer|Admin) != 0 {
			names = append(names, users[i].Name)
		}
	}
	return map[string]any{"data": names}, err
}

// newUserRequest asks for a user with a password.
type newUserRequest struct {
	Name     string   `json:"name"`
	Display  string   `json:"display,omitempty"`
	Roles    []string `json:"roles"`
	Password string   `json:"password"`
}

func unfit(said string) *problem {
	return &problem{Status: http.StatusUnprocessableEntity, Detail: said}
}

// check says what is wrong with q.
func (q *newUserRequest) check() error {
	if said := CheckUserName(q.Name); said != "" {
		return unfit("name: " + said)
	}
	if said := CheckPassword(q.Name, q.Password); said != "" {
		return unfit("password: " + said)
	}
	if len(q.Display) > maxDisplay || strings.ContainsFunc(q.Display, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return unfit(fmt.Sprintf("display: a name on one line, at most %d bytes", maxDisplay))
	}
	if _, err := ParseRoles(q.Roles); err != nil {
		return unfit("roles: " + err.Error())
	}
	return nil
}

func (c *console) createUser(w http.ResponseWriter, r *http.Request, who *caller) {
	var q newUserRequest
	err := readWhole(r, &q)
	if err == nil {
		err = q.check()
	}
	var u User
	if err == nil {
		u = User{Name: q.Name, Display: q.Display, Kind: KindLocal, Roles: rolesOf(q.Roles).Names(), Creator: who.name, Created: pipeline.TimeOf(time.Now())}
		u.Hash, err = c.hashPassword(r.Context(), q.Password)
	}
	if err == nil {
		e := c.entry(w, r, who, "user.create", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, "")
		e.Outcome, e.After = "success", AuditedUser(&u)
		err = c.Store.CreateUser(r.Context(), u, e)
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	answer(w, http.StatusCreated, viewOfUser(&u, 0))
}

// hashPassword is HashPassword when it has its turn.
func (c *console) hashPassword(ctx context.Context, password string) (string, error) {
	select {
	case c.hashing <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-c.hashing }()
	return HashPassword(password), nil
}

// accountProblem says for a caller what a change of accounts did not do.
func accountProblem(err error) error {
	for refusal, status := range map[error]int{
		ErrNoUser: http.StatusNotFound, ErrNoSession: http.StatusNotFound, ErrUserExists: http.StatusConflict,
		ErrLastAdmin: http.StatusConflict, ErrFirst: http.StatusUnauthorized,
	} {
		if errors.Is(err, refusal) {
			return &problem{Status: status, Detail: refusal.Error()}
		}
	}
	return err
}

// readWhole reads a body and refuses a query.
func readWhole(r *http.Request, v any) error {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return err
	}
	return readBody(r, v)
}

// userChange asks for a change of a user; what is absent stays.
type userChange struct {
	Display  *string   `json:"display,omitempty"`
	Roles    *[]string `json:"roles,omitempty"`
	Disabled *bool     `json:"disabled,omitempty"`
	Password *string   `json:"password,omitempty"`
}

// apply returns u after q, and whether its sessions end.
func (q *userChange) apply(ctx context.Context, c *console, u User) (_ User, end bool, err error) {
	check := newUserRequest{Name: u.Name, Display: u.Display, Roles: u.Roles, Password: strings.Repeat("a password ", 3)}
	if q.Display != nil {
		check.Display = *q.Display
	}
	if q.Roles != nil {
		if u.Kind != KindLocal {
			return u, false, unfit("roles: this user's come from its groups at the provider")
		}
		check.Roles = *q.Roles
	}
	if q.Password != nil {
		if u.Kind != KindLocal {
			return u, false, unfit("password: this user's is kept by the provider that vouches for it")
		}
		check.Password = *q.Password
	}
	if err := check.check(); err != nil {
		return u, false, err
	}
	u.Display, u.Roles = check.Display, rolesOf(check.Roles).Names()
	if q.Disabled != nil && *q.Disabled != (u.Disabled != 0) {
		u.Disabled = 0
		if *q.Disabled {
			u.Disabled = pipeline.TimeOf(time.Now())
			end = true
		}
	}
	if q.Password != nil {
		u.Hash, err = c.hashPassword(ctx, *q.Password)
		end = true
	}
	return u, end, err
}

func (c *console) changeUser(w http.ResponseWriter, r *http.Request, who *caller) {
	var q userChange
	err := readWhole(r, &q)
	if err == nil && q == (userChange{}) {
		err = &problem{Status: http.StatusBadRequest, Detail: "there is nothing to change: give display, roles, disabled or password"}
	}
	var u User
	if err == nil {
		u, err = c.userNamed(r.Context(), r.PathValue("name"))
	}
	if err == nil {
		e := c.entry(w, r, who, "user.change", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, "")
		e.Outcome, e.Before = "success", AuditedUser(&u)
		var end bool
		if u, end, err = q.apply(r.Context(), c, u); err == nil {
			e.After = AuditedUser(&u)
			if q.Password != nil {
				e.Action = "user.password"
			}
			err = c.Store.ChangeUser(r.Context(), u, end, "", e)
		}
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	list, err := c.live(r.Context(), u.Name)
	if err != nil {
		c.failed(w, r, err)
		return
	}
	answer(w, http.StatusOK, viewOfUser(&u, len(list)))
}

func (c *console) userNamed(ctx context.Context, name string) (User, error) {
	u, ok, err := c.Store.User(ctx, name)
	if err == nil && !ok {
		err = ErrNoUser
	}
	return u, err
}

// passwordRequest changes one's own password.
type passwordRequest struct {
	Old string `json:"old"`
	New string `json:"new"`
}

// changePassword is for a user's own, who shows the old one: a browser that was
// left open is not enough.
func (c *console) changePassword(w http.ResponseWriter, r *http.Request, who *caller) {
	var q passwordRequest
	err := readWhole(r, &q)
	if err == nil && who.kind != "user" {
		err = &problem{Status: http.StatusForbidden, Detail: "this is for users with a password, in their session"}
	}
	var u User
	if err == nil {
		u, err = c.userNamed(r.Context(), who.id)
	}
	if err == nil && u.Kind != KindLocal {
		err = unfit("this user's password is kept by the provider that vouches for it")
	}
	if said := CheckPassword(u.Name, q.New); err == nil && said != "" {
		err = unfit("new: " + said)
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	now, keys := time.Now(), ofPassword(u.Name, who.address)
	if c.mustWait(w, keys, now) {
		return
	}
	c.attempts.failed(keys, now)
	ok, _, err := c.checkPassword(r.Context(), u.Hash, q.Old)
	if err == nil && !ok {
		c.recordDenial(r.Context(), c.entry(w, r, who, "user.password", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, "another password"))
		err = unfit("old: the password is wrong")
	}
	if err == nil {
		c.attempts.good(keys)
		u.Hash, err = c.hashPassword(r.Context(), q.New)
	}
	if err == nil {
		e := c.entry(w, r, who, "user.password", &AuditTarget{Kind: "user", IDs: []string{u.Name}}, "")
		e.Outcome = "success"
		err = c.Store.ChangeUser(r.Context(), u, true, who.session, e)
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// sessionRow is a session in a list.
type sessionRow struct {
	ID      string        `json:"id"`
	User    string        `json:"user"`
	Created pipeline.Time `json:"created"`
	Seen    pipeline.Time `json:"seen"`
	Ends    pipeline.Time `json:"ends"`
	Address string        `json:"address"`
	Agent   string        `json:"agent"`
	Current bool          `json:"current"`
}

// sessions answers {"data":[...]}: one's own, to administrators and auditors all.
func (c *console) sessions(r *http.Request, who *caller) (any, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	list := []sessionRow{}
	if who.roles&(Admin|Auditor) == 0 && who.kind != "user" {
		return map[string]any{"data": list}, nil
	}
	of := who.id
	if who.roles&(Admin|Auditor) != 0 {
		of = ""
	}
	stored, err := c.live(r.Context(), of)
	for _, s := range stored {
		list = append(list, sessionRow{s.ID, s.User, s.Created, s.Seen, s.Ends, s.Address, s.Agent, s.ID == who.session})
	}
	return map[string]any{"data": list}, err
}

// revokeSession ends one's own session, or as administrator any.
func (c *console) revokeSession(w http.ResponseWriter, r *http.Request, who *caller) {
	err := newQuery(r.URL.RawQuery).err()
	id := r.PathValue("id")
	if err == nil {
		var s Session
		var ok bool
		s, ok, err = c.Store.Session(r.Context(), id)
		own := who.kind == "user" && strings.EqualFold(s.User, who.id)
		if err == nil && (!ok || !own && who.roles&Admin == 0) {
			err = ErrNoSession
		}
		if err == nil {
			e := c.entry(w, r, who, "session.end", &AuditTarget{Kind: "session", IDs: []string{id}}, "revoked")
			e.Outcome, e.After = "success", map[string]string{"user": s.User}
			err = c.Store.EndSession(r.Context(), id, e)
		}
	}
	if err != nil {
		c.refuseFor(w, r, accountProblem(err))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// meView is who asks, and what a page may show them.
type meView struct {
	Kind  string   `json:"kind"`
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
	May   []string `json:"may"`
}

func (c *console) me(r *http.Request, who *caller) (any, error) {
	v := meView{Kind: who.kind, ID: who.id, Name: who.name, Roles: who.roles.Names(), May: []string{}}
	const people, triagers = Viewer | Analyst | Engineer | Admin, Analyst | Engineer | Admin
	for _, m := range []struct {
		word    string
		roles   Roles
		changes bool // not for who was asked for nothing
	}{
		{"alerts", people, false},
		{"detectors", people, false},
		{"system", people | Auditor, false},
		{"requests", triagers, false},
		{"triage", triagers, true},
		{"reveal", triagers, true},
		{"suppress", triagers, true},
		{"backtest", triagers, true},
		{"config", Engineer | Admin, true},
		{"users", Admin, true},
		{"tokens", Admin, true},
		{"audit", Admin | Auditor, false},
	} {
		if who.roles&m.roles != 0 && (!m.changes || !who.local()) {
			v.May = append(v.May, m.word)
		}
	}
	slices.Sort(v.May)
	return v, newQuery(r.URL.RawQuery).err()
}
