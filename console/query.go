package console

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"weir/pipeline"
)

// query reads a URL's parameters. A typing mistake must never widen a search
// silently: a parameter that is unknown, empty, given twice or badly escaped is
// an error.
type query struct {
	values url.Values
	known  []string
	errs   []error
}

// maxValues bounds how many values a query may have.
const maxValues = 64

func newQuery(raw string) *query {
	q := &query{}
	var err error
	if q.values, err = url.ParseQuery(raw); err != nil {
		q.errs = append(q.errs, fmt.Errorf("read the query: %w", err))
	}
	total := 0
	for _, list := range q.values {
		total += len(list)
	}
	if total > maxValues {
		q.errs = append(q.errs, fmt.Errorf("%d parameters, at most %d", total, maxValues))
	}
	return q
}

func (q *query) bad(name, value, want string) {
	q.errs = append(q.errs, fmt.Errorf("%s=%s: want %s", name, quote(value), want))
}

// all returns the values of name, none of them empty.
func (q *query) all(name, want string) (list []string) {
	q.known = append(q.known, name)
	for _, v := range q.values[name] {
		if v == "" {
			q.bad(name, v, want)
			continue
		}
		list = append(list, v)
	}
	return list
}

// one returns the value of name, "" without one.
func (q *query) one(name, want string) string {
	list := q.all(name, want)
	switch len(list) {
	case 0:
		return ""
	case 1:
	default:
		q.errs = append(q.errs, fmt.Errorf("%s is given %d times", name, len(list)))
	}
	return list[0]
}

// words returns the values of name, separated by commas or given several
// times, each once and each of allowed.
func (q *query) words(name string, allowed ...string) (list []string) {
	want := "of " + strings.Join(allowed, ", ")
	for _, v := range q.all(name, want) {
		for word := range strings.SplitSeq(v, ",") {
			if !slices.Contains(allowed, word) {
				q.bad(name, word, want)
			} else if !slices.Contains(list, word) {
				list = append(list, word)
			}
		}
	}
	return list
}

// oneOf returns the value of name, one of allowed, or "" without one.
func (q *query) oneOf(name string, allowed ...string) string {
	want := "of " + strings.Join(allowed, ", ")
	v := q.one(name, want)
	if v != "" && !slices.Contains(allowed, v) {
		q.bad(name, v, want)
		return ""
	}
	return v
}

// number returns name's value in [least, most], or without one otherwise.
func (q *query) number(name string, otherwise, least, most int64) int64 {
	want := fmt.Sprintf("a number from %d to %d", least, most)
	v := q.one(name, want)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < least || n > most {
		q.bad(name, v, want)
		return otherwise
	}
	return n
}

// truth returns true or false, false without a value.
func (q *query) truth(name string) bool {
	v := q.one(name, "true or false")
	if v != "" && v != "true" && v != "false" {
		q.bad(name, v, "true or false")
	}
	return v == "true"
}

// time returns a time, 0 without one.
func (q *query) time(name string) pipeline.Time {
	want := "RFC 3339 after 1970, like 2026-11-22T03:00:00Z (a + is written %2B)"
	v := q.one(name, want)
	if v == "" {
		return 0
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil || pipeline.TimeOf(t) <= 0 { // 0 would mean no limit
		q.bad(name, v, want)
		return 0
	}
	return pipeline.TimeOf(t)
}

var errUntil = errors.New("until is before since")

// window returns since and until.
func (q *query) window() (since, until pipeline.Time) {
	since, until = q.time("since"), q.time("until")
	if since != 0 && until != 0 && until < since {
		q.errs = append(q.errs, errUntil)
	}
	return since, until
}

// principal returns a principal as weir stores it: of an IPv6 address that is
// its /64.
func (q *query) principal(name string) (p pipeline.Principal) {
	want := "KIND:VALUE, like ip:203.0.113.7"
	v := q.one(name, want)
	if v == "" {
		return p
	}
	kind, value, _ := strings.Cut(v, ":")
	_ = p.Kind.UnmarshalText([]byte(kind))
	if p.Kind == pipeline.PrincipalNone || value == "" {
		q.bad(name, v, want)
		return pipeline.Principal{}
	}
	p.Value = value
	if p.Kind == pipeline.PrincipalIP {
		address, ok := pipeline.ParseAddress(value)
		if !ok || address.IsZero() {
			q.bad(name, v, "an IP address after ip:")
			return pipeline.Principal{}
		}
		p.Value = address.PrincipalValue()
	}
	return p
}

// err is what is wrong, all of it; ask when everything known was read.
func (q *query) err() error {
	var said, unknown []string
	for _, e := range q.errs {
		said = append(said, e.Error())
	}
	for name := range q.values {
		if !slices.Contains(q.known, name) {
			unknown = append(unknown, quote(name))
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		s := "no parameter " + some(unknown, ", ")
		if len(q.known) > 0 {
			s += "; there are " + strings.Join(q.known, ", ")
		}
		said = append(said, s)
	}
	if len(said) == 0 {
		return nil
	}
	return &problem{Status: http.StatusBadRequest, Detail: some(said, "; ")}
}

// some joins a list, of a long one its beginning.
func some(list []string, between string) string {
	const most = 8
	if len(list) > most {
		list = append(slices.Clone(list[:most]), fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(list, between)
}

// Limits of lists: what is given without one, and the most.
const (
	alertsLimit, maxAlerts     = 100, 1000
	requestsLimit, maxRequests = 1000, 10_000
)

// maxSeq is beyond any place in the feed and exact in every JSON reader.
const maxSeq = 1 << 53

func (q *query) requestFilter() (f RequestFilter, err error) {
	f.Since, f.Until = q.window()
	f.Principal = q.principal("principal")
	f.PathPrefix = q.one("path", "how the path begins")
	f.Status = int(q.number("status", 0, 100, 999))
	f.Limit = int(q.number("limit", requestsLimit, 1, maxRequests))
	return f, q.err()
}

// isDetector reports whether s looks like FAMILY.NAME.
func isDetector(s string) bool {
	family, name, ok := strings.Cut(s, ".")
	return ok && family != "" && name != "" && len(s) <= 64 && strings.Trim(family+name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
