package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"weir/pipeline"
)

// alert answers {"data":[...],"more":BOOL,"proposed_suppression"}: all revisions, the
// first one first, and the smallest suppression that would have covered it.
func (c *console) alert(r *http.Request) ([]byte, error) {
	if err := newQuery(r.URL.RawQuery).err(); err != nil {
		return nil, err
	}
	list, err := c.Store.Alert(r.Context(), r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, &problem{Status: http.StatusNotFound, Detail: "no alert has this id"}
	}
	var a pipeline.Alert
	if err := json.Unmarshal(list[len(list)-1].JSON, &a); err != nil {
		return nil, fmt.Errorf("read an alert: %w", err)
	}
	proposed, err := json.Marshal(propose(&a, ""))
	if err != nil {
		return nil, err
	}
	out, n := appendAlerts([]byte(`{"data":[`), list)
	out = appendPrintable(append(out, "\n],\"proposed_suppression\":"...), proposed)
	return fmt.Appendf(out, ",\"more\":%t}\n", len(list) > n), nil
}

// appendAlerts appends the alerts, a line each, as far as an answer may go, and
// returns how many: at least one when there is one.
func appendAlerts(dst []byte, list []Alert) ([]byte, int) {
	for i, a := range list {
		if i > 0 {
			if len(dst)+len(a.JSON) > maxAnswer {
				return dst, i
			}
			dst = append(dst, ',')
		}
		dst = append(append(dst, '\n'), a.JSON...)
	}
	return dst, len(list)
}

// Request is a stored request as the API shows it.
type Request struct {
	Time       pipeline.Time      `json:"time"`
	Principal  pipeline.Principal `json:"principal"`
	IP         string             `json:"ip"`
	Method     string             `json:"method"`
	Host       string             `json:"host"`
	Path       string             `json:"path"`
	Query      string             `json:"query"`
	Status     *int               `json:"status"`
	Bytes      *int64             `json:"bytes"`
	DurationUS *int64             `json:"duration_us"`
	Agent      string             `json:"user_agent"`
	Referer    string             `json:"referer"`
	Account    string             `json:"account"`
	Key        string             `json:"key"`
	Session    string             `json:"session"`
	LoginUser  string             `json:"login_user"`
	Source     string             `json:"source"`
}

// requests answers {"data":[...],"more":BOOL}, newest first.
func (c *console) requests(r *http.Request) ([]byte, error) {
	f, err := newQuery(r.URL.RawQuery).requestFilter()
	if err != nil {
		return nil, err
	}
	limit := f.Limit
	f.Limit++
	out := []byte(`{"data":[`)
	n, more := 0, false
	var failed error
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	err = c.Store.Requests(r.Context(), f, func(r *pipeline.Request, source string) bool {
		line.Reset()
		if failed = encoder.Encode(viewOf(r, source)); failed != nil {
			return false
		}
		if more = n == limit || n > 0 && len(out)+line.Len() > maxAnswer; more {
			return false
		}
		if n > 0 {
			out = append(out, ',')
		}
		out = appendPrintable(append(out, '\n'), bytes.TrimSuffix(line.Bytes(), []byte("\n")))
		n++
		return true
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(out, "\n],\"more\":%t}\n", more), nil
}

// viewOf shares r's strings: it is valid as long as r is.
func viewOf(r *pipeline.Request, source string) *Request {
	known := func(n int64) *int64 {
		if n < 0 {
			return nil
		}
		return &n
	}
	v := &Request{
		Time: r.Time, Principal: r.Principal(), IP: r.Address.String(), Method: r.Method, Host: r.Host,
		Path: r.Path, Query: r.Query, Bytes: known(r.Bytes), DurationUS: known(r.Duration),
		Agent: r.Agent, Referer: r.Referer, Account: r.Account, Key: r.Key, Session: r.Session,
		LoginUser: r.LoginUser, Source: source + ":" + strconv.FormatInt(r.Line, 10),
	}
	if r.Status != 0 {
		n := int(r.Status)
		v.Status = &n
	}
	return v
}

// appendPrintable appends JSON with the characters that terminals obey or hide
// as \uXXXX: attackers choose paths, and people read answers in a terminal.
// Outside strings JSON has none of them.
func appendPrintable(dst, src []byte) []byte {
	for len(src) > 0 {
		r, n := utf8.DecodeRune(src)
		if r < 0x7f || strconv.IsPrint(r) {
			dst = append(dst, src[:n]...)
		} else if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
			dst = fmt.Appendf(dst, `\u%04x\u%04x`, hi, lo)
		} else {
			dst = fmt.Appendf(dst, `\u%04x`, r)
		}
		src = src[n:]
	}
	return dst
}
