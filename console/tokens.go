package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

	"weir/pipeline"
)

// ErrNoToken is wrapped by the error of Store.RevokeToken for a token that is not
// stored.
var ErrNoToken = errors.New("no such token")

// What tokens may be.
const (
	tokenYears   = 10
	tokenDays    = 365  // how long one lasts that says nothing
	maxTokenName = 64   // bytes
	maxTokens    = 1000 // that hold, made by the API
	maxMinted    = 20   // made or revoked by the API at once, and then one every
	mintedEvery  = 30e9 // nanoseconds
	neverExpires = "never"
)

// CheckTokenName says what is wrong with what people call a token, nil for
// nothing.
func CheckTokenName(name string) error {
	if name == "" || len(name) > maxTokenName || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("give it a name of at most %d characters on one line", maxTokenName)
	}
	return nil
}

// TokenAudit is a token as the audit has it.
type TokenAudit struct {
	Name    string        `json:"name"`
	Roles   []string      `json:"roles"`
	Expires pipeline.Time `json:"expires"`
	Revoked bool          `json:"revoked"`
}

// Audited is k as the audit has it.
func (k *Token) Audited() TokenAudit { return TokenAudit{k.Name, k.Roles, k.Expires, k.Revoked != 0} }

// tokenView is a token as the API shows it.
type tokenView struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Roles    []string       `json:"roles"`
	Creator  string         `json:"creator"`
	Created  pipeline.Time  `json:"created"`
	Expires  *pipeline.Time `json:"expires"`   // null: never
	LastUsed *pipeline.Time `json:"last_used"` // null: never; within a minute or so
	Revoked  *pipeline.Time `json:"revoked"`   // null: it is not
	Usable   bool           `json:"usable"`
}

func (k *Token) view(now time.Time) tokenView {
	known := func(t pipeline.Time) *pipeline.Time {
		if t == 0 {
			return nil
		}
		return &t
	}
	return tokenView{k.ID, k.Name, k.Roles, k.Creator, k.Created, known(k.Expires), known(k.Used), known(k.Revoked), k.fit(now) == ""}
}

// tokenMade is the answer that shows a new token, this once.
type tokenMade struct {
	Token string `json:"token"`
	tokenView
}

// tokenRequest asks for a token.
type tokenRequest struct {
	Name    string   `json:"name"`
	Roles   []string `json:"roles"`
	Expires string   `json:"expires,omitempty"` // RFC 3339, or never
}

// listTokens answers {"data":[...]}: all tokens, the oldest first.
func (c *console) listTokens(r *http.Request) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	list, err := c.Store.Tokens(r.Context())
	if err != nil {
		return nil, err
	}
	now, views := time.Now(), make([]tokenView, len(list))
	for i := range list {
		views[i] = list[i].view(now)
	}
	return jsonLine(map[string]any{"data": views})
}

// createToken makes a token and shows it. It and its entry in the audit are
// stored together or not at all.
func (c *console) createToken(w http.ResponseWriter, r *http.Request, who *caller) {
	made, err := c.mint(w, r, who)
	var body []byte
	if err == nil {
		body, err = jsonLine(made)
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	w.Header().Set("Location", "/api/v1/tokens/"+made.ID)
	write(w, http.StatusCreated, "application/json", body)
}

func (c *console) mint(w http.ResponseWriter, r *http.Request, who *caller) (made *tokenMade, err error) {
	now := time.Now()
	k, err := readToken(r, now)
	if err != nil {
		return nil, err
	}
	if err := c.mayMint(w, now); err != nil {
		return nil, err
	}
	list, err := c.Store.Tokens(r.Context())
	if err != nil {
		return nil, err
	}
	usable := 0
	for i := range list {
		if list[i].fit(now) == "" {
			usable++
		}
	}
	if usable >= maxTokens {
		return nil, &problem{Status: http.StatusConflict, Detail: fmt.Sprintf("there are %d tokens; revoke some", usable)}
	}
	text, id := NewToken()
	k.ID, k.MAC, k.Creator, k.Created = id, c.Pepper.MAC(text), who.name, pipeline.TimeOf(now)
	e := c.entry(w, r, who, "token.create", &AuditTarget{Kind: "token", IDs: []string{id}}, "")
	e.Outcome, e.After = "success", k.Audited()
	entry, err := e.JSON()
	if err == nil {
		err = c.Store.CreateToken(r.Context(), k, e.Time, entry)
	}
	return &tokenMade{text, k.view(now)}, err
}

// mayMint bounds how many tokens are made and revoked: each is a row in the
// audit, which is kept for years.
func (c *console) mayMint(w http.ResponseWriter, now time.Time) error {
	if ok, _ := c.minted.admit(now); ok {
		return nil
	}
	w.Header().Set("Retry-After", fmt.Sprint(int(time.Duration(mintedEvery)/time.Second)))
	return &problem{Status: http.StatusTooManyRequests, Detail: "too many tokens were made or revoked in a short time"}
}

// readToken reads and checks the body; the error is a *problem.
func readToken(r *http.Request, now time.Time) (k Token, err error) {
	bad := func(format string, args ...any) (Token, error) {
		return k, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return k, err
	}
	var q tokenRequest
	if err := readBody(r, &q); err != nil {
		return k, err
	}
	if err := CheckTokenName(q.Name); err != nil {
		return bad("name: %v", err)
	}
	roles, err := ParseRoles(q.Roles)
	if err != nil {
		return bad("roles: %v", err)
	}
	k.Name, k.Roles, k.Expires = q.Name, roles.Names(), pipeline.TimeOf(now.AddDate(0, 0, tokenDays))
	switch q.Expires {
	case "":
	case neverExpires:
		k.Expires = 0
	default:
		t, err := time.Parse(time.RFC3339, q.Expires)
		if err != nil || !t.After(now) || t.After(now.AddDate(tokenYears, 0, 0)) {
			return bad("expires: %s; want RFC 3339, in the future and within %d years, or %s", quote(q.Expires), tokenYears, neverExpires)
		}
		k.Expires = pipeline.TimeOf(t)
	}
	return k, nil
}

// revokeToken ends a token and answers with it. One that was revoked before stays
// as it is.
func (c *console) revokeToken(w http.ResponseWriter, r *http.Request, who *caller) {
	body, err := c.revoke(w, r, who)
	if errors.Is(err, ErrNoToken) {
		err = &problem{Status: http.StatusNotFound, Detail: "no token has this id"}
	}
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", body)
}

func (c *console) revoke(w http.ResponseWriter, r *http.Request, who *caller) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	id, now := r.PathValue("id"), time.Now()
	k, ok, err := c.Store.Token(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNoToken
	}
	if k.Revoked == 0 {
		if err := c.mayMint(w, now); err != nil {
			return nil, err
		}
		e := c.entry(w, r, who, "token.revoke", &AuditTarget{Kind: "token", IDs: []string{id}}, "")
		e.Outcome, e.Before = "success", k.Audited()
		k.Revoked = pipeline.TimeOf(now)
		e.After = k.Audited()
		entry, err := e.JSON()
		if err == nil {
			err = c.Store.RevokeToken(r.Context(), id, k.Revoked, entry)
		}
		if err != nil {
			return nil, err
		}
	}
	return jsonLine(k.view(now))
}

// jsonLine is v as an answer.
func jsonLine(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	return appendPrintable(nil, append(body, '\n')), err
}
