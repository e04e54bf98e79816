package console

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a reveal may ask for.
const (
	maxReveal            = 200
	minReason, maxReason = 8, 500
	maxAccount, maxAlert = 1024, 64 // bytes of a token and of an alert's id
)

// revealRequest asks for the names behind accounts' tokens.
type revealRequest struct {
	Tokens []string `json:"tokens"`
	Reason string   `json:"reason"`
	Alert  string   `json:"alert,omitempty"` // the alert that it is for
}

// revealed is one answer: null where a token opens to nothing.
type revealed struct {
	Token string  `json:"token"`
	Name  *string `json:"name"`
}

// reveal answers {"data":[{"token","name"}...]}. The audit has who asked for which
// tokens and why before anybody sees a name; without the audit there is no answer.
func (c *console) reveal(w http.ResponseWriter, r *http.Request, who *caller) {
	q, err := readReveal(r)
	if err != nil {
		c.refuseFor(w, r, err)
		return
	}
	e := c.entry(w, r, who, "names.reveal", &AuditTarget{Kind: "account", IDs: q.Tokens}, q.Reason)
	e.Outcome = "success"
	if q.Alert != "" {
		e.After = map[string]string{"alert": q.Alert}
	}
	if err := c.record(r.Context(), e); err != nil {
		c.failed(w, r, fmt.Errorf("names stay closed: %w", err))
		return
	}
	list := make([]revealed, len(q.Tokens))
	for i, token := range q.Tokens {
		list[i].Token = token
		if name, ok := c.Names(token); ok {
			list[i].Name = &name
		}
	}
	body, err := json.Marshal(map[string]any{"data": list})
	if err != nil {
		c.failed(w, r, err)
		return
	}
	write(w, http.StatusOK, "application/json", appendPrintable(nil, append(body, '\n')))
}

// readReveal reads and checks the body; the error is a *problem.
func readReveal(r *http.Request) (q revealRequest, err error) {
	bad := func(format string, args ...any) (revealRequest, error) {
		return q, &problem{Status: http.StatusBadRequest, Detail: fmt.Sprintf(format, args...)}
	}
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return q, err
	}
	if err := readBody(r, &q); err != nil {
		return q, err
	}
	q.Reason = strings.TrimSpace(q.Reason)
	switch n := utf8.RuneCountInString(q.Reason); {
	case len(q.Tokens) == 0 || len(q.Tokens) > maxReveal:
		return bad("tokens: give 1 to %d", maxReveal)
	case n < minReason || n > maxReason || strings.ContainsFunc(q.Reason, unicode.IsControl):
		return bad("reason: say why in %d to %d characters on one line", minReason, maxReason)
	case len(q.Alert) > maxAlert:
		return bad("alert: an id has at most %d characters", maxAlert)
	}
	if i := slices.IndexFunc(q.Tokens, func(s string) bool { return !strings.HasPrefix(s, "u_") || len(s) > maxAccount }); i >= 0 {
		return bad("tokens: %s is no account's token (u_...)", quote(q.Tokens[i]))
	}
	return q, nil
}

// readBody reads the one JSON value of r's body into v, every member of which v
// names; the error is a *problem.
func readBody(r *http.Request, v any) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "the body must be application/json"}
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	if large, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", large.Limit)}
	}
	return &problem{Status: http.StatusBadRequest, Detail: "read the body: " + quote(err.Error())}
}
